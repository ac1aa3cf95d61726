"""deduction-v1: five players talk about who the impostor is, then the crew vote (:mod:`common.envs.deduction`).

    turns 1–5, one a player:  "crew Red saw:blue:pink . Green:pink . say"              → pink
    then four votes:          "crew Red saw:blue:pink . Green:pink . White:… . vote"   → pink

A player reads its role and colour, which two players it saw near the body, and all messages so far; nothing else. A
message names a player that the speaker claims to have seen, or nobody. Speakers have capitals, so that who speaks and
who is named are different tokens; a name is the same token in observations, messages and votes.
Votes are cast at once: no voter sees another vote. The episode is won (reward 1) when the impostor gets strictly more
votes than anybody else; the impostor itself does not vote. What happens before the discussion is scripted.
``Task.data``: ``impostor``, ``passers`` (see World), ``order`` of speaking, and ``turns``, how many players speak (all
five, but fewer in some demonstrations, so that the question for a vote is known at every point of a discussion).

The environment serves crew and impostor alike: whose turn it is says the first word of the prompt. Values are those of
the crew, who win when they vote together, whatever the messages: V* knows the impostor, no player does.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice, permutations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.envs.deduction.belief import ejected
from common.envs.deduction.world import COLOURS, NOBODY, World, crew_of, from_data, messages, seen, to_data, true_messages, worlds
from common.rng import generator
from common.types import Message, Observation, Task

CREW, IMPOSTOR = ROLES = ("crew", "impostor")
SAY, VOTE, HEAR = "say", "vote", "hear"
"""Last words of prompts: speak, name the impostor, predict the next message. The environment itself never asks the
last; methods may."""
SHOWN = 12
"""Most characters of a message that others hear: the longest grammatical one has 6."""


class TalkState(NamedTuple):
    task_id: str
    world: World
    order: tuple[str, ...]
    turns: int
    said: tuple[str, ...]
    votes: tuple[str, ...]
    """Colours; empty where a voter named none."""

    @property
    def voters(self) -> tuple[str, ...]:
        """The crew, in the order of speaking."""
        return tuple(colour for colour in self.order if colour != self.world.impostor)

    @property
    def over(self) -> bool:
        return len(self.votes) == len(self.voters)


class DeductionEnv:
    """Speak in turn, then vote. V* is 1 while the impostor can still be voted out, else 0."""

    id = "deduction-v1"
    gamma = 1.0
    TRUTH = 0.5
    """ρ: how often a demonstrating crew member names one of those it saw; else it repeats others or says anything."""

    def __init__(self) -> None:
        self.max_steps = len(COLOURS) + len(COLOURS) - 1

    def reset(self, task: Task, seed: int = 0) -> Observation:
        data = task.data
        self._state = TalkState(task.id, from_data(data), tuple(data["order"]), data["turns"], (), ())
        return Observation("the discussion begins")

    # -- what players read -----------------------------------------------------------------------

    def player(self) -> str:
        """Whose turn it is."""
        state = self._state
        return state.order[len(state.said)] if self._talking() else state.voters[len(state.votes)]

    def _talking(self) -> bool:
        return len(self._state.said) < self._state.turns

    def prompt(self) -> tuple[Message, ...]:
        return self.asked(self.player(), SAY if self._talking() else VOTE)

    def asked(self, player: str, question: str, *, after: int | None = None) -> tuple[Message, ...]:
        """What ``player`` reads when asked ``question`` after the first ``after`` messages (None: all so far)."""
        state = self._state
        pair = seen(state.world, player)
        parts = [f"{CREW} {player.title()} saw:{':'.join(pair)}" if pair else f"{IMPOSTOR} {player.title()}"]
        parts += [f"{who.title()}:{text}" for who, text in self.heard()[:after]]
        return ({"role": "user", "content": " . ".join([*parts, question])},)

    def heard(self) -> list[tuple[str, str]]:
        """(speaker, message) so far."""
        return list(zip(self._state.order, self._state.said))

    # -- the contract ------------------------------------------------------------------------------

    def step(self, action: str) -> Observation:
        state = self._state
        if state.over:
            raise RuntimeError(f"{self.id}: the episode of task {state.task_id} is over; call reset or restore first")
        text = said_aloud(action)
        if self._talking():
            self._state = state._replace(said=(*state.said, text))
            return Observation(f"{self.player()}'s turn")
        self._state = state._replace(votes=(*state.votes, text if text in COLOURS else ""))
        if not self._state.over:
            return Observation("voted")
        winner = ejected(self._state.votes) == state.world.impostor
        return Observation("the impostor is out" if winner else "the impostor stays", float(winner), terminated=True)

    def actions(self) -> list[str]:
        if self._state.over:
            return []
        me = self.player()
        return messages(me) if self._talking() else list(crew_of(me))

    def snapshot(self) -> TalkState:
        return self._state

    def restore(self, snapshot: TalkState) -> None:
        self._state = snapshot

    def value(self, snapshot: TalkState) -> float:
        if snapshot.over:
            return 0.0
        rest = len(snapshot.voters) - len(snapshot.votes)
        return float(ejected([*snapshot.votes, *[snapshot.world.impostor] * rest]) == snapshot.world.impostor)

    def q(self, snapshot: TalkState, action: str) -> float:
        here, self._state = self._state, snapshot
        try:
            observation = self.step(action)
            return observation.reward if observation.done else self.value(self._state)
        finally:
            self._state = here

    def oracle(self) -> str:
        """Names the impostor, whom it saw; the impostor itself names nobody."""
        impostor = self._state.world.impostor
        return NOBODY if self.player() == impostor else impostor

    def lazy(self) -> str:
        """Names nobody and votes for the first colour in the alphabet: wins when that is the impostor, one in five."""
        return NOBODY if self._talking() else self.actions()[0]

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """A demonstrator that knows the language and not the game: the crew name one of the two they saw in ``TRUTH`` of
        their messages; else, and as impostors, players repeat what somebody said or say anything, either equally often.
        Votes are for anybody else."""
        options, world, me = self.actions(), self._state.world, self.player()
        action = options[int(rng.integers(len(options)))]
        if self._talking():
            earlier = [text for text in self._state.said if text in options]
            if earlier and rng.random() < 0.5:
                action = earlier[int(rng.integers(len(earlier)))]
            if me != world.impostor and rng.random() < self.TRUTH:
                action = true_messages(seen(world, me))[int(rng.integers(2))]
        return action, action


def said_aloud(action: str) -> str:
    """A message as others hear it, a vote as it is counted: on one line, in ASCII, cut to ``SHOWN`` characters."""
    return " ".join(action.encode("ascii", "replace").decode().split())[:SHOWN].strip()


def role_of(prompt: tuple[Message, ...]) -> str:
    """The role that a prompt addresses, by its first word."""
    return prompt[0]["content"].split(" ", 1)[0]


SIZES = {"test": 400, "validation": 200, "train": 1000, "demos": 800}
"""Games: combinations of a world and an order of speaking, of which there are 405 · 120."""


def build_panels(seed: int = 0) -> dict[str, list[Task]]:
    """No game is in two panels."""
    rng = generator(seed, DeductionEnv.id, "panels")
    every = list(product(worlds(), permutations(COLOURS)))
    games = iter(every[i] for i in rng.permutation(len(every)))
    panels: dict[str, list[Task]] = {}
    for split, size in SIZES.items():
        panels[split] = []
        for k, (world, order) in enumerate(islice(games, size)):
            turns = int(rng.integers(len(COLOURS) + 1)) if split == "demos" else len(COLOURS)
            data = to_data(world) | {"order": list(order), "turns": turns}
            panels[split].append(Task(f"{DeductionEnv.id}/{split}/{k:04d}", DeductionEnv.id, split, data))
    return panels


def make(data_dir: Path) -> DeductionEnv:
    return DeductionEnv()


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return {name: list(map(asdict, tasks)) for name, tasks in build_panels(seed).items()}
