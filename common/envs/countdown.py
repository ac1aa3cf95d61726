"""Countdown: reach a target from given numbers with + - * /, each number used exactly once.

Two forms over the same tasks (``Task.data = {"numbers": [int, …], "target": int}``):

* :class:`CountdownEnv` (id ``countdown-v1``), step-wise, for trees: an action combines two of the
  remaining numbers, ``8 - 7``; the episode ends when one number is left.
* :class:`CountdownAnswerEnv` (id ``countdown-answer-v1``), for self-correction: an action is a
  whole expression, ``(8 - 7) * 24``; there are K attempts and the last one counts (K = 1 is the
  one-shot form). Two attempts unless said otherwise; K is no part of the id, because neither a task
  nor a prompt depends on it.

Reward is 1 when the target is hit, else 0. Intermediate results are positive integers (division
must be exact), as in the television game; the tests hold rewards against the verifier of the
reasoning-gym package.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from common.rng import generator
from common.types import Message, Observation, Task

GAMMA = 0.95
OPERATORS = "+-*/"
MAX_TOKENS = 64
"""Most numbers, operators and brackets of an expression: far above what a task needs, far below the recursion limit."""
_STEP = re.compile(r"\s*(\d{1,9})\s*([-+*/])\s*(\d{1,9})\s*", re.ASCII)
_TOKEN = re.compile(r"\s*(\d{1,9}|[-+*/()])", re.ASCII)


def apply(left: int, op: str, right: int) -> int | None:
    """``left op right`` as a positive integer, or None when the game forbids it."""
    if op == "+":
        return left + right
    if op == "*":
        return left * right
    if op == "-":
        return left - right if left > right else None
    return left // right if right and left % right == 0 else None


def descending(numbers: list[int] | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(numbers, reverse=True))


@lru_cache(maxsize=200_000)
def step_actions(numbers: tuple[int, ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """All (action text, remaining numbers) from ``numbers`` (descending).

    The larger operand is written first, so every combination is listed once.
    """
    found: dict[str, tuple[int, ...]] = {}
    for i, left in enumerate(numbers):
        for j in range(i + 1, len(numbers)):
            right = numbers[j]
            rest = numbers[:i] + numbers[i + 1 : j] + numbers[j + 1 :]
            for op in OPERATORS:
                result = apply(left, op, right)
                if result is not None:
                    found.setdefault(f"{left} {op} {right}", descending((*rest, result)))
    return tuple(found.items())


@lru_cache(maxsize=1_000_000)
def solvable(numbers: tuple[int, ...], target: int) -> bool:
    """Whether ``target`` can be reached from ``numbers`` (descending), each used exactly once."""
    if len(numbers) == 1:
        return numbers[0] == target
    return any(solvable(rest, target) for _, rest in step_actions(numbers))


class StepState(NamedTuple):
    task_id: str
    target: int
    numbers: tuple[int, ...]
    used: int
    over: bool


class CountdownEnv:
    """Step-wise Countdown. V* is γ^(steps to the last combination), or 0 when unsolvable in time."""

    id = "countdown-v1"

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

    @staticmethod
    def _parse(numbers: tuple[int, ...], action: str) -> tuple[int, ...] | None:
        """Numbers left after ``action``, or None when it is malformed, forbidden or uses absent numbers."""
        match = _STEP.fullmatch(action)
        if not match:
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
        return [] if self._state.over else [action for action, _ in step_actions(self._state.numbers)]

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
        return self.gamma ** (left - 1) if solvable(snapshot.numbers, snapshot.target) else 0.0

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
        options = step_actions(self._state.numbers)
        return [a for a, rest in options if solvable(rest, self._state.target)] or [a for a, _ in options]

    def lazy(self) -> str:
        """Adds the two largest numbers: right only when the target is the sum of all."""
        return self.actions()[0]


def evaluate(expression: str, numbers: tuple[int, ...]) -> int | None:
    """The value of ``expression``, or None when it is malformed, longer than MAX_TOKENS, breaks a rule of
    the game or does not use each of ``numbers`` exactly once. There is no sign: ``-3`` is malformed.
    A recursive-descent parser of ours: model-written text is never handed to an interpreter."""
    expression, tokens, at = expression.rstrip(), [], 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if not match or len(tokens) == MAX_TOKENS:
            return None
        tokens.append(match[1])
        at = match.end()
    used: list[int] = []

    def atom(i: int) -> tuple[int | None, int]:
        if i < len(tokens) and tokens[i] == "(":
            value, i = chain(i + 1, ("+", "-"))
            return (value, i + 1) if i < len(tokens) and tokens[i] == ")" else (None, i)
        if i < len(tokens) and tokens[i].isdigit():
            used.append(int(tokens[i]))
            return int(tokens[i]), i + 1
        return None, i

    def chain(i: int, ops: tuple[str, str]) -> tuple[int | None, int]:
        inner = atom if ops[0] == "*" else lambda k: chain(k, ("*", "/"))
        value, i = inner(i)
        while value is not None and i < len(tokens) and tokens[i] in ops:
            right, after = inner(i + 1)
            value = None if right is None else apply(value, tokens[i], right)
            i = after
        return value, i

    value, end = chain(0, ("+", "-"))
    return value if value is not None and end == len(tokens) and descending(used) == descending(numbers) else None


@lru_cache(maxsize=20_000)
def expressions(numbers: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
    """All (expression, value) built from ``numbers``, each used once, one per sequence of steps."""

    def combine(items: tuple[tuple[str, int], ...]) -> dict[str, int]:
        if len(items) == 1:
            return {items[0][0]: items[0][1]}
        found: dict[str, int] = {}
        for i in range(len(items)):
            for j in range(len(items)):
                smaller_first = (items[i][1], items[i][0]) < (items[j][1], items[j][0])
                if i == j or smaller_first or (i > j and items[i] == items[j]):
                    continue
                rest = tuple(items[k] for k in range(len(items)) if k not in (i, j))
                for op in OPERATORS:
                    value = apply(items[i][1], op, items[j][1])
                    if value is not None:
                        found.update(combine((*rest, (f"({items[i][0]} {op} {items[j][0]})", value))))
        return found

    built = combine(tuple((str(number), number) for number in numbers))
    return tuple((text[1:-1] if text.startswith("(") else text, value) for text, value in built.items())


def declared(text: str) -> str:
    """The answer a turn declares: its last line that is not blank, without surrounding spaces."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


