"""WKM's two kinds of knowledge as short texts, how worlds are read for them, and the policies that use them. Only pages are read, never rewards
or what a page hides."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from common.envs.contract import Env, Snapshot
from common.envs.shop.reading import goal_of, outcome, page_of
from common.learn.batches import SFTExample
from common.lm.policy import LMPolicy
from common.policy import Policy, propose
from common.rng import generator
from common.types import Message, Observation, Task, Trajectory, Turn

INVALID = "invalid action"
"""How both worlds answer an inadmissible action."""
TASK, STATE = "know", "state"
"""The words that ask for either kind of knowledge, and that begin its line in a prompt."""
NOTHING = "nothing"
OWN = "…"
"""Stands for actions whose words are those of a task: which one, only the agent can say."""

MADE = {"chop": "chopped", "slice": "sliced", "dice": "diced", "fry": "fried", "roast": "roasted", "grill": "grilled"}
"""A recipe's verbs, and how things are called afterwards."""

Prompt = tuple[Message, ...]


def told(prompt: Prompt, word: str, text: str) -> Prompt:
    """``prompt`` with a line of knowledge below it."""
    *before, last = prompt
    return (*before, last | {"content": f"{last['content']}\n{word}: {text}"})


def asked(prompt: Prompt, word: str) -> Prompt:
    """The chat that asks the world knowledge model; it does not see what it said of the task."""
    *before, last = prompt
    return (*before, last | {"content": f"{last['content'].split(f'{chr(10)}{TASK}: ')[0]}\n{word}?"})


# -- reading worlds ----------------------------------------------------------------------------------------------------


class Reader(Protocol):
    def state(self, page: str) -> str:
        """A page in a few words: what the world knowledge model learns to write."""

    def did(self, page: str) -> str:
        """The previous action as the page tells it; "" at the start."""

    def deed(self, page: str, action: str) -> str:
        """What an action gets done, in words that make sense without the page; "" where it only leads on."""

    def general(self, page: str, action: str) -> str:
        """The action as other tasks know it; :data:`OWN` where its words are those of its task."""

    def specific(self, page: str, action: str) -> str:
        """What a general action means on ``page``; :data:`OWN` where it means nothing."""


class ShopReader:
    """Deeds are options and the purchase. A search has the goal's words, and a product's number says nothing of another list."""

    def state(self, page: str) -> str:
        return outcome(goal_of(page), page_of(page))

    def did(self, page: str) -> str:
        second = page.split("\n")[1]
        return second.removeprefix("did: ") if second.startswith("did: ") else ""

    def deed(self, page: str, action: str) -> str:
        label = action[6:-1]
        return "" if self.general(page, action) == OWN or label in ("< prev", "next >", "back to search") else label

    def general(self, page: str, action: str) -> str:  # noqa: ARG002 - the same on every page
        return OWN if action.startswith("search[") or action[6:-1].isdigit() else action

    def specific(self, page: str, action: str) -> str:  # noqa: ARG002
        return action


