"""countdown-worked-v1 with answers in which steps are taken back: ``no`` takes back the step before it, and the steps that remain count.

    14 - 5 = 9 , 9 + 3 = 12 , no , no , 14 + 5 = 19 , 19 - 3 = 16      stands for      14 + 5 = 19 , 19 - 3 = 16

The base model of countdown-worked-v1 has never taken a step back. A ``no`` with no step before it stays, and makes the answer wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.envs.answers import declared
from common.envs.countdown import SUMS, descending, solvable
from common.envs.versions.countdown_worked_v1 import CountdownWorkedEnv, after

NO, AND = "no", " , "


def remaining(text: str) -> str:
    """The steps of ``text`` that are not taken back."""
    kept: list[str] = []
    for step in declared(text).split(AND):
        if step == NO and kept and kept[-1] != NO:
            kept.pop()
        else:
            kept.append(step)
    return AND.join(kept)


class RetractingEnv(CountdownWorkedEnv):
    """countdown-worked-v1 with one attempt at each task, in which ``no`` takes back the step before it."""

    def attempt(self, text: str, before: Sequence[str]) -> str:  # noqa: ARG002 - there is nothing before
        return remaining(text)


@dataclass(frozen=True)
class Written:
    """A ``step`` as it was written after the ``before`` that remained; ``right`` when a right answer can follow it, ``last`` when it
    ends an answer."""

    before: tuple[str, ...]
    step: str
    right: bool
    last: bool
    retracted: bool


def written(text: str, numbers: Sequence[int], target: int) -> list[Written]:
    """The steps of ``text`` in the order they were written. A wrong step makes all after it wrong, until it is taken back."""
    found: list[Written] = []
    stack: list[tuple[int, tuple[int, ...] | None]] = [(-1, descending(numbers))]  # number of the step, and what it leaves
    for step in declared(text).split(AND):
        if step == NO:
            if len(stack) > 1:
                i, _ = stack.pop()
                found[i] = replace(found[i], retracted=True)
            continue
        left = stack[-1][1] and after(step, stack[-1][1])
        right = left is not None and solvable(descending(left), target, SUMS)
        found.append(Written(tuple(found[i].step for i, _ in stack[1:]), step, right, len(stack) == len(numbers) - 1, False))
        stack.append((len(found) - 1, left))
    return found
