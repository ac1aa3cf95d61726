"""Markdown tables that only reports need; those of claims and ladders are in ``common.evaluate.tables``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.evaluate.stats import t_interval
from common.evaluate.verdicts import VERDICTS
from common.rows import COST_FIELDS, MetricRow
from common.track.provenance import lock_hash

LONGEST = 120
"""Characters of a claim's statement in a narrow table: two lines beside JupyterLab's list of files, one in a wide window."""


def markdown(head: Sequence[str], lines: Iterable[Sequence[Any]], *, numbers: int = 0) -> str:
    """A Markdown table; its last columns, as many as ``numbers``, are aligned to the right. No line is broken after ±, so that a narrow
    column has two lines for a value and not three."""
    rule = "|" + "---|" * (len(head) - numbers) + "---:|" * numbers
    rows = [f"| {' | '.join(map(str, cells))} |" for cells in (head, *lines)]
    return "\n".join([rows[0], rule, *rows[1:]]).replace("± ", "±\N{NO-BREAK SPACE}")


def mean_and_half(values: Sequence[float], form: str = ".3f") -> str:
    """``mean ± half the 95 % t-interval``; of one value the value, – of none."""
    if not values:
        return "–"
    interval = t_interval(values)
    return f"{interval.mean:{form}}" + ("" if interval.high is None else f" ± {interval.high - interval.mean:.3f}")


def cost_table(rows: Sequence[MetricRow], variants: Sequence[str]) -> str:
    """What each variant spent to get to its result (mean over seeds), a line for each variant and environment."""
    lines = []
    for env in sorted({row.env for row in rows}):
        for variant in variants:
            by_seed = {row.seed: row.cost for row in rows if (row.env, row.variant) == (env, variant)}
            if by_seed:
                means = (sum(cost[name] for cost in by_seed.values()) / len(by_seed) for name in COST_FIELDS)
                lines.append((env, f"`{variant}`", len(by_seed), *(f"{mean:,.0f}" for mean in means)))
    head = ("environment", "variant", "seeds", *(name.replace("_", " ") for name in COST_FIELDS))
    return markdown(head, lines, numbers=len(COST_FIELDS)) if lines else "No cost has been recorded yet."


def timing_table(results: Path, paper: str = "*") -> str:
    """Minutes and megabytes of one unit, from ``results/<paper>/timing.json`` (medians on the machine that ran), of all
    papers unless one is named."""
    lines = [(path.parent.name, profile, env, unit["minutes"], unit["disk_mb"], unit["units"])
             for path in sorted(results.glob(f"{paper}/timing.json"))
             for profile, by_env in json.loads(path.read_text(encoding="utf-8")).items()
             for env, unit in by_env.items()]  # fmt: skip
    head = ("paper", "profile", "environment", "minutes a unit", "MB a unit", "units")
    return markdown(head, lines, numbers=3) if lines else "No unit has been timed yet."


def summary_table(rows: Sequence[MetricRow], variants: Sequence[str], metrics: Sequence[str]) -> str:
    """Mean ± half the 95 % t-interval of several metrics, a line for each variant and panel."""
    lines = []
    for panel in sorted({row.panel for row in rows}):
        for variant in variants:
            mine = [row for row in rows if (row.panel, row.variant) == (panel, variant)]
            columns = [[row.value for row in mine if row.metric == name] for name in metrics]
            if any(columns):
                lines.append((f"`{variant}`", panel, *map(mean_and_half, columns), max(map(len, columns))))
    return markdown(("variant", "panel", *metrics, "seeds"), lines) if lines else "Nothing has been measured yet."


def family_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Verdicts of a family's papers in short: for each paper a line with its models, panels and seeds, then a line for each claim.

    Where a paper was judged on several panels, each verdict names those on which it was given.
    """
    lines = []
    for paper in dict.fromkeys(record["paper"] for record in records):
        mine = [record for record in records if record["paper"] == paper]
        seeds = {_place(record): max(other["n_seeds"] for other in mine if _place(other) == _place(record)) for record in mine}
        runs = {_place(record): f"{record['scale']}, {record['panel']}, {seeds[_place(record)]} seed{'s' * (seeds[_place(record)] != 1)}" for record in mine}
        lines.append((f"**{paper}**: {'; '.join(runs.values())}", ""))
        for claim in dict.fromkeys(record["id"] for record in mine):
            here = [record for record in mine if record["id"] == claim]
            places = {verdict: ", ".join(_place(r) for r in here if r["verdict"] == verdict) for verdict in VERDICTS}
            given = "; ".join(f"{verdict} ({where})" if len(runs) > 1 else verdict for verdict, where in places.items() if where)
            lines.append((f"{claim} {textwrap.shorten(here[0]['statement'], LONGEST, placeholder=' …', break_on_hyphens=False)}", given))
    return markdown(("claim", "verdict"), lines) if lines else "No claim of this family has been judged yet."


def _place(record: Mapping[str, Any]) -> str:
    """Where a claim was judged: the environment for a test panel, with the profile unless that is the default one."""
    return record["panel"].removesuffix("/test") + (f" at {record['profile']}" if record["profile"] != "cpu" else "")


def environment_table(root: Path) -> str:
    """The lock, the pinned packages that matter most, and the panels behind the results."""
    pins = dict(line.split("==") for line in (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
                if line.count("==") == 1)
    lines = [("pins of requirements.lock, SHA-256", f"`{lock_hash(root)[:16]}`")]
    lines += [(name, pins[name]) for name in ("torch", "transformers", "trl", "numpy") if name in pins]
    for manifest in sorted((root / "data").glob("*/manifest.json")):
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        listed = ", ".join(f"{name.removesuffix('.jsonl')} {one['rows']}" for name, one in sorted(files.items()))
        lines.append((f"data of {manifest.parent.name} (rows)", listed))
    return markdown(("what", "value"), lines)
