"""What values are worth: the solutions they choose, and how near they and their targets are to the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from statistics import fmean

from common.envs.contract import Snapshot
from common.evaluate.votes import majority
from common.search.star import Node, Values, asked, inferred
from common.types import Trajectory


def vote(found: Sequence[Sequence[Trajectory]]) -> float:
    """How often the number that the most solutions to a question come to is right, as self-consistency votes by the last answer."""
    return fmean(majority([one.steps[-1].observation.text for one in own], [one.success for one in own]) for own in found)


def best(roots: Sequence[Node], values: Values) -> float:
    """How often the end of largest value is right."""
    ends = [root.ends() for root in roots]
    worth = iter(values(*asked([node for own in ends for node in own])))
    chosen = [max(((next(worth), -k, node.reward) for k, node in enumerate(own)), default=(0.0, 0, 0.0)) for own in ends]
    return fmean(reward == 1.0 for _, _, reward in chosen)


def near(roots: Sequence[Node], values: Values, exact: Values) -> dict[str, float]:
    """``value_error``, the mean absolute difference of the two values of all steps in ``roots``; and over unfinished siblings whose exact values
    differ ``order``, how often the better one is valued above the other, ties counting half."""
    nodes = [node for root in roots for node in root.below()]
    told, true = (dict(zip(map(id, nodes), ask(*asked(nodes)), strict=True)) for ask in (values, exact))
    order = [0.5 + 0.5 * sign(told[id(a)] - told[id(b)]) * sign(true[id(a)] - true[id(b)]) for parent in (*roots, *nodes)
             for a, b in combinations(parent.children, 2) if not (a.done or b.done) and sign(true[id(a)] - true[id(b)])]  # fmt: skip
    error = {"value_error": fmean(abs(told[i] - true[i]) for i in told)} if told else {}
    return error | ({"order": fmean(order)} if order else {})


def reordered(roots: Sequence[Node], left: Callable[[Snapshot], int], *, released: bool) -> float:
    """Of the pairs of steps in a tree for which both have a target, the share that ``released`` targets order otherwise than the paper's."""
    apart = []
    for root in roots:
        own, other = ({id(node): value for node, value in inferred(root, left, released=one)} for one in (released, False))
        apart += [sign(own[i] - own[j]) != sign(other[i] - other[j]) for i, j in combinations(own, 2)]
    return fmean(apart) if apart else 0.0


def sign(x: float) -> int:
    """With some room for rounding."""
    return (x > 1e-9) - (x < -1e-9)