class CookingReader:
    """A state is how far the first ingredient that is not ready has come, and the room. A way is known by the room that it leads to."""

    def ways(self, page: str) -> dict[str, str]:
        """Moves and the rooms they lead to."""
        return {f"move {way}": room.removesuffix(" been") for way, _, room in (part.partition(" ") for part in page.split("\n")[-1].split(", "))}

    def line(self, page: str, word: str) -> str:
        return next((line.removeprefix(f"{word} ") for line in page.split("\n")[2:-2] if line.startswith(f"{word} ")), "")

    def state(self, page: str) -> str:
        lines, have = page.split("\n"), self.line(page, "have").split(", ")
        room, _, things = lines[-2].partition(": ")
        here = [name for held in re.findall(r"\(([^)]*)\)", things) for name in held.split(", ")]
        if lines[1].startswith("not read"):
            return f"unread in {room}"
        if "meal" in have:
            return "meal"
        for part in lines[1].split("; "):
            name = " ".join(word for word in part.split() if word not in MADE)
            mine = next((one.split() for one in have if " ".join(word for word in one.split() if word not in MADE.values()) == name), None)
            if mine is None:
                return f"here {name}" if name in here else f"missing {name} in {room}"
            for verb in (word for word in part.split() if MADE.get(word, mine[0]) not in mine):
                return f"{verb} {name} {'with' if 'knife' in have else 'without'} knife in {room}"
        return f"ready in {room}"

    def did(self, page: str) -> str:
        return self.line(page, "did")

    def deed(self, page: str, action: str) -> str:
        return self.ways(page).get(action, action)

    def general(self, page: str, action: str) -> str:
        if action.startswith("move "):
            return f"to {self.ways(page).get(action, '')}"
        named = action.startswith(("take ", "chop ", "slice ", "dice ", "cook "))
        name = action.split(" ", 1)[-1].split(" in ")[0]
        return OWN if named and name != "knife" and f" {name}" not in self.state(page) else action

    def specific(self, page: str, action: str) -> str:
        if not action.startswith("to "):
            return action
        return next((move for move, room in self.ways(page).items() if f"to {room}" == action), OWN)


def reader_of(env: Env) -> Reader:
    return ShopReader() if env.id == "shop-v1" else CookingReader()


# -- task knowledge, from an expert's trajectory and a failed one -----------------------------------------------------


def task_knowledge(reader: Reader, expert: Sequence[SFTExample], failed: Trajectory) -> str:
    """The first deed of the expert that the failed run lacks; :data:`NOTHING` where it lacks none."""
    done = {reader.deed(step.prompt[-1]["content"], step.turn.text) for step in failed.steps if not step.observation.text.startswith(INVALID)}
    deeds = (reader.deed(row.prompt[-1]["content"], row.completion) for row in expert)
    return next((deed for deed in deeds if deed and deed not in done), NOTHING)


class Told:
    """``env`` whose prompts end with what is known of the task, by its id. It has what rollouts need, and no more."""

    def __init__(self, env: Env, known: Mapping[str, str]) -> None:
        self.env, self.known, self.id, self.max_steps = env, known, env.id, env.max_steps
        self._task = ""

    def reset(self, task: Task, seed: int = 0) -> Observation:
        self._task = task.id
        return self.env.reset(task, seed)

    def step(self, action: str) -> Observation:
        return self.env.step(action)

    def prompt(self) -> Prompt:
        return told(self.env.prompt(), TASK, self.known[self._task])

    def snapshot(self) -> Snapshot:
        return self._task, self.env.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        self._task, inner = snapshot
        self.env.restore(inner)


# -- state knowledge: what experts did next ----------------------------------------------------------------------------


class Pairs:
    """Next actions by (state, previous action); by the state alone where that pair was seen less than ``least`` times; by its first word
    where nobody was in that state."""

    def __init__(self, triples: Iterable[tuple[str, str, str]], least: int) -> None:
        self.counts: dict[tuple[str, ...], Counter] = defaultdict(Counter)
        self.least = least
        for state, did, action in triples:
            for key in keys_of(state, did):
                self.counts[key][action] += 1

    def retrieve(self, state: str, did: str) -> dict[str, float]:
        """P_know, the share of each next action; empty where nothing like it was seen."""
        near = [self.counts[key] for key in keys_of(state, did) if key in self.counts]
        near = [counter for counter in near if counter.total() >= self.least] or near
        return {action: n / near[0].total() for action, n in near[0].items()} if near else {}


def keys_of(state: str, did: str) -> list[tuple[str, ...]]:
    """What a state is found by, nearest first."""
    return [(state, "did", did), (state,), (state.split(" ")[0], "first")]


def triples(reader: Reader, rows: Sequence[SFTExample]) -> list[tuple[str, str, str]]:
    """(state, previous action, next action) of demonstrated steps."""
    pages = [(row.prompt[-1]["content"], row.completion) for row in rows]
    return [(reader.state(page), reader.did(page), reader.general(page, action)) for page, action in pages]


