"""The first wrong action of an episode, by exact values."""

from __future__ import annotations

from collections.abc import Sequence

from common.envs.contract import Env
from common.types import Task

TOLERANCE = 1e-9


def first_error(env: Env, task: Task, actions: Sequence[str]) -> int | None:
    """The index of the first of ``actions``, played from the start of ``task``, after which less can be reached than before; None where
    there is none. Actions behind the end of the episode are not looked at, and the episode that ran in ``env`` is lost.

    Less can be reached when V* falls, or when the episode ends with less than V*. Where only the end is rewarded and V* is discounted
    (γ < 1) that is when the fewest steps left grow: a step away from the goal is wrong, one that is merely wasted (reading, looking into a
    box on the way) is not, unless the limit has no step to spare. An action can be wrong though no player could know it: V* sees all.
    """
    env.reset(task)
    for index, action in enumerate(actions):
        before = env.value(env.snapshot())
        seen = env.step(action)
        reached = seen.reward if seen.done else env.value(env.snapshot())
        if reached < before - TOLERANCE:
            return index
        if seen.done:
            break
    return None
