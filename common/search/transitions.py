"""Transitions of an episode as text, and how a policy is asked for the state that follows an action."""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.types import Message, Observation

OVER = "over"
"""The text of the state after an action that ends the episode, in some worlds with the number that is left. The reward is no part of it."""
_OVER = re.compile(rf"{OVER}( \d+)?")

QUESTION = "then?"
"""Asked after an action; the answer of a world model is the text of :func:`shown`."""


def shown(observation: Observation) -> str:
    """The next state as text: what the environment answers, or ``over``. The goal does not change and is left out."""
    return OVER if observation.done else observation.text


def is_over(text: str) -> bool:
    """Whether the state ``text`` ends the episode."""
    return bool(_OVER.fullmatch(text))


def asked(prompt: tuple[Message, ...], action: str) -> tuple[Message, ...]:
    """The chat that asks a policy for the state that follows ``action`` after ``prompt``."""
    return (*prompt, {"role": "assistant", "content": action}, {"role": "user", "content": QUESTION})


@dataclass(frozen=True)
class Tried:
    """A tried action and the text of the state that it led to."""

    action: str
    after: str


@dataclass(frozen=True)
class Transition:
    """A state of an episode: its prompt, the action taken and what it led to, and what else was tried there, if any."""

    task_id: str
    prompt: tuple[Message, ...]
    taken: Tried
    others: tuple[Tried, ...] = ()
    sampled_tokens: int = 0
    """Spent on sampling the others, repetitions and cut turns included."""
