"""facts-two-holders-v1: two players, each with half of the facts, talk until one of them declares an answer.

    the first reads   "wood,red,ring,big,sour|find:color"             → red
    the other reads   "blue,star,gold,mild,tiny|find:color|you:red"   → red:blue!

Each knows five facts of a thing of its own, a value of every key in ``VALUES`` (a value tells its key, since no key shares one). Asked
is one key of *both* things, so that neither can answer alone. Players speak in turn; each reads its own facts, the question and all
that was said. Any text is a message. One that ends with ``!`` declares the answer, the other's value and the speaker's own, and ends
the talk: 1 when it is right, else 0. So do ``MESSAGES`` messages without an answer, and an empty one, with 0.

**Floor.** Before the other has named its value, all six are equally likely: who declares an answer at once is right once in six times. The
shortest talk after which the answer is certain has ``FLOOR`` tokens, those that end messages among them: something must be heard,
which takes a token and an end, and the answer takes three, its mark and an end.

    red· red:blue!·                 2 + 5 = 7

The base model is shown talk of many kinds, mostly wordier than needed (``STYLES``): some say all they know, some chat, some only what is
asked, some too little, and some guess. Every word is one token wherever it stands, since no space precedes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.envs.contract import Demonstration
from common.rng import generator
from common.types import Message, Observation, Task

VALUES = {
    "color": ("red", "blue", "green", "pink", "white", "black"),
    "size": ("tiny", "small", "big", "huge", "wide", "tall"),
    "stuff": ("wood", "iron", "glass", "silk", "clay", "gold"),
    "shape": ("ball", "cube", "cone", "ring", "star", "disk"),
    "taste": ("sweet", "sour", "salty", "mild", "bitter", "fresh"),
}
KEY_OF = {value: key for key, values in VALUES.items() for value in values}
OPENINGS = ("so hi my friend", "so now", "so let me see", "so thanks for that", "so this is good", "so we can go on", "so sure", "so that is nice")
REMARKS = ("i think that it is so", "it is quite clear to me", "as far as i know now", "from what i have here", "in this case at least", "to be sure of it",
           "let us have a look", "here is what you need")  # fmt: skip
MESSAGES = 6
SHOWN = 84
"""Most characters of a message that is heard: demonstrated ones are shorter."""
_WORD = re.compile(r"[a-z]+")


class TalkState(NamedTuple):
    task_id: str
    facts: tuple[tuple[str, ...], tuple[str, ...]]
    """Values that the player who begins knows, and those that the other knows."""
    key: str
    """What is asked for."""
    said: tuple[str, ...]
    over: bool

    @property
    def own(self) -> dict[str, str]:
        """What the one whose turn it is knows by itself, value by key."""
        return {KEY_OF[value]: value for value in self.facts[len(self.said) % 2]}

    @property
    def answer(self) -> str:
        """What is right for the one whose turn it is to declare."""
        return declaration(self, next(value for value in self.facts[1 - len(self.said) % 2] if KEY_OF[value] == self.key))

    @property
    def heard(self) -> list[str]:
        """What the other one has said."""
        return [text for turn, text in enumerate(self.said) if turn % 2 != len(self.said) % 2]


def declaration(state: TalkState, other: str) -> str:
    """The answer by which the one whose turn it is says that the other's value is ``other``."""
    return f"{other}:{state.own[state.key]}!"


def declared(text: str) -> str | None:
    """The answer that a message declares."""
    return text.rsplit(";", 1)[-1] if text.endswith("!") else None


def known_answer(state: TalkState) -> str | None:
    """The answer that follows from what the one whose turn it is knows and has heard; None where it could only guess."""
    heard = [word for text in state.heard for word in _WORD.findall(text) if KEY_OF.get(word) == state.key]
    return declaration(state, heard[-1]) if heard else None


FLOOR = 7
"""Fewest tokens of a talk after which the answer is certain (see above)."""
STYLES: dict[str, dict[str, float]] = {
    "asks": {"bare": 0.15, "named": 0.07, "padded": 0.27, "all": 0.26, "other": 0.08, "chat": 0.07, "mark": 0.03, "guess": 0.07},
    "answers": {"bare": 0.25, "padded": 0.5, "told": 0.05, "chat": 0.1, "guess": 0.1},
}
"""How often demonstrators speak how: those who do not know the answer yet, and those who do."""


