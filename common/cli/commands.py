"""The commands of the command line. Slow packages are imported inside functions: a typo must stop in under a second."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.config import (
    ConfigError, LabParams, check_paper, check_profile, field_types, hint, load_lab, load_spec, ranges_of,
)
from common.envs import PanelError, data_hash
from common.files import write_atomic
from common.sweep.design import Sweep, check_ends, fitted, settings
from common.sweep.plan import (
    Planned, USER_ENVS, check_files, cost_line, default_envs, describe, parse_seeds, plan,
)
from common.sweep.unit import MissingInput, params_class, results_dir


def execute_plan(
    root: Path, planned: Sequence[Planned], workers: int, resume: str, *, folder: Path | None = None, metric: str | None = None,
    more: Callable[[Sequence], Sequence[Planned]] | None = None, ray: bool = False,
) -> list:
    """Run a plan with MLflow and a board in ``folder``, print the final table; exits with 130 and how to resume when
    interrupted. ``ray``: on the cluster that was joined. Launched as several processes, all compute and one returns."""
    from common.sweep.board import Board, board_folder
    from common.sweep.execute import check_writable, execute, summary
    from common.report.unit_pages import draw_unit
    from common.sweep.cluster import compute_together, launched
    from common.track.mlflow_log import Tracker

    check_writable(root)
    if not ray and any(one.profile == "gpu" and not one.finished for one in planned):
        require_gpu()
    if launched() > 1:
        if more or ray:
            raise ConfigError(f"{launched()} processes were launched but a search or a Ray cluster divides its units over "
                              "workers; start it without accelerate launch")
        if not compute_together(root, planned):
            sys.exit(0)  # rank 0 executes the notebooks
    try:
        with Tracker(root, drawn=draw_unit) as tracker:
            tags = {"lab.profile": planned[0].profile, "lab.workers": str(workers), "lab.command": resume}
            papers = list(dict.fromkeys(one.paper for one in planned))
            papers = ", ".join(papers) if len(papers) < 4 else f"{len(papers)} papers"
            board = Board(root, folder or board_folder(root, planned), paper=papers, command=resume, metric=metric)
            results = execute(root, planned, workers=workers, tracker=tracker, tags=tags, board=board, more=more, ray=ray)
    except KeyboardInterrupt as stop:
        print(f"interrupted ({stop}): finished units and stages are kept; to resume: {resume}", file=sys.stderr)
        sys.exit(130)
    table = summary(results)
    print(table.splitlines()[-1] if sys.stdout.isatty() else table, flush=True)  # the terminal's table has the units already
    return results


def require_gpu() -> None:
    """Raise ConfigError where units of the profile ``gpu`` are asked for on a machine without one: a processor would take weeks."""
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("profile: gpu is sized for a GPU but torch finds none on this machine; take --profile smol, the same model at "
                          "the size of a processor, or a machine with a GPU: there is no switch that runs it here all the same")


def _planned(root: Path, paper: str, *, cluster: str | None, **asked: Any) -> list[Planned]:
    """:func:`common.sweep.plan.plan`; where the units need a GPU that the machine lacks, the error says so before it names missing inputs."""
    try:
        return plan(root, paper, **asked)
    except MissingInput:
        if asked["profile"] == "gpu" and cluster is None:
            require_gpu()
        raise


def run(
    root: Path, paper: str, *, envs: Sequence[str] | None, seeds: str | None, profile: str | None,
    workers: int | None, results: Path | None, dry_run: bool, cluster: str | None = None,
) -> int:
    """Units of one paper as ``params.yaml`` asks, or as the options narrow it. Returns the exit code. ``cluster``: the
    address of a Ray cluster to run them on.

    ``results/`` is written only for exactly what ``params.yaml`` asks (or where ``results`` says); narrowed
    runs stay in the run store, smoke runs write below ``runs/smoke/``.
    """
    check_paper(root, paper, "--paper")
    if profile is not None:
        check_profile(profile, "--profile")
    lab = load_lab(root)
    lab = replace(lab, seeds=load_spec(root, paper).seeds or lab.seeds)
    asked = lab if seeds is None else replace(lab, seeds=parse_seeds(seeds))
    asked = asked if profile is None else replace(asked, profile=profile)
    asked = replace(asked, workers=_count(root, lab, workers, cluster))
    planned = _planned(root, paper, cluster=cluster, seeds=asked.seeds, profile=asked.profile, envs=envs, dry=dry_run)
    if dry_run:
        print(describe(planned, asked.workers))
        return 0
    print(cost_line(planned, asked.workers), flush=True)
    resume = f"python -m common run --paper {paper}" + "".join(
        f" --{name} {value}" for name, value in (("envs", ",".join(envs or ())), ("seeds", seeds), ("profile", profile),
                                                 ("workers", workers), ("executor ray --address", cluster),
                                                 ("results", results)) if value)
    if not all(one.finished for one in planned):
        outcome = execute_plan(root, planned, asked.workers, resume, ray=cluster is not None)
        if any(result.state == "failed" for result in outcome):
            print(f"{paper}: no table was written, because units failed; correct the cause and run again: {resume}")
            return 1
    whole = (asked.seeds, asked.profile, tuple(envs or default_envs(load_spec(root, paper)))) == (
        lab.seeds, lab.profile, default_envs(load_spec(root, paper)))
    if results is None and not whole and asked.profile != "smoke":
        print(f"this is not what params.yaml asks, so results/ stays as it is; the rows are in runs/{paper}/, and "
              f"--results results/{paper}/metrics.NAME.jsonl publishes them beside the others")
        return 0
    from common.sweep.collect import publish

    target = results or results_dir(root, asked.profile) / paper / "metrics.jsonl"
    publish(root, planned, target)
    print(f"{paper}: metrics of {len(planned)} units in {_shown(root, target)}")
    return keep(root, paper, None, profile=asked.profile) if results is None else 0


def keep(root: Path, paper: str, unit: Path | None, *, profile: str | None = None) -> int:
    """Write the part of a unit that people look at into ``results/<paper>/unit/``: of ``unit``, a folder of the run store, or the one of the
    paper's first seed in its first environment. Returns the exit code."""
    from common.sweep.kept import keep_unit
    from common.track.store import unit_path

    check_paper(root, paper, "paper")
    lab, spec = load_lab(root), load_spec(root, paper)
    profile = profile or lab.profile
    if unit is None:
        [first] = plan(root, paper, seeds=(spec.seeds or lab.seeds)[:1], profile=profile, envs=spec.envs[:1])
        unit = unit_path(root, first.unit)
    folder, size = keep_unit(unit, results_dir(root, profile) / paper / "metrics.jsonl")
    print(f"{paper}: examples and curves of {unit.name} in {_shown(root, folder)}, {size // 1000} kB")
    return 0


