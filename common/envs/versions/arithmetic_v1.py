"""arithmetic-v1: the sum of three numbers, where checking an answer is as hard as finding it.

The control to whole-answer Countdown (``countdown-answer-v1``): there a wrong expression can be refuted by
evaluating it, while right ones must be searched for; here the only check of a number is to compute it again.
What a method gains on Countdown and not here, it gains from checking.

``Task.data = {"numbers": [a, b, c]}``. An action is a number in decimal digits; there are K attempts,
the user only asks to try again, and the last attempt counts. Reward 1 for the exact value, else 0.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np

from common.envs.answers import AnswerEnv, declared
from common.rng import generator
from common.types import Task

TERMS = range(1, 31)
LARGEST = 3 * max(TERMS)
NEAR = 5
"""A demonstrated error is at most this far from the value: as wrong as a nano policy's own mistakes."""
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


class ArithmeticEnv(AnswerEnv):
    """``turns`` attempts at one number; the last declared answer counts."""

    id = "arithmetic-v1"

    def start(self, task: Task) -> tuple[tuple[int, ...], int]:
        numbers = tuple(task.data["numbers"])
        return numbers, sum(numbers)

    def question(self) -> str:
        return f"compute {' + '.join(map(str, self._state.numbers))}"

    def score(self, action: str) -> float:
        answer = declared(action)
        return float(_NUMBER.fullmatch(answer) is not None and int(answer) == self._state.target)

    def actions(self) -> list[str]:
        return [] if self._state.over else [str(number) for number in range(1, LARGEST + 1)]

    def oracle(self) -> str:
        return str(self._state.target)

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(answer to imitate, answer given) of a noisy demonstrator: the value, and at its error rate a number nearby."""
        action, target = self.oracle(), self._state.target
        if self.slips(rng):
            near = [n for n in range(max(1, target - NEAR), target + NEAR + 1) if n != target]
            return action, str(near[int(rng.integers(len(near)))])
        return action, action

    def lazy(self) -> str:
        """Repeats the largest number: never right, since every term is at least 1."""
        return str(max(self._state.numbers))


SIZES = {"test": 400, "validation": 200, "train": 1600, "demos": None}
"""Tasks of each panel, one to a set of numbers; ``demos`` gets what is left."""


def build_panels(seed: int = 0) -> dict[str, list[Task]]:
    """Sums of three numbers of ``TERMS`` in a random order, disjoint as sets of numbers."""
    rng = generator(seed, "arithmetic-v1", "panels")
    sets = list(combinations_with_replacement(TERMS, 3))
    sets = [sets[i] for i in rng.permutation(len(sets))]
    panels: dict[str, list[Task]] = {}
    at = 0
    for split, size in SIZES.items():
        own = sets[at:] if size is None else sets[at : at + size]
        at += len(own)
        orders = [rng.permutation(one).tolist() for one in own]
        panels[split] = [
            Task(f"arithmetic-v1/{split}/{i:04d}", "arithmetic-v1", split, {"numbers": numbers})
            for i, numbers in enumerate(orders)
        ]
    return panels


def make(data_dir: Path) -> ArithmeticEnv:
    return ArithmeticEnv()


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return {name: list(map(asdict, tasks)) for name, tasks in build_panels(seed).items()}
