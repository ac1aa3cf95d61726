"""What the command line does. Slow packages are imported where they are needed: a typo must stop in under a second."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.config import ConfigError, LabParams, check_paper, check_profile, known_papers, load_lab, load_spec
from common.lm.bases import has_base
from common.sweep.base import build_bases
from common.sweep.design import Sweep
from common.sweep.plan import (
    Planned, USER_ENVS, cost_line, default_envs, describe, parse_seeds, plan,
)
from common.sweep.unit import results_dir
from common.track.files import write_atomic

STAGE_LINES = {
    "rerun": re.compile(r"Running stage '([^']+)'"),
    "restored from the cache": re.compile(r"Stage '([^']+)' is cached"),
    "unchanged": re.compile(r"(?:Stage )?'([^']+)' didn't change"),
}
"""How ``dvc repro`` says what it did with a stage."""


def execute_plan(root: Path, planned: Sequence[Planned], workers: int, resume: str) -> list:
    """Run a plan with MLflow, print the final table; exits with 130 and how to resume when interrupted."""
    from common.sweep.execute import check_writable, execute, summary
    from common.track.mlflow_log import Tracker

    check_writable(root)
    try:
        with Tracker(root) as tracker:
            tags = {"lab.profile": planned[0].profile, "lab.workers": str(workers), "lab.command": resume}
            results = execute(root, planned, workers=workers, tracker=tracker, tags=tags)
    except KeyboardInterrupt as stop:
        print(f"interrupted ({stop}): finished units and stages are kept; to resume: {resume}", file=sys.stderr)
        sys.exit(130)
    print(summary(results), flush=True)
    return results


def run(
    root: Path, paper: str, *, envs: Sequence[str] | None, seeds: str | None, profile: str | None,
    workers: int | None, results: Path | None, dry_run: bool,
) -> int:
    """Units of one paper as ``params.yaml`` asks, or as the options narrow it. Returns the exit code.

    ``results/`` is written only for exactly what ``params.yaml`` asks (or where ``results`` says); narrowed
    runs stay in the run store, smoke runs write below ``runs/smoke/``.
    """
    check_paper(root, paper, "--paper")
    if profile is not None:
        check_profile(profile, "--profile")
    lab = load_lab(root)
    asked = lab if seeds is None else _replaced(lab, seeds=parse_seeds(seeds))
    asked = asked if profile is None else _replaced(asked, profile=profile)
    asked = asked if workers is None else _replaced(asked, workers=workers)
    planned = plan(root, paper, seeds=asked.seeds, profile=asked.profile, envs=envs, dry=dry_run)
    if dry_run:
        print(describe(planned, asked.workers))
        return 0
    print(cost_line(planned, asked.workers), flush=True)
    resume = f"python -m common run --paper {paper}" + "".join(
        f" --{name} {value}" for name, value in (("envs", ",".join(envs or ())), ("seeds", seeds), ("profile", profile),
                                                 ("workers", workers)) if value)
    if not all(one.finished for one in planned):
        outcome = execute_plan(root, planned, asked.workers, resume)
        if any(result.state == "failed" for result in outcome):
            print(f"{paper}: no table was written, because units failed; correct the cause and run again: {resume}")
            return 1
    whole = (asked.seeds, asked.profile, tuple(envs or default_envs(load_spec(root, paper)))) == (
        lab.seeds, lab.profile, default_envs(load_spec(root, paper)))
    if results is None and not whole and asked.profile != "smoke":
        print(f"this is not what params.yaml asks, so results/ stays as it is; the rows are in runs/{paper}/, and "
              f"--results results/{paper}/metrics.NAME.jsonl publishes them beside the others")
        return 0
    from common.sweep.collect import publish, write_stamp

    target = results or results_dir(root, asked.profile) / paper / "metrics.jsonl"
    publish(root, planned, target)
    if whole and results is None:
        write_stamp(root, paper, planned, target)
    print(f"{paper}: metrics of {len(planned)} units in {_shown(root, target)}")
    return 0


def _replaced(lab: LabParams, **changes: object) -> LabParams:
    import dataclasses

    return dataclasses.replace(lab, **changes)


def _shown(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def sweep(root: Path, asked: Sweep, *, workers: int | None, variant: str | None, dry_run: bool, resume: str) -> int:
    """The units of a design; rows stay in the run store. A table, the best setting of each panel and a picture are printed
    and kept in ``runs/sweeps``. Returns the exit code."""
    check_paper(root, asked.paper, "--paper")
    lab = load_lab(root)
    planned = plan(root, asked.paper, seeds=parse_seeds(asked.seeds), profile=asked.profile or lab.profile,
                   envs=asked.envs, grid=asked.settings, dry=dry_run)
    if dry_run:
        print(describe(planned, workers or lab.workers))
        return 0
    print(cost_line(planned, workers or lab.workers), flush=True)
    failed = False
    if not all(one.finished for one in planned):
        results = execute_plan(root, planned, workers or lab.workers, resume)
        failed = any(result.state == "failed" for result in results)
        planned = [result.planned for result in results if result.state != "failed"]
    from common.sweep.collect import rows_of, table

    text = table(root, planned, metric=asked.metric)
    print(text)
    name = hashlib.sha256(json.dumps(sorted(one.unit.key for one in planned)).encode()).hexdigest()[:12]
    rows = [{"overrides": one.overrides, "row": vars(row)} for one in planned for row in rows_of(root, [one])]
    folder = root / "runs" / "sweeps" / f"{asked.paper}-{name}"
    write_atomic(folder / "rows.jsonl", "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    write_atomic(folder / "table.txt", text + "\n")
    for line in _best(root, planned, folder, metric=asked.metric, variant=variant):
        print(line)
    print(f"kept in {_shown(root, folder)}")
    return 1 if failed else 0


def _best(root: Path, planned: Sequence[Planned], folder: Path, *, metric: str | None, variant: str | None) -> list[str]:
    """A line for each panel with the setting whose mean over seeds is highest, and its picture in ``folder``. Without
    ``metric`` and ``variant`` those of the paper's claims: the metric of most, the top of the first ladder."""
    from common.report import stories
    from common.report.sweeps import parallel
    from common.sweep.collect import means

    claims = root / "papers" / planned[0].paper / "claims.yaml" if planned else Path()
    ladder: list[str] = []
    if claims.is_file():
        metric = metric or stories.headline(claims)
        ladder = [name for group in stories.claim_groups(claims).values() for name in reversed(group)]
    found = means(root, planned, metric=metric) if metric else {}
    variant = variant or next((name for name in ladder if name in {key[1] for key in found}), None)
    lines = []
    for panel in dict.fromkeys(key[0] for key in found):
        values = found.get((panel, variant))
        if not values or len(values) < 2:
            continue
        best = max(values, key=lambda pair: pair[1])
        changes = " ".join(f"{name}={value}" for name, value in best[0].items()) or "(as in the preset)"
        lines.append(f"highest {metric} of {variant} on {panel}: {best[1]:.4f} at {changes}")
        picture = parallel([one for one, _ in values], [value for _, value in values], outcome=f"{metric} of {variant}")
        picture.savefig(folder / f"parallel.{panel.replace('/', '.')}.png", dpi=110)
    if not lines:
        lines.append(f"no picture: fewer than two settings have {metric or 'a metric'} of {variant or 'a variant'}; "
                     "--metric and --variant choose others")
    return lines


