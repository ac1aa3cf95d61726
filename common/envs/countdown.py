"""The game of Countdown: reach a target from given numbers with + - * /, each number used exactly once.

Intermediate results are positive integers (division must be exact), as in the television game; the tests
hold rewards against the verifier of the reasoning-gym package. Two environments play it, one step by step
(:mod:`common.envs.versions.countdown_v1`), one by whole expressions (``countdown_answer_v1``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np

from common.types import Task

OPERATORS = "+-*/"
SUMS = "+-"
"""Operators of the tasks that a model of half a million parameters can learn to play well: products are beyond it."""
MAX_TOKENS = 64
"""Most numbers, operators and brackets of an expression: far above what a task needs, far below the recursion limit."""
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
    """``numbers`` from largest to smallest."""
    return tuple(sorted(numbers, reverse=True))


@lru_cache(maxsize=200_000)
def step_actions(numbers: tuple[int, ...], operators: str = OPERATORS) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """All (action text, remaining numbers) from ``numbers`` (descending), with ``operators``.

    The larger operand is written first, so every combination is listed once.
    """
    remaining: dict[str, tuple[int, ...]] = {}
    for i, left in enumerate(numbers):
        for j in range(i + 1, len(numbers)):
            right = numbers[j]
            rest = numbers[:i] + numbers[i + 1 : j] + numbers[j + 1 :]
            for op in operators:
                result = apply(left, op, right)
                if result is not None:
                    remaining.setdefault(f"{left} {op} {right}", descending((*rest, result)))
    return tuple(remaining.items())


@lru_cache(maxsize=1_000_000)
def solvable(numbers: tuple[int, ...], target: int, operators: str = OPERATORS) -> bool:
    """Whether ``target`` can be reached from ``numbers`` (descending) with ``operators``, each number used exactly once."""
    if len(numbers) == 1:
        return numbers[0] == target
    return any(solvable(rest, target, operators) for _, rest in step_actions(numbers, operators))


def short_sighted_step(
    numbers: tuple[int, ...], target: int, operators: str, rng: np.random.Generator
) -> tuple[str, tuple[int, ...]]:
    """(action, remaining numbers) of a player who does not look ahead: a step at random, but the one that lands nearest the target
    when it is the last (of several such, one at random)."""
    options = step_actions(numbers, operators)
    if len(numbers) == 2:
        nearest = min(abs(rest[0] - target) for _, rest in options)
        options = tuple(option for option in options if abs(option[1][0] - target) == nearest)
    return options[int(rng.integers(len(options)))]


def sum_tasks(
    env_id: str, rng: np.random.Generator, sizes: Mapping[str, int], *, largest: int, most: int
) -> dict[str, list[Task]]:
    """Panels of ``sizes`` of solvable tasks with + and −: three numbers in 1…``largest``, no *set of numbers* in two panels. A set
    gives at most ``most`` tasks."""
    sets = list(combinations_with_replacement(range(largest, 0, -1), 3))
    order, panels = iter(rng.permutation(len(sets))), {}
    for split, size in sizes.items():
        tasks: list[tuple[tuple[int, ...], int]] = []
        while len(tasks) < size:
            numbers = sets[next(order)]
            targets = [target for target in range(1, 3 * largest + 1) if solvable(numbers, target, SUMS)]
            tasks += [(numbers, targets[i]) for i in rng.permutation(len(targets))[:most]]
        tasks = [tasks[i] for i in rng.permutation(len(tasks))[:size]]
        panels[split] = [Task(f"{env_id}/{split}/{i:04d}", env_id, split, {"numbers": list(numbers), "target": target})
                         for i, (numbers, target) in enumerate(tasks)]  # fmt: skip
    return panels


@lru_cache(maxsize=100_000)  # what a policy says is scored, judged and compared
def evaluate_expression(expression: str, numbers: tuple[int, ...]) -> int | None:
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
        values: dict[str, int] = {}
        for i in range(len(items)):
            for j in range(len(items)):
                smaller_first = (items[i][1], items[i][0]) < (items[j][1], items[j][0])
                if i == j or smaller_first or (i > j and items[i] == items[j]):
                    continue
                rest = tuple(items[k] for k in range(len(items)) if k not in (i, j))
                for op in OPERATORS:
                    value = apply(items[i][1], op, items[j][1])
                    if value is not None:
                        values.update(combine((*rest, (f"({items[i][0]} {op} {items[j][0]})", value))))
        return values

    built = combine(tuple((str(number), number) for number in numbers))
    return tuple((text[1:-1] if text.startswith("(") else text, value) for text, value in built.items())
