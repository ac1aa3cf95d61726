"""Several sampled dialogues of every task, judged turn by turn."""

from __future__ import annotations

from collections.abc import Sequence

from common.envs.contract import Env
from common.evaluate.correction import Attempts, attempts_of
from common.evaluate.rollouts import evaluate
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.rng import derive
from common.types import Task, Trajectory


def dialogues(
    env: Env, tasks: Sequence[Task], engine: Engine, *, seed: int, draws: int, temperature: float = 1.0
) -> tuple[list[Attempts], list[Trajectory]]:
    """``draws`` independent dialogues of each task, and the episodes of the first draw.

    The same seed gives every policy the same random numbers on the same task and draw.
    """
    policy, judged, first = LMPolicy(engine, temperature=temperature), [], []
    for draw in range(draws):
        _, episodes = evaluate(env, tasks, policy, seed=derive(seed, draw))
        judged.append(attempts_of(env, tasks, episodes))
        first = first or episodes
    return judged, first
