"""Figures of agents that play pixel games: learning curves, foresight by step, an episode as an agent saw it.

Pure functions: data in, a ``Figure`` out; style and intervals are those of :mod:`common.report.figures`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from common.evaluate.stats import t_interval
from common.report.figures import BLUE, CYCLE, GREEN, GREY, INK, MARKERS, ORANGE, PURPLE, RED, SKY, WIDTH
from common.track.rows import MetricRow

PLANES = (BLUE, RED, ORANGE, SKY, GREEN, PURPLE)
"""Colour of each plane of a frame; where planes overlap, the first one is seen."""


def by_number(rows: Sequence[MetricRow], variant: str, prefix: str) -> dict[int, list[float]]:
    """number → values over seeds of the metrics ``<prefix>@<number>`` of ``variant``, rising."""
    found: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: row.seed):
        name, _, number = row.metric.partition("@")
        if (row.variant, name) == (variant, prefix) and number.isdecimal():
            found.setdefault(int(number), []).append(row.value)
    return dict(sorted(found.items()))


def along(
    rows: Sequence[MetricRow], variants: Sequence[str], panels: Mapping[str, str], *, xlabel: str,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """One line a variant along the number behind the @; a column for each entry of ``panels``, prefix → label of the
    y axis. Bands are 95 % t-intervals over seeds. ``references``, label → value, are drawn in the first column."""
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained", facecolor="white")
    columns = figure.subplots(1, len(panels), squeeze=False)[0]
    seeds = 0
    for axes, (prefix, label) in zip(columns, panels.items(), strict=True):
        for k, variant in enumerate(variants):
            points = by_number(rows, variant, prefix)
            if points:
                _band(axes, points, k, variant)
                seeds = max(seeds, *map(len, points.values()))
        axes.set_xlabel(xlabel)
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(color="#e6e6e6", lw=0.8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for name, value in (references or {}).items():
        columns[0].axhline(value, color=GREY, ls="--", lw=1)
        columns[0].annotate(name, (1.0, value), xycoords=("axes fraction", "data"), fontsize=8, color="#555555",
                            ha="right", va="bottom")  # fmt: skip
    handles, labels = columns[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=8)
    figure.supxlabel(f"mean and 95 % t-interval over {seeds} training seed{'s' * (seeds != 1)}" if seeds else
                     "nothing was measured yet", fontsize=8, color="#555555")  # fmt: skip
    return figure


def _band(axes: Axes, points: Mapping[int, Sequence[float]], k: int, label: str) -> None:
    found = {x: t_interval(values) for x, values in points.items()}
    xs, colour = list(found), CYCLE[k % len(CYCLE)]
    axes.plot(xs, [one.mean for one in found.values()], color=colour, marker=MARKERS[k % len(MARKERS)], ms=5, lw=1.6,
              ls="-" if k < len(CYCLE) else "--", label=label)  # fmt: skip
    whole = {x: one for x, one in found.items() if one.low is not None}
    if whole:
        axes.fill_between(list(whole), [one.low for one in whole.values()], [one.high for one in whole.values()],
                          color=colour, alpha=0.12, lw=0)  # fmt: skip


def episodes(artifacts: Path, variant: str) -> list[list[dict[str, Any]]]:
    """The episodes that a run kept of ``variant``; empty when it kept none."""
    path = artifacts / f"episodes.{variant}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def chosen(steps: Sequence[Mapping[str, Any]], count: int) -> list[int]:
    """Indices of the steps to look at: those with reward first, then the last ones, in order."""
    order = sorted(range(len(steps)), key=lambda i: (steps[i]["reward"] == 0, -i))
    return sorted(order[:count])


def film(
    steps: Sequence[Mapping[str, Any]], planes: Sequence[str], actions: Sequence[str], *, count: int = 7,
    values: str = "Q-value\n(discounted points)",
) -> Figure:
    """Some steps of an episode, left to right: what the agent saw above, its Q-values below, the action taken dark.

    ``steps`` as :func:`episodes` reads them; ``planes`` and ``actions`` are the game's names; ``values`` says what
    the bars are.
    """
    picked = chosen(steps, count)
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained", facecolor="white")
    grid = figure.subplots(2, max(len(picked), 1), squeeze=False, height_ratios=[1.4, 1])
    if not picked:
        return figure
    colours = ListedColormap(["#f4f4f4", *PLANES[: len(planes)]])
    heights = [value for i in picked for value in steps[i]["q"]]
    low, high = min(0.0, *heights), max(0.0, *heights) * 1.1 + 1e-6
    for column, i in enumerate(picked):
        step, picture = steps[i], np.zeros((10, 10))
        for plane, y, x in sorted(step["cells"], reverse=True):
            picture[y, x] = plane + 1
        above, below = grid[0][column], grid[1][column]
        above.imshow(picture, cmap=colours, vmin=-0.5, vmax=len(planes) + 0.5, interpolation="nearest")
        above.set_title(f"step {i + 1}" + (f"\nreward {step['reward']:g}" if step["reward"] else
                                           "\nit ends" if step["over"] else "\n"), fontsize=8)  # fmt: skip
        above.set_xticks([0, 9])
        above.set_yticks([0, 9])
        above.tick_params(labelsize=7)
        bars = [INK if action == step["action"] else "#b5b5b5" for action in range(len(actions))]
        below.bar(range(len(actions)), step["q"], color=bars)
        below.set_xticks(range(len(actions)), actions, fontsize=8)
        below.set_ylim(low, high)
        below.tick_params(labelsize=7, labelleft=column == 0)
        for side in ("top", "right"):
            below.spines[side].set_visible(False)
    grid[0][0].set_ylabel("row (cells)")
    grid[0][0].set_xlabel("column (cells)", fontsize=8)
    grid[1][0].set_ylabel(values)
    grid[1][0].set_xlabel("action", fontsize=8)
    keys = [Patch(color=colour, label=name) for name, colour in zip(planes, PLANES, strict=False)]
    figure.legend(handles=keys, loc="outside upper left", ncols=len(keys), frameon=False, fontsize=8)
    return figure
