"""Groups of MALT's parameters; their values and sources are in params.yaml. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Collect:
    tasks: int
    branching: int
    """n: samples of each role at every node, n³ leaves."""
    temperature: float


@dataclass(frozen=True)
class Imitate:
    lr: float
    batch: int
    updates: int
    """Of each role that is trained so."""


@dataclass(frozen=True)
class Prefer(Imitate):
    beta: float
    nll: float
    """Weight of the chosen side's negative log-likelihood beside DPO's loss; 0 is the paper's."""


@dataclass(frozen=True)
class Test:
    tasks: int
    votes: int
    """Chains, or answers of one agent, that elect an answer to a task."""
    elections: int
    """Elections held for each task, each with chains of its own."""
    temperature: float
