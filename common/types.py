"""Data types that all papers share: task, observation, turn, step, trajectory, preference pair, cost.

Conventions used everywhere:
* rewards and values lie in [0, 1]; an episode's *return* is its final reward;
* the step-discounted value of a state counts the remaining steps: acting now for reward r is
  worth r, one step later γ·r;
* log-probabilities are natural logs under the model at temperature 1 and top-p 1, summed over
  the tokens of one action including its end-of-turn token, whatever temperature sampled it;
* ``terminated`` means the environment ended the episode, ``truncated`` that a step or token
  limit did. They are never mixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, str]
"""One chat message: ``{"role": "user" | "assistant" | "system", "content": text}``."""


@dataclass(frozen=True)
class Task:
    """One problem of a frozen panel. ``data`` is JSON-able and all the environment needs."""

    id: str
    env: str
    split: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Observation:
    """What the environment answers to ``reset`` or ``step``.

    ``reward`` is 0 until the episode ends, then the score in [0, 1].
    """

    text: str
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False

    @property
    def done(self) -> bool:
        return self.terminated or self.truncated


@dataclass(frozen=True)
class Turn:
    """One sampled action: its text, log-probability (see module docstring) and token count."""

    text: str
    logprob: float
    n_tokens: int
    finished: bool = True
    """False when the token limit cut the action before its end-of-turn token, or when the text does not
    tokenise back to the tokens that were sampled; ``logprob`` is then not the text's, and trainers leave
    the turn out."""


@dataclass(frozen=True)
class Step:
    """One transition: the prompt that was shown, the turn taken, what came back."""

    prompt: tuple[Message, ...]
    turn: Turn
    observation: Observation


@dataclass(frozen=True)
class Trajectory:
    """One episode of one task."""

    task_id: str
    steps: tuple[Step, ...]

    @property
    def reward(self) -> float:
        return self.steps[-1].observation.reward if self.steps else 0.0

    @property
    def success(self) -> bool:
        return self.reward >= 1.0

    @property
    def n_tokens(self) -> int:
        return sum(step.turn.n_tokens for step in self.steps)


@dataclass(frozen=True)
class PreferencePair:
    """Two actions in the same state, the first preferred.

    ``ref_chosen``/``ref_rejected`` are the log-probabilities under the reference policy of DPO: the one that sampled them
    (as Agent Q stores them), or the one that training starts from (:func:`common.learn.batches.referenced`). ``q_*`` are a
    search's action values; ``weight`` multiplies this pair's loss. ``path`` names the state (task id and node id), so that a
    pair can be audited against exact values.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    ref_chosen: float = math.nan
    ref_rejected: float = math.nan
    q_chosen: float = 0.0
    q_rejected: float = 0.0
    task_id: str = ""
    weight: float = 1.0
    path: str = ""


@dataclass
class Cost:
    """Budget counters; every variant logs all of them. Updates are optimiser steps."""

    env_steps: int = 0
    lm_calls: int = 0
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    scored_tokens: int = 0
    updates: int = 0
    samples: int = 0
    seconds: float = field(default=0.0, compare=False)

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    def __sub__(self, other: Cost) -> Cost:
        return Cost(**{name: getattr(self, name) - getattr(other, name) for name in self.__dataclass_fields__})
