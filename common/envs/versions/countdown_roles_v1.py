"""countdown-roles-v1, Countdown by three roles: one answers, one checks, one answers again.

    turn 1, generator: "generate numbers 14 12 11 9 8 3 target 24"               → 9 * 3
    turn 2, verifier:  "verify numbers … target 24 answer 9 * 3"                   → makes 27 wrong
    turn 3, refiner:   "refine numbers … answer 9 * 3 critique makes 27 wrong"     → 8 * 3

Two of the numbers have to make the target (in the television game, too, not all numbers need be used), so that
finding an answer is a search over pairs and operators and checking one is a single sum or product.
``Task.data = {"numbers": [int, …], "target": int}``. The refiner's answer alone is rewarded, with 1 when it makes
the target, else 0. Each role reads its own prompt, with the earlier turns and nothing else: the environment
lets no role know whether anything was right.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common.envs.answers import AnswerEnv, AnswerState, declared
from common.envs.countdown import apply, descending, step_actions
from common.envs.roles import ROLES
from common.rng import generator
from common.types import Message, Observation, Task

VERBS = dict(zip(("generate", "verify", "refine"), ROLES, strict=True))
LARGEST = 99
"""Targets and the values of demonstrated wrong answers are at most this: a nano policy's own misses seldom are larger,
and its table of sums and products stays one that can be learned in a minute."""
INVALID = "invalid wrong"
"""The critique of what does not combine two of the numbers by a rule of the game."""
_ANSWER = re.compile(r"(\d{1,9}) ([-+*/]) (\d{1,9})", re.ASCII)
_CRITIQUE = re.compile(r"makes (\d{1,9})\b", re.ASCII)


def role_of(prompt: tuple[Message, ...]) -> str:
    """The role that a prompt of this environment addresses, by its first word."""
    return VERBS[prompt[0]["content"].split(" ", 1)[0]]


def verdict(critique: str) -> bool | None:
    """Whether a critique calls the answer right: its last word. None when it says neither right nor wrong."""
    return {"right": True, "wrong": False}.get(declared(critique).rsplit(" ", 1)[-1])


def computed(critique: str) -> int | None:
    """The value that a critique says the answer makes, None when it names none."""
    match = _CRITIQUE.match(declared(critique))
    return int(match[1]) if match else None


def candidates(numbers: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
    """All (answer, value) of ``numbers`` (descending), the larger number written first."""
    return tuple((text, apply(*_parts(text))) for text, _ in step_actions(numbers))


class CountdownRolesEnv(AnswerEnv):
    """Three turns at one task, each by another role; the state is that of the answer environments."""

    id = "countdown-roles-v1"
    SHOWN = {"generator": 16, "verifier": 24}
    """Most characters of a turn that later roles are shown: above what demonstrators write, so that a prompt fits the
    context whatever a policy babbles."""
    SLIP = 0.6
    """Error rate of the noisy generator: about that of the base model itself, so that the verifier does not learn to
    expect right answers."""
    WRONG_NUMBER = 0.1
    """Share of the generator's errors that use a number which was not given; the others are legal."""
    NEAR_MISS = 0.5
    """Share of its legal errors that differ from the right answer in one number or in the operator only."""
    FALSE_CRITIQUE = 0.1
    """Error rate of the noisy verifier, so that the refiner meets wrong critiques."""

    role_of, verdict, computed = map(staticmethod, (role_of, verdict, computed))

    def __init__(self) -> None:
        super().__init__(turns=len(ROLES))

    def start(self, task: Task) -> tuple[tuple[int, ...], int]:
        return descending(task.data["numbers"]), task.data["target"]

    def role(self) -> str:
        """Whose turn it is."""
        return ROLES[len(self._state.attempts)]

    def question(self) -> str:
        return f"generate {self._given()}"

    def _given(self) -> str:
        return f"numbers {' '.join(map(str, self._state.numbers))} target {self._state.target}"

    def _shown(self) -> list[str]:
        """The turns so far as later roles see them."""
        return [visible(text, self.SHOWN[role]) for text, role in zip(self._state.attempts, self.SHOWN)]

    def answers(self) -> tuple[tuple[str, int], ...]:
        """All answers to the present task with what they make."""
        return candidates(self._state.numbers)

    def prompt(self) -> tuple[Message, ...]:
        turns = self._shown()
        texts = [self.question()]
        if turns:
            texts.append(f"verify {self._given()} answer {turns[0]}")
        if turns[1:]:
            texts.append(f"refine {self._given()} answer {turns[0]} critique {turns[1]}")
        return ({"role": "user", "content": texts[-1]},)

    def step(self, action: str) -> Observation:
        observation = super().step(action)
        return observation if observation.done else Observation(f"the {self.role()}'s turn")

    def worth(self, answer: str) -> int | None:
        """What an answer to the present task makes; None when it does not combine two of the numbers legally."""
        match = _ANSWER.fullmatch(declared(answer))
        if not match:
            return None
        left, op, right = _parts(match[0])
        rest = list(self._state.numbers)
        for number in (left, right):
            if number not in rest:
                return None
            rest.remove(number)
        return apply(left, op, right)

    def score(self, action: str) -> float:
        """1 when ``action``, taken as an answer, makes the present task's target, else 0."""
        return float(self.worth(action) == self._state.target)

    def solvable(self, state: AnswerState) -> bool:
        return any(value == state.target for _, value in candidates(state.numbers))

    # -- critiques -----------------------------------------------------------------------------

    def critique(self, answer: str, *, off: int = 0) -> str:
        """What a verifier should say of ``answer``: what it makes, and whether that is the target. With ``off`` the
        value is wrong by so much, and the verdict follows from it."""
        value = self.worth(answer)
        if value is None:
            return INVALID
        return f"makes {value + off} {'right' if value + off == self._state.target else 'wrong'}"

    def false_critiques(self, answer: str) -> list[str]:
        """Critiques of ``answer`` that err by at most 3, or name the target where that is not its value; of what is
        invalid, that it is right."""
        value = self.worth(answer)
        if value is None:
            return ["invalid right"]
        errors = dict.fromkeys([self._state.target - value, *range(-3, 4)])
        return [self.critique(answer, off=off) for off in errors if off and value + off > 0]

    def actions(self) -> list[str]:
        if self._state.over:
            return []
        if self.role() == "verifier":
            answer = self._shown()[0]
            return [self.critique(answer), *self.false_critiques(answer)]
        return [text for text, _ in self.answers()]

    def oracle(self) -> str:
        if self.role() == "verifier":
            return self.actions()[0]
        options = self.answers()
        return next((text for text, value in options if value == self._state.target), options[0][0])

    def lazy(self) -> str:
        """Adds the largest numbers; calls that right; writes it again."""
        if self.role() == "verifier":
            return "right"
        return self._state.attempts[0] if self._state.attempts else self.answers()[0][0]

    # -- demonstrations ------------------------------------------------------------------------

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(turn to imitate, turn taken) of noisy demonstrators.

        The generator imitates the right answer that is listed first and errs at rate ``SLIP``, the verifier the true
        critique and errs at rate ``FALSE_CRITIQUE``. The refiner repeats a right answer and replaces a wrong one,
        whatever the critique says.
        """
        role, state = self.role(), self._state
        if role == "verifier":
            errs, others = rng.random() < self.FALSE_CRITIQUE, self.false_critiques(state.attempts[0])
            return self.oracle(), others[int(rng.integers(len(others)))] if errs else self.oracle()
        if role == "refiner":
            answer = state.attempts[0] if self.score(state.attempts[0]) else self.oracle()
            return answer, answer
        action = self.oracle()
        return action, self.slip(action, rng) if rng.random() < self.SLIP else action

    def slip(self, action: str, rng: np.random.Generator) -> str:
        """A wrong answer like a nano policy's own: a part mistaken, another legal answer, a number not given."""
        left, op, right = _parts(action)
        numbers = self._state.numbers
        if rng.random() < self.WRONG_NUMBER:
            absent = [n for n in range(1, max(numbers) + 1) if n not in numbers]
            other = absent[int(rng.integers(len(absent)))] if absent else max(numbers) + 1
            return f"{max(left, other)} {op} {min(left, other)}"
        options = candidates(numbers)
        wrong = [text for text, value in options if value != self._state.target and value <= LARGEST]
        near = [text for text in wrong if sum(a == b for a, b in zip(_parts(text), (left, op, right))) == 2]
        chosen = near if near and rng.random() < self.NEAR_MISS else wrong
        return chosen[int(rng.integers(len(chosen)))] if chosen else action


