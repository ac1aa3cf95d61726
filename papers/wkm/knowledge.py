"""WKM's two kinds of knowledge as short texts, and the policy that acts with them. Only what a player sees is read."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from common.envs.contract import Pages
from common.lm.policy import LMPolicy
from common.policy import Policy, propose
from common.rng import generator
from common.types import Message, Trajectory, Turn

TASK, STATE = "told", "state"
"""The words that ask for either kind of knowledge, and that begin its line in a prompt."""

Prompt = tuple[Message, ...]
Pairs = Mapping[tuple[str, str], Mapping[str, float]]


class Step(NamedTuple):
    """A demonstrated step."""

    task: str
    prompt: Prompt
    action: str


def text_of(prompt: Prompt) -> str:
    return prompt[-1]["content"]


def task_knowledge(pages: Pages, expert: Sequence[Step], runs: Sequence[Trajectory]) -> str:
    """What the expert did first, of all that a failed run did not get done; everything where none failed, or failed ones only came too late."""
    known = pages.facts((text_of(step.prompt), step.action) for step in expert)
    done = [{step.turn.text.partition(" ")[0] for step in run.steps if not step.observation.text.startswith(pages.INVALID)} for run in runs if not run.success]
    lacking = [verb for verb in known if any(verb not in verbs for verbs in done)]
    return " ".join(known[verb] for verb in lacking or known)


def asked(text: str, word: str) -> Prompt:
    """The chat that asks the world knowledge model about a page."""
    return ({"role": "user", "content": f"{text}\n{word}?"},)


def write(world: Policy, texts: Sequence[str], word: str) -> list[str]:
    """What the world knowledge model writes, greedily, when asked for one kind of knowledge."""
    return [turn.text for [turn] in propose(world, [asked(text, word) for text in texts], [0] * len(texts), 1)]


def pairs_of(triples: Iterable[tuple[str, str, str]]) -> Pairs:
    """P_know: (state, previous action) → the share of each next action, from (state, previous action, next action) of experts."""
    counts: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for now, last, action in triples:
        counts[now, last][action] += 1
    return {key: {action: n / found.total() for action, n in found.items()} for key, found in counts.items()}


@dataclass
class Knowing:
    """``agent`` with the kinds of knowledge ``shows`` in its prompt, acting by P = γ·P_agent + (1 − γ)·P_know: it samples, or at temperature 0
    takes the most probable action. Where nothing is retrieved the agent acts alone.

    Both are exact without a list of admissible actions: a sample is the agent's with probability γ, else one of P_know; and outside the few actions
    of P_know no action is more probable than the agent's greedy one. A retrieved turn has its probability under P_know.
    """

    agent: LMPolicy
    world: Policy
    pages: Pages
    shows: tuple[str, ...] = ()
    pairs: Pairs = field(default_factory=dict)
    gamma: float = 1.0
    tasks: dict[str, str] = field(default_factory=dict)
    """Goal → its task knowledge, as far as it was asked for, or given."""

    def propose(self, prompts: list[Prompt], keys: list[int], n: int) -> list[list[Turn]]:
        texts = [text_of(prompt) for prompt in prompts]
        states = write(self.world, texts, STATE) if STATE in self.shows or self.gamma < 1 else [""] * len(prompts)
        told = [shown(prompt, self.shows, *known) for prompt, *known in zip(prompts, self.known(texts), states, strict=True)]
        own = self.agent.propose(told, keys, n)
        known = [self.pairs.get((now, self.pages.did(text)), {}) if self.gamma < 1 else {} for text, now in zip(texts, states, strict=True)]
        if self.agent.temperature:
            return [[drawn(turn, self.gamma, found, generator(key, "mixture", i)) for i, turn in enumerate(turns)]
                    for turns, found, key in zip(own, known, keys, strict=True)]  # fmt: skip
        listed = [list(dict.fromkeys([turns[0].text, *found])) if found else [] for turns, found in zip(own, known, strict=True)]
        scored = self.agent.engine.score(told, listed)
        return [[best(turns[0], self.gamma, found, dict(zip(actions, logs, strict=True)))] * n
                for turns, found, actions, logs in zip(own, known, listed, scored, strict=True)]  # fmt: skip

    def known(self, texts: Sequence[str]) -> list[str]:
        """The task knowledge of each prompt's goal, where it is shown."""
        if TASK not in self.shows:
            return [""] * len(texts)
        goals = list(map(self.pages.goal_of, texts))
        new = [goal for goal in dict.fromkeys(goals) if goal not in self.tasks]
        self.tasks |= zip(new, write(self.world, list(map(self.pages.first_page, new)), TASK), strict=True)
        return [self.tasks[goal] for goal in goals]


def shown(prompt: Prompt, kinds: Sequence[str], task: str, now: str) -> Prompt:
    """``prompt`` with a line for each of ``kinds`` above it, so that the page still ends as agents know it."""
    lines = [f"{kind} {text}" for kind, text in ((STATE, now), (TASK, task)) if kind in kinds]
    return (*prompt[:-1], prompt[-1] | {"content": "\n".join([*lines, text_of(prompt)])})


def drawn(turn: Turn, gamma: float, known: Mapping[str, float], rng: np.random.Generator) -> Turn:
    """A sample of the mixture, where ``turn`` is one of the agent."""
    if not known or rng.random() < gamma:
        return turn
    text = list(known)[rng.choice(len(known), p=list(known.values()))]
    return Turn(text, math.log(known[text]), 0)


def best(turn: Turn, gamma: float, known: Mapping[str, float], logprobs: Mapping[str, float]) -> Turn:
    """The most probable action of the mixture, where ``turn`` is the agent's and ``logprobs`` are its of all candidates."""
    text = max(logprobs, key=lambda one: gamma * math.exp(logprobs[one]) + (1 - gamma) * known.get(one, 0.0), default=turn.text)
    return turn if text == turn.text else Turn(text, math.log(known[text]), 0)
