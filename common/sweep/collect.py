"""From finished run folders to the tables in ``results/``."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config.strict import spell_float
from common.evaluate.claims import headline_metric, load_claims
from common.evaluate.stats import t_interval
from common.files import write_atomic
from common.rows import MetricRow, write_metrics
from common.sweep.inputs import record
from common.sweep.plan import Planned, read_json
from common.track.store import finished_rows, unit_path


def planned_rows(root: Path, planned: Sequence[Planned]) -> list[MetricRow]:
    """The metric rows of finished units. StoreError when one of them is damaged."""
    return [row for one in planned for row in finished_rows(unit_path(root, one.unit))]


def publish(root: Path, planned: Sequence[Planned], target: Path) -> None:
    """Write ``target`` (metrics.jsonl: a function of the units alone) and, beside it, what :func:`write_summary` writes,
    ``timing.json`` and ``source.json``.

    ``timing.json`` holds minutes and megabytes by profile and environment for the estimates of others. It
    keeps what it says of other profiles, and of environments for which the store has no time.
    """
    rows = planned_rows(root, planned)
    write_metrics(target, rows)
    if target.name == "metrics.jsonl":
        write_summary(rows, root / "papers" / planned[0].paper / "claims.yaml", target.parent)
    record(root, planned, target)
    timing = read_json(target.parent / "timing.json")
    for profile, env in sorted({(one.profile, one.env) for one in planned}):
        seen = [read_json(unit_path(root, one.unit) / "timing.json") for one in planned
                if (one.profile, one.env) == (profile, env)]
        seen = [entry for entry in seen if entry]
        if seen:
            timing.setdefault(profile, {})[env] = {
                "minutes": round(statistics.median(entry["seconds"] for entry in seen) / 60, 2),
                "disk_mb": round(statistics.median(entry["bytes"] for entry in seen) / 1e6, 1), "units": len(seen)}
    write_atomic(target.parent / "timing.json", json.dumps(timing, indent=1, sort_keys=True) + "\n")


def write_summary(rows: Sequence[MetricRow], claims: Path, folder: Path) -> None:
    """Write what ``dvc metrics`` and ``dvc plots`` show of a paper's table into ``folder``.

    ``summary.json``: panel → variant → mean over seeds of the claims' headline metric, of the variants that claims compare.
    ``ladder.csv``: the same, a line each, with the 95 % t-interval (the mean alone of a single seed) and the number of seeds.
    A paper without claims, or without their metric, gets empty files.
    """
    paper = load_claims(claims) if claims.is_file() else None
    metric = headline_metric(claims) if paper else ""
    variants = dict.fromkeys(name for claim in paper.claims for name in claim.variants) if paper else {}
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.metric == metric and row.variant in variants:
            values.setdefault(row.panel, {}).setdefault(row.variant, []).append(row.value)
    summary: dict[str, dict[str, float]] = {}
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(("panel", "variant", "metric", "mean", "low", "high", "seeds"))
    for panel, by_variant in values.items():
        for variant in (name for name in variants if name in by_variant):
            around = t_interval(by_variant[variant])
            bounds = (around.mean if end is None else end for end in (around.low, around.high))
            summary.setdefault(panel, {})[variant] = round(around.mean, 4)
            lines.writerow((panel, variant, metric, *(f"{value:.4f}" for value in (around.mean, *bounds)), around.n))
    write_atomic(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    write_atomic(folder / "ladder.csv", table.getvalue())


def means(
    root: Path, planned: Sequence[Planned], *, metric: str
) -> dict[tuple[str, str], list[tuple[dict[str, Any], float]]]:
    """(panel, variant) → the override sets of ``planned`` in their order, each with the mean of ``metric`` over seeds."""
    collected: dict[tuple[str, str], dict[str, list[float]]] = {}
    overrides = {json.dumps(one.overrides, sort_keys=True): one.overrides for one in planned}
    for one in planned:
        for row in finished_rows(unit_path(root, one.unit)):
            if row.metric == metric:
                of_setting = collected.setdefault((row.panel, row.variant), {})
                of_setting.setdefault(json.dumps(one.overrides, sort_keys=True), []).append(row.value)
    return {where: [(overrides[name], statistics.mean(values)) for name, values in by.items()] for where, by in collected.items()}


def spelled(overrides: Mapping[str, Any]) -> str:
    """An override set for people, and for the command line's ``--grid``."""
    texts = {name: spell_float(value) if isinstance(value, float) else json.dumps(value) if isinstance(value, (list, bool))
             else str(value) for name, value in overrides.items()}
    return " ".join(f"{name}={text}" for name, text in texts.items()) or "(as in the preset)"


def means_table(
    root: Path, planned: Sequence[Planned], *, metric: str | None = None, variant: str | None = None, best: str | None = None
) -> str:
    """Means over seeds: one line per override set, environment, panel, variant and metric. What all sets have in common
    stands once above the table.

    ``metric`` and ``variant`` keep one only; ``best`` is the override set, as written, to mark. ± is the standard error
    over seeds, left out for a single seed.
    """
    groups: dict[tuple[str, ...], list[float]] = {}
    sets = list({spelled(one.overrides): one.overrides for one in planned}.values())
    shared = {name: value for name, value in (sets[0] if len(sets) > 1 else {}).items()
              if all(name in other and other[name] == value for other in sets)}
    marked: set[str] = set()
    for one in planned:
        changes = spelled({name: value for name, value in one.overrides.items() if name not in shared})
        if spelled(one.overrides) == best:
            marked.add(changes)
        for row in finished_rows(unit_path(root, one.unit)):
            if metric in (None, row.metric) and variant in (None, row.variant):
                groups.setdefault((changes, row.env, row.panel, row.variant, row.metric), []).append(row.value)
    if not groups:
        return f'no rows{f" of the metric {metric}" if metric else ""}'
    above = f"in all: {spelled(shared)}\n" if shared else ""
    lines = [("overrides", "env", "panel", "variant", "metric", "mean", "seeds")]
    for group, values in groups.items():
        error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.4f}" if len(values) > 1 else ""
        mark = "  <- best" if group[0] in marked else ""
        lines.append((*group, f"{statistics.mean(values):.4f}{error}", f"{len(values)}{mark}"))
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    return above + "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
