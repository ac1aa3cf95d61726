"""PBT's own part of its family's notebook: pairs by hand, and the two halves of giving in against each other."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from common.report.figures import plane
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
            plane(rows, [name for name in LADDER if name in variants], (("holds", "right answers held"), ("yields", "wrong answers given up")),
                  guide=((0, 1), (1, 0)))]  # fmt: skip
