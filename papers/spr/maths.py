"""SPR's mathematics (arXiv:2007.05929): predicting one's own future latents, the distributional Q-loss beside it, and
what latents are worth. Pure functions.

Shapes: B windows or transitions, K steps ahead, n steps of a return, A actions, Z atoms, D numbers of a projected
latent; frames are [N, C, H, W]. A value distribution puts probabilities on the atoms of ``support`` [Z], equally
spaced, rising.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

# -- the paper's own loss (sections 2.1 and 2.2, appendix) -----------------------------------------------------------


def within_episode(ended: torch.Tensor) -> torch.Tensor:
    """Mask [B, K] of ``ended`` [B, K]: 1 where the state k = 1..K steps ahead is of the same episode.

    ``ended[:, j]`` says that the step from j to j + 1 was an episode's last: what is stored behind it is the
    beginning of another one.
    """
    return torch.cumprod(1.0 - ended.float(), dim=1)


def spr_loss(predicted: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Equation 4 as squared distance: Σ_k mask · ‖ŷ/‖ŷ‖ − ỹ/‖ỹ‖‖² = Σ_k mask · (2 − 2 cos), [B].

    ``predicted`` and ``targets`` [B, K, D]. Gradients flow wherever the arguments have them: stopping them in the
    targets is the caller's part.
    """
    return ((2.0 - 2.0 * F.cosine_similarity(predicted, targets, dim=-1)) * mask).sum(1)


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, rate: float) -> None:
    """slow ← (1 − rate) · slow + rate · fast, over parameters and buffers of floats; ``rate`` is the share of *new*
    weights (the paper's 1 − τ, the released code's ``momentum_tau``). Rate 1 copies."""
    for kept, new in zip(slow.state_dict().values(), fast.state_dict().values(), strict=True):
        kept.lerp_(new, rate) if kept.is_floating_point() else kept.copy_(new)


def renormalise(latents: torch.Tensor) -> torch.Tensor:
    """Each latent [.., C, H, W] moved and scaled to [0, 1] by its own least and largest number (appendix)."""
    flat = latents.flatten(-3)
    low, high = flat.amin(-1, keepdim=True), flat.amax(-1, keepdim=True)
    return ((flat - low) / (high - low + 1e-5)).view_as(latents)


def placed(frames: torch.Tensor, offsets: torch.Tensor, margin: int = 1) -> torch.Tensor:
    """``frames`` [N, C, H, W] on empty canvases [N, C, H + 2·margin, W + 2·margin] of floats.

    ``offsets`` [N, 2] are row and column of the upper left corner, 0 to 2·margin; ``margin`` is the middle. Random
    offsets are the random shift of the paper, for images whose outermost cells matter: none of them is lost.
    """
    n, channels, height, width = frames.shape
    canvas = torch.zeros(n, channels, height + 2 * margin, width + 2 * margin)
    for row in range(2 * margin + 1):
        for column in range(2 * margin + 1):
            here = ((offsets[:, 0] == row) & (offsets[:, 1] == column)).nonzero().squeeze(1)
            if len(here):
                canvas[here, :, row : row + height, column : column + width] = frames[here].float()
    return canvas


# -- distributional Q-learning: C51 (Bellemare et al. 2017, eq. 7), dueling networks (Wang et al. 2016, eq. 9), double
# Q-learning (van Hasselt et al. 2016), combined in Rainbow (Hessel et al. 2018) ---------------------------------------


def n_step(
    rewards: torch.Tensor, terminated: torch.Tensor, truncated: torch.Tensor, gamma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """``rewards``, ``terminated`` and ``truncated`` [B, n] of n steps → returns [B] and discounts [B].

    Σ_j γ^j r_j over the m steps up to and with the episode's last, m = n where it goes on. The discount of the state
    behind them is γ^m, 0 when the episode was terminated: an episode that a step limit cut would have gone on, so its
    last state is worth what it is worth anywhere (Pardo et al. 2018, arXiv:1712.00378).
    """
    going = within_episode(terminated | truncated)
    before = torch.cat([torch.ones_like(going[:, :1]), going[:, :-1]], dim=1)
    powers = gamma ** torch.arange(rewards.shape[1], dtype=rewards.dtype)
    over = (before * terminated).sum(1)
    return (rewards * before * powers).sum(1), gamma ** before.sum(1) * (1.0 - over)


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


# -- what latents are worth: rows are states, columns numbers of a latent ----------------------------------------------


def effective_rank(latents: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values of ``latents`` [N, D]: 1 to min(N, D) (Roy, Vetterli 2007).

    Not centred: latents that are the same in all states, a collapse, have rank 1 however their last bits differ.
    All zero counts as 1. ValueError when it is no matrix or empty.
    """
    if latents.ndim != 2 or not latents.size:
        raise ValueError(f"latents have shape {latents.shape} but must be [states, numbers], neither 0; pass a matrix")
    values = np.linalg.svd(latents.astype(np.float64), compute_uv=False)
    if values[0] <= 0.0:
        return 1.0
    shares = values[values > 0.0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def cosines(foreseen: np.ndarray, found: np.ndarray) -> np.ndarray:
    """[N, N]: cosine of each row of ``foreseen`` [N, D] with each of ``found`` [N, D]; 0 for a row of zeros."""

    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    return unit(foreseen.astype(np.float64)) @ unit(found.astype(np.float64)).T


def recognised(similarity: np.ndarray) -> float:
    """Share of rows of ``similarity`` [N, N] whose own column is the largest; c equal ones count 1/c.

    1/N is chance, also after a collapse: what is the same for all states recognises none.
    """
    best = similarity.max(1, keepdims=True)
    equal = np.isclose(similarity, best, rtol=0.0, atol=1e-6)
    return float(np.where(np.diag(equal), 1.0 / equal.sum(1), 0.0).mean())
