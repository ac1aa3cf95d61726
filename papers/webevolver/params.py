"""Groups of WebEvolver's parameters; their values and sources are in params.yaml. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from common.config import Evaluation


@dataclass(frozen=True)
class Play:
    rounds: int
    tasks: int
    """Training tasks, all played in each round."""
    episodes: int
    """Of each task in a round."""


@dataclass(frozen=True)
class Learn:
    updates: int
    """Of every policy, each from the base."""
    batch: int
    lr: float


@dataclass(frozen=True)
class WorldModel:
    updates: int
    """In each round; the blind model takes those of all rounds at once."""
    batch: int
    lr: float


@dataclass(frozen=True)
class Dream:
    attempts: int
    """Dreams (imagined rollouts) of each failed task."""
    steps: int
    """Most steps of a dream."""


@dataclass(frozen=True)
class Look:
    draws: int
    """Actions sampled at each state."""
    k: int
    """Most of them, distinct, that are looked at."""


@dataclass(frozen=True)
class Test(Evaluation):
    planned: int
    """Tasks on which policies also act with look-ahead."""
    foresight_tasks: int
    """Tasks on whose episodes world models are measured."""
    depth: int
    """States imagined one after the other."""
