"""MinAtar games (Young and Tian 2019): ten by ten boolean planes instead of text, episodes named by a seed.

The games are those of the package ``MinAtar`` (GPL; imported, not copied): an action is repeated with probability
0.1 instead of the one chosen, and difficulty ramps where a game has it. An episode is a function of its seed and
the actions: the package leaves the last action, which a sticky step repeats, to the next episode; here it does not.
"""

from __future__ import annotations

import numpy as np

from common.envs.pixels import SIDE, Frame

MAX_STEPS = 500
"""An episode is truncated here: a game that is played without a mistake does not end."""
EPISODES = {"validation": 64, "test": 64}
"""Panels and their numbers of episodes. There is no training panel: an agent's training episodes are its own."""


class MinAtarEnv:
    """One game (:class:`common.envs.pixels.PixelEnv`); ``actions`` are the game's own minimal set."""

    max_steps = MAX_STEPS

    def __init__(self, env_id: str, game: str) -> None:
        from minatar import Environment  # brings pyplot and seaborn: seconds that planning must not wait for

        self.id = env_id
        self._game = Environment(game, sticky_action_prob=0.1, difficulty_ramping=True)
        self._codes = self._game.minimal_action_set()
        self.actions = tuple(self._game.env.action_map[code] for code in self._codes)
        """Letters of the package: n nothing, l left, u up, r right, d down, f fire."""
        self.planes = tuple(self._game.env.channels)
        self._steps, self._over = 0, True

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.planes), SIDE, SIDE

    def reset(self, seed: int) -> np.ndarray:
        self._game.seed(seed % 2**32)
        self._game.last_action = 0
        self._game.reset()
        self._steps, self._over = 0, False
        return self._observe()

    def step(self, action: int) -> Frame:
        if self._over:
            raise RuntimeError(f"{self.id}: the episode is over but was stepped; call reset first")
        if not 0 <= action < len(self._codes):
            raise IndexError(f"{self.id}: action {action} must be 0 to {len(self._codes) - 1}; take one of these")
        reward, terminated = self._game.act(self._codes[action])
        self._steps += 1
        truncated = self._steps >= self.max_steps and not terminated
        self._over = bool(terminated or truncated)
        return Frame(self._observe(), float(reward), bool(terminated), bool(truncated))

    def _observe(self) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(self._game.state(), -1, 0))