@dataclass
class WorldModel:
    """The world knowledge model: it writes greedily what it knows of a task from its first page, and of a state from the page."""

    policy: Policy

    def write(self, prompts: Sequence[Prompt], word: str) -> list[str]:
        questions = [asked(prompt, word) for prompt in prompts]
        return [turn.text for [turn] in propose(self.policy, questions, [0] * len(questions), 1)]


# -- acting ------------------------------------------------------------------------------------------------------------


@dataclass
class Stated:
    """``agent`` with the state's description in its prompt."""

    agent: LMPolicy
    world: WorldModel

    def propose(self, prompts: list[Prompt], keys: list[int], n: int) -> list[list[Turn]]:
        return self.agent.propose([told(*one) for one in zip(prompts, [STATE] * len(prompts), self.world.write(prompts, STATE))], keys, n)


@dataclass
class Mixed:
    """Acts by P = γ·P_agent + (1 − γ)·P_know: samples from it, or at temperature 0 takes its most probable action. What P_know gives to
    :data:`OWN` is the agent's to fill: P_know(OWN)·P_agent. Where nothing is retrieved the agent acts alone.

    Both are exact without a list of admissible actions: a sample is the agent's with the weight of P_agent, else one of P_know; and outside
    the few actions of P_know no action is more probable than the agent's greedy one. A retrieved turn has its probability under P_know.
    """

    agent: LMPolicy
    world: WorldModel
    reader: Reader
    pairs: Pairs
    gamma: float

    def propose(self, prompts: list[Prompt], keys: list[int], n: int) -> list[list[Turn]]:
        states, own = self.world.write(prompts, STATE), self.agent.propose(prompts, keys, n)
        mixtures = [weights(retrieve(self.reader, self.pairs, state, prompt[-1]["content"]), self.gamma)
                    for state, prompt in zip(states, prompts, strict=True)]  # fmt: skip
        if self.agent.temperature:
            return [[drawn(turn, *mixture, generator(key, "mixture", i)) for i, turn in enumerate(turns)]
                    for turns, mixture, key in zip(own, mixtures, keys, strict=True)]  # fmt: skip
        listed = [list(dict.fromkeys([turns[0].text, *known])) if known else [] for turns, (_, known) in zip(own, mixtures, strict=True)]
        scored = self.agent.engine.score(prompts, listed)
        return [[best(turns[0], *mixture, dict(zip(texts, logs, strict=True)))] * n
                for turns, mixture, texts, logs in zip(own, mixtures, listed, scored, strict=True)]  # fmt: skip


def retrieve(reader: Reader, pairs: Pairs, state: str, page: str) -> dict[str, float]:
    """P_know of actions on ``page``."""
    known: dict[str, float] = defaultdict(float)
    for action, p in pairs.retrieve(state, reader.did(page)).items():
        known[reader.specific(page, action)] += p
    return known


def weights(known: Mapping[str, float], gamma: float) -> tuple[float, dict[str, float]]:
    """The weight of P_agent in the mixture, and what P_know adds to single actions; both sum to 1."""
    rest = {action: (1 - gamma) * p for action, p in known.items() if action != OWN and gamma < 1}
    return 1 - sum(rest.values()), rest


def drawn(turn: Turn, share: float, known: Mapping[str, float], rng: np.random.Generator) -> Turn:
    """A sample of the mixture, where ``turn`` is one of the agent."""
    texts = ["", *known]
    text = texts[rng.choice(len(texts), p=[share, *known.values()])]
    return retrieved(text, known) if text else turn


def best(turn: Turn, share: float, known: Mapping[str, float], logprobs: Mapping[str, float]) -> Turn:
    """The most probable action of the mixture, where ``turn`` is the agent's and ``logprobs`` are its of all candidates."""
    text = max(logprobs, key=lambda one: share * math.exp(logprobs[one]) + known.get(one, 0.0), default=turn.text)
    return turn if text == turn.text else retrieved(text, known)


def retrieved(action: str, known: Mapping[str, float]) -> Turn:
    return Turn(action, math.log(known[action]), 0)
