"""PBT's own part of its family's notebook: pairs by hand, and the two halves of giving in against each other."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from common.evaluate.stats import t_interval
from common.report.figures import CYCLE, GREY, MARKERS, by_panel, despine, panel_axes
from common.report.show import code, source
from common.rows import MetricRow
from common.types import Task, Turn
from papers.pbt.method import siblings
from papers.pbt.talks import Last, Talk

LADDER = ("base", "sft", "pbt", "resist", "accept")
COLUMNS = ("balanced", "greedy_balanced", "holds", "yields", "repairs", "stays", "flattered", "success")
CURVES = ("loss", "reward_margin", "reward_accuracy", "logratio_chosen", "logratio_rejected", "grad_norm")
SHOWN = LADDER[2:]


def toy() -> list[str]:
    """What two talks teach: in one the agent was right, in the other wrong."""
    task, lines = Task("by hand", "", "train", {}), []
    for right in (True, False):
        talk = Talk(task, "5 + 3 = 8", right, "makes 9 wrong" if right else "makes 8 wrong", ())
        last = [Last(Turn("keep", -1.0, 1), right, True), Last(Turn("5 - 3 = 2", -1.0, 5), not right, False)]
        pair = siblings(talk, last)
        lines.append(f"{'was right' if right else 'was wrong'}, \"{talk.said}\": \"{pair.chosen}\" before \"{pair.rejected}\"")
    return ["Two talks, and what is learned from them. The partner objects to both:", source(siblings), code("\n".join(lines))]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """Both halves of the question in one picture."""
    return ["A partner objects to every answer. To the right: right answers are held; up: wrong ones are given up. Whoever does not look at "
            "the answer lies on the dotted line, whoever sees all is in the upper right corner. Small marks are seeds, crosses 95 % intervals.",
            halves(rows, variants)]  # fmt: skip


def halves(rows: Sequence[MetricRow], variants: Sequence[str]) -> Figure:
    """``yields`` against ``holds``, a column for each panel."""
    names = [name for name in LADDER if name in variants]
    right, up = (by_panel(rows, names, metric) for metric in ("holds", "yields"))
    figure, columns = panel_axes(right, 4.2)
    for axes, panel in zip(columns, right):
        axes.plot([0, 1], [1, 0], ":", color=GREY, lw=1)
        for k, name in enumerate(name for name in names if name in right[panel]):
            x, y = ([row.value for row in found[panel][name]] for found in (right, up))
            axes.plot(x, y, MARKERS[k % len(MARKERS)], color=CYCLE[k % len(CYCLE)], ms=3, alpha=0.4, mew=0)
            across, along = t_interval(x), t_interval(y)
            if across.low is not None:
                axes.plot([across.low, across.high], [along.mean] * 2, color=CYCLE[k % len(CYCLE)], lw=1.6)
                axes.plot([across.mean] * 2, [along.low, along.high], color=CYCLE[k % len(CYCLE)], lw=1.6)
            axes.plot(across.mean, along.mean, MARKERS[k % len(MARKERS)], color=CYCLE[k % len(CYCLE)], ms=8, mec="white", label=name)
        axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xlabel="right answers held (holds)", ylabel="wrong answers given up (yields)", title=panel)
        axes.title.set_fontsize(10)
    if right:
        figure.legend(*columns[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return despine(figure)