class AnswerState(NamedTuple):
    """State of an answer environment: the task's numbers and target, and the attempts made."""

    task_id: str
    target: int
    numbers: tuple[int, ...]
    attempts: tuple[str, ...]
    over: bool


class CountdownAnswerEnv:
    """Whole-expression Countdown with ``turns`` attempts; the last declared answer counts.

    The prompt is the dialogue so far; between attempts the user only asks to try again and never
    says whether the attempt was right (as in SCoRe §4 and RISE). All attempts are always made.
    """

    RETRY = "check the answer and write it again"
    SLIP = 0.5
    """Chance that the demonstrator's attempt is not what it means."""

    def __init__(self, *, turns: int = 2, gamma: float = GAMMA) -> None:
        self.id = "countdown-answer-v1"
        self.gamma = gamma
        self.max_steps = turns

    def reset(self, task: Task, seed: int = 0) -> Observation:
        self._state = AnswerState(task.id, task.data["target"], descending(task.data["numbers"]), (), False)
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
        """1 when ``action`` alone would solve the present task, else 0."""
        return float(evaluate(declared(action), self._state.numbers) == self._state.target)

    def actions(self) -> list[str]:
        return [] if self._state.over else [text for text, _ in expressions(self._state.numbers)]

    def prompt(self) -> tuple[Message, ...]:
        state = self._state
        first = f"numbers {' '.join(map(str, state.numbers))} target {state.target} expression"
        messages: list[Message] = [{"role": "user", "content": first}]
        for attempt in state.attempts:
            messages += [{"role": "assistant", "content": attempt}, {"role": "user", "content": self.RETRY}]
        return tuple(messages)

    def snapshot(self) -> AnswerState:
        return self._state

    def restore(self, snapshot: AnswerState) -> None:
        self._state = snapshot

    def value(self, snapshot: AnswerState) -> float:
        if snapshot.over or not solvable(snapshot.numbers, snapshot.target):
            return 0.0
        return self.gamma ** (self.max_steps - len(snapshot.attempts) - 1)

    def q(self, snapshot: AnswerState, action: str) -> float:
        here = self._state
        self._state = snapshot
        try:
            observation = self.step(action)
            return observation.reward if observation.done else self.gamma * self.value(self._state)
        finally:
            self._state = here

    def oracle(self) -> str:
        options = expressions(self._state.numbers)
        return next((text for text, value in options if value == self._state.target), options[0][0])

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(what a demonstrator would write, what it writes). It means the right expression that is listed first
        (one and the same for a task is learned sooner than any of several), and repeats its last attempt when
        that was right. While another attempt is left its hand slips in ``SLIP`` of all cases to a wrong
        expression, so that second turns show both: a right answer kept and a wrong one replaced. Only the
        first of the pair is to be imitated."""
        state = self._state
        right_before = bool(state.attempts) and self.score(state.attempts[-1]) == 1.0
        action = state.attempts[-1] if right_before else self.oracle()
        others = [text for text, value in expressions(state.numbers) if value != state.target]
        if others and len(state.attempts) + 1 < self.max_steps and rng.random() < self.SLIP:
            return action, others[int(rng.integers(len(others)))]
        return action, action

    def lazy(self) -> str:
        """Adds everything up."""
        return " + ".join(map(str, self._state.numbers))


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


def build_answer_panels(seed: int = 0, *, count: int = 3, largest: int = 13) -> dict[str, list[Task]]:
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
