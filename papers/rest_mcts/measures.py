"""What values are worth: the solutions they choose, how near they and their targets are to the truth, and the truth, for games are small
enough to look at every one that the rules allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import exp
from statistics import fmean

from common.envs.contract import Env, Snapshot
from common.evaluate.votes import majority
from common.lm.engine import Engine
from common.types import Task, Trajectory
from papers.rest_mcts.star import Node, Values, asked, inferred


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


def chances(env: Env, engine: Engine, tasks: Sequence[Task]) -> Values:
    """P(right | a step) where ``engine`` goes on at temperature 1: the sum over all games of ``tasks`` that the rules allow. A step that
    they forbid loses."""
    moves: dict[Snapshot, tuple] = {}
    level: list[Snapshot] = []
    for task in tasks:
        env.reset(task)
        level.append(env.snapshot())
    while level:
        for state in level:
            env.restore(state)
            prompt, actions = env.prompt(), env.actions()
            moves[state] = prompt, actions, [after(env, state, action) for action in actions]
        level = list(dict.fromkeys(one for state in level for one in moves[state][2] if not isinstance(one, float)))
    scores = engine.score([prompt for prompt, _, _ in moves.values()], [actions for _, actions, _ in moves.values()])
    worth: dict[Snapshot, float] = {}

    def value(one: Snapshot | float) -> float:
        return one if isinstance(one, float) else worth.get(one, 0.0)

    for (state, (_, _, ends)), logps in reversed(list(zip(moves.items(), scores, strict=True))):
        worth[state] = sum(exp(logp) * value(one) for logp, one in zip(logps, ends, strict=True))
    return lambda _, actions, states: [value(after(env, state, action)) for state, action in zip(states, actions, strict=True)]


def after(env: Env, state: Snapshot, action: str) -> Snapshot | float:
    """The state after a step, the reward where it ends the game."""
    env.restore(state)
    seen = env.step(action)
    return float(seen.reward) if seen.done else env.snapshot()
