"""duel-transitive-v1: 30 arms, preferences come from a Bradley–Terry model (:mod:`common.envs.duels`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.envs.duels import DuelEnv, duel_panels

ENV_ID = "duel-transitive-v1"


def make(data_dir: Path) -> DuelEnv:
    return DuelEnv(ENV_ID, cycle=0.0)


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return duel_panels(ENV_ID)
