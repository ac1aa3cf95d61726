"""countdown-worked-v1, Countdown by whole answers that show their working, for self-correction: ``14 + 5 = 19 , 19 - 3 = 16``.

``Task.data = {"numbers": [int, int, int], "target": int}``. Reward 1 when the last attempt is right: each step is an admitted
combination of two remaining numbers with its true result, and the last result is the target. So whether an answer is right can be
read off it, which takes no search, where finding one does.

At a later turn the player says whether its last answer is right: ``yes`` keeps that answer, ``no , 14 - 5 = 9 , 9 + 3 = 12``
replaces it. An answer without either replaces it too. The prompt shows answers, not the words before them.

Tasks have + and − alone and three numbers in 1…24, of which no two panels share a *set*: a model of half a million parameters learns to
calculate with those.

The demonstrator of the base model knows no solution: its first step is at random, its last one lands as near the target as it can,
and its wrong answers end visibly off it. Asked whether an answer is good it says the truth; asked at the second turn
it keeps right answers hardly more often than wrong ones: the base can check and does not yet use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from common.envs.answers import AnswerEnv, AnswerState, declared
from common.envs.contract import Demonstration
from common.envs.countdown import SUMS, apply, descending, short_sighted_step, solvable, step_actions, sum_tasks
from common.rng import generator
from common.types import Task

KEEP, REPLACE = "yes", "no , "
SIZES = {"test": 500, "validation": 300, "demos": 5000, "train": 3000}
KEPT_RIGHT, KEPT_WRONG = 0.40, 0.25
"""How often the demonstrator keeps a right and a wrong answer at the second turn."""
CHECKED = 0.4
"""Share of demonstrations that show a check instead of a second turn; half of these show a right answer."""
_STEP = re.compile(r"\s*(\d{1,9}) ([-+]) (\d{1,9}) = (\d{1,9})\s*", re.ASCII)


def after(step: str, numbers: tuple[int, ...]) -> tuple[int, ...] | None:
    """``numbers`` as the ``step`` "14 + 5 = 19" leaves them, its result last; None when it is malformed, miscalculates or uses others."""
    match = _STEP.fullmatch(step)
    if not match:
        return None
    left, (first, op, second, result) = list(numbers), (int(match[1]), match[2], int(match[3]), int(match[4]))
    for operand in (first, second):
        if operand not in left:
            return None
        left.remove(operand)
    return (*left, result) if apply(first, op, second) == result else None


@lru_cache(maxsize=100_000)
def result_of(answer: str, numbers: tuple[int, ...]) -> int | None:
    """The last result of a worked ``answer``; None when it is malformed, miscalculates, or does not use each of ``numbers`` once."""
    steps, left = answer.split(","), numbers
    if len(steps) != len(numbers) - 1:
        return None
    for step in steps:
        if (left := after(step, left)) is None:
            return None
    return left[0]


def _result(action: str) -> int:
    left, op, right = action.split()
    return apply(int(left), op, int(right))


@lru_cache(maxsize=20_000)
def worked(numbers: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
    """All (worked answer, last result) from ``numbers`` (descending)."""
    if len(numbers) == 1:
        return (("", numbers[0]),)
    found: dict[str, int] = {}
    for action, rest in step_actions(numbers, SUMS):
        step = f"{action} = {_result(action)}"
        for text, result in worked(rest):
            found.setdefault(f"{step} , {text}" if text else step, result)
    return tuple(found.items())


def short_sighted_answer(numbers: tuple[int, ...], target: int, rng: np.random.Generator, *, slip: int = -1, off: int = 0) -> str:
    """A worked answer by :func:`~common.envs.countdown.short_sighted_step`. The result of step ``slip`` (from 0) is wrong by ``off``, or
    by -``off`` where it would not be positive, and what follows goes on from that."""
    steps: list[str] = []
    while len(numbers) > 1:
        action, rest = short_sighted_step(numbers, target, SUMS, rng)
        result = _result(action)
        if len(steps) == slip:
            others = list(rest)
            others.remove(result)
            result += off if result + off > 0 else -off
            rest = descending([*others, result])
        steps.append(f"{action} = {result}")
        numbers = rest
    return " , ".join(steps)


class CountdownWorkedEnv(AnswerEnv):
    """Whole worked answers to Countdown, two attempts by default; the last one counts."""

    id = "countdown-worked-v1"
    RETRY = "right ?"

    def start(self, task: Task) -> tuple[tuple[int, ...], int]:
        return descending(task.data["numbers"]), task.data["target"]

    def question(self) -> str:
        return f"numbers {' '.join(map(str, self._state.numbers))} target {self._state.target}"

    def attempt(self, text: str, before: Sequence[str]) -> str:
        said = declared(text)
        return "".join(before[-1:]) if said == KEEP else said.removeprefix(REPLACE.rstrip()).strip()

    def turn(self, answer: str, before: str) -> str:
        return KEEP if answer == before else REPLACE + answer

    def score(self, action: str) -> float:
        return float(result_of(self.attempt(action, self._state.attempts), self._state.numbers) == self._state.target)

    def solvable(self, state: AnswerState) -> bool:
        return solvable(state.numbers, state.target, SUMS)

    def actions(self) -> list[str]:
        if self._state.over:
            return []
        answers = [text for text, _ in worked(self._state.numbers)]
        return [KEEP, *(REPLACE + answer for answer in answers)] if self._state.attempts else answers

    def oracle(self) -> str:
        return next((action for action in self.actions() if self.score(action) == 1.0), self.actions()[0])

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        state = self._state
        if state.attempts:
            keeps = rng.random() < (KEPT_RIGHT if self.score(KEEP) == 1.0 else KEPT_WRONG)
            action = KEEP if keeps else REPLACE + self._try(rng)
        else:
            action = self._try(rng)
        return action, action

    def _try(self, rng: np.random.Generator) -> str:
        return short_sighted_answer(self._state.numbers, self._state.target, rng)

    def lazy(self) -> str:
        """Combines as listed first, without looking at the target."""
        return self.actions()[-1] if not self._state.attempts else KEEP

    def demonstrations(self, task: Task, rng: np.random.Generator, critic: str) -> Iterator[Demonstration]:
        """One dialogue of the base model's warm start: a try and its second turn, or a try and the critic's verdict on it."""
        self.reset(task)
        ask = {"role": "user", "content": self.question()}
        if rng.random() < CHECKED:
            wanted = rng.random() < 0.5
            tries = (self._try(rng) for _ in range(20))
            first = next((one for one in tries if (self.score(one) == 1.0) == wanted), None) or self._try(rng)
            verdict = "yes" if self.score(first) == 1.0 else "no"
            yield Demonstration((ask, {"role": "assistant", "content": first}, {"role": "user", "content": critic},
                                 {"role": "assistant", "content": verdict}), learned=3)  # fmt: skip
        else:
            first = self.expert(rng)[0]
            self.step(first)
            yield Demonstration((ask, {"role": "assistant", "content": first}, {"role": "user", "content": self.RETRY},
                                 {"role": "assistant", "content": self.expert(rng)[0]}), learned=1)  # fmt: skip


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    panels = sum_tasks(CountdownWorkedEnv.id, generator(seed, CountdownWorkedEnv.id, "panels"), SIZES, largest=24, most=4)
    return {name: list(map(asdict, tasks)) for name, tasks in panels.items()}


def make(data_dir: Path) -> CountdownWorkedEnv:
    return CountdownWorkedEnv()
