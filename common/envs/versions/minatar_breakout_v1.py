"""minatar-breakout-v1: a paddle keeps a ball in play, each brick it breaks is worth 1; missing it ends the episode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common.envs.minatar import EPISODES, MinAtarEnv
from common.envs.pixels import SIDE, episode_panels, where

ENV_ID = "minatar-breakout-v1"
NOTHING, LEFT, RIGHT = range(3)


def make(data_dir: Path) -> MinAtarEnv:
    return MinAtarEnv(ENV_ID, "breakout")


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return episode_panels(ENV_ID, seed, EPISODES)


def scripted(planes: np.ndarray) -> int:
    """A player's rule, the reference that agents are read against: be where a falling ball will land (bricks on its
    way forgotten), stay below a rising one."""
    (_, paddle), (row, column), before = *where(planes[0]), *where(planes[1]), where(planes[2])
    target = column
    if before and before[0][0] < row:
        step = int(np.sign(column - before[0][1])) or (1 if column == 0 else -1)
        for _ in range(SIDE - 1 - row):
            if not 0 <= target + step < SIDE:
                step = -step  # the ball waits one step in the outermost column
            else:
                target += step
    return NOTHING if target == paddle else LEFT if target < paddle else RIGHT
