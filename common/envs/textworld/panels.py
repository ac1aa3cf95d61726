"""Panels of seeds, chosen once and kept as hexadecimal numbers, so that nobody needs Java to know a panel.

Seeds are those that the package names for its folds (train 0 to 999, development 10,000 to 10,999, test 20,000 to 20,999), each played in
its fold; demonstrations have seeds 1,000 to 9,999 of the fold "train". The same seed in two folds is almost the same layout, so that seeds
must differ. Bit i of a panel's number says that seed first + i is in it.
"""

from __future__ import annotations

import hashlib
import json

from common.envs.textworld.engine import VERSION, package
from common.envs.textworld.game import Game, TextWorldEnv
from common.types import Task

RANGES = {"test": ("test", 20_000, 1_000), "validation": ("dev", 10_000, 1_000), "train": ("train", 0, 1_000), "demos": ("train", 1_000, 9_000)}
"""Panel → the package's fold, the first seed, and how many there are; in the order in which layouts are given out."""
SIZES = {"test": 300, "validation": 300, "train": 500, "demos": 1_000}


def panels_of(env_id: str, chosen: dict[str, str]) -> dict[str, list[Task]]:
    """The tasks that the numbers of ``chosen`` name. FileNotFoundError without the package."""
    package()
    made = {}
    for panel, (fold, first, _) in RANGES.items():
        bits = int(chosen[panel], 16)
        made[panel] = [Task(f"{env_id}/{panel}/{first + i}", env_id, panel, {"seed": first + i, "fold": fold})
                       for i in range(bits.bit_length()) if bits >> i & 1]  # fmt: skip
    return made


def panels_hash(env_id: str, game: Game, chosen: dict[str, str]) -> str:
    """One hash of what makes the tasks: the package in its version, the game's settings and the seeds."""
    package()
    return hashlib.sha256(json.dumps([env_id, VERSION, game.name, game.settings, chosen], sort_keys=True).encode()).hexdigest()


def choose(env: TextWorldEnv, least: int, most: int, sizes: dict[str, int] = SIZES) -> dict[str, str]:
    """The numbers of ``env``'s panels: the first seeds of layouts that no panel has yet and that take ``least`` to ``most`` steps."""
    known: set[str] = set()
    chosen = {}
    for panel, (fold, first, count) in RANGES.items():
        bits = found = 0
        for i in range(count):
            if found == sizes[panel]:
                break
            try:
                env.reset(Task("", env.id, panel, {"seed": first + i, "fold": fold}))
            except ValueError:  # the package finds no such layout for some seeds
                continue
            state = env.snapshot()
            layout = layout_of(env)
            if layout not in known and least <= env.steps_left(state) <= most:
                known.add(layout)
                bits, found = bits | 1 << i, found + 1
        chosen[panel] = f"{bits:x}"
    return chosen


def layout_of(env: TextWorldEnv) -> str:
    """All that a new episode can bring, as text: equal for equal layouts."""
    state = env.snapshot()
    return json.dumps(env.world_of(state).layout(), sort_keys=True)
