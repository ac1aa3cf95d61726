"""RISE's mathematics: the weight of an imitated answer by its reward."""

from __future__ import annotations

import math


def reward_weight(reward: float, tau: float) -> float:
    """w = exp(r / τ) > 0, the weight of reward-weighted regression (Peters & Schaal 2007; RISE, arXiv 2407.18219).

    ``tau`` τ > 0. Only ratios matter, so ``reward`` may be shifted. A right answer (1) weighs exp(1/τ) times as much
    as a wrong one (0), 12.2 times at τ = 0.4; the wrong one still carries loss. τ → 0 is imitation of right answers
    alone, τ → ∞ of all alike.
    """
    if not tau > 0:
        raise ValueError(f"tau: {tau} must be positive; a small value comes close to imitating right answers alone")
    return math.exp(reward / tau)
