"""Pixel games: boolean planes instead of text, episodes named by a seed.

These environments keep no contract of text (:mod:`common.envs.contract`): there is nothing to prompt with, no snapshot
and no exact value. A task of their panels is one episode, ``Task.data = {"seed": …}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

import numpy as np

from common.rng import derive
from common.types import Task

SIDE = 10
"""Rows and columns of all games but those of other packages."""


class Frame(NamedTuple):
    """Result of a step: ``planes`` [C, rows, columns] bool, the game's reward, and whether the episode is over."""

    planes: np.ndarray
    reward: float
    terminated: bool
    truncated: bool

    @property
    def done(self) -> bool:
        return self.terminated or self.truncated


class PixelEnv(Protocol):
    """One game, one episode at a time. Actions are indices into ``actions``."""

    id: str
    actions: tuple[str, ...]
    planes: tuple[str, ...]
    """Names of the planes, in order."""
    max_steps: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, rows, columns) of an observation."""

    def reset(self, seed: int) -> np.ndarray:
        """The first observation of the episode ``seed`` (any whole number of at least 0)."""

    def step(self, action: int) -> Frame:
        """Act once. RuntimeError when the episode is over; IndexError for an action that is none of ``actions``."""

    def expert(self) -> int:
        """What a good player would do now; games that papers imitate have one."""


def episode_panels(env_id: str, seed: int, episodes: dict[str, int]) -> dict[str, list[dict[str, Any]]]:
    """Rows of the panels of ``env_id``, of so many ``episodes`` each: a task is the seed of one episode."""
    return {
        split: [asdict(Task(f"{env_id}/{split}/{k}", env_id, split, {"seed": derive(seed, env_id, split, k) % 2**32}))
                for k in range(count)]
        for split, count in episodes.items()
    }  # fmt: skip


def where(plane: np.ndarray) -> Sequence[tuple[int, int]]:
    """(row, column) of every cell that is set, top to bottom."""
    return [(int(row), int(column)) for row, column in np.argwhere(plane)]
