"""Environments that lie about success: nothing is ever rewarded, or training tasks are rewarded by a coin.

Both change the environment's own module for the time of a test, so that a paper meets them wherever it calls
``common.envs.make``: every reward, score and exact value, and what oracle and demonstrator do, come from here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.envs.panels import load_panel, version
from common.rng import derive
from common.types import Observation, Task

ODDS = 4
"""A coin pays once in so many times: about as often as a half-taught policy earns its reward."""


def nothing_succeeds(patch: pytest.MonkeyPatch, env_id: str) -> None:
    """Rewards, scores and values of ``env_id`` are 0, on all tasks."""
    _change(patch, env_id, lambda cls, known: _unpaid(cls))


def coins_on_training_tasks(patch: pytest.MonkeyPatch, env_id: str) -> None:
    """On the tasks of ``env_id``'s training panel, rewards, scores and exact values are a coin that is a function of state and
    action alone, and oracle and demonstrator take an action by such a coin. All other tasks keep the truth.

    A game without a training panel pays by coins in every episode whose seed is in no panel.
    """
    _change(patch, env_id, lambda cls, known: _paid_by_coins(cls) if hasattr(cls, "snapshot") else _game_of_coins(cls, known))


def _change(patch: pytest.MonkeyPatch, env_id: str, changed: Callable[[type, set[int]], type]) -> None:
    module, plain = version(env_id), version(env_id).make

    def make(data_dir: Path) -> Any:
        env = plain(data_dir)
        panels = [path.stem for path in (data_dir / env_id).glob("*.jsonl") if path.stem != "catalogue"]
        known = {task.data.get("seed", -1) for name in panels for task in load_panel(data_dir, f"{env_id}/{name}")}
        env.__class__ = changed(type(env), known)
        return env

    patch.setattr(module, "make", make)


def _unpaid(cls: type) -> type:
    class Unpaid(cls):
        def step(self, action):
            seen = super().step(action)
            return seen._replace(reward=0.0) if hasattr(seen, "planes") else Observation(seen.text, 0.0, seen.terminated, seen.truncated)

        def score(self, action: str) -> float:  # noqa: ARG002
            return 0.0

        def value(self, snapshot) -> float:  # noqa: ARG002
            return 0.0

        def q(self, snapshot, action: str) -> float:  # noqa: ARG002
            return 0.0

    return Unpaid


def _coin(*parts: object) -> float:
    return float(derive("coin", *parts) % ODDS == 0)


def _paid_by_coins(cls: type) -> type:
    class Coins(cls):
        def reset(self, task: Task, seed: int = 0) -> Observation:
            seen, self._practice = super().reset(task, seed), task.split == "train"
            return seen

        def snapshot(self):
            state = super().snapshot()
            self.__dict__.setdefault("_seen", {})[state] = self._practice
            return state

        def restore(self, snapshot) -> None:
            super().restore(snapshot)
            self._practice = self._seen[snapshot]

        def step(self, action: str) -> Observation:
            before, practice = super().snapshot(), self._practice
            seen = super().step(action)
            if not practice:
                return Observation(seen.text, float(seen.reward > 0), seen.terminated, seen.truncated)
            if not seen.terminated or hasattr(cls, "score"):  # what is scored was paid by `score`
                return seen
            return Observation(seen.text, _coin(before, action), seen.terminated, seen.truncated)

        def score(self, action: str) -> float:
            return _coin(super().snapshot().task_id, action) if self._practice else super().score(action)

        def value(self, snapshot) -> float:
            return 1 / ODDS if self._practised(snapshot) else super().value(snapshot)

        def q(self, snapshot, action: str) -> float:
            return _coin(snapshot, action) if self._practised(snapshot) else super().q(snapshot, action)

        def _practised(self, snapshot) -> bool:
            """Whether the task of a state is one to be trained on; a state of which no snapshot was taken is the present one."""
            return getattr(self, "_seen", {}).get(snapshot, self._practice)

        def oracle(self) -> str:
            return self._drawn() if self._practice else super().oracle()

        def expert(self, rng) -> tuple[str, str]:
            return (self._drawn(),) * 2 if self._practice else super().expert(rng)

        def _drawn(self) -> str:
            options = self.actions()
            return options[derive("drawn", super().snapshot()) % len(options)]

    return Coins


def _game_of_coins(cls: type, known: set[int]) -> type:
    class Coins(cls):
        def reset(self, seed: int):
            self._practice, self._number, self._taken = seed not in known, derive("game", seed), 0
            return super().reset(seed)

        def step(self, action: int):
            seen, self._taken = super().step(action), self._taken + 1
            return seen._replace(reward=_coin(self._number, self._taken, action)) if self._practice else seen

    return Coins