def visible(text: str, most: int) -> str:
    """What later roles see of a turn: its declared line in ASCII, cut to ``most`` characters."""
    return declared(text).encode("ascii", "replace").decode()[:most].strip()


def _parts(answer: str) -> tuple[int, str, int]:
    left, op, right = answer.split(" ")
    return int(left), op, int(right)


SIZES = {"test": 400, "validation": 200, "train": 1000, "demos": 5000}


def build_panels(seed: int = 0, *, count: int = 6, largest: int = 15) -> dict[str, list[Task]]:
    """``count`` different numbers up to ``largest`` and a target that two of them make; panels share no task (the same
    numbers may have another target in another panel)."""
    rng, seen = generator(seed, CountdownRolesEnv.id, "panels"), set()
    panels: dict[str, list[Task]] = {}
    for split, size in SIZES.items():
        panels[split] = []
        while len(panels[split]) < size:
            numbers = descending((rng.permutation(largest)[:count] + 1).tolist())
            targets = sorted({value for _, value in candidates(numbers) if value <= LARGEST} - set(numbers))
            target = targets[int(rng.integers(len(targets)))]
            if (numbers, target) not in seen:
                seen.add((numbers, target))
                panels[split].append(
                    Task(f"{CountdownRolesEnv.id}/{split}/{len(panels[split]):04d}", CountdownRolesEnv.id, split,
                         {"numbers": list(numbers), "target": target})  # fmt: skip
                )
    return panels


def make(data_dir: Path) -> CountdownRolesEnv:
    return CountdownRolesEnv()


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return {name: list(map(asdict, tasks)) for name, tasks in build_panels(seed).items()}
