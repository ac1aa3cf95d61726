"""minatar-space-invaders-v1: a cannon shoots aliens, 1 each, that march down and shoot back; a hit ends the episode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common.envs.minatar import EPISODES, MinAtarEnv
from common.envs.pixels import SIDE, episode_panels, where

ENV_ID = "minatar-space-invaders-v1"
NOTHING, LEFT, RIGHT, FIRE = range(4)
NEAR = 3
"""Rows above the cannon from which a bullet is dodged."""


def make(data_dir: Path) -> MinAtarEnv:
    return MinAtarEnv(ENV_ID, "space_invaders")


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return episode_panels(ENV_ID, seed, EPISODES)


def scripted(planes: np.ndarray) -> int:
    """A player's rule, the reference that agents are read against: step out of a near bullet's column, go below the
    nearest alien, and fire."""
    [(_, cannon)] = where(planes[0])
    falling = planes[5][SIDE - 1 - NEAR :].any(axis=0)
    if falling[cannon]:
        free = [side for side in (cannon - 1, cannon + 1) if 0 <= side < SIDE and not falling[side]]
        return NOTHING if not free else LEFT if free[0] < cannon else RIGHT
    columns = sorted({column for _, column in where(planes[1])}, key=lambda column: (abs(column - cannon), column))
    if not columns or columns[0] == cannon:
        return FIRE
    target = columns[0]
    beside = cannon + (1 if target > cannon else -1)
    return FIRE if falling[beside] else LEFT if target < cannon else RIGHT
