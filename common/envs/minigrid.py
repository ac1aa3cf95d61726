"""MiniGrid and BabyAI (Chevalier-Boisvert et al. 2023, arXiv:2306.13831): grid worlds seen from the agent's own place, with an expert.

The package is optional and imported, not copied. Its levels are pixel games here (:mod:`common.envs.pixels`) of seven by seven
cells: what lies before the agent, which stands in the middle of the last row. Ours: 1 when the mission is done (the package's reward
falls with time), an episode cut after ``max_steps``, and no action "done". Whether an action did something is seen in the next frame alone.
"""

from __future__ import annotations

import contextlib
import io
from functools import cache

import numpy as np

from common.envs.optional import require
from common.envs.pixels import Frame

VERSION = "3.2.0"
SIDE = 7
PLANES = ("unseen", "wall", "key", "ball", "box", "goal", "door open", "door closed", "door locked")
"""Colours are not shown. What the agent carries is in its own cell."""
EPISODES = {"validation": 300, "test": 300}
"""Panels and their numbers of episodes. There is no training panel: an agent's training episodes are its own."""


@cache
def package() -> None:
    """Registers the levels of minigrid. FileNotFoundError, with the next step, unless it is there in this version."""
    require("minigrid", VERSION, "MiniGrid's levels need", "makes their rooms")
    import minigrid  # noqa: F401


class MiniGridEnv:
    """One level (:class:`common.envs.pixels.PixelEnv`), ``level`` by its name in the package."""

    actions = ("left", "right", "forward", "pickup", "drop", "toggle")
    planes = PLANES
    shape = (len(PLANES), SIDE, SIDE)

    def __init__(self, env_id: str, level: str, max_steps: int) -> None:
        package()
        import gymnasium

        self.id, self.max_steps = env_id, max_steps
        self._game = gymnasium.make(level).unwrapped
        self._over = True

    def reset(self, seed: int) -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):  # the package tells which rooms it rejected
            seen, _ = self._game.reset(seed=seed)
        self._game.max_steps = self.max_steps
        self._bot, self._over = None, False
        return _observe(seen["image"])

    def step(self, action: int) -> Frame:
        if self._over:
            raise RuntimeError(f"{self.id}: the episode is over but was stepped; call reset first")
        if not 0 <= action < len(self.actions):
            raise IndexError(f"{self.id}: action {action} must be 0 to {len(self.actions) - 1}; take one of these")
        seen, reward, terminated, truncated, _ = self._game.step(action)
        if self._bot:
            self._advice = int(self._bot.replan(action))
        self._over = bool(terminated or truncated)
        return Frame(_observe(seen["image"]), float(reward > 0), bool(terminated), bool(truncated and not terminated))

    def expert(self) -> int:
        """What the package's bot would do now; from its first question on it follows what is done."""
        if not self._bot:
            from minigrid.utils.baby_ai_bot import BabyAIBot

            self._bot = BabyAIBot(self._game)
            self._advice = int(self._bot.replan())
        return self._advice


def _observe(image: np.ndarray) -> np.ndarray:
    """Planes [9, 7, 7] of the package's image [7, 7, 3] of kind, colour and state, whose first axis runs to the right."""
    from minigrid.core.constants import OBJECT_TO_IDX, STATE_TO_IDX

    kind, state = image[..., 0].T, image[..., 2].T
    doors = [(kind == OBJECT_TO_IDX["door"]) & (state == STATE_TO_IDX[name]) for name in ("open", "closed", "locked")]
    return np.stack([*(kind == OBJECT_TO_IDX[name] for name in PLANES[:6]), *doors])
