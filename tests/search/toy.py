"""A tiny environment with exact values, and a scripted policy, for the search tests."""

from __future__ import annotations

import math

import numpy as np

from common.types import Message, Observation, Task, Turn

LETTERS = ("a", "b", "c")


class ToyEnv:
    """Spell three letters; the word's reward is in the task. ``stop`` ends early with reward 0.2.

    Anything else costs a step and changes nothing; the fifth step cuts the episode with reward 0.
    """

    id = "toy-v1"
    max_steps = 5
    gamma = 0.9

    def reset(self, task: Task, seed: int = 0) -> Observation:
        self.state = (task.id, tuple(sorted(task.data["rewards"].items())), "", 0, False)
        return Observation("spell a word")

    def step(self, action: str) -> Observation:
        if self.state[4]:
            raise RuntimeError("the episode is over")
        self.state, observation = self._next(self.state, action)
        return observation

    def _next(self, state, action):
        name, rewards, word, steps, _ = state
        steps += 1
        if action == "stop":
            return (name, rewards, word, steps, True), Observation("stopped", 0.2, terminated=True)
        good = action in LETTERS
        word += action if good else ""
        if len(word) == 3:
            reward = dict(rewards).get(word, 0.0)
            return (name, rewards, word, steps, True), Observation(f"word {word}", reward, terminated=True)
        cut = steps >= self.max_steps
        text = f"so far {word or 'nothing'}" if good else f"no letter: {action}"
        return (name, rewards, word, steps, cut), Observation(text, truncated=cut)

    def actions(self) -> list[str]:
        return [] if self.state[4] else [*LETTERS, "stop"]

    def prompt(self) -> tuple[Message, ...]:
        content = f"{self.state[0]}: {self.state[2]!r} after {self.state[3]}"
        return ({"role": "system", "content": "Spell."}, {"role": "user", "content": content})

    def snapshot(self):
        return self.state

    def restore(self, snapshot) -> None:
        self.state = snapshot

    def value(self, snapshot) -> float:
        return 0.0 if snapshot[4] else max(self.q(snapshot, action) for action in [*LETTERS, "stop"])

    def q(self, snapshot, action: str) -> float:
        state, observation = self._next(snapshot, action)
        return observation.reward if observation.done else self.gamma * self.value(state)

    def oracle(self) -> str:
        return max(self.actions(), key=lambda action: self.q(self.state, action))

    def lazy(self) -> str:
        return "stop"


def toy_task(number: int = 0, rewards: dict[str, float] | None = None) -> Task:
    """Task ``number``: the given word rewards, or 27 pseudo-random ones with a single 1."""
    if rewards is None:
        rng = np.random.default_rng(number)
        words = [x + y + z for x in LETTERS for y in LETTERS for z in LETTERS]
        rewards = {word: round(float(value), 2) for word, value in zip(words, 0.8 * rng.random(27), strict=True)}
        rewards[words[int(rng.integers(27))]] = 1.0
    return Task(f"toy/{number}", "toy-v1", "test", {"rewards": rewards})


class Scripted:
    """Deterministic in (prompt, key, n): samples letters, sometimes ``stop`` or junk. Its critic is a
    fixed function of prompt and action. ``calls`` records how many prompts each request carried."""

    texts = ("a", "b", "c", "stop", "oops!")
    odds = (0.3, 0.3, 0.25, 0.1, 0.05)

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def propose(self, prompts, keys, n):
        self.calls.append(("propose", len(prompts)))
        return [self.one(key, n) for key in keys]

    def one(self, key: int, n: int) -> list[Turn]:
        picks = np.random.default_rng(key).choice(len(self.texts), size=n, p=self.odds)
        return [Turn(self.texts[i], math.log(self.odds[i]), 1 + len(self.texts[i])) for i in picks]

    def critique(self, prompts, actions):
        self.calls.append(("critique", len(prompts)))
        return [[self.score(prompt, action) for action in row] for prompt, row in zip(prompts, actions, strict=True)]

    @staticmethod
    def score(prompt, action: str) -> float:
        return sum(ord(x) * (i + 1) for i, x in enumerate(prompt[-1]["content"] + action)) % 11 / 10


class Listing(Scripted):
    """Proposes a, b, c, stop in this order whatever the key when n = 4; else samples as ``Scripted``."""

    def one(self, key: int, n: int) -> list[Turn]:
        if n != 4:
            return super().one(key, n)
        return [Turn(text, -1.0 - i, 1 + i) for i, text in enumerate(self.texts[:4])]
