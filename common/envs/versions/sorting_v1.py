"""sorting-v1: numbers put in ascending order, one a step, by a policy that cannot tell which of the two smallest comes first.

``Task.data = {"numbers": [int, …]}``, all different. A step takes one of the numbers that are left; it is taken whether that is right or not. When one
is left it is the last, and the reward is 1 if they stand in ascending order, else 0. What is no number that is left is invalid: it costs one of as many
steps as there are to take, so that the task is lost.

A step is right if it takes the smallest, and nothing mends a wrong one. The demonstrator of the base model takes either of the two smallest at random,
so that sampled, greedy and voted answers are all rarely right, and a policy that learns which solutions were right has everything to learn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.envs.contract import Demonstration
from common.rng import generator
from common.types import Message, Observation, Task

GAMMA = 0.95
COUNT, LARGEST = 6, 30
FALSE = 0.2
"""Share of false verdicts among those that the critic is shown."""
SIZES = {"test": 500, "validation": 300, "demos": 4000, "train": 4000}
_NUMBER = re.compile(r"\s*(\d{1,9})\s*", re.ASCII)


class State(NamedTuple):
    task_id: str
    rest: tuple[int, ...]
    """Numbers that are left, as the task has them."""
    taken: tuple[int, ...] = ()
    used: int = 0
    over: bool = False


class SortingEnv:
    """V* is γ^(steps to the last but one number) while all that is taken is right, else 0."""

    id = "sorting-v1"

    def __init__(self, *, gamma: float = GAMMA, max_steps: int = COUNT - 1) -> None:
        self.gamma, self.max_steps = gamma, max_steps

    def reset(self, task: Task, seed: int = 0) -> Observation:
        self._state = State(task.id, tuple(task.data["numbers"]))
        return Observation(self._text())

    def _text(self) -> str:
        return " ".join(("sort", *map(str, self._state.rest), ":", *map(str, self._state.taken)))

    def step(self, action: str) -> Observation:
        state = self._state
        if state.over:
            raise RuntimeError(f"{self.id}: the episode of task {state.task_id} is over; call reset or restore first")
        match, used = _NUMBER.fullmatch(action), state.used + 1
        valid = match is not None and int(match[1]) in state.rest
        if valid:
            number = int(match[1])
            state = state._replace(rest=tuple(one for one in state.rest if one != number), taken=(*state.taken, number))
        if len(state.rest) == 1:
            state = state._replace(rest=(), taken=state.taken + state.rest)
        over = not state.rest or used >= self.max_steps
        self._state = state._replace(used=used, over=over)
        if not state.rest:
            return Observation(self._text(), reward=float(ascending(state.taken)), terminated=True)
        return Observation(self._text() if valid else f"invalid step. {self._text()}", truncated=over)

    def actions(self) -> list[str]:
        return [] if self._state.over else list(map(str, self._state.rest))

    def prompt(self) -> tuple[Message, ...]:
        return ({"role": "user", "content": self._text()},)

    def snapshot(self) -> State:
        return self._state

    def restore(self, snapshot: State) -> None:
        self._state = snapshot

    def value(self, snapshot: State) -> float:
        left = len(snapshot.rest) - 1
        if snapshot.over or left > self.max_steps - snapshot.used:
            return 0.0
        right = ascending(snapshot.taken) and (not snapshot.taken or snapshot.taken[-1] < min(snapshot.rest))
        return self.gamma ** (left - 1) if right else 0.0

    def q(self, snapshot: State, action: str) -> float:
        here, self._state = self._state, snapshot
        try:
            observation = self.step(action)
            return observation.reward if observation.done else self.gamma * self.value(self._state)
        finally:
            self._state = here

    def oracle(self) -> str:
        return str(min(self._state.rest))

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """A demonstrator who takes either of the two smallest numbers at random."""
        action = str(sorted(self._state.rest)[int(rng.integers(2))])
        return action, action

    def demonstrations(self, task: Task, rng: np.random.Generator, critic: str) -> Iterator[Demonstration]:
        """The steps of one episode of the base model's warm start, and of each another one with the critic's verdict: whether all is right so far."""
        observation = self.reset(task)
        while not observation.done:
            prompt, (action, _), (other, _) = self.prompt(), self.expert(rng), self.expert(rng)
            yield Demonstration((*prompt, {"role": "assistant", "content": action}), learned=len(prompt))
            good = (self.q(self.snapshot(), other) > 0) != (rng.random() < FALSE)
            yield Demonstration((*prompt, {"role": "assistant", "content": other}, {"role": "user", "content": critic},
                                 {"role": "assistant", "content": "yes" if good else "no"}), learned=len(prompt) + 2)  # fmt: skip
            observation = self.step(action)

    def lazy(self) -> str:
        """Always the largest, which is never right."""
        return str(max(self._state.rest))


def ascending(numbers: tuple[int, ...]) -> bool:
    return list(numbers) == sorted(numbers)


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    """:data:`COUNT` different numbers from 1 to :data:`LARGEST`, no *set of numbers* in two tasks."""
    rng, seen, panels = generator(seed, SortingEnv.id, "panels"), set(), {}
    for split, size in SIZES.items():
        rows: list[dict[str, Any]] = []
        while len(rows) < size:
            numbers = [int(one) + 1 for one in rng.choice(LARGEST, COUNT, replace=False)]
            if (key := frozenset(numbers)) not in seen:
                seen.add(key)
                rows.append(asdict(Task(f"{SortingEnv.id}/{split}/{len(rows):04d}", SortingEnv.id, split, {"numbers": numbers})))
        panels[split] = rows
    return panels


def make(data_dir: Path) -> SortingEnv:
    return SortingEnv()
