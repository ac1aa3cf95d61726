"""ReST-MCTS*'s own part of its family's notebook: quality values of a small tree by hand, and what each model makes of the same budget."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from common.report import tables
from common.report.show import code, source
from common.rows import MetricRow
from papers.rest_mcts.star import Node, bound, inferred

MODELS = ("prm1", "prm_more", "prm2", "exact")
LADDER = ("base", "base+vote", *(f"{name}+{how}" for how in ("bon", "mcts") for name in MODELS), "rest_em", "rest_mcts")
COLUMNS = ("success", "greedy_success", "steps")
CURVES = ("loss", "value", "logp", "grad_norm")
SHOWN = ("prm1", "prm_more", "prm2", "rest_em", "rest_mcts")


def toy() -> list[str]:
    """A question of two steps, of which three first steps were tried."""
    root = Node(2)
    for action, ends in (("9 + 5", {"14 - 3": 1.0, "14 + 3": 0.0}), ("9 - 5", {"4 + 3": 0.0}), ("9 - 3", {"6 + 5": 1.0})):
        first = Node(1, action=action, parent=root)
        first.children = [Node(0, action=end, parent=first, done=True, reward=reward) for end, reward in ends.items()]
        root.children.append(first)
    lines = [f"{'   ' * (2 - node.state)}{node.action:8s} v = {value:.2f}" for node, value in inferred(root, lambda left: left)]
    return [source(inferred), "The numbers 9, 5 and 3 and the target 11. Nobody labelled a step; where a right end is below, the way to it is good:",
            code("\n".join(lines)), source(bound)]  # fmt: skip


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """How well each model orders first steps."""
    return ["`step_order`: over all first steps that the rules allow, how often the model values one that leads to the target above one that does not "
            "(chance is a half).", tables.summary_table(rows, [name for name in MODELS if name in variants], ("step_order",))]  # fmt: skip
