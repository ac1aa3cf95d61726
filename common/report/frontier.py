"""Reward against distance from the base, as pictures: points with intervals, and the frontier through them.

Pure functions as in :mod:`common.report.figures`, with its colours, widths and intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.evaluate.frontier import Point, frontier
from common.evaluate.stats import t_interval
from common.report.figures import CYCLE, INK, MARKERS, WIDTH
from common.track.rows import MetricRow


def against_kl(
    rows: Sequence[MetricRow], curves: Mapping[str, Sequence[str]], others: Sequence[str] = (), *, base: str = "base"
) -> Figure:
    """Success over KL to the base, a column for each panel; ``curves``: method → its variants, joined by their
    frontier (that of the means, from the base on), ``others``: variants that are points only.

    Marks are means over seeds with 95 % t-intervals both ways, small dots single seeds.
    """
    panels = sorted({row.panel for row in rows if row.metric == "kl"})
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained", facecolor="white")
    columns = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    if not panels:
        columns[0].text(0.5, 0.5, "nothing was measured yet", ha="center", transform=columns[0].transAxes)
    for axes, panel in zip(columns, panels):
        mine = [row for row in rows if row.panel == panel]
        origin = Point(0.0, _mean(_values(mine, base, "success")))
        axes.plot(*origin, "o", color=INK, ms=7, label=base, ls="")
        for k, (method, variants) in enumerate(curves.items()):
            points = [point for variant in variants if (point := _mark(axes, mine, variant, k, method))]
            corners = frontier(points, origin.reward)
            if points:
                corners.append(Point(max([corners[-1].kl, *(p.kl for p in points)]), corners[-1].reward))
            axes.plot([p.kl for p in corners], [p.reward for p in corners], color=CYCLE[k], lw=1.6, zorder=1)
        for k, variant in enumerate(others, start=len(curves)):
            _mark(axes, mine, variant, k, variant)
        seeds = len({row.seed for row in mine})
        axes.set_title(f"{panel}, {seeds} seed{'s' * (seeds != 1)}", fontsize=10)
        axes.set_xlabel("KL to the base (nats an answer)")
        axes.grid(color="#e6e6e6", lw=0.8)
        axes.set_xlim(left=0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    columns[0].set_ylabel("success of one agent alone (share of tasks)")
    figure.legend(*columns[0].get_legend_handles_labels(), loc="outside upper left", ncols=6, frameon=False, fontsize=9)
    note = "mean ± 95 % t-interval over training seeds, both ways; small dots: single seeds; lines: frontiers"
    figure.supxlabel(note, fontsize=8, color="#555555")
    return figure


def _mark(axes: Axes, rows: Sequence[MetricRow], variant: str, k: int, label: str) -> Point | None:
    """One variant's mean with its intervals; its place, None where it was not run."""
    kls, rewards = (_values(rows, variant, metric) for metric in ("kl", "success"))
    if not kls:
        return None
    colour, label = CYCLE[k % 8], None if label in axes.get_legend_handles_labels()[1] else label
    across, up = t_interval(kls), t_interval(rewards)
    axes.plot(kls, rewards, "o", color=colour, alpha=0.35, ms=3, mew=0)
    if across.low is not None and up.low is not None:
        axes.plot([across.low, across.high], [up.mean] * 2, color=colour, lw=1.0)
        axes.plot([across.mean] * 2, [up.low, up.high], color=colour, lw=1.0)
    axes.plot([across.mean], [up.mean], MARKERS[k % 8], color=colour, ms=7, mec="white", mew=0.6, label=label, ls="")
    return Point(across.mean, up.mean)


def _values(rows: Sequence[MetricRow], variant: str, metric: str) -> list[float]:
    """By seed."""
    found = [row for row in rows if (row.variant, row.metric) == (variant, metric)]
    return [row.value for row in sorted(found, key=lambda row: row.seed)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
