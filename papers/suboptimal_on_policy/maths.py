"""Losses of preference fine-tuning on arms of a bandit, as points of a plane: who sampled (the caller), and what is pushed down.

Shapes: S contexts, N samples of each. ``logp`` [S, N] are log-probabilities of the sampled arms under the policy that is
trained, ``reference`` and ``old`` those under the reference and under the policy that sampled; ``rewards`` [S, N]. Every loss is
a mean, to be minimised.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from common.learn.policy_gradient import leave_one_out


def best_of_n(logp: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """Maximum likelihood of each context's best sample: nothing is pushed down but by normalisation. Ties: the first."""
    return -logp.gather(1, rewards.argmax(1, keepdim=True)).mean()


def margins(logp: torch.Tensor, reference: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """[P]: log π/π_ref of the better minus that of the worse sample, for all pairs of a context whose rewards differ."""
    ratio = logp - reference
    i, j = torch.triu_indices(*2 * rewards.shape[1:], offset=1)
    sign = (rewards[:, i] - rewards[:, j]).sign()
    found = sign * (ratio[:, i] - ratio[:, j])
    return found[sign != 0]


def dpo(logp: torch.Tensor, reference: torch.Tensor, rewards: torch.Tensor, *, beta: float) -> torch.Tensor:
    """−log σ(β · margin)."""
    found = margins(logp, reference, rewards)
    return -F.logsigmoid(beta * found).mean() if len(found) else logp.sum() * 0.0


def reinforce(logp: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """Policy gradient with each sample's reward beyond the mean of its context's others."""
    return -(logp * leave_one_out(rewards)).mean()


def clipped(logp: torch.Tensor, old: torch.Tensor, rewards: torch.Tensor, *, clip: float) -> torch.Tensor:
    """PPO's objective: no gradient where the ratio to the sampling policy has left [1 − clip, 1 + clip] in the advantage's
    direction."""
    ratio, advantages = (logp - old).exp(), leave_one_out(rewards)
    return -torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages).mean()


def squashed_cauchy(arms: int, *, location: float, scale: float) -> torch.Tensor:
    """[arms]: tanh of a Cauchy variable, in equal bins of (−1, 1). Its tails lie in the outermost bins."""
    edges = np.arctanh(np.linspace(-1.0, 1.0, arms + 1)[1:-1])
    below = np.concatenate([[0.0], 0.5 + np.arctan((edges - location) / scale) / math.pi, [1.0]])
    return torch.from_numpy(np.diff(below)).float()


def drawn(probabilities: torch.Tensor, uniform: np.ndarray) -> torch.Tensor:
    """[S, N] arms from ``probabilities`` [S, A] by inversion of ``uniform`` [S, N]: the same numbers draw alike from alike policies."""
    below = probabilities.double().cumsum(1)
    found = torch.searchsorted(below, torch.from_numpy(uniform) * below[:, -1:], right=True)
    return found.clamp(max=probabilities.shape[1] - 1)
