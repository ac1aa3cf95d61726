"""Word problems that are answered by worked solutions in prose: several attempts, the last declared number counts.

``Task.data = {"question", "answer"}``, the answer a number such as ``"18"`` or ``"3/4"``. Reward 1 for a last attempt whose
declared number (:func:`~common.envs.final_number.final_number`) is the answer, else 0.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from common.envs.answers import AnswerEnv
from common.envs.final_number import final_number
from common.types import Observation, Task


class ProblemState(NamedTuple):
    """State of a word problem: its text and answer, and the attempts made."""

    task_id: str
    text: str
    target: Fraction
    attempts: tuple[str, ...]
    over: bool


class WordProblemEnv(AnswerEnv):
    """``turns`` worked solutions of one problem; the answer that the last one declares counts."""

    HOW = "Think step by step. End with the answer as a number on a line of its own, after ####."
    RETRY = ("Check your solution step by step. If there is a mistake in it, correct it. Then write the whole solution "
             "again and end with the answer after ####.")  # fmt: skip

    def __init__(self, *, id: str, **how) -> None:  # noqa: ANN003, A002
        super().__init__(**how)
        self.id = id

    def dialogue(self, turns: int, *, window: int) -> WordProblemEnv:
        return type(self)(id=self.id, turns=turns, gamma=self.gamma, window=window)

    def reset(self, task: Task, seed: int = 0) -> Observation:
        self._state = ProblemState(task.id, task.data["question"], Fraction(task.data["answer"]), (), False)
        return Observation(self.question())

    def question(self) -> str:
        return f"{self._state.text}\n\n{self.HOW}"

    def declared(self, text: str) -> str:
        """The number that a solution declares, in one spelling; "" when it declares none."""
        number = final_number(text)
        return "" if number is None else str(number)

    def score(self, action: str) -> float:
        return float(final_number(action) == self._state.target)

    def actions(self) -> list[str]:
        """The right answer, and one that is off by one: solutions are free text."""
        return [] if self._state.over else [self.oracle(), self.lazy()]

    def oracle(self) -> str:
        return f"#### {self._state.target}"

    def lazy(self) -> str:
        return f"#### {self._state.target + 1}"
