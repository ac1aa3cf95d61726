"""Four Habits' own part of its family's notebook: traces of each kind, and what reinforcement learning makes of each start."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from common.evaluate.stats import t_interval
from common.report.figures import CYCLE, GREY, MARKERS, by_panel, despine, panel_axes
from common.report.show import code, source
from common.rng import generator
from common.rows import MetricRow
from common.types import Task
from papers.four_habits.method import HABITS, trace

STARTS = {"base": "rl", **{habit: f"rl_{habit}" for habit in HABITS}}
LADDER = ("base", "rl", *(name for habit in HABITS for name in (habit, f"rl_{habit}")), "more")
COLUMNS = ("success", "greedy_success", "first_try", "tries", "told_apart", "tokens")
CURVES = ("acc_1", "tokens", "cut", "kl_1", "grad_norm")
SHOWN = tuple(STARTS.values())


def toy() -> list[str]:
    """A trace of each kind for one task."""
    task = Task("by hand", "countdown-worked-v1", "train", {"numbers": [14, 5, 3], "target": 16})
    lines = [f"{habit:10s} {trace(task, habit, 2, generator('toy', 5))}" for habit in ("backtrack", "dots")]
    return ["The word *no* takes back the step before it. Traces for the numbers 14, 5, 3 and the target 16:", source(trace), code("\n".join(lines))]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """From where reinforcement learning starts to where it ends."""
    return ["Each arrow is one start: where it stands before reinforcement learning, and after it. Bars are 95 % intervals over seeds.",
            gains(rows, [name for name in STARTS if name in variants])]  # fmt: skip


def gains(rows: Sequence[MetricRow], starts: Sequence[str]) -> Figure:
    """Success before and after reinforcement learning, a column for each panel."""
    panels = by_panel(rows, [*starts, *STARTS.values()], "success")
    figure, columns = panel_axes(panels, 3.4)
    for axes, (panel, found) in zip(columns, panels.items()):
        present = [name for name in starts if name in found and STARTS[name] in found]
        for y, name in enumerate(present):
            ends = [t_interval([row.value for row in found[one]]) for one in (name, STARTS[name])]
            axes.annotate("", (ends[1].mean, y), (ends[0].mean, y), arrowprops={"arrowstyle": "->", "color": CYCLE[y], "lw": 1.8, "shrinkA": 0, "shrinkB": 0})
            for k, end in enumerate(ends):
                axes.plot(end.mean, y, MARKERS[y], color=CYCLE[y] if k else "white", mec=CYCLE[y], ms=7)
                if end.low is not None:
                    axes.plot([end.low, end.high], [y + 0.16] * 2, color=CYCLE[y] if k else GREY, lw=2)
        axes.set_yticks(range(len(present)), present)
        axes.set_ylim(len(present) - 0.5, -0.5)
        axes.set_xlabel("success, before (open) and after (filled)")
        axes.set_title(panel, fontsize=10)
    return despine(figure)
