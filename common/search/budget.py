"""Episodes for a budget of tokens: what a baseline samples that may spend as much as another method spent."""

from __future__ import annotations

from collections.abc import Sequence

from common.envs.contract import Env
from common.rng import derive
from common.search.policy import Policy
from common.search.rollout import rollout
from common.types import Task, Trajectory


def play_within(
    env: Env, tasks: Sequence[Task], policy: Policy, *, tokens: int, seed: int, max_steps: int | None = None
) -> tuple[list[Task], list[Trajectory]]:
    """Tasks and their episodes, round after round over ``tasks`` until ``tokens`` are sampled.

    A round that would overspend is cut to as many tasks as the rest pays for at the mean price so far, so that at
    most the price of one episode and its variation is spent too much. Every round has other random numbers.
    """
    asked: list[Task] = []
    told: list[Trajectory] = []
    spent = number = 0
    while spent < tokens:
        price = spent / len(told) if told else 0.0
        room = int((tokens - spent) / price) if price else len(tasks)
        chosen = list(tasks[: max(1, min(len(tasks), room))])
        keys = [derive(seed, "round", number, task.id) for task in chosen]
        told += rollout(env, chosen, policy, keys=keys, max_steps=max_steps)
        asked, spent, number = asked + chosen, sum(episode.n_tokens for episode in told), number + 1
    return asked, told
