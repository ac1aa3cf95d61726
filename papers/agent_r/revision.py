"""Agent-R's revision trajectories: first errors, splices, attempts read from episodes and played again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from common.envs.undo import REFUSED, UNDO, UndoEnv, remaining, without_history
from common.types import Message, Step, Task, Trajectory


def first_error(actions: Sequence[str], good: Sequence[bool]) -> int | None:
    """The number of ``actions`` up to the first that is not ``good`` and not taken back by the next one; None without such one."""
    for i, action in enumerate(actions):
        if action != UNDO and not good[i] and tuple(actions[i + 1 : i + 2]) != (UNDO,):
            return i + 1
    return None


def shuffled(cuts: Sequence[int | None], attempts: Sequence[tuple[str, ...]], rng: np.random.Generator) -> list[int | None]:
    """The same ``cuts`` at random among attempts of as many actions."""
    found = list(cuts)
    for length in sorted({len(one) for one in attempts}):
        same = [i for i, one in enumerate(attempts) if len(one) == length]
        for i, j in zip(same, rng.permutation(same).tolist(), strict=True):
            found[i] = cuts[j]
    return found


def splice(bad: Sequence[str], cut: int, path: Sequence[str]) -> tuple[str, ...]:
    """The first ``cut`` actions of ``bad``, ``undo`` until what remains is a beginning of ``path``, and the rest of that. At least the last
    step that remains is taken back."""
    steps, shared = remaining(bad[:cut]), 0
    while shared < len(steps) - 1 and steps[: shared + 1] == tuple(path[: shared + 1]):
        shared += 1
    return (*bad[:cut], *[UNDO] * (len(steps) - shared), *path[shared:])


def read(env: UndoEnv, task: Task, episode: Trajectory) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """The steps that remain of an episode that succeeds; and its actions up to the first wrong result, or all of one that fails."""
    env.reset(task)
    bad = None
    for step in episode.steps:
        env.step(step.turn.text)
        if bad is None and env.stuck():
            bad = env.snapshot().written
    written = env.snapshot().written
    return (remaining(written), bad) if episode.success else (None, bad or written or None)


def loops(steps: Sequence[Step]) -> bool:
    """Whether an admissible action is taken twice with the same numbers."""
    taken = [(without_history(step.prompt)[0]["content"], step.turn.text.strip()) for step in steps if step.observation.text != REFUSED]
    return len(set(taken)) < len(taken)


def replay(env: UndoEnv, task: Task, actions: Sequence[str]) -> Iterator[tuple[tuple[Message, ...], str]]:
    """(prompt, action) of each of ``actions``; ``env`` is in the state before it."""
    env.reset(task)
    for action in actions:
        yield env.prompt(), action
        env.step(action)