class FactsTwoHoldersEnv:
    """Speak in turn, then declare. V* is 1 while the talk is not over: whoever declares could be right."""

    id = "facts-two-holders-v1"
    gamma = 1.0

    def __init__(self) -> None:
        self.max_steps = MESSAGES

    def reset(self, task: Task, seed: int = 0) -> Observation:
        first, second = map(tuple, task.data["facts"])
        self._state = TalkState(task.id, (first, second), task.data["key"], (), False)
        return Observation("the talk begins")

    def prompt(self) -> tuple[Message, ...]:
        state = self._state
        mine = len(state.said) % 2
        parts = [",".join(state.facts[mine]), f"find:{state.key}"]
        parts += [f"{'me' if turn % 2 == mine else 'you'}:{text}" for turn, text in enumerate(state.said)]
        return ({"role": "user", "content": "|".join(parts)},)

    # -- the contract ------------------------------------------------------------------------------

    def step(self, action: str) -> Observation:
        state = self._state
        if state.over:
            raise RuntimeError(f"{self.id}: the episode of task {state.task_id} is over; call reset or restore first")
        text = heard_as(action)
        answer, said = declared(text), (*state.said, text)
        over = answer is not None or not text or len(said) == MESSAGES
        self._state = state._replace(said=said, over=over)
        if not over:
            return Observation("the other speaks")
        return Observation("the talk is over", float(answer == state.answer), terminated=True)

    def actions(self) -> list[str]:
        """One fact, a question, an answer."""
        return [] if self._state.over else [*self._state.own.values(), "?", *self.guesses()]

    def guesses(self) -> list[str]:
        """All answers that are possible to who has heard nothing."""
        return [declaration(self._state, other) for other in VALUES[self._state.key]]

    def snapshot(self) -> TalkState:
        return self._state

    def restore(self, snapshot: TalkState) -> None:
        self._state = snapshot

    def value(self, snapshot: TalkState) -> float:
        return float(not snapshot.over)

    def q(self, snapshot: TalkState, action: str) -> float:
        here, self._state = self._state, snapshot
        try:
            observation = self.step(action)
            return observation.reward if observation.done else self.value(self._state)
        finally:
            self._state = here

    def oracle(self) -> str:
        """Declares the answer, whether its player can know it or not."""
        return self._state.answer

    def lazy(self) -> str:
        """Guesses: right in one task of six."""
        return self.guesses()[0]

    def brief(self) -> str:
        """The message of the shortest certain talk."""
        return known_answer(self._state) or self._state.own[self._state.key]

    # -- demonstrations ------------------------------------------------------------------------

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(message to imitate, message taken), which are the same; of a style by chance (``STYLES``)."""
        state, answer = self._state, known_answer(self._state)
        odds = STYLES["answers" if answer else "asks"]
        style = str(rng.choice(list(odds), p=list(odds.values())))
        told, listed, possible = state.own[state.key], list(state.own.values()), self.guesses()
        chat, brief = " ".join(str(rng.choice(part)) for part in (OPENINGS, REMARKS, REMARKS)), answer or told
        text = {
            "bare": brief, "padded": f"{chat};{brief}", "told": told, "chat": chat, "mark": "?", "named": f"{state.key}:{told}",
            "other": str(rng.choice([value for value in listed if value != told])), "guess": possible[int(rng.integers(len(possible)))],
            "all": ",".join(listed[i] for i in rng.permutation(len(listed))),
        }[style]  # fmt: skip
        return text, text

    def demonstrations(self, task: Task, rng: np.random.Generator, critic: str) -> Iterator[Demonstration]:  # noqa: ARG002
        """A talk for the base model's warm start, message by message. Nobody is asked the critic's question."""
        observation = self.reset(task)
        while not observation.done:
            text = self.expert(rng)[0]
            yield Demonstration((*self.prompt(), {"role": "assistant", "content": text}), learned=1)
            observation = self.step(text)


def heard_as(action: str) -> str:
    """A message as it is heard: on one line, in ASCII, cut to ``SHOWN`` characters."""
    return " ".join(action.encode("ascii", "replace").decode().split())[:SHOWN].strip()


def guessed(env: FactsTwoHoldersEnv, task: Task, said: Sequence[str]) -> bool:
    """Whether a talk ends with an answer whose speaker had heard nothing that tells it."""
    env.reset(task)
    for text in said[:-1]:
        env.step(text)
    return declared(heard_as(said[-1])) is not None and known_answer(env.snapshot()) is None


SIZES = {"test": 500, "validation": 300, "train": 1200, "demos": 3000}


def build_panels(seed: int = 0) -> dict[str, list[Task]]:
    """No two tasks have the same facts, whoever knows which, in whatever order."""
    rng, own = generator(seed, FactsTwoHoldersEnv.id, "panels"), FactsTwoHoldersEnv.id
    seen, panels = set(), {}
    for split, size in SIZES.items():
        panels[split] = []
        while len(panels[split]) < size:
            facts = [[values[int(rng.integers(len(values)))] for values in VALUES.values()] for _ in range(2)]
            asked, both = list(VALUES)[int(rng.integers(len(VALUES)))], frozenset(map(tuple, facts))
            if both in seen:
                continue
            seen.add(both)
            data = {"facts": [[one[i] for i in rng.permutation(len(one))] for one in facts], "key": asked}
            panels[split].append(Task(f"{own}/{split}/{len(panels[split]):04d}", own, split, data))
    return panels


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return {name: list(map(asdict, tasks)) for name, tasks in build_panels(seed).items()}


def make(data_dir: Path) -> FactsTwoHoldersEnv:
    return FactsTwoHoldersEnv()
