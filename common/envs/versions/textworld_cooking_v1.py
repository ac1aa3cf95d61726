"""textworld-cooking-v1: cook a meal of two ingredients by the recipe of a cookbook and eat it, in at most twenty steps.

TextWorldExpress's cooking game in four rooms without doors, with three distractors. Ingredients must be found, cut with a knife and cooked
as the recipe says: oven to roast, stove to fry, barbeque to grill. A wrong move costs steps; an ingredient that is eaten, cut or cooked in
a wrong way loses.
"""

from __future__ import annotations

from pathlib import Path

from common.envs.textworld.cooking import DEVICES, CookingWorld
from common.envs.textworld.game import Game, TextWorldEnv
from common.envs.textworld.panels import panels_hash, panels_of
from common.types import Task

ENV_ID = "textworld-cooking-v1"
GAME = Game("cookingworld", "numLocations=4,numIngredients=2,numDistractorItems=3,includeDoors=0,limitInventorySize=0", 20,
            "cook and eat the meal", "read cookbook", tuple(DEVICES.values()), CookingWorld)  # fmt: skip
STEPS = (5, 16)
"""Fewest and most steps of a shortest way, the cookbook unread."""
CHOSEN = {
    "test": "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "validation": "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "train": (
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "fffffffffffffff"
    ),
    "demos": (
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "ffffffffffffffffffffffffffffff"
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
