"""Toy environments with exact values and scripted policies, so that probes of search and metrics need no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from common.rng import derive, generator
from common.types import Message, Observation, Task, Trajectory, Turn

LETTERS = "abc"
NUMBERS = range(3)


def _rewards(number: int) -> dict[str, float]:
    """One of 27 words is worth 1, the others less than 0.8."""
    words = ["".join(one) for one in product(LETTERS, repeat=3)]
    values = 0.8 * generator("probe", number).random(len(words))
    return {word: round(float(value), 2) for word, value in zip(words, values, strict=True)} | {words[7 * number + 4]: 1.0}


REWARDS = {number: _rewards(number) for number in NUMBERS}
KEYS = [derive("probe", number) for number in NUMBERS]
TASKS = [Task(f"spelling/{number}", "spelling", "test", {"number": number}) for number in NUMBERS]

State = tuple[int, str, int, bool]
"""Number of the task, letters so far, steps made, whether the episode is over."""


def named(name: str, numbers: Mapping[str, float]) -> dict[str, float]:
    """Numbers under names that begin with ``name``."""
    return {f"{name}.{key}": float(value) for key, value in numbers.items()}


def transcripts(episodes: Sequence[Trajectory]) -> str:
    """Episodes as one text that shows all their steps."""
    return repr([(one.task_id, [(step.prompt, step.turn, step.observation) for step in one.steps]) for one in episodes])


class Spelling:
    """Three letters spell a word, worth what :data:`REWARDS` says; ``stop`` ends early with 0.2. Anything else costs a step and
    adds nothing; the fifth step cuts the episode."""

    id, max_steps, gamma = "spelling", 5, 0.9

    def reset(self, task: Task, seed: int = 0) -> Observation:
        self._state = (task.data["number"], "", 0, False)
        return Observation(f"spell word {task.data['number']}")

    def step(self, action: str) -> Observation:
        self._state, seen = self._after(self._state, action)
        return seen

    def _after(self, state: State, action: str) -> tuple[State, Observation]:
        number, word, made, over = state
        if over:
            raise RuntimeError("spelling: the episode is over; call reset first")
        made += 1
        if action == "stop":
            return (number, word, made, True), Observation("stopped", 0.2, terminated=True)
        word += action if len(action) == 1 and action in LETTERS else ""
        if len(word) == 3:
            return (number, word, made, True), Observation(f"word {word}", REWARDS[number][word], terminated=True)
        cut = made == self.max_steps
        return (number, word, made, cut), Observation(f"so far {word or 'nothing'}", truncated=cut)

    def actions(self) -> list[str]:
        return [] if self._state[3] else [*LETTERS, "stop"]

    def prompt(self) -> tuple[Message, ...]:
        number, word, made, _ = self._state
        return ({"role": "system", "content": "Spell."}, {"role": "user", "content": f"{number}: {word!r} after {made}"})

    def snapshot(self) -> State:
        return self._state

    def restore(self, snapshot: State) -> None:
        self._state = snapshot

    def value(self, snapshot: State) -> float:
        return 0.0 if snapshot[3] else max(self.q(snapshot, action) for action in (*LETTERS, "stop"))

    def q(self, snapshot: State, action: str) -> float:
        state, seen = self._after(snapshot, action)
        return seen.reward if seen.done else self.gamma * self.value(state)

    def oracle(self) -> str:
        return max(self.actions(), key=lambda action: self.q(self._state, action))

    def lazy(self) -> str:
        return "stop"

    # what environments of answers offer beside

    def attempt(self, text: str, before: Sequence[str]) -> str:
        return text

    def declared(self, text: str) -> str:
        return text.strip()

    def score(self, action: str) -> float:
        return float(REWARDS[self._state[0]].get(action.strip(), 0.0) >= 1.0)

    def worth(self, action: str) -> int | None:
        return len(action)


class Scripted:
    """Samples letters, now and then ``stop``, several letters or a cut turn; a function of key and place. Its critic is a
    formula of prompt and action."""

    texts = ("a", "b", "c", "stop", "abc", "c")
    odds = (0.3, 0.25, 0.2, 0.1, 0.05, 0.1)
    logprobs = (-1.2, -1.4, -1.6, -2.3, -3.0, -2.25)

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        return [self.one(key, n) for key in keys]

    def one(self, key: int, n: int) -> list[Turn]:
        picks = generator("scripted", key).choice(len(self.texts), size=n, p=self.odds)
        return [Turn(self.texts[i], self.logprobs[i], 1 + len(self.texts[i]), finished=bool(i != 5)) for i in picks]

    def critique(self, prompts: list[tuple[Message, ...]], actions: list[list[str]]) -> list[list[float]]:
        return [[self.score(prompt, action) for action in row] for prompt, row in zip(prompts, actions, strict=True)]

    @staticmethod
    def score(prompt: tuple[Message, ...], action: str) -> float:
        return sum(ord(x) * (i + 1) for i, x in enumerate(prompt[-1]["content"] + action)) % 11 / 10


class Sums:
    """Toy answer environment: two attempts at a sum, with a noisy demonstrator that is off by one at half of the attempts."""

    id, max_steps = "sums", 2

    def reset(self, task: Task, seed: int = 0) -> Observation:
        self._state: tuple[int, tuple[str, ...]] = (task.data["sum"], ())
        return Observation("add")

    def step(self, action: str) -> Observation:
        total, answers = self._state
        self._state = (total, (*answers, action))
        return Observation("again", self.score(action) if answers else 0.0, terminated=bool(answers))

    def prompt(self) -> tuple[Message, ...]:
        total, answers = self._state
        asked = [{"role": "user", "content": f"{total} {'|'.join(answers)}"}]
        return (*asked, *({"role": role, "content": text} for one in answers for role, text in (("assistant", one), ("user", "again"))))

    def snapshot(self) -> tuple[int, tuple[str, ...]]:
        return self._state

    def restore(self, snapshot: tuple[int, tuple[str, ...]]) -> None:
        self._state = snapshot

    def attempt(self, text: str, before: Sequence[str]) -> str:
        return text

    def declared(self, text: str) -> str:
        return text.strip()

    def score(self, action: str) -> float:
        return float(action == str(self._state[0]))

    def actions(self) -> list[str]:
        return [str(self._state[0]), str(self._state[0] + 1), "0"]

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        right = str(self._state[0])
        return right, right if rng.random() < 0.5 else str(self._state[0] + 1)


class Adding:
    """Scripted policy for sums: by its key right, off by one, or its previous answer again."""

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        def answer(prompt: tuple[Message, ...], key: int) -> str:
            total, _, previous = prompt[0]["content"].partition(" ")
            return previous if previous and key % 2 else str(int(total) + (0, 1, 0)[key % 3])

        return [[Turn(answer(prompt, key + j), -1.0, 2) for j in range(n)] for prompt, key in zip(prompts, keys, strict=True)]

    def score(self, prompts: list[tuple[Message, ...]], actions: list[list[str]]) -> list[list[float]]:
        """Log-probabilities by a formula of prompt and action: what an engine would say."""
        def chance(prompt: tuple[Message, ...], text: str) -> float:
            return (1 + (len(prompt[0]["content"]) + 3 * len(text) + sum(map(ord, text))) % 5) / 20

        return [[math.log(chance(prompt, text)) for text in row] for prompt, row in zip(prompts, actions, strict=True)]


SUMS = [Task(f"sums/test/{i}", "sums", "test", {"sum": 3 + 2 * i}) for i in range(8)]
