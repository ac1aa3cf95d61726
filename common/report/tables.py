"""Markdown tables that only reports need; those of claims and ladders are in ``common.evaluate.tables``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.evaluate.stats import t_interval
from common.rows import COST_FIELDS, MetricRow
from common.track.provenance import lock_hash


def cost_table(rows: Sequence[MetricRow], variants: Sequence[str]) -> str:
    """What each variant spent to get to its result (mean over seeds), a line for each variant and environment."""
    lines = [f"| environment | variant | seeds | {' | '.join(name.replace('_', ' ') for name in COST_FIELDS)} |",
             "|---|---|---|" + "---:|" * len(COST_FIELDS)]
    for env in sorted({row.env for row in rows}):
        for variant in variants:
            by_seed = {row.seed: row.cost for row in rows if (row.env, row.variant) == (env, variant)}
            if by_seed:
                means = (sum(cost[name] for cost in by_seed.values()) / len(by_seed) for name in COST_FIELDS)
                cells = (env, f"`{variant}`", str(len(by_seed)), *(f"{mean:,.0f}" for mean in means))
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else "No cost has been recorded yet."


def timing_table(results: Path, paper: str = "*") -> str:
    """Minutes and megabytes of one unit, from ``results/<paper>/timing.json`` (medians on the machine that ran), of all
    papers unless one is named."""
    lines = ["| paper | profile | environment | minutes a unit | MB a unit | units |", "|---|---|---|---:|---:|---:|"]
    for path in sorted(results.glob(f"{paper}/timing.json")):
        for profile, by_env in json.loads(path.read_text(encoding="utf-8")).items():
            for env, seen in by_env.items():
                cells = (path.parent.name, profile, env, seen["minutes"], seen["disk_mb"], seen["units"])
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) if len(lines) > 2 else "No unit has been timed yet."


def summary_table(rows: Sequence[MetricRow], variants: Sequence[str], metrics: Sequence[str]) -> str:
    """Mean ± half the 95 % t-interval of several metrics, a line for each variant and panel."""
    lines = [f"| variant | panel | {' | '.join(metrics)} | seeds |", "|---|---|" + "---|" * len(metrics) + "---|"]
    for panel in sorted({row.panel for row in rows}):
        for variant in variants:
            mine = [row for row in rows if (row.panel, row.variant) == (panel, variant)]
            values = {name: [row.value for row in mine if row.metric == name] for name in metrics}
            if any(values.values()):
                seeds = max(map(len, values.values()))
                lines.append(f"| `{variant}` | {panel} | {' | '.join(map(_mean, values.values()))} | {seeds} |")
    return "\n".join(lines) if len(lines) > 2 else "Nothing has been measured yet."


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "–"
    found = t_interval(values)
    return f"{found.mean:.3f}" + ("" if found.high is None else f" ± {found.high - found.mean:.3f}")


def family_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Verdicts of a family's papers in short, as Markdown: a line for each paper, scale and panel, with claim ids."""
    if not records:
        return "No claim of this family has been judged yet."
    lines = ["| paper | scale | panel | seeds | supported | contradicted | undecided |", "|---|---|---|---|---|---|---|"]
    for key in dict.fromkeys((r["paper"], r["scale"], r["panel"]) for r in records):
        here = [r for r in records if (r["paper"], r["scale"], r["panel"]) == key]
        ids = {name: ", ".join(r["id"] for r in here if r["verdict"] == name)
               for name in ("supported", "contradicted", "inconclusive")}  # fmt: skip
        seeds = max(r["n_seeds"] for r in here)
        lines.append(f"| {' | '.join(key)} | {seeds} | {' | '.join(ids.values())} |")
    return "\n".join(lines)


def environment_table(root: Path) -> str:
    """The lock, the pinned packages that matter most, and the panels behind the results."""
    pins = dict(line.split("==") for line in (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
                if line.count("==") == 1)
    lines = ["| what | value |", "|---|---|", f"| pins of requirements.lock, SHA-256 | `{lock_hash(root)[:16]}` |"]
    lines += [f"| {name} | {pins[name]} |" for name in ("torch", "transformers", "trl", "numpy") if name in pins]
    for manifest in sorted((root / "data").glob("*/manifest.json")):
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        listed = ", ".join(f"{name.removesuffix('.jsonl')} {one['rows']}" for name, one in sorted(files.items()))
        lines.append(f"| data of {manifest.parent.name} (rows) | {listed} |")
    return "\n".join(lines)
