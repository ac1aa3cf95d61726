"""Imagined beside real observations, step by step, as HTML; and how foresight fades with depth, as a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from common.evaluate.stats import t_interval
from common.report.figures import CYCLE, MARKERS, WIDTH
from common.report.show import UNPRINTABLE
from common.rows import MetricRow

STYLE = """<style>.imagined{color:#222;background:#fff;border-collapse:collapse;font:13px/1.45 monospace;margin:.6em 0}
table.imagined tr th,table.imagined tr td{border:1px solid #ccc;padding:.4em .6em;text-align:left!important;
vertical-align:top;color:#222;background:#fff;white-space:pre-wrap;max-width:26em}
.imagined .extra{background:#ffe3cc;text-decoration:line-through}
.imagined .missing{background:#cfe8f7;text-decoration:underline;font-weight:bold}</style>"""
"""White on both of JupyterLab's themes; differences are marked by form as well as by colour."""

LABELS = {"tokens": "words that agree (share)", "exact": "states imagined exactly (share)"}
LEGEND = ('<span class="extra">struck out</span>: imagined, not real; '
          '<span class="missing">underlined</span>: real, not imagined')  # fmt: skip


def forecasts(artifacts: Path, variant: str) -> list[dict[str, Any]]:
    """The forecasts that a run kept of ``variant``; empty when it kept none."""
    path = artifacts / f"forecasts.{variant}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def marked(imagined: str, real: str) -> tuple[str, str]:
    """Both texts as HTML, words that have no counterpart in the other in a ``span`` (class extra, missing)."""
    one, other = _words(imagined), _words(real)
    sides: tuple[list[str], list[str]] = ([], [])
    for kind, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for side, name, part in ((sides[0], "extra", one[a:b]), (sides[1], "missing", other[c:d])):
            text = escape(" ".join(part)).replace(" \n ", "\n").replace(" \n", "\n").replace("\n ", "\n")
            if part:
                side.append(text if kind == "equal" else f'<span class="{name}">{text}</span>')
    return _joined(sides[0]), _joined(sides[1])


def forecast_html(one: Mapping[str, Any]) -> str:
    """One forecast as a table: a line for each action with the imagined and the real state after it.

    ``one``: task, prompt, actions, real and imagined, as ``Forecast.record`` has them. An imagination that ended
    early leaves its cells empty. Nothing in the texts is interpreted as HTML.
    """
    lines = [f'<tr><th colspan="3">{escape(UNPRINTABLE.sub("", one["prompt"]))}</th></tr>',
             "<tr><th>action</th><th>imagined</th><th>real</th></tr>"]  # fmt: skip
    for d, (action, real) in enumerate(zip(one["actions"], one["real"], strict=True)):
        imagined = one["imagined"][d] if d < len(one["imagined"]) else ""
        left, right = marked(imagined, real)
        lines.append(f"<tr><td>{escape(UNPRINTABLE.sub('', action))}</td><td>{left}</td><td>{right}</td></tr>")
    return f'<table class="imagined">{"".join(lines)}</table>'


def viewer(found: Sequence[Mapping[str, Any]]) -> str:
    """Several forecasts under one legend, self-contained."""
    body = "".join(map(forecast_html, found))
    return f'{STYLE}<div class="imagined">{LEGEND}</div>{body}' if found else "<p>No forecast was kept.</p>"


def examples(artifacts: Path, names: Sequence[str]) -> list[str]:
    """For each of the world models ``names`` that the unit kept, what it imagined beside what came."""
    kept = {name: found for name in names if (found := forecasts(artifacts, name))}
    return [part for name, found in kept.items() for part in (f"**`{name}`**", viewer(differing(found, most=2)))]


def differing(found: Sequence[Mapping[str, Any]], *, most: int = 3) -> list[Mapping[str, Any]]:
    """The longest forecasts in which something was imagined wrong and something right, at most one a task."""
    def rank(one: Mapping[str, Any]) -> tuple[bool, int]:
        right = sum(text.split() == real.split() for text, real in zip(one["imagined"], one["real"]))
        return (0 < right < len(one["real"]), len(one["real"]))

    chosen: dict[str, Mapping[str, Any]] = {}
    for one in sorted(found, key=rank, reverse=True):
        chosen.setdefault(one["task"], one)
    return list(chosen.values())[:most]


def depths(rows: Sequence[MetricRow], variants: Sequence[str], metrics: Sequence[str] = ("tokens", "exact")) -> Figure:
    """Foresight by depth: ``<metric>@<depth>``, a column for each metric, a line for each variant, with intervals."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained", facecolor="white")
    columns = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, metric in zip(columns, metrics, strict=True):
        for k, variant in enumerate(variants):
            points: dict[int, list[float]] = {}
            for row in rows:
                name, _, depth = row.metric.partition("@")
                if (row.variant, name) == (variant, metric) and depth:
                    points.setdefault(int(depth), []).append(row.value)
            means = {d: t_interval(values) for d, values in sorted(points.items())}
            axes.plot(list(means), [one.mean for one in means.values()], color=CYCLE[k % 8], marker=MARKERS[k % 8],
                      lw=1.6, label=variant)  # fmt: skip
            for d, one in means.items():
                if one.low is not None:
                    axes.plot([d, d], [one.low, one.high], color=CYCLE[k % 8], lw=1.6, alpha=0.7)
        axes.set_xlabel("depth: states imagined one after the other")
        axes.set_ylabel(LABELS.get(metric, metric))
        axes.set_ylim(0, 1.03)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color="#e6e6e6", lw=0.8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    handles, labels = columns[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    figure.supxlabel("mean ± 95 % t-interval over training seeds", fontsize=8, color="#555555")
    return figure


def _words(text: str) -> list[str]:
    return UNPRINTABLE.sub("", text).replace("\n", " \n ").split(" ")


def _joined(parts: Sequence[str]) -> str:
    """Parts with a space between them where no line ends."""
    text = ""
    for part in parts:
        text += part if not text or text.endswith("\n") or part.startswith("\n") else f" {part}"
    return text
