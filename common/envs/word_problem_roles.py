"""Word problems (:mod:`common.envs.word_problems`) by three roles of a chat model, each with a prompt of its own.

    turn 1, generator: the problem, as one agent alone reads it            → a worked solution
    turn 2, verifier:  the problem, the solution                           → a critique that ends with a verdict
    turn 3, refiner:   the solution, the critique, the problem             → a worked solution, which is rewarded

Tasks, panels and reward are those of the environment itself. Who reads what is MALT's (arXiv:2412.01928); the prompts
are our own words, none of its text is used. A changed prompt is a new ``VERSION``: a test holds the words to it.
"""

from __future__ import annotations

import re

from common.envs.answers import declared
from common.envs.contract import Env
from common.envs.roles import ROLES
from common.envs.word_problems import WordProblemEnv
from common.types import Message, Observation

VERSION = "word-problem-roles-1"
RIGHT, WRONG = "The solution is right.", "The solution is wrong."
_VERDICT = re.compile(r"\b(?:is|are)(n't|\s+not)?(?:\s+\w+ly)?\s+(right|correct|wrong|incorrect)\b", re.IGNORECASE)
"""What is said of a thing: "is not right", not "the right answer"."""


class WordProblemRolesEnv(WordProblemEnv):
    """Three turns at one problem, each by another role; a role reads nothing but its own prompt."""

    SOLUTION = "Here is a proposed solution:"
    CHECK = (
        "Is the proposed solution right? Check each step: is the calculation right, and does it help to answer what is "
        "asked? Name the first mistake, if there is one. Then end with one of two sentences: "
        f'"{RIGHT}" if you found no mistake, "{WRONG}" if you found one.'
    )
    PROPOSED = "Somebody proposed this solution of the problem below:"
    CRITIQUE = "A reviewer said about it:"
    REFINE = (
        "The reviewer may be mistaken. Solve the problem from the beginning: keep what is right in the proposed "
        "solution and repair what is wrong. This is the problem:"
    )

    computed = None
    """A critique in prose names no value of its answer."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, turns=len(ROLES))

    def role(self) -> str:
        """Whose turn it is."""
        return ROLES[len(self._state.attempts)]

    def prompt(self) -> tuple[Message, ...]:
        """That of the present role; the generator's is the environment's own first one."""
        said = self._state.attempts
        if not said:
            return ({"role": "user", "content": self.question()},)
        parts = [self._state.text, self.SOLUTION, said[0].strip(), self.CHECK]
        if said[1:]:  # the problem last: a small model takes up what it read last
            parts = [self.PROPOSED, said[0].strip(), self.CRITIQUE, said[1].strip(), self.REFINE, self.question()]
        return ({"role": "user", "content": "\n\n".join(parts)},)

    @classmethod
    def role_of(cls, prompt: tuple[Message, ...]) -> str:
        """The role that a prompt of this environment addresses: by its first or last words, which no model wrote."""
        text = prompt[-1]["content"]
        return ROLES[1] if text.endswith(cls.CHECK) else ROLES[2] if text.startswith(cls.PROPOSED) else ROLES[0]

    @staticmethod
    def verdict(critique: str) -> bool | None:
        """Whether the last line of a critique calls something right or wrong. None when it says neither, or both."""
        found = _VERDICT.findall(declared(critique))
        said = {(word.lower() in ("right", "correct")) != bool(negated) for negated, word in found}
        return said.pop() if len(said) == 1 else None

    def step(self, action: str) -> Observation:
        observation = super().step(action)
        return observation if observation.done else Observation(f"the {self.role()}'s turn")

    def actions(self) -> list[str]:
        """As without roles; of the verifier both verdicts, the true one first."""
        if self._state.over or self.role() != "verifier":
            return super().actions()
        return sorted((RIGHT, WRONG), key=lambda text: text != self.oracle())

    def oracle(self) -> str:
        if self.role() != "verifier":
            return super().oracle()
        return RIGHT if self.score(self._state.attempts[0]) else WRONG

    def lazy(self) -> str:
        return super().lazy() if self.role() != "verifier" else RIGHT


def in_roles(env: Env) -> Env:
    """Word problems by three roles; an environment whose turns belong to roles already as it is."""
    return WordProblemRolesEnv(id=env.id) if isinstance(env, WordProblemEnv) else env