def repro(root: Path, *, force: bool) -> int:
    """``dvc repro``, absent base models two at a time before it, with a plain account of what was rerun, restored and
    unchanged."""
    lab = load_lab(root)
    try:
        build_bases(root, lab.envs, workers=lab.workers)
    except KeyboardInterrupt:
        print("interrupted: finished base models are kept; to resume: make repro", file=sys.stderr)
        return 130
    command = [sys.executable, "-m", "dvc", "repro", *(["--force"] if force else [])]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    found: dict[str, list[str]] = {kind: [] for kind in STAGE_LINES}
    # Standard error goes straight to the terminal, so that the stages' progress bars work.
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                for kind, pattern in STAGE_LINES.items():
                    found[kind] += pattern.findall(line)
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()
            print("interrupted: finished units are kept; to resume: make repro", file=sys.stderr)
            return 130
    if code != 0:
        print("dvc repro stopped at a failed stage (see above); finished units are kept; when corrected: make repro")
        return code
    touched = {kind: names for kind, names in found.items() if kind != "unchanged" and names}
    if touched:
        for kind, names in touched.items():
            print(f"{kind}: {', '.join(names)}")
    else:
        print("Nothing had to be rerun: code, data, parameters and environment are those of the results here.")
    return 0


def set_params(root: Path, assignments: Sequence[str]) -> int:
    """Change ``params.yaml`` in place, comments kept, after checking the new values: ``seeds=0-4 profile=cpu``.

    ``papers=…`` (or ``papers=all``) also sets ``envs`` to what these papers need.
    """
    values: dict[str, object] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise ConfigError(f'"{text}" is not of the form name=value; write for example seeds=0-4')
        values[name] = (parse_seeds(value) if name == "seeds" else tuple(value.split(",")) if name in ("papers", "envs")
                        else int(value) if name == "workers" and value.isdecimal() else value)
    if values.get("papers") == ("all",):
        values["papers"] = known_papers(root)
    load_lab(root, values)
    if "papers" in values:
        specs = [load_spec(root, paper) for paper in values["papers"]]
        needed = dict.fromkeys(env for spec in specs for env in default_envs(spec) if has_base(env))
        values.setdefault("envs", tuple(needed))
    path = root / "params.yaml"
    before = text = path.read_text(encoding="utf-8")
    for name, value in values.items():
        written = f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
        line = re.compile(rf"^{name}:[^#\n]*?(?=\s*(?:#|$))", re.MULTILINE)
        text, count = line.subn(f"{name}: {written}", text, count=1)
        if count != 1:
            raise ConfigError(f'params.yaml: no line "{name}: …" on one line to change; edit the file by hand')
    if text != before:
        write_atomic(path, text)
        print(f"params.yaml changed: {', '.join(assignments)} (git diff params.yaml shows it)")
    return 0


