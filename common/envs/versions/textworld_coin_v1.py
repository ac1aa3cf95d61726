"""textworld-coin-v1: find the coin in eleven rooms and take it, in at most twelve steps.

TextWorldExpress's coin collector without doors and distractors. A room tells its exits and where they lead; the rooms seen so far are in
the prompt. Nothing that is done is beyond repair.
"""

from __future__ import annotations

from pathlib import Path

from common.envs.textworld.game import Game, TextWorldEnv
from common.envs.textworld.panels import panels_hash, panels_of
from common.types import Task

ENV_ID = "textworld-coin-v1"
GAME = Game("coin", "numLocations=11,includeDoors=0,numDistractorItems=0,limitInventorySize=0", 12, "find the coin", "", ("coin",))
STEPS = (3, 9)
"""Fewest and most steps of a shortest way: the coin is not in the first room nor beside it."""
CHOSEN = {
    "test": (
        "3c3d35aee0907fdcff6b76eff5ef9ef2fd9dafb76cb6ce763757b34d6f3cf42a997ff607e39b5fdebe56bc6aefb7b99ea975b60a9774ff"
        "ab9981f8c3"
    ),
    "validation": (
        "63376acb3b2b5e95547d96ddefa2cff5897e60d7df7be64ff6b7bfe56754ba972bbf377e9ffdbcff2c3cfe6fafba3edfc3befd79f1567d"
        "fd137"
    ),
    "train": (
        "3fc93d5fb59d56faaaded79fa3f3fb2de43e07ffddf357fda5f0beefc9fd373abd90ca5ef779ba576abf7d259b7db83e2d1fef6fff2eab"
        "f73a67ced3f5eb1f7c4de7ebdce1dd3ba5dd91abcf9b1b9fbd78177d4bb26f7f5a9ef5e91366c5b5474a9f"
    ),
    "demos": (
        "cb39b53c927e78f7ffbfeff14fdf478d7ffff554d2aaff2db92e05564bba67e7dd5eddee7b267ddfbeac3d55b2bfa3dd58d8d29739937f"
        "cfd5fda818cfff59db107d47685bfa9efc33ef876eb469556bed3917f6efee1999a6ebafa8dfb35b9df3bebad518eaf4761addf3df44f1"
        "3dfd9e67f0655bfcfbc4fa93d9dbd49d74e3eba7177470ff6befbbeefd579f73710b9393f570e78fc75dc5f9a5db4bfaebd6cece3f7eab"
        "cb6f3bde972ddba65faff2f7f6f93badcbd2d5f7a4ed74bedbdff72bfdf79f"
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
