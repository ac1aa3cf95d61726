"""Groups of Agent Q's parameters; their values and sources are in params.yaml. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from common.config import Evaluation


@dataclass(frozen=True)
class Search:
    """Monte-Carlo tree search in training."""

    env_steps: int
    """Environment steps of a tree."""
    simulations: int
    """Most simulations of a tree; revisits of finished states cost no environment step."""
    branching: int
    """Actions K sampled where a state is expanded."""
    c: float
    """Weight of exploration in UCB1."""
    alpha: float
    """Weight of the search's value Q̃ against the critic's Q̂."""
    gamma: float
    """Discount of an environment step."""
    max_depth: int
    """States so many steps below the root are not expanded."""


@dataclass(frozen=True)
class Collect:
    """What a round collects."""

    tasks: int
    """Training tasks of a round."""
    rounds: int
    temperature: float
    """Of sampling in training and evaluation."""


@dataclass(frozen=True)
class Learn:
    """DPO on pairs, and SFT on successful episodes."""

    theta: float
    """Least difference of value within a pair."""
    pairs_per_node: int
    """Most pairs of actions of one state (``agent_q``)."""
    pairs_per_task: int
    """Most pairs of episodes of one task (``traj_dpo``)."""
    beta: float
    nll: float
    """Weight of the chosen side's likelihood, but for ``agent_q_plain``."""
    dpo_lr: float
    dpo_epochs: int
    dpo_batch: int
    sft_lr: float
    sft_epochs: int
    sft_batch: int


@dataclass(frozen=True, kw_only=True)
class Test(Evaluation):
    """Evaluation, of policies acting alone and with search."""

    planned_tasks: int
    """Tasks of the first panel for policies acting with search."""
    env_steps: int
    """Simulated environment steps of a decision."""
    simulations: int
    """Most simulations of a decision."""
    alpha: float
    """Weight of the search against the critic's ranks when acting; the critic values ends of episodes anyhow."""
