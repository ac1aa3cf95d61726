"""Sampling of several dialogues for each task, judged turn by turn."""

from __future__ import annotations

from collections.abc import Sequence

from common.envs.answers import AnswerEnv
from common.evaluate.correction import Attempts, attempts_of
from common.evaluate.rollouts import evaluate
from common.lm.policy import LMPolicy
from common.rng import derive
from common.types import Task, Trajectory


def dialogues(
    env: AnswerEnv, tasks: Sequence[Task], policy: LMPolicy, *, seed: int, draws: int
) -> tuple[list[Attempts], list[Trajectory]]:
    """``draws`` independent dialogues of each task, and the episodes of the first draw.

    The same seed gives every policy the same random numbers on the same task and draw.
    """
    judged, first = [], []
    for draw in range(draws):
        _, episodes = evaluate(env, tasks, policy, seed=derive(seed, draw))
        judged.append(attempts_of(env, tasks, episodes))
        first = first or episodes
    return judged, first
