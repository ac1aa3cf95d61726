"""countdown-answer-v1, Countdown by whole expressions, for self-correction: an action is ``(8 - 7) * 24``.

``Task.data = {"numbers": [int, …], "target": int}``. Reward 1 when the last attempt hits the target, else 0.
Two attempts by default; one is the one-shot form.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np

from common.envs.answers import AnswerEnv, AnswerState, declared
from common.envs.countdown import descending, evaluate_expression, expressions, solvable
from common.rng import generator
from common.types import Task


class CountdownAnswerEnv(AnswerEnv):
    """Whole-expression Countdown with ``turns`` attempts; the last declared answer counts."""

    id = "countdown-answer-v1"

    def start(self, task: Task) -> tuple[tuple[int, ...], int]:
        return descending(task.data["numbers"]), task.data["target"]

    def question(self) -> str:
        return f"numbers {' '.join(map(str, self._state.numbers))} target {self._state.target} expression"

    def score(self, action: str) -> float:
        return float(evaluate_expression(declared(action), self._state.numbers) == self._state.target)

    def solvable(self, state: AnswerState) -> bool:
        return solvable(state.numbers, state.target)

    def actions(self) -> list[str]:
        return [] if self._state.over else [text for text, _ in expressions(self._state.numbers)]

    def oracle(self) -> str:
        options = expressions(self._state.numbers)
        return next((text for text, value in options if value == self._state.target), options[0][0])

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(answer to imitate, answer given) of a noisy demonstrator. It imitates its last attempt when that was right, else
        the right expression that is listed first (always the same one for a task is learned sooner than any of
        several); at its error rate it gives a wrong expression instead."""
        state = self._state
        right_before = bool(state.attempts) and self.score(state.attempts[-1]) == 1.0
        action = state.attempts[-1] if right_before else self.oracle()
        others = [text for text, value in expressions(state.numbers) if value != state.target]
        if others and self.slips(rng):
            return action, others[int(rng.integers(len(others)))]
        return action, action

    def lazy(self) -> str:
        """Adds everything up."""
        return " + ".join(map(str, self._state.numbers))


def build_panels(seed: int = 0, *, count: int = 3, largest: int = 13) -> dict[str, list[Task]]:
    """Tasks for whole answers, with targets in 1…99 and disjoint in *numbers and target together*: a whole
    expression at once is so much harder for a nano policy that it has to know the numbers. More training tasks,
    so that on-policy learning seldom meets one twice, and more test tasks, since a difference between two turns
    needs more of them than a rate."""
    rng = generator(seed, "countdown-answer-v1", "panels")
    sets = combinations_with_replacement(range(largest, 0, -1), count)
    tasks = [(numbers, target) for numbers in sets for target in range(1, 100) if solvable(numbers, target)]
    tasks = [tasks[i] for i in rng.permutation(len(tasks))]
    panels: dict[str, list[Task]] = {}
    at = 0
    for split, size in {"test": 400, "validation": 200, "train": 2000, "demos": len(tasks)}.items():
        own = tasks[at : at + size]
        at += len(own)
        panels[split] = [
            Task(f"countdown-answer-v1/{split}/{i:04d}", "countdown-answer-v1", split,
                 {"numbers": list(numbers), "target": target})
            for i, (numbers, target) in enumerate(own)
        ]  # fmt: skip
    return panels


def make(data_dir: Path) -> CountdownAnswerEnv:
    return CountdownAnswerEnv()


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return {name: list(map(asdict, tasks)) for name, tasks in build_panels(seed).items()}
