"""countdown-v1, Countdown step by step, for trees: an action combines two of the remaining numbers, ``8 - 7``.

``Task.data = {"numbers": [int, …], "target": int}``. The episode ends when one number is left, with reward 1
when it is the target, else 0.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.envs.countdown import OPERATORS, apply, descending, solvable, step_actions
from common.rng import generator
from common.types import Message, Observation, Task

GAMMA = 0.95
_STEP = re.compile(r"\s*(\d{1,9})\s*([-+*/])\s*(\d{1,9})\s*", re.ASCII)


class StepState(NamedTuple):
    task_id: str
    target: int
    numbers: tuple[int, ...]
    used: int
    over: bool


class CountdownEnv:
    """Step-wise Countdown. V* is γ^(steps to the last combination), or 0 when unsolvable in time."""

    id = "countdown-v1"
    operators = OPERATORS

    def __init__(self, *, gamma: float = GAMMA, max_steps: int = 6) -> None:
        self.gamma = gamma
        self.max_steps = max_steps

    def reset(self, task: Task, seed: int = 0) -> Observation:
        self._state = StepState(task.id, task.data["target"], descending(task.data["numbers"]), 0, False)
        return Observation(self._text())

    def _text(self) -> str:
        return f"numbers {' '.join(map(str, self._state.numbers))} target {self._state.target}"

    def step(self, action: str) -> Observation:
        state = self._state
        if state.over:
            raise RuntimeError(f"{self.id}: the episode of task {state.task_id} is over; call reset or restore first")
        rest = self._parse(state.numbers, action)
        used = state.used + 1
        if rest is not None and len(rest) == 1:
            self._state = state._replace(numbers=rest, used=used, over=True)
            return Observation(f"result {rest[0]}", reward=float(rest[0] == state.target), terminated=True)
        truncated = used >= self.max_steps
        self._state = state._replace(numbers=rest or state.numbers, used=used, over=truncated)
        return Observation(self._text() if rest else f"invalid step. {self._text()}", truncated=truncated)

    def _parse(self, numbers: tuple[int, ...], action: str) -> tuple[int, ...] | None:
        """Numbers left after ``action``, or None when it is malformed, forbidden or uses absent numbers."""
        match = _STEP.fullmatch(action)
        if not match or match[2] not in self.operators:
            return None
        left, op, right = int(match[1]), match[2], int(match[3])
        rest = list(numbers)
        for operand in (left, right):
            if operand not in rest:
                return None
            rest.remove(operand)
        result = apply(left, op, right)
        return None if result is None else descending((*rest, result))

    def actions(self) -> list[str]:
        return [] if self._state.over else [action for action, _ in step_actions(self._state.numbers, self.operators)]

    def prompt(self) -> tuple[Message, ...]:
        return ({"role": "user", "content": self._text()},)

    def snapshot(self) -> StepState:
        return self._state

    def restore(self, snapshot: StepState) -> None:
        self._state = snapshot

    def value(self, snapshot: StepState) -> float:
        left = len(snapshot.numbers) - 1
        if snapshot.over or left > self.max_steps - snapshot.used:
            return 0.0
        return self.gamma ** (left - 1) if solvable(snapshot.numbers, snapshot.target, self.operators) else 0.0

    def q(self, snapshot: StepState, action: str) -> float:
        here = self._state
        self._state = snapshot
        try:
            observation = self.step(action)
            return observation.reward if observation.done else self.gamma * self.value(self._state)
        finally:
            self._state = here

    def oracle(self) -> str:
        return self._best()[0]

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """A demonstrator: one of the actions with maximal Q*, at random; it does what it means to do."""
        best = self._best()
        action = best[int(rng.integers(len(best)))]
        return action, action

    def _best(self) -> list[str]:
        options = step_actions(self._state.numbers, self.operators)
        return [a for a, rest in options if solvable(rest, self._state.target, self.operators)] or [a for a, _ in options]

    def lazy(self) -> str:
        """Adds the two largest numbers: right only when the target is the sum of all."""
        return self.actions()[0]


def build_panels(seed: int = 0, *, count: int = 3, largest: int = 13) -> dict[str, list[Task]]:
    """Solvable tasks: ``count`` numbers in 1…``largest`` and a target in 10…99.

    ``demos`` warms up the base model, ``train`` is what methods explore, the rest evaluates. Panels
    are disjoint in the *set of numbers*: nothing about a test task's numbers was seen before.
    """
    rng = generator(seed, "countdown-v1", "panels")
    sets = list(combinations_with_replacement(range(largest, 0, -1), count))
    sets = [sets[i] for i in rng.permutation(len(sets))]
    shares = {"test": 0.2, "validation": 0.05, "train": 0.25, "demos": 0.5}
    most = {"test": 200, "validation": 100, "train": 600, "demos": 6000}
    panels: dict[str, list[Task]] = {}
    at = 0
    for split, share in shares.items():
        own = sets[at : at + round(share * len(sets))]
        at += len(own)
        tasks = [(numbers, target) for numbers in own for target in range(10, 100) if solvable(numbers, target)]
        tasks = [tasks[i] for i in rng.permutation(len(tasks))[: most[split]]]
        panels[split] = [
            Task(f"countdown-v1/{split}/{i:04d}", "countdown-v1", split, {"numbers": list(numbers), "target": target})
            for i, (numbers, target) in enumerate(tasks)
        ]
    return panels


def make(data_dir: Path) -> CountdownEnv:
    return CountdownEnv()


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return {name: list(map(asdict, tasks)) for name, tasks in build_panels(seed).items()}
