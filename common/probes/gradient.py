"""Probe of policy gradients: weights after a few updates on fixed dialogues, distances, and advantages of fixed numbers."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from common.learn.policy_gradient import (
    CreditedTurn, PolicyGradientSettings, adam, answer_kls, leave_one_out, policy_gradient, policy_gradient_loss,
    policy_gradient_step, token_kls, turn_rewards,
)
from common.learn.settings import TrainStats
from common.probes.moved import LR, training_effects, weight_changes
from common.probes.tiny import CONTEXT, ask, model, one_thread, spread, tokenizer
from common.types import Turn

DIALOGUES = [
    (CreditedTurn(ask("good?"), "yes", 0.7, 0.1), CreditedTurn(ask("good?", "yes", "the red box 3"), "left me", -0.4, 0.02)),
    (CreditedTurn(ask("good?"), "no", -0.7, 0.1),),
    (CreditedTurn(ask("the blue box 158"), "above it", 1.2, 0.0), CreditedTurn(ask("good?"), "yes", 0.3, 0.5)),
]
ASKED = [(ask("the red box 3"), Turn("yes", -3.0, 2, True)), (ask("good?"), Turn("left me", -3.0, 3, False)),
         (ask("the blue box 158"), Turn("", -3.0, 1, True))]  # fmt: skip


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        tokens = tokenizer()
        return _numbers() | _reinforced(model(tokens, width=16, layers=1), tokens, Path(folder))


def _reinforced(lm: torch.nn.Module, tokens: PreTrainedTokenizerBase, out: Path) -> dict[str, float | str]:
    """Three updates of a whole training, one of a loop's own, and how far the model is then from where it began."""
    settings = PolicyGradientSettings(lr=LR, updates=3, max_length=CONTEXT, warmup=1)

    def train(own: torch.nn.Module, log: Callable) -> TrainStats:
        return policy_gradient(own, lm, tokens, lambda update: DIALOGUES if update != 2 else DIALOGUES[::-1] + [()],
                               settings, out_dir=out, log=log)  # fmt: skip

    values = training_effects("gradient", lm, train)
    own = copy.deepcopy(lm)
    optimiser = adam(own, settings)
    steps = [policy_gradient_step(own, lm, tokens, some, optimiser, settings, 1, out_dir=out) for some in (DIALOGUES[:1], [()])]
    values |= weight_changes("gradient.step", own, lm) | {"gradient.step.turns": repr([(one.turns, one.tokens) for one in steps])}
    return values | spread("gradient.kl", answer_kls(own, lm, tokens, ASKED)) | {"gradient.kl.none": len(answer_kls(own, lm, tokens, []))}


def _numbers() -> dict[str, float]:
    """Advantages, distances and the loss of numbers written here."""
    logps = torch.tensor([-1.0, -2.5, -0.5, -4.0])
    correct = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 1, 0]])
    logits = torch.tensor([[0.5, 1.0, -1.0], [2.0, 0.0, 0.1]])
    values = spread("reward.turns", turn_rewards(correct, weights=(1.0, 0.5, 2.0), bonus=3.0).flatten())
    values |= spread("advantage", leave_one_out(torch.tensor([[1.0, 0.0, 0.5], [2.0, 2.0, -1.0]])).flatten())
    values |= spread("kl", token_kls(logits, logits.flip(1) * 0.5))
    loss = policy_gradient_loss(logps, torch.tensor([1.0, -1.0, 0.5, 2.0]), logps.abs(), torch.tensor([0.1, 0.0, 1.0, 0.5]), 3)
    return values | {"loss.gradient": float(loss)}
