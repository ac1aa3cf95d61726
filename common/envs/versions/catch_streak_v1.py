"""catch-streak-v1: five balls of Catch (:mod:`common.envs.versions.catch_v1`) one after the other; only who catches all earns 1.

An episode ends with the first miss. A player who moves at random catches about a quarter of the balls, so that he sees the
reward once in some five hundred episodes. Every ball can be caught from wherever the last one left the paddle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common.envs.pixels import SIDE, Frame, episode_panels
from common.envs.versions.catch_v1 import SLOPES, CatchEnv
from common.envs.versions.catch_v1 import scripted as scripted
from common.rng import generator

ENV_ID = "catch-streak-v1"
EPISODES = {"validation": 300, "test": 300}
"""Panels and their numbers of episodes. There is no training panel: an agent's training episodes are its own."""
BALLS = 5


def make(data_dir: Path) -> StreakEnv:
    return StreakEnv(ENV_ID)


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return episode_panels(ENV_ID, seed, EPISODES)


class StreakEnv(CatchEnv):
    """Its balls are drawn when an episode begins; the paddle stays where it is between them."""

    max_steps = BALLS * CatchEnv.max_steps

    def reset(self, seed: int) -> np.ndarray:
        rng = generator(ENV_ID, seed)
        self._balls = [(int(rng.integers(SIDE)), int(rng.choice(SLOPES))) for _ in range(BALLS)]
        return self.start(*self._balls.pop(), int(rng.integers(1, SIDE - 1)))

    def step(self, action: int) -> Frame:
        seen = super().step(action)
        if not seen.reward or not self._balls:  # on its way, missed, or the last one caught
            return seen
        return Frame(self.start(*self._balls.pop(), self._paddle), 0.0, False, False)
