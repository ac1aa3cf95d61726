"""bandit-near-v1: 100 arms, the best arms are among those that the reference policy prefers (:mod:`common.envs.bandits`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.envs.bandits import EPISODES, BanditEnv
from common.envs.pixels import episode_panels

ENV_ID = "bandit-near-v1"
BEST = 20


def make(data_dir: Path) -> BanditEnv:
    return BanditEnv(ENV_ID, BEST)


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return episode_panels(ENV_ID, seed, EPISODES)
