"""Predicting one's own future latents: loss, mask, slow targets, renormalisation, shifts (SPR, arXiv 2007.05929).

Shapes: B windows, K steps ahead, D numbers of a projected latent; frames are [N, C, H, W]. Sources are sections and
equations of that paper.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


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
