"""Look-ahead as pictures: foresight by depth beside what looking ahead gains; and single decisions, as HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.evaluate.stats import t_interval
from common.report.figures import CYCLE, GREY, MARKERS, WIDTH
from common.report.show import UNPRINTABLE
from common.track.rows import MetricRow

STYLE = """<style>.decisions{color:#222;background:#fff;border-collapse:collapse;font:13px/1.45 monospace;margin:.6em 0}
.decisions th,.decisions td{border:1px solid #ccc;padding:.4em .6em;text-align:left!important;vertical-align:top;color:#222;
background:#fff;white-space:pre-wrap;max-width:26em}.decisions .taken td{background:#cfe8f7;font-weight:bold}</style>"""
"""White on both of JupyterLab's themes; the action taken is marked by weight as well as by colour."""


def foresight_and_success(
    rows: Sequence[MetricRow], worlds: Sequence[str], lines: Mapping[str, Mapping[int, str]],
    bounds: Mapping[str, str], *, metric: str = "meaning", success: str = "planned_success",
) -> Figure:
    """Left: ``<metric>@<depth>`` of each of ``worlds``; right: ``success`` by the depth of look-ahead.

    ``lines``: label → {depth: variant}, 0 being no look-ahead; ``bounds``: label → variant, drawn as dashed lines.
    Means with 95 % t-intervals over seeds; what was not run is left out.
    """
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    for k, world in enumerate(worlds):
        names = {int(r.metric.partition("@")[2]): r.metric for r in rows
                 if r.variant == world and r.metric.startswith(f"{metric}@")}  # fmt: skip
        _line(left, {d: _values(rows, world, name) for d, name in sorted(names.items())}, k, world)
    for k, (label, points) in enumerate(lines.items()):
        _line(right, {d: _values(rows, variant, success) for d, variant in points.items()}, k, label)
    for label, variant in bounds.items():
        values = _values(rows, variant, success)
        if values:
            level = t_interval(values).mean
            right.axhline(level, color=GREY, ls="--", lw=1)
            right.annotate(label, (1.01, level), xycoords=("axes fraction", "data"), ha="left", va="center", fontsize=8,
                           color="#555555")  # fmt: skip
    left.set(xlabel="depth: pages imagined one after the other", ylim=(0, 1.03),
             ylabel=f"pages whose {metric} for the\ngoal is foreseen (share)")  # fmt: skip
    right.set(xlabel="depth of look-ahead (0: none), steps", ylabel="success (share of tasks)")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color="#e6e6e6", lw=0.8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    figure.supxlabel("mean ± 95 % t-interval over training seeds", fontsize=8, color="#555555")
    return figure


def _values(rows: Sequence[MetricRow], variant: str, metric: str) -> list[float]:
    return [row.value for row in rows if (row.variant, row.metric) == (variant, metric)]


def _line(axes: Axes, points: Mapping[int, Sequence[float]], k: int, label: str) -> None:
    means = {x: t_interval(values) for x, values in points.items() if values}
    if not means:
        return
    colour, shift = CYCLE[k % 8], 0.03 * k
    axes.plot([x + shift for x in means], [one.mean for one in means.values()], marker=MARKERS[k % 8], color=colour,
              lw=1.6, label=label)  # fmt: skip
    for x, one in means.items():
        if one.low is not None:
            axes.plot([x + shift] * 2, [one.low, one.high], color=colour, lw=1.6, alpha=0.7)


def decisions(artifacts: Path, variant: str) -> list[dict[str, Any]]:
    """The decisions that a run kept of ``variant``; empty when it kept none."""
    path = artifacts / f"decisions.{variant}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def telling(found: Sequence[Mapping[str, Any]], *, most: int = 2) -> list[Mapping[str, Any]]:
    """The first decisions that the scores changed: another action than the first was taken; at most one a goal."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for one in found:
        if one["chosen"]:
            chosen.setdefault(one["prompt"].split("\n", 1)[0], one)
    return list(chosen.values())[:most]


def decision_html(decision: Mapping[str, Any]) -> str:
    """One decision as a table: a line for each action with what it was thought to lead to, and its score.

    ``decision``: prompt, options, scores, paths and chosen, as ``LookAhead.decisions`` has them. Nothing in the texts
    is interpreted as HTML.
    """
    lines = [f'<tr><th colspan="3">{_safe(decision["prompt"])}</th></tr>',
             "<tr><th>action</th><th>foreseen, action by action</th><th>score</th></tr>"]  # fmt: skip
    for i, (option, score, path) in enumerate(
        zip(decision["options"], decision["scores"], decision["paths"], strict=True)
    ):
        told = "\n".join(f"{'' if n == 0 else f'then {action}: '}{text}" for n, (action, text) in enumerate(path))
        mark = ' class="taken"' if i == decision["chosen"] else ""
        taken = " ← taken" if mark else ""
        lines.append(f"<tr{mark}><td>{_safe(option)}{taken}</td><td>{_safe(told)}</td><td>{score:g}</td></tr>")
    return f'<table class="decisions">{"".join(lines)}</table>'


def viewer(found: Sequence[Mapping[str, Any]]) -> str:
    """Several decisions, self-contained."""
    return STYLE + "".join(map(decision_html, found)) if found else "<p>No decision was kept.</p>"


def _safe(text: str) -> str:
    return escape(UNPRINTABLE.sub("", text))
