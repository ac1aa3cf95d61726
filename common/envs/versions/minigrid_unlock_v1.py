"""minigrid-unlock-v1: BabyAI's UnlockLocal: fetch the key in a room and open its locked door, the only reward.

One room of a maze, one door, one key. The package's bot opens it in fourteen steps in the mean; a player who moves at random in
two of a hundred episodes of the package's 576 steps. Here an episode has 64.
"""

from __future__ import annotations

import hashlib
import json

from common.envs.minigrid import EPISODES, VERSION, MiniGridEnv, package
from common.envs.pixels import episode_panels
from common.types import Task

ENV_ID = "minigrid-unlock-v1"
LEVEL = "BabyAI-UnlockLocal-v0"
MAX_STEPS = 64


def make(data_dir: object) -> MiniGridEnv:
    return MiniGridEnv(ENV_ID, LEVEL, MAX_STEPS)


def panels() -> dict[str, list[Task]]:
    """Episodes are seeds, whose rooms the package makes. FileNotFoundError without it."""
    package()
    return {name: [Task(**row) for row in rows] for name, rows in episode_panels(ENV_ID, 0, EPISODES).items()}


def data_hash() -> str:
    text = json.dumps([ENV_ID, VERSION, {name: [task.data for task in tasks] for name, tasks in panels().items()}])
    return hashlib.sha256(text.encode()).hexdigest()
