"""Bandits of 100 arms, after the didactic problem of Tajwar et al. 2024 (arXiv:2404.14367, released code: bandit_experiment/).

An episode is one pull: a context of 100 random bits is seen, an arm a of 0 … 99 is pulled, and its reward is
exp(−((a − μ)/10)²) whatever the context. The contexts are there because a network reads them: what is learned on some of them
has to carry over to others. They are drawn as a picture of 10 × 10 bits, so that a bandit is a pixel game of one step
(:class:`common.envs.pixels.PixelEnv`). The exact optimum is 1.
"""

from __future__ import annotations

import math

import numpy as np

from common.envs.pixels import SIDE, Frame
from common.rng import generator

ARMS = 100
WIDTH = 10.0
"""Arms between the best one and one that is worth 1/e."""
EPISODES = {"validation": 100, "test": 100}
"""Panels and their numbers of contexts. There is no training panel: contexts to learn on are a run's own."""


class BanditEnv:
    """See the module. ``best`` is μ, the arm that is worth 1."""

    planes = ("context",)
    shape = (1, SIDE, SIDE)
    max_steps = 1
    actions = tuple(map(str, range(ARMS)))

    def __init__(self, env_id: str, best: int) -> None:
        self.id, self.best = env_id, best
        self._context: np.ndarray | None = None

    def reset(self, seed: int) -> np.ndarray:
        self._context = generator(self.id, seed).random(self.shape) < 0.5
        return self._context

    def step(self, action: int) -> Frame:
        if self._context is None:
            raise RuntimeError(f"{self.id}: the episode is over but was stepped; call reset first")
        if not 0 <= action < ARMS:
            raise IndexError(f"{self.id}: action {action} must be 0 to {ARMS - 1}; take one of these")
        context, self._context = self._context, None
        return Frame(context, math.exp(-(((action - self.best) / WIDTH) ** 2)), True, False)
