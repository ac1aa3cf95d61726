"""catch-v1: a ball falls and bounces off the walls; a paddle at the bottom has to be where it lands.

Catch is an old task of deep reinforcement learning (Mnih et al. 2014; bsuite, Osband et al. 2020). Ours: balls that move
sideways and bounce, a paddle of three cells, and a plane with the ball's last place, without which a frame would not show
where it goes. A ball is an episode of eight steps; its only reward, 1 for a catch, comes at the last. The exact optimum is
1: whoever remembers the frames knows where the ball will land and is there in time (tests/envs/test_catch.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common.envs.pixels import SIDE, Frame, episode_panels, where
from common.rng import generator

ENV_ID = "catch-v1"
EPISODES = {"validation": 400, "test": 400}
"""Panels and their numbers of episodes. There is no training panel: an agent's training episodes are its own."""
SLOPES = (-2, -1, 0, 1, 2)
"""Columns that a ball moves in each row."""
NOTHING, LEFT, RIGHT = range(3)


def make(data_dir: Path) -> CatchEnv:
    return CatchEnv(ENV_ID)


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return episode_panels(ENV_ID, seed, EPISODES)


def fallen(column: int, slope: int) -> tuple[int, int]:
    """Column and slope of a ball one row further down; it turns back at the outermost columns."""
    column += slope
    if not 0 <= column < SIDE:
        column, slope = 2 * (SIDE - 1) * (column >= SIDE) - column, -slope
    return column, slope


class CatchEnv:
    """One ball at a time (:class:`common.envs.pixels.PixelEnv`). It has fallen by a row when an episode begins, so that the
    first frame shows where it goes."""

    actions = ("n", "l", "r")
    planes = ("paddle", "ball", "trail")
    max_steps = SIDE - 2

    def __init__(self, env_id: str) -> None:
        self.id = env_id
        self._over = True

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.planes), SIDE, SIDE

    def reset(self, seed: int) -> np.ndarray:
        rng = generator(ENV_ID, seed)
        return self.start(int(rng.integers(SIDE)), int(rng.choice(SLOPES)), int(rng.integers(1, SIDE - 1)))

    def start(self, column: int, slope: int, paddle: int) -> np.ndarray:
        """The first observation of the episode in which a ball of this ``slope`` falls from ``column``; ``paddle`` is the
        column of the paddle's middle."""
        self._row, self._column, self._slope, self._paddle, self._over = 0, column, slope, paddle, False
        self._fall()
        return self._observe()

    def step(self, action: int) -> Frame:
        if self._over:
            raise RuntimeError(f"{self.id}: the episode is over but was stepped; call reset first")
        if not 0 <= action < len(self.actions):
            raise IndexError(f"{self.id}: action {action} must be 0 to {len(self.actions) - 1}; take one of these")
        self._paddle = min(max(self._paddle + (0, -1, 1)[action], 0), SIDE - 1)
        self._fall()
        self._over = self._row == SIDE - 1
        return Frame(self._observe(), float(self._over and abs(self._column - self._paddle) <= 1), self._over, False)

    def expert(self) -> int:
        """What :func:`scripted` does now."""
        return scripted(self._observe())

    def _fall(self) -> None:
        self._trail = (self._row, self._column)
        self._row += 1
        self._column, self._slope = fallen(self._column, self._slope)

    def _observe(self) -> np.ndarray:
        planes = np.zeros(self.shape, dtype=bool)
        planes[0, SIDE - 1, max(self._paddle - 1, 0) : self._paddle + 2] = True
        planes[1, self._row, self._column] = True
        planes[2][self._trail] = True
        return planes


def scripted(planes: np.ndarray) -> int:
    """A player's rule, the reference that agents are read against: go where the ball will land, by what one frame shows. It
    cannot see a slope of two columns in the step in which the ball turns, and so misses a few."""
    cells, [(row, column)], [(_, before)] = map(where, planes)
    paddle = cells[-1][1] - (len(cells) == 3 or cells[0][1] == 0)  # beside a wall two of its three cells are seen
    slope = column - before
    for _ in range(SIDE - 1 - row):
        column, slope = fallen(column, slope)
    return NOTHING if column == paddle else LEFT if column < paddle else RIGHT
