"""textworld-map-v1: fetch a coin from a named room and put it into a box in another, in at most twenty steps.

TextWorldExpress's map reader: eleven rooms without doors and distractors, one to five moves between coin and box. Who reads the map sees
which rooms are beside each other and can plan. Nothing that is done is beyond repair.
"""

from __future__ import annotations

from pathlib import Path

from common.envs.textworld.game import Game, TextWorldEnv
from common.envs.textworld.panels import panels_hash, panels_of
from common.types import Task

ENV_ID = "textworld-map-v1"
GAME = Game("mapreader", "numLocations=11,maxDistanceApart=5,includeDoors=0,maxDistractorItemsPerLocation=0,limitInventorySize=0", 20,
            "", "read map", ("coin", "box"))  # fmt: skip
STEPS = (4, 12)
"""Fewest and most steps of a shortest way, the map unread."""
CHOSEN = {
    "test": "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "validation": "7fffffffffffffffffffffffffdffdfeffffffffffffffffffffffffffffffffffffffffffff",
    "train": (
        "1ffbfffffffff7ffffffeffffffffffffbfffffffffffffffffffffffffffffffffffffffffff7ffffffffffffffffffffffffffffffff"
        "fffffffffffffffff"
    ),
    "demos": (
        "1ffffff7ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffbfffffffffffffffffffefffffffffffff"
        "ffffffffffefffffffffffffffffffffffffffffffffffffffffffffffffffffff7fffffffffffffffffffffffffffffffffffffffffff"
        "ffffffffffffffffffffffffffffffff"
    ),
}
"""Seeds of the panels, see :mod:`common.envs.textworld.panels`; ``choose`` found them."""


def make(data_dir: Path) -> TextWorldEnv:
    return TextWorldEnv(ENV_ID, GAME)


def panels() -> dict[str, list[Task]]:
    """FileNotFoundError without the package."""
    return panels_of(ENV_ID, CHOSEN)


def data_hash() -> str:
    return panels_hash(ENV_ID, GAME, CHOSEN)
