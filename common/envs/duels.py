"""Dueling bandits of 30 arms: what can be learned of two arms is which one is preferred, and how often.

An arm is one of three modes and, within it, one of ten qualities q from 0 to 1. Arm a is preferred to arm b with probability

    P(a ≻ b) = σ(cycle · c(a, b) + 2 · (q_a − q_b))

where c is 1 if a's mode beats b's (1 beats 0, 2 beats 1, 0 beats 2), −1 the other way round, and 0 within a mode. Without a cycle
this is a Bradley–Terry model, and no arm is preferred to the best one of any mode. With one no arm is, and the only policy that none
beats in the mean mixes the best arms of all modes alike (:class:`DuelEnv` is exact: a duel's reward is the probability).

An episode is a duel, drawn as a pixel game of one step (:class:`common.envs.pixels.PixelEnv`): one of 100 cells is the opponent,
``seed`` modulo 30; the action is the arm against it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from common.envs.pixels import SIDE, Frame
from common.rng import derive
from common.types import Task

ARMS, MODES = 30, 3
QUALITY = 2.0
"""Log-odds by which a mode's best arm is preferred to its worst."""
EPISODES = {"validation": ARMS, "test": ARMS}
"""Panels and their numbers of duels: one against every arm, which is all there is to know. Practice is a run's own."""


def mode(arm: int) -> int:
    return arm // (ARMS // MODES)


def quality(arm: int) -> float:
    return (arm % (ARMS // MODES)) / (ARMS // MODES - 1)


class DuelEnv:
    """See the module. ``cycle``: the log-odds by which a mode beats the one before it."""

    planes = ("opponent",)
    shape = (1, SIDE, SIDE)
    max_steps = 1
    actions = tuple(map(str, range(ARMS)))

    def __init__(self, env_id: str, cycle: float) -> None:
        self.id, self.cycle = env_id, cycle
        self._opponent: int | None = None

    def reset(self, seed: int) -> np.ndarray:
        self._opponent = seed % ARMS
        planes = np.zeros(SIDE * SIDE, dtype=bool)
        planes[self._opponent] = True
        return planes.reshape(self.shape)

    def step(self, action: int) -> Frame:
        if self._opponent is None:
            raise RuntimeError(f"{self.id}: the episode is over but was stepped; call reset first")
        if not 0 <= action < ARMS:
            raise IndexError(f"{self.id}: action {action} must be 0 to {ARMS - 1}; take one of these")
        other, self._opponent = self._opponent, None
        odds = self.cycle * (0, 1, -1)[(mode(action) - mode(other)) % MODES] + QUALITY * (quality(action) - quality(other))
        return Frame(np.zeros(self.shape, dtype=bool), 1.0 / (1.0 + math.exp(-odds)), True, False)


def preferences(env: DuelEnv, seeds: Sequence[int]) -> np.ndarray:
    """[A, S]: how often each arm is preferred in the duels named by ``seeds``."""
    return np.array([[(env.reset(seed), env.step(arm))[1].reward for seed in seeds] for arm in range(len(env.actions))])


def practice(env: DuelEnv, seed: int) -> np.ndarray:
    """P [A, A] as a training run of ``seed`` meets it: duels of its own, none of a panel's."""
    beyond = len(EPISODES) + derive(seed, "practice") % 10**6
    return preferences(env, [arm + beyond * ARMS for arm in range(ARMS)])


def favouring(favour: float) -> np.ndarray:
    """Logits [A] of a policy that favours the first mode's arms by ``favour``."""
    return np.array([favour * (mode(arm) == 0) for arm in range(ARMS)])


def duel_panels(env_id: str) -> dict[str, list[dict]]:
    """Rows of the panels of ``env_id``: a duel against every arm."""
    return {split: [asdict(Task(f"{env_id}/{split}/{k}", env_id, split, {"seed": i * ARMS + k})) for k in range(count)]
            for i, (split, count) in enumerate(EPISODES.items())}  # fmt: skip
