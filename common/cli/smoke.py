"""Every stage and notebook at the ``smoke`` profile, without touching anything that is published."""

from __future__ import annotations

import time
from pathlib import Path

from common.config import ConfigError, known_papers, load_spec
from common.lm.bases import has_base
from common.sweep.inputs import build_base, build_data
from common.cli.commands import claims, execute_plan
from common.sweep.collect import publish
from common.sweep.documents import NotebookFailed, render
from common.sweep.plan import check_files, default_envs, parse_seeds, plan
from common.sweep.unit import results_dir

SEEDS = "0,1"
"""Two seeds are the least with which the statistics are exercised."""


def smoke(root: Path, *, workers: int | None) -> int:
    """Build panels and base models, run all papers and claims, and execute the tour and the report. Returns the exit code.

    Writes below ``runs/`` only (and ``data/`` and ``models/`` where something is absent).
    """
    started, failures = time.monotonic(), []
    lab = check_files(root, known_papers(root))
    print(build_data(root), flush=True)
    specs = [load_spec(root, paper) for paper in known_papers(root)]
    for env in sorted({env for spec in specs for env in default_envs(spec) if has_base(env)}):
        if not (root / "models" / env).is_dir():
            print(build_base(root, env), flush=True)
    plans = {spec.paper: plan(root, spec.paper, seeds=parse_seeds(SEEDS), profile="smoke") for spec in specs}
    units = [unit for planned in plans.values() for unit in planned]
    if not all(unit.finished for unit in units):
        failures += [one.planned.name for one in execute_plan(root, units, workers or lab.workers, "make smoke")
                     if one.state == "failed"]
    if not failures:
        for paper, planned in plans.items():
            publish(root, planned, results_dir(root, "smoke") / paper / "metrics.jsonl")
        try:
            claims(root, profile="smoke", paper=None)
        except ConfigError as error:
            print(f"error: {error}", flush=True)
            failures.append("claims")
    for source in sorted((root / "notebooks").glob("*.py")):
        if source.relative_to(root).as_posix() in {spec.notebook for spec in specs}:
            continue
        try:
            executed = render(root, source, None, {"profile": "smoke"})
            print(f"notebook {source.name}: executed, {executed.relative_to(root)}", flush=True)
        except NotebookFailed as error:
            print(error, flush=True)
            failures.append(f"notebook {source.name}")
    minutes = (time.monotonic() - started) / 60
    verdict = f"FAILED: {', '.join(failures)}" if failures else "all stages and notebooks ran"
    print(f"smoke: {verdict} in {minutes:.1f} min")
    return 1 if failures else 0
