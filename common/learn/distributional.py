"""Distributional Q-learning as pure functions: n-step returns, the C51 projection, dueling heads, double targets.

Shapes: B transitions, n steps, A actions, Z atoms. A value distribution puts probabilities on the atoms of
``support`` [Z], equally spaced, rising. Sources: C51 (Bellemare et al. 2017, equation 7), dueling networks (Wang et
al. 2016, equation 9), double Q-learning (van Hasselt et al. 2016), combined in Rainbow (Hessel et al. 2018).
"""

from __future__ import annotations

import torch


def n_step(rewards: torch.Tensor, ended: torch.Tensor, gamma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """``rewards`` [B, n] and ``ended`` [B, n] (the step was its episode's last) → returns [B] and discounts [B].

    Σ_j γ^j r_j up to and with the episode's last step; the discount of what comes after the n steps is γ^n, 0 when
    the episode ended among them.
    """
    going = torch.cumprod(1.0 - ended.float(), dim=1)
    before = torch.cat([torch.ones_like(going[:, :1]), going[:, :-1]], dim=1)
    powers = gamma ** torch.arange(rewards.shape[1], dtype=rewards.dtype)
    return (rewards * before * powers).sum(1), gamma ** rewards.shape[1] * going[:, -1]


def project(
    probabilities: torch.Tensor, returns: torch.Tensor, discounts: torch.Tensor, support: torch.Tensor
) -> torch.Tensor:
    """The distribution [B, Z] of return + discount · value, back on the atoms.

    Each moved atom, clipped to the support, gives its probability to the two atoms beside it, by nearness.
    """
    low, high = support[0].item(), support[-1].item()
    gap = (high - low) / (len(support) - 1)
    moved = (returns[:, None] + discounts[:, None] * support).clamp(low, high)
    shares = (1.0 - (moved[:, None, :] - support[:, None]).abs() / gap).clamp(min=0.0)
    return torch.bmm(shares, probabilities[:, :, None]).squeeze(2)


def dueling(value: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """``value`` [B, Z] and ``advantages`` [B, A, Z] → logits [B, A, Z], advantages centred over the actions."""
    return value[:, None] + advantages - advantages.mean(1, keepdim=True)


def q_values(logits: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Expected values [B, A] of ``logits`` [B, A, Z]."""
    return logits.softmax(-1) @ support


def double_target(
    online: torch.Tensor, target: torch.Tensor, returns: torch.Tensor, discounts: torch.Tensor, support: torch.Tensor
) -> torch.Tensor:
    """Target distribution [B, Z]: the online logits [B, A, Z] of the state after n steps choose the action, the
    target network's logits say what it is worth."""
    best = q_values(online, support).argmax(1)
    return project(target[torch.arange(len(best)), best].softmax(-1), returns, discounts, support)


def cross_entropy(logits: torch.Tensor, actions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """−Σ_z target_z log p_z of the action taken, [B]; ``actions`` [B] long."""
    return -(targets * logits[torch.arange(len(actions)), actions].log_softmax(-1)).sum(-1)
