"""Groups of Early Experience's parameters; their values and sources are in params.yaml. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from common.config import Evaluation


@dataclass(frozen=True)
class Learn:
    updates: int
    """Of every trained variant, before RL."""
    world_updates: int
    """Of these, for world modelling in iwm."""
    batch: int
    lr: float
    world_lr: float


@dataclass(frozen=True)
class Experience:
    tasks: int
    """Demonstrated tasks."""
    few: int
    """``*_eighth`` variants get one ``few``-th of them."""
    draws: int
    """Actions sampled at each of the expert's states."""
    k: int
    """Most alternatives tried at a state for world modelling."""
    k_reflect: int
    """The same for reflections."""


@dataclass(frozen=True)
class Reinforce:
    tasks: int
    """Training tasks that are played."""
    updates: int
    env_steps: int
    """Environment steps of an update."""
    group: int
    """Episodes of one task."""
    lr: float
    beta: float


@dataclass(frozen=True)
class Test(Evaluation):
    foresight_tasks: int
    """Tasks of the first panel on whose demonstrations foresight is measured, ``depth`` states far."""
    depth: int
