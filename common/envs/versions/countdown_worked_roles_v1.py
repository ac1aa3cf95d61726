"""countdown-worked-roles-v1, Countdown by three roles whose answers show their working: one answers, one checks, one keeps or answers again.

    turn 1, generator: "generate numbers 14 5 3 target 16"                                    → 14 + 5 = 19 , 19 + 3 = 22
    turn 2, verifier:  "verify numbers … target 16 answer 14 + 5 = 19 , 19 + 3 = 22"           → makes 22 wrong
    turn 3, refiner:   "refine numbers … answer 14 + 5 = … = 22 critique makes 22 wrong"       → 14 + 5 = 19 , 19 - 3 = 16

Turns, prompts and critiques are those of countdown-roles-v1, tasks and answers those of countdown-worked-v1: whether an answer is
right can be read off it, which takes no search, where finding one does. The refiner's ``keep`` holds the generator's answer; anything
else is an answer of its own, which alone is rewarded.

The base model is shown all three roles, and not how they work together. The generator is a player who does not look ahead. The
verifier says what the answer makes, falsely now and then; it is shown right and wrong answers equally often, and miscalculated ones.
The refiner keeps an answer that was called right hardly more often than another, and else tries anew without looking at it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common.envs.answers import AnswerState, declared
from common.envs.contract import Demonstration
from common.envs.countdown import SUMS, solvable, sum_tasks
from common.envs.versions.countdown_roles_v1 import CountdownRolesEnv
from common.envs.versions.countdown_worked_v1 import SIZES, result_of, short_sighted_answer, worked
from common.rng import generator
from common.types import Task

KEEP = "keep"
KEPT = {True: 0.45, False: 0.25}
"""How often the demonstrated refiner keeps an answer that was called right (True), and one that was called wrong."""
MISCALCULATED = 0.2
"""Share of the wrong answers shown to the verifier in which a step has a false result."""


class CountdownWorkedRolesEnv(CountdownRolesEnv):
    """Three turns at one task, each by another role, see :class:`~common.envs.versions.countdown_roles_v1.CountdownRolesEnv`."""

    id = "countdown-worked-roles-v1"
    SHOWN = {"generator": 28, "verifier": 16}
    FALSE_CRITIQUE = 0.15

    def attempt(self, text: str, before: Sequence[str]) -> str:
        said = declared(text)
        return before[0] if said == KEEP and len(before) == 2 else said  # the third turn is the refiner's

    def worth(self, answer: str) -> int | None:
        """What an answer to the present task makes; None when it is malformed, miscalculates or does not use each number once."""
        return result_of(declared(answer), self._state.numbers)

    def score(self, action: str) -> float:
        return super().score(self.attempt(action, self._state.attempts))

    def solvable(self, state: AnswerState) -> bool:
        return solvable(state.numbers, state.target, SUMS)

    def answers(self) -> tuple[tuple[str, int], ...]:
        return worked(self._state.numbers)

    def false_critiques(self, answer: str) -> list[str]:
        """Critiques of ``answer`` with a false verdict: of a right one results that are wrong by at most 3, of another the target."""
        value, target = self.worth(answer), self._state.target
        if value != target:
            return [f"makes {target} right"]
        return [self.critique(answer, off=off) for off in range(-3, 4) if off and value + off > 0]

    def actions(self) -> list[str]:
        listed = super().actions()
        return [KEEP, *listed] if listed and self.role() == "refiner" else listed

    def lazy(self) -> str:
        """Adds all numbers; calls that right; keeps it."""
        return KEEP if self.role() == "refiner" else super().lazy()

    # -- demonstrations ------------------------------------------------------------------------

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(turn to imitate, turn taken), which are the same: the base model learns the demonstrators' errors too."""
        state, role = self._state, self.role()
        if role == "verifier":
            answer = self._shown()[0]
            said = self.false_critiques(answer) if rng.random() < self.FALSE_CRITIQUE else [self.critique(answer)]
            turn = said[int(rng.integers(len(said)))]
        elif role == "refiner" and rng.random() < KEPT[bool(self.verdict(state.attempts[1]))]:
            turn = KEEP
        else:
            turn = short_sighted_answer(state.numbers, state.target, rng)
        return turn, turn

    def demonstrations(self, task: Task, rng: np.random.Generator, critic: str) -> Iterator[Demonstration]:
        """A turn of each role for the base model's warm start: the verifier and the refiner read the same answer, which is not the
        one that the generator is shown with. Nobody is asked the critic's question."""
        self.reset(task)
        yield self._demonstrated(self.expert(rng)[0])
        self.step(self._to_judge(rng))
        for _ in ("verifier", "refiner"):
            turn = self.expert(rng)[0]
            yield self._demonstrated(turn)
            self.step(turn)

    def _demonstrated(self, turn: str) -> Demonstration:
        return Demonstration((*self.prompt(), {"role": "assistant", "content": turn}), learned=1)

    def _to_judge(self, rng: np.random.Generator) -> str:
        """An answer for the verifier: right in half of the cases, as far as tries by the generator's demonstrator are."""
        numbers, target = self._state.numbers, self._state.target
        wanted = rng.random() < 0.5
        if not wanted and rng.random() < MISCALCULATED:
            off = int(rng.choice((-3, -2, -1, 1, 2, 3)))
            return short_sighted_answer(numbers, target, rng, slip=int(rng.integers(len(numbers) - 1)), off=off)
        tries = (short_sighted_answer(numbers, target, rng) for _ in range(20))
        found = next((one for one in tries if (self.worth(one) == target) == wanted), None)
        return found or short_sighted_answer(numbers, target, rng)


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    own = CountdownWorkedRolesEnv.id
    return {name: list(map(asdict, tasks))
            for name, tasks in sum_tasks(own, generator(seed, own, "panels"), SIZES, largest=24, most=4).items()}


def make(data_dir: Path) -> CountdownWorkedRolesEnv:
    return CountdownWorkedRolesEnv()
