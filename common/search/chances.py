"""Exact chances that a policy ends right, for environments whose games are few enough to look at every one that the rules allow."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from common.envs.contract import Env, Snapshot
from common.lm.engine import Engine
from common.search.star import Values
from common.types import Task


def chances(env: Env, engine: Engine, tasks: Sequence[Task]) -> Values:
    """P(right | a step) where ``engine`` goes on at temperature 1: the sum over all games of ``tasks`` that the rules allow. A step that
    they forbid loses. A listed step in another spelling, such as `` 12`` with a space, which some environments take, is not counted."""
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
