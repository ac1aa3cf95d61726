"""Float32 master weights for models whose weights are bfloat16."""

from __future__ import annotations

import torch


def step_in_float32(optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Let ``optimiser`` update float32 copies of its bfloat16 weights, which are rounded from them after each step; returns it.

    A bfloat16 number has 8 significant bits: a step below 1/512 of a weight would be rounded away, and at the learning rates
    of fine-tuning nearly all steps are. The copies (Micikevicius et al. 2018, arXiv:1710.03740, §3.1) add them up. Adam's own
    state is float32 then, too. Other weights' steps stay as they are, to the last bit. To be called before the first step.
    """
    halves = [weight for group in optimiser.param_groups for weight in group["params"] if weight.dtype == torch.bfloat16]
    copies = [weight.detach().float() for weight in halves]

    def raise_precision(*_: object) -> None:
        for weight, copy in zip(halves, copies, strict=True):
            grad, weight.grad = weight.grad, None  # a gradient must be of its weight's type
            weight.data = copy
            weight.grad = None if grad is None else grad.float()

    def round_again(*_: object) -> None:
        for weight in halves:
            weight.grad = None
            weight.data = weight.data.bfloat16()

    if halves:
        optimiser.register_step_pre_hook(raise_precision)
        optimiser.register_step_post_hook(round_again)
    return optimiser