def claims(root: Path, *, profile: str | None, readme: bool) -> int:
    """Judge all claims on the tables in ``results/`` (smoke: its own folder), write ``claims.json``, print the table.

    ``readme``: also fill the marked tables of README.md and the other documents.
    """
    from common.evaluate.publish import insert_tables, judge_all, write_claims
    from common.evaluate.tables import claims_table

    if profile is not None:
        check_profile(profile, "--profile")
    folder = results_dir(root, profile or load_lab(root).profile)
    records = judge_all(folder, root / "papers")
    write_claims(folder / "claims.json", records)
    changed = insert_tables(root, records) if readme and folder == root / "results" else []
    print(claims_table(records))
    print(f"\n{len(records)} verdicts in {_shown(root, folder / 'claims.json')}"
          + "".join(f"; updated {_shown(root, path)}" for path in changed))
    return 0


def verify(root: Path, *, papers: Sequence[str] | None, units: int, sample: int | None) -> int:
    """Recompute ``units`` published units. Returns 1 when a number is not what one more seed would give."""
    import datetime

    from common.sweep.verify import verify as recompute

    if units < 1:
        raise ConfigError(f"--units is {units} but must be at least 1; leave it out for 2")
    lab = load_lab(root)
    for paper in papers or ():
        check_paper(root, paper, "--papers")
    number = datetime.date.today().toordinal() if sample is None else sample
    return 0 if recompute(root, lab, papers=papers or lab.papers, n=units, seed=number) else 1


def traces(root: Path, paper: str, *, profile: str, episodes: int) -> int:
    """Show in MLflow what a paper's finished units kept: ``episodes`` traces of every variant, pages and figures."""
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
    with Tracker(root) as tracker:
        for path, unit in done:
            run = tracker.reopen(unit.key)
            said = (f"{tracker.show(run, path, episodes=episodes)} traces, MLflow run {run.run_id}" if run.run_id else
                    "not in this MLflow store, which was made or moved after the unit was finished")
            print(f"{unit.name}: {said}", flush=True)
    print(f"To look at them: make mlflow, experiment {paper}, tab Traces")
    return 0


def export(root: Path, paper: str, out: Path) -> int:
    """Write the RO-Crate of a paper's results."""
    check_paper(root, paper, "paper")
    from common.report.crate import export as write

    folder = write(root, paper, out)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{paper}: {len(files)} files, {size:.1f} MB in {_shown(root, folder)}; "
          "ro-crate-metadata.json describes them")
    return 0


def report(root: Path) -> int:
    """Execute the report notebook into ``site/index.html``. Raises NotebookFailed."""
    from common.report.site import build_site

    page = build_site(root, root / "site" / "index.html", profile=load_lab(root).profile)
    print(f"report: {_shown(root, page)}")
    return 0


def estimate(root: Path, target: str) -> int:
    """One or two lines on what a make target will cost, from earlier runs."""
    free = shutil.disk_usage(root).free / 1e9
    if target == "smoke":
        print("make smoke: every stage and notebook at toy size, under 10 minutes on two cores; writes below runs/")
        return 0
    lab = load_lab(root)
    planned = [one for paper in lab.papers for one in plan(root, paper, seeds=lab.seeds, profile=lab.profile, dry=True)]
    print(f"make {target}: {cost_line(planned, lab.workers)}; {free:.0f} GB of disk are free")
    absent = [env for env in sorted({one.env for one in planned})
              if has_base(env) and not (root / "models" / env).is_dir()]
    if absent:
        print(f"  and first the base models of {', '.join(absent)}: a few minutes each")
    return 0


def missing_user_files() -> list[str]:
    """Sentences on environments that need a user's files which are not given."""
    return [f"{env}: not available, because {variable} is not set (optional)" for env, variable in USER_ENVS.items()
            if not os.environ.get(variable)]
