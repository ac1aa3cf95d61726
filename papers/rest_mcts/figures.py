"""ReST-MCTS*'s own part of its family's notebook: quality values of a small tree by hand, and what each model makes of the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from common.report import tables
from common.report.examples import compare_episodes
from common.report.show import code, source
from common.rows import MetricRow
from common.search.star import Node, bound, inferred

VALUES = ("verdict", "prm0", "prm1", "more1", "ideal")
LADDER = ("base", "base+vote", *(f"{name}+bon" for name in VALUES), *(f"{name}+mcts" for name in VALUES),
          *(f"prm1+mcts_{how}" for how in ("alpha0", "c0", "c07")), "rest_em", "rest_mcts")  # fmt: skip
COLUMNS = ("success", "greedy_success", "tokens")
CURVES = ("loss", "value", "logp", "grad_norm")
SHOWN = ("prm0", "prm1", "more1", "rest_em", "rest_mcts")


def toy() -> list[str]:
    """A question of two steps, of which two first steps were tried."""
    root = Node(2)
    for action, ends in (("2", {"3": 1.0, "5": 0.0}), ("5", {"2": 0.0})):
        first = Node(1, action=action, parent=root)
        first.children = [Node(0, action=end, parent=first, done=True, reward=reward) for end, reward in ends.items()]
        root.children.append(first)
    both = zip(*(inferred(root, lambda left: left, released=released) for released in (False, True)), strict=True)
    lines = [f"{'   ' * (2 - node.state)}{node.action:8s} v = {paper:.2f}, released code {other:.2f}" for (node, paper), (_, other) in both]
    return [source(inferred), "5, 2 and 3 to be sorted. Nobody labelled a step; where a right end is below, the way to it is good:",
            code("\n".join(lines)), source(bound)]  # fmt: skip


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:  # noqa: ARG001
    """How near values are to exact chances, and what the same tokens give with them."""
    known = [name for name in VALUES if any(row.variant == name for row in rows)]
    return ["`value_error`: mean distance from the base model's exact chances to end right; `order`: of two unfinished siblings, how often the one with "
            "better chances is valued more (chance is a half).", tables.summary_table(rows, known, ("value_error", "order"))]  # fmt: skip


def examples(artifacts: Path) -> list[Figure | str]:
    """Questions before and after training."""
    return compare_episodes(artifacts, "base", "rest_mcts")