def _count(root: Path, lab: LabParams, workers: int | None, cluster: str | None) -> int:
    """How many units at once: as asked, else every core of a cluster, else as params.yaml says."""
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers is {workers} but must be at least 1; use the number of free cores")
    if cluster is None:
        return lab.workers if workers is None else workers
    from common.sweep.cluster import connect

    cores = connect(root, cluster)
    return cores if workers is None else min(workers, cores)


def _shown(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def sweep(
    root: Path, asked: Sweep, *, workers: int | None, dry_run: bool, resume: str, cluster: str | None = None
) -> int:
    """The units of a design, or of a search; rows stay in the run store. A table, the best setting and a picture are printed
    and kept in ``runs/sweeps``. Returns the exit code."""
    check_paper(root, asked.paper, "--paper")
    lab = load_lab(root)
    spec = load_spec(root, asked.paper)
    params = params_class(root, spec)
    check_ends(asked.ranges, ranges_of(params, spec))
    workers = _count(root, lab, workers, cluster)
    if asked.search:
        return _search(root, asked, workers=workers, dry_run=dry_run, resume=resume, ray=cluster is not None)
    grid = settings(asked.grid, fitted(asked.ranges, field_types(params)), points=asked.points, draw=asked.draw, sample=asked.sample)
    planned = _planned(root, asked.paper, cluster=cluster, seeds=parse_seeds(asked.seeds), profile=asked.profile or lab.profile,
                       envs=asked.envs, grid=grid, dry=dry_run)
    if dry_run:
        print(describe(planned, workers))
        return 0
    from common.sweep.board import board_folder

    print(cost_line(planned, workers), flush=True)
    failed, folder = False, board_folder(root, planned)
    if not all(one.finished for one in planned):
        results = execute_plan(root, planned, workers, resume, folder=folder, metric=asked.metric, ray=cluster is not None)
        failed = any(result.state == "failed" for result in results)
        planned = [result.planned for result in results if result.state != "failed"]
    from common.sweep.collect import means_table

    _keep(root, planned, folder, means_table(root, planned, metric=asked.metric))
    for line in _best(root, planned, folder, metric=asked.metric, variant=asked.variant):
        print(line)
    print(f"kept in {_shown(root, folder)}")
    return 1 if failed else 0


def _keep(root: Path, planned: Sequence[Planned], folder: Path, text: str) -> None:
    """Print the table and keep it in ``folder``, with all rows."""
    from common.sweep.collect import planned_rows

    print(text)
    rows = [{"overrides": one.overrides, "row": vars(row)} for one in planned for row in planned_rows(root, [one])]
    write_atomic(folder / "rows.jsonl", "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    write_atomic(folder / "table.txt", text + "\n")


def _search(root: Path, asked: Sweep, *, workers: int, dry_run: bool, resume: str, ray: bool) -> int:
    """Evaluate settings that TPE proposes on a tuning panel; print the best one, and the command that measures it on the test panels."""
    from common.report.sweeps import parallel_coordinates
    from common.sweep.collect import means_table, spelled
    from common.sweep.study import Search

    search = Search(root, asked, variant=_target(root, asked), workers=workers)
    print(search.cost(), flush=True)
    if dry_run:
        print("for example:", *describe(search.corners, workers).splitlines()[:-2], sep="\n")
        return 0
    failed: list = []
    with search:
        if first := search.more([]):
            results = execute_plan(root, first, workers, resume, folder=search.folder, metric=asked.metric, more=search.more,
                                   ray=ray)
            failed = [one for one in results if one.state == "failed"]
        evaluated = search.evaluated
    if not evaluated:
        print(f"no setting was evaluated; correct the cause and run again: {resume}")
        return 1
    best = (min if asked.minimise else max)(evaluated, key=lambda one: one.value)
    shown = [replace(unit, overrides=one.setting) for one in evaluated for unit in one.planned]
    what, kind = f"{asked.metric} of {search.variant}", "lowest" if asked.minimise else "highest"
    summary = means_table(root, shown, metric=asked.metric, variant=search.variant, best=spelled(best.setting))
    _keep(root, shown, search.folder, summary)
    if len(evaluated) > 1:
        tried, values = [one.setting for one in evaluated], [one.value for one in evaluated]
        picture = parallel_coordinates(tried, values, outcome=what, lowest=asked.minimise)
        picture.savefig(search.folder / "parallel.png", dpi=110)
    number = evaluated.index(best) + 1
    print(f"{kind} {what} on {asked.panel} among {len(evaluated)} settings: {best.value:.4f} at {spelled(best.setting)} "
          f"(number {number})")
    if len(evaluated) > 1 and len({one.value for one in evaluated}) == 1:
        print("all settings have the same value, so the best is only the first: more tasks or seeds, or another metric, may tell "
              "them apart")
    if len(evaluated) < asked.points and not failed:
        print(f"fewer than the {asked.points} settings asked for: TPE proposed only settings that were evaluated before")
    for one in evaluated:
        if one.setting == search.preset:
            print(f"the preset, {spelled(one.setting)}: {one.value:.4f}")
    again = ["python", "-m", "common", "sweep", "--paper", asked.paper, "--grid", *spelled(best.setting).split(" "),
             "--seeds", ",".join(map(str, load_lab(root).seeds))]
    again += ["--envs", ",".join(asked.envs)] if asked.envs else []
    again += ["--profile", asked.profile] if asked.profile else []
    print(f"to measure it on the test panels with all seeds: {shlex.join(again)}")
    print(f"kept in {_shown(root, search.folder)}")
    return 1 if failed else 0


def _target(root: Path, asked: Sweep) -> str:
    """The variant whose metric a search raises: as asked, else the first of :func:`main_variants` that has the metric."""
    rows = _published(root, asked.paper)
    if rows and asked.metric not in (metrics := {row.metric for row in rows}):
        raise ConfigError(f'search: {asked.paper} has no metric "{asked.metric}"; {hint(asked.metric, metrics)}')
    having = {row.variant for row in rows if row.metric == asked.metric}
    if asked.variant:
        if rows and asked.variant not in having:
            raise ConfigError(f'variant: no "{asked.variant}" of {asked.paper} has {asked.metric}; {hint(asked.variant, having)}')
        return asked.variant
    claims = root / "papers" / asked.paper / "claims.yaml"
    found = [name for name in (main_variants(claims, asked.metric, rows) if claims.is_file() else []) if not rows or name in having]
    if not found:
        raise ConfigError(f"no claim of {asked.paper} says which variant's {asked.metric} to search for; name one by --variant")
    return found[0]


def _published(root: Path, paper: str) -> list:
    from common.rows import read_metrics

    return [row for path in sorted((root / "results" / paper).glob("metrics*.jsonl")) for row in read_metrics(path)]


def main_variants(claims: Path, metric: str, rows: Sequence = ()) -> list[str]:
    """The variants that a paper's claims most often name as the better side, the most frequent one first.

    One is the more so the more claims on ``metric`` (on any, where none is) have it alone on their better side and the fewer on
    their worse side; among equals the first in the file. After them come, for metrics that only a policy by itself has, those
    that are measured in several ways without the way (``malt`` of ``malt+vote``). A control whose ``metric`` is the same number
    for all seeds of the published ``rows``, by its definition, is none.
    """
    from common.evaluate.claims import load_claims
    from common.rows import Label

    every = load_claims(claims).claims
    alone = [claim for claim in every if len(claim.better) == 1]
    counted = [claim for claim in alone if claim.metric == metric] or alone
    better, worse = (Counter(getattr(claim, side)[0] for claim in counted) for side in ("better", "worse"))
    promised = sorted(dict.fromkeys(claim.better[0] for claim in every), key=lambda name: (-better[name], worse[name]))
    values = {name: [row.value for row in rows if (row.variant, row.metric) == (name, metric)] for name in {row.variant for row in rows}}
    constant = {name for name, seen in values.items() if len(seen) > 1 and len(set(seen)) == 1}
    return [name for name in dict.fromkeys([*promised, *(Label.of(name).policy for name in promised)]) if name not in constant]


def _best(root: Path, planned: Sequence[Planned], folder: Path, *, metric: str | None, variant: str | None) -> list[str]:
    """A line for each panel with the setting whose mean over seeds is highest, or lowest where all claims on the metric say that less
    is better, and its picture in ``folder``. Without ``metric`` and ``variant`` those of the paper's claims: the metric of most, and
    the first of :func:`main_variants`."""
    from common.evaluate.claims import headline_metric, load_claims
    from common.report.sweeps import parallel_coordinates
    from common.sweep.collect import means, spelled

    claims = root / "papers" / planned[0].paper / "claims.yaml" if planned else Path()
    promised: list[str] = []
    lowest = False
    if claims.is_file():
        metric = metric or headline_metric(claims)
        lowest = {claim.direction for claim in load_claims(claims).claims if claim.metric == metric} == {"lower"}
        promised = main_variants(claims, metric, _published(root, planned[0].paper))
    means_by_panel = means(root, planned, metric=metric) if metric else {}
    variant = variant or next((name for name in promised if name in {key[1] for key in means_by_panel}), None)
    lines = []
    for panel in dict.fromkeys(key[0] for key in means_by_panel):
        values = means_by_panel.get((panel, variant))
        if not values or len(values) < 2:
            continue
        best = (min if lowest else max)(values, key=lambda pair: pair[1])
        equal = sum(value == best[1] for _, value in values) - 1
        lines.append(f"{'lowest' if lowest else 'highest'} {metric} of {variant} on {panel}: {best[1]:.4f} at {spelled(best[0])}"
                     + (f", and at {equal} other{'s' if equal > 1 else ''}" if equal else ""))
        picture = parallel_coordinates([one for one, _ in values], [value for _, value in values], outcome=f"{metric} of {variant}", lowest=lowest)
        picture.savefig(folder / f"parallel.{panel.replace('/', '.')}.png", dpi=110)
    if not lines:
        lines.append(f"no picture: fewer than two settings have {metric or 'a metric'} of {variant or 'a variant'}; "
                     "--metric and --variant choose others")
    return lines


def repro(
    root: Path, *, papers: Sequence[str] | None, seeds: str | None, profile: str | None, workers: int | None, dry_run: bool
) -> int:
    """Recompute published units, compare every number with the tables in ``results/``, judge, build the report.

    Default: seeds 0 and 1 of the first paper of each family in ``params.yaml``. No table is written: ``dvc repro`` does that.
    Returns 1 when a unit failed or a number is not what the published seeds would give.
    """
    lab = check_files(root)
    profile = profile or lab.profile
    check_profile(profile, "--profile")
    if papers == ("all",):
        papers = lab.papers
    for paper in papers or ():
        check_paper(root, paper, "--papers")
    first = {load_spec(root, paper).family: paper for paper in reversed(lab.papers)}
    chosen = papers or [paper for paper in lab.papers if paper in first.values()]
    asked = parse_seeds(seeds or "0,1")
    planned = [one for paper in chosen for one in plan(root, paper, seeds=asked, profile=profile, dry=dry_run)]
    workers = _count(root, lab, workers, None)
    print(f"repro: seeds {', '.join(map(str, asked))} of {', '.join(chosen)}: {cost_line(planned, workers)}", flush=True)
    if dry_run:
        return 0
    failed: list[str] = []
    if not all(one.finished for one in planned):
        results = execute_plan(root, planned, workers, "make repro")
        failed = [one.planned.name for one in results if one.state == "failed"]
    from common.sweep.verify import against_published, conclusion
    from common.track.store import unit_path

    found = [against_published(root, one, unit_path(root, one.unit)) for one in planned if one.name not in failed]
    good = [one.good for one in found]
    print(flush=True)
    claims(root, profile=profile, paper=None)
    report(root)
    counts = [f"{len(good)} units recomputed", f"{good.count(True)} as published"]
    counts += [f"{good.count(None)} from another base model than the published ones"] * (None in good)
    counts += [f"{good.count(False)} with other numbers than published"] * (False in good) + [f"{len(failed)} failed"] * bool(failed)
    print(f"repro: {', '.join(counts)}; the report is site/index.html")
    if found:
        print(f"repro: {conclusion(found)}")
    return 1 if failed or False in good else 0


def claims(root: Path, *, profile: str | None, paper: str | None) -> int:
    """Judge all claims on the tables in ``results/`` (smoke: its own folder) and write ``claims/<paper>.json`` there.

    ``paper``: write that of one paper and stop. Else also fill the marked tables of README.md and the other documents, and print
    the verdicts and what moved since the last commit.
    """
    from common.evaluate.publish import claim_changes, disagreements, insert_tables, judge_all, write_claims
    from common.evaluate.tables import counts
    from common.sweep.inputs import table_states

    if profile is not None:
        check_profile(profile, "--profile")
    lab = load_lab(root)
    folder = results_dir(root, profile or lab.profile)
    if paper is not None:
        check_paper(root, paper, "--paper")
        judged = judge_all(folder, root / "papers", paper)
        write_claims(folder / "claims", judged, [paper])
        print(f"{len(judged.claims)} verdicts in {_shown(root, folder / 'claims' / f'{paper}.json')}")
        return 0
    judged = judge_all(folder, root / "papers")
    records, before = judged.claims, _committed_claims(root, folder)
    write_claims(folder / "claims", judged, [path.parent.name for path in folder.glob("*/metrics.jsonl")])
    changed = insert_tables(root, judged) if folder == root / "results" else []
    print(counts(records))
    print(f"\n{len(records)} verdicts in {_shown(root, folder / 'claims')}" + "".join(f"; updated {_shown(root, path)}" for path in changed))
    for line in claim_changes(before, records):
        print(f"moved since the last commit: {line}")
    for problem in disagreements(root) if folder == root / "results" else ():
        print(f"to be mended: {problem}")
    states = table_states(root, folder, records)
    for (name, env, of_profile), state in states.items():
        if state.stale:
            option = "" if of_profile == lab.profile else f" --profile {of_profile}"
            again = f"dvc repro run@{name}" if not option else f"python -m common run --paper {name} --envs {env}{option}"
            print(f"stale: {name} on {env} was computed from other {', '.join(state.changed)}{state.advice}; to compute it anew: {again}")
    same = sorted({name for (name, _, _), state in states.items() if state.kind == "attested"})
    if same:
        print(f"attested, computed by other code that behaves the same: tables of {', '.join(same)}; python -m common explain says "
              "what was recomputed")
    return 0


def simulate_rule(root: Path) -> int:
    """Measure the error rates of the rule of verdicts by simulation, draw them, and write them into ``docs/verdicts.md``."""
    from common.evaluate.publish import insert_tables
    from common.evaluate.simulate import RESULT, rule_block, write_simulation
    from common.report.verdict_rule import PICTURE, write_picture

    write_picture(root, write_simulation(root))
    changed = insert_tables(root)
    print(rule_block(root))
    print(f"\n{RESULT}, {PICTURE}" + "".join(f"; updated {_shown(root, path)}" for path in changed))
    return 0


def _committed_claims(root: Path, folder: Path) -> list[dict[str, Any]]:
    """The verdicts of the last commit; none outside git, or where they are in no commit."""
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True).stdout if shutil.which("git") else ""

    names = git("ls-tree", "--name-only", "HEAD", f"./{_shown(root, folder / 'claims')}/").split()
    files = [json.loads(git("show", f"HEAD:./{name}")) for name in names]
    return [record for content in files if isinstance(content, dict) for record in content["claims"]]  # once a bare list


def attest(root: Path, layers: Sequence[str], *, check: bool, paper: str | None, against: Path | None) -> int:
    """Run the probes of layers, or compare units that two versions of a paper's code computed. Returns the exit code."""
    if (paper is None) != (against is None):
        raise ConfigError("--paper and --against belong together; give the paper and the runs/ folder of its earlier code, or neither")
    if paper is None:
        from common.sweep.attest import attest as run_probes

        check_files(root)  # the pipeline's first stage
        return run_probes(root, layers, check=check)
    if layers or check:
        raise ConfigError(f"{layers[0] if layers else '--check'} is given beside --paper but units are compared there and no layer; leave it out")
    from common.sweep.compared import attest_paper

    print(attest_paper(root, paper, against))
    return 0


def verify(root: Path, *, papers: Sequence[str] | None, units: int, sample: int | None) -> int:
    """Recompute ``units`` published units. Returns 1 when a number lies outside the prediction interval of the published seeds."""
    import datetime

    from common.sweep.verify import verify as recompute

    if units < 1:
        raise ConfigError(f"--units is {units} but must be at least 1; leave it out for 2")
    lab = load_lab(root)
    for paper in papers or ():
        check_paper(root, paper, "--papers")
    number = datetime.date.today().toordinal() if sample is None else sample
    return 0 if recompute(root, lab, papers=papers or lab.papers, n=units, seed=number) else 1


def notebook(root: Path, paper: str, *, env: str, seed: int, profile: str) -> int:
    """Execute the notebook of a paper's family without training; writes it and a page below runs/notebooks/."""
    from common.sweep.documents import render

    check_paper(root, paper, "paper")
    spec = load_spec(root, paper)
    name = "-".join((paper, env or spec.envs[0], str(seed), profile))
    page = root / "runs" / "notebooks" / f"{name}.html"
    given = {"paper": paper, "env": env, "seed": seed, "profile": profile, "train": False}
    executed = render(root, root / spec.notebook, page, given, name=name)
    print(f"notebook: {_shown(root, executed)}, and as a page {_shown(root, page)}")
    return 0


def traces(root: Path, paper: str, *, profile: str, episodes: int) -> int:
    """Write to MLflow what a paper's finished units recorded: ``episodes`` traces of every variant, pages and figures."""
    from common.report.unit_pages import draw_unit
    from common.track.mlflow_log import Tracker
    from common.track.store import read_unit

    check_paper(root, paper, "paper")
    check_profile(profile, "--profile")
    if episodes < 1:
        raise ConfigError(f"--episodes is {episodes} but must be at least 1; leave it out for 20")
    done = [(path.parent, read_unit(path.parent)) for path in sorted((root / "runs" / paper).glob("*/DONE"))]
    done = [(path, unit) for path, unit in done if unit.profile == profile]
    if not done:
        raise ConfigError(f"no unit of {paper} is finished here at profile {profile}, so there is nothing to show; "
                          f"run: python -m common run --paper {paper} --profile {profile}")
    with Tracker(root, drawn=draw_unit) as tracker:
        for path, unit in done:
            run = tracker.reopen(unit.key)
            outcome = (f"{tracker.show(run, path, episodes=episodes)} traces, MLflow run {run.run_id}" if run.run_id else
                    "not in this MLflow store, which was made or moved after the unit was finished")
            print(f"{unit.name}: {outcome}", flush=True)
    print(f"To look at them: make mlflow, experiment {paper}, tab Traces")
    return 0


def new_paper(root: Path, paper: str, *, like: str, env: str) -> int:
    """Write the folder of a new paper and run it at ``smoke``, so that every edit begins from code that works."""
    from common.rooms.new import new_room

    for path in new_room(root, paper, like=like, env=env):
        print(f"wrote {path.relative_to(root)}")
    print(f"next: claims.yaml, then method.py and params.yaml; python -m common check-paper {paper} says what is missing", flush=True)
    return run(root, paper, envs=(env,), seeds="0", profile="smoke", workers=1, results=None, dry_run=False)


def check_room(root: Path, paper: str) -> int:
    """Print what the folder of ``paper`` still lacks; the exit code is 1 when it lacks something."""
    from common.rooms.check import lines_of, missing

    missing_parts, lines = missing(root, paper), lines_of(root, paper)
    print(", ".join(f"{name} {n}" for name, n in lines.items()) + f": {sum(lines.values())} lines")
    print("\n".join(f"- {one}" for one in missing_parts) if missing_parts else f"papers/{paper} lacks nothing")
    return 1 if missing_parts else 0


def export(root: Path, paper: str, out: Path) -> int:
    """Write the RO-Crate of a paper's results."""
    check_paper(root, paper, "paper")
    from common.report.exports.crate import export as write

    folder = write(root, paper, out)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{paper}: {len(files)} files, {size:.1f} MB in {_shown(root, folder)}; "
          "ro-crate-metadata.json describes them")
    return 0


def report(root: Path) -> int:
    """Execute the report notebook and write the site. Raises NotebookFailed, ConfigError for a page that cannot be."""
    from common.report.site import build_site

    page = build_site(root, root / "site", profile=load_lab(root).profile)
    print(f"report: {_shown(root, page)}")
    return 0


def missing_user_files(root: Path) -> list[str]:
    """A sentence for each environment whose files of the user's, or whose package, are absent."""
    absent = [f"{env}: not available, because {variable} is not set (optional)" for env, variable in USER_ENVS.items()
              if variable and not os.environ.get(variable)]
    for env in (env for env, variable in USER_ENVS.items() if not variable):
        try:
            data_hash(root / "data", env)
        except PanelError as error:
            absent.append(f"{env}: not available (optional): {error}")
    return absent
