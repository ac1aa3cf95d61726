"""Arithmetic: the sum of three numbers, where checking an answer is as hard as finding it.

The control to whole-answer Countdown (:class:`common.envs.countdown.CountdownAnswerEnv`): there a wrong
expression can be refuted by evaluating it, while right ones must be searched for; here the only check of
a number is to compute it again. What a method gains on Countdown and not here, it gains from checking.

``Task.data = {"numbers": [a, b, c]}``. An action is a number in decimal digits; there are K attempts,
the user only asks to try again, and the last attempt counts. Reward 1 for the exact value, else 0.
"""

from __future__ import annotations

import re
from itertools import combinations_with_replacement

import numpy as np

from common.envs.countdown import GAMMA, AnswerState, declared
from common.rng import generator
from common.types import Message, Observation, Task

TERMS = range(1, 31)
LARGEST = 3 * max(TERMS)
NEAR = 5
"""A slip lies at most this far from the value: as wrong as a nano policy's own mistakes."""
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


class ArithmeticEnv:
    """``turns`` attempts at one number; the last declared answer counts. All attempts are always made."""

    RETRY = "check the answer and write it again"
    SLIP = 0.5
    """Chance that the demonstrator's attempt is not what it means."""

    def __init__(self, *, turns: int = 2, gamma: float = GAMMA) -> None:
        self.id = "arithmetic-v1"
        self.gamma = gamma
        self.max_steps = turns

    def reset(self, task: Task, seed: int = 0) -> Observation:
        numbers = tuple(task.data["numbers"])
        self._state = AnswerState(task.id, sum(numbers), numbers, (), False)
        return Observation(self.prompt()[0]["content"])

    def step(self, action: str) -> Observation:
        state = self._state
        if state.over:
            raise RuntimeError(f"{self.id}: the episode of task {state.task_id} is over; call reset or restore first")
        attempts = (*state.attempts, action)
        over = len(attempts) == self.max_steps
        self._state = state._replace(attempts=attempts, over=over)
        if not over:
            return Observation(self.RETRY)
        return Observation("", reward=self.score(action), terminated=True)

    def score(self, action: str) -> float:
        """1 when the number that ``action`` declares is the present task's value, else 0."""
        answer = declared(action)
        return float(_NUMBER.fullmatch(answer) is not None and int(answer) == self._state.target)

    def actions(self) -> list[str]:
        return [] if self._state.over else [str(number) for number in range(1, LARGEST + 1)]

    def prompt(self) -> tuple[Message, ...]:
        messages: list[Message] = [{"role": "user", "content": f"compute {' + '.join(map(str, self._state.numbers))}"}]
        for attempt in self._state.attempts:
            messages += [{"role": "assistant", "content": attempt}, {"role": "user", "content": self.RETRY}]
        return tuple(messages)

    def snapshot(self) -> AnswerState:
        return self._state

    def restore(self, snapshot: AnswerState) -> None:
        self._state = snapshot

    def value(self, snapshot: AnswerState) -> float:
        return 0.0 if snapshot.over else self.gamma ** (self.max_steps - len(snapshot.attempts) - 1)

    def q(self, snapshot: AnswerState, action: str) -> float:
        here = self._state
        self._state = snapshot
        try:
            observation = self.step(action)
            return observation.reward if observation.done else self.gamma * self.value(self._state)
        finally:
            self._state = here

    def oracle(self) -> str:
        return str(self._state.target)

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(what a demonstrator would write, what it writes): the value; while another attempt is left its
        hand slips in ``SLIP`` of all cases to a number nearby, so that second turns show both a right
        answer kept and a wrong one replaced. Only the first of the pair is to be imitated."""
        action, target = self.oracle(), self._state.target
        if len(self._state.attempts) + 1 < self.max_steps and rng.random() < self.SLIP:
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
