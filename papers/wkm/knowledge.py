"""WKM's two kinds of knowledge as short texts, and the policy that acts with them. Only pages of the shop are read."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from common.envs.shop.deeds import deed, did, shared, start
from common.envs.shop.engine import INVALID
from common.lm.policy import LMPolicy
from common.policy import Policy, propose
from common.rng import generator
from common.types import Message, Trajectory, Turn

TASK, STATE = "know", "state"
"""The words that ask for either kind of knowledge, and that begin its line in a prompt."""
NOTHING = "nothing"
OWN = "…"
"""Stands for actions that have the words of a task: which one, only the agent can say."""

Prompt = tuple[Message, ...]
Pairs = Mapping[tuple[str, str], Mapping[str, float]]


class Step(NamedTuple):
    """A demonstrated step."""

    task: str
    prompt: Prompt
    action: str


def text_of(prompt: Prompt) -> str:
    return prompt[-1]["content"]


def task_knowledge(expert: Sequence[str], failed: Trajectory) -> str:
    """The first deed among the expert's actions that the failed run lacks; :data:`NOTHING` where it lacks none."""
    done = {deed(step.turn.text) for step in failed.steps if not step.observation.text.startswith(INVALID)}
    return next((deed(action) for action in expert if deed(action) not in done | {""}), NOTHING)


def asked(text: str, word: str) -> Prompt:
    """The chat that asks the world knowledge model about a page."""
    return ({"role": "user", "content": f"{text}\n{word}?"},)


def write(world: Policy, texts: Sequence[str], word: str) -> list[str]:
    """What the world knowledge model writes, greedily, when asked for one kind of knowledge."""
    return [turn.text for [turn] in propose(world, [asked(text, word) for text in texts], [0] * len(texts), 1)]


def triple(step: Step, now: str) -> tuple[str, str, str]:
    """(state, previous action, next action) of a step in the state ``now``. What to do on a list depends on what is listed, which no state says."""
    return now, did(text_of(step.prompt)), step.action if shared(step.action) and now != "list" else OWN


def pairs_of(triples: Iterable[tuple[str, str, str]]) -> Pairs:
    """P_know of all states and previous actions: the share of each next action."""
    counts: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for now, last, action in triples:
        counts[now, last][action] += 1
    return {key: {action: n / found.total() for action, n in found.items()} for key, found in counts.items()}


@dataclass
class Knowing:
    """``agent`` with the kinds of knowledge ``shows`` in its prompt, acting by P = γ·P_agent + (1 − γ)·P_know: it samples, or at temperature 0
    takes the most probable action. What P_know gives to :data:`OWN` is the agent's to fill: P_know(OWN)·P_agent. Where nothing is
    retrieved the agent acts alone.

    Both are exact without a list of admissible actions: a sample is the agent's with the weight of P_agent, else one of P_know; and outside
    the few actions of P_know no action is more probable than the agent's greedy one. A retrieved turn has its probability under P_know.
    """

    agent: LMPolicy
    world: Policy
    shows: tuple[str, ...] = ()
    pairs: Pairs = field(default_factory=dict)
    gamma: float = 1.0
    tasks: dict[str, str] = field(default_factory=dict)
    """First page → its task knowledge, as far as it was asked for."""

    def propose(self, prompts: list[Prompt], keys: list[int], n: int) -> list[list[Turn]]:
        texts = [text_of(prompt) for prompt in prompts]
        states = write(self.world, texts, STATE) if STATE in self.shows or self.gamma < 1 else [""] * len(prompts)
        told = [shown(prompt, self.shows, *known) for prompt, *known in zip(prompts, self.known(texts), states, strict=True)]
        own = self.agent.propose(told, keys, n)
        mixtures = [weights(self.pairs.get((now, did(text)), {}), self.gamma) for text, now in zip(texts, states, strict=True)]
        if self.agent.temperature:
            return [[drawn(turn, *mixture, generator(key, "mixture", i)) for i, turn in enumerate(turns)]
                    for turns, mixture, key in zip(own, mixtures, keys, strict=True)]  # fmt: skip
        listed = [list(dict.fromkeys([turns[0].text, *known])) if known else [] for turns, (_, known) in zip(own, mixtures, strict=True)]
        scored = self.agent.engine.score(told, listed)
        return [[best(turns[0], *mixture, dict(zip(actions, logs, strict=True)))] * n
                for turns, mixture, actions, logs in zip(own, mixtures, listed, scored, strict=True)]  # fmt: skip

    def known(self, texts: Sequence[str]) -> list[str]:
        """The task knowledge of each prompt's goal, where it is shown."""
        if TASK not in self.shows:
            return [""] * len(texts)
        new = list(dict.fromkeys(start(text) for text in texts if start(text) not in self.tasks))
        self.tasks |= zip(new, write(self.world, new, TASK), strict=True)
        return [self.tasks[start(text)] for text in texts]


def shown(prompt: Prompt, kinds: Sequence[str], task: str, now: str) -> Prompt:
    """``prompt`` with a line for each of ``kinds`` above it, so that the page still ends as agents know it."""
    lines = [f"{kind}: {text}" for kind, text in ((TASK, task), (STATE, now)) if kind in kinds]
    return (*prompt[:-1], prompt[-1] | {"content": "\n".join([*lines, text_of(prompt)])})


def weights(known: Mapping[str, float], gamma: float) -> tuple[float, dict[str, float]]:
    """The weight of P_agent in the mixture, and what P_know adds to single actions; both sum to 1."""
    rest = {action: (1 - gamma) * p for action, p in known.items() if action != OWN and gamma < 1}
    return max(0.0, 1 - sum(rest.values())), rest


def drawn(turn: Turn, share: float, known: Mapping[str, float], rng: np.random.Generator) -> Turn:
    """A sample of the mixture, where ``turn`` is one of the agent."""
    texts = ["", *known]
    text = texts[rng.choice(len(texts), p=[share, *known.values()])]
    return Turn(text, math.log(known[text]), 0) if text else turn


def best(turn: Turn, share: float, known: Mapping[str, float], logprobs: Mapping[str, float]) -> Turn:
    """The most probable action of the mixture, where ``turn`` is the agent's and ``logprobs`` are its of all candidates."""
    text = max(logprobs, key=lambda one: share * math.exp(logprobs[one]) + known.get(one, 0.0), default=turn.text)
    return turn if text == turn.text else Turn(text, math.log(known[text]), 0)
