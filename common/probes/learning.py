"""Probe of fine-tuning and preference optimisation: weights after a few updates, reported metrics, and losses of fixed numbers."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch

from common.learn.batches import ScoredTurn, SFTExample, TrajectoryPair, pad_rows, referenced, training_order
from common.learn.losses import dpo_losses, row_sums, sft_loss, turn_sums
from common.learn.policy import dpo, sft
from common.learn.precision import step_in_float32
from common.learn.settings import DPOSettings, TrainSettings
from common.lm.adapters import add_adapters
from common.probes.game import Adding
from common.probes.moved import LR, training_effects
from common.probes.tiny import CONTEXT, ask, model, one_thread, spread, tensor, tokenizer
from common.types import PreferencePair

BOXES = ["the red box 3", "the green box 14 is left you", "the green box 14 is left it", "the blue box 158", "good?"]
EXAMPLES = [SFTExample(ask(box), ("left me", "below us now", "no")[i % 3], 1.0 + 0.5 * i) for i, box in enumerate(BOXES * 2)]
PAIRS = [PreferencePair(ask(box), "left me", ("right", "below us")[i % 2], -9.0 - i, -8.0, 0.9, 0.1, f"t{i}", 1.0 + i % 2)
         for i, box in enumerate(BOXES)]  # fmt: skip
EPISODES = [
    TrajectoryPair((ScoredTurn(ask("good?"), "yes", -4.0), ScoredTurn(ask("good?", "yes", "the red box 3"), "me", -5.0)),
                   (ScoredTurn(ask("good?"), "no", -3.5),), 0.5),
    TrajectoryPair((ScoredTurn(ask("the blue box 158"), "above", -6.0),),
                   (ScoredTurn(ask("the blue box 158"), "below", -6.5), ScoredTurn(ask("good?"), "no", -3.0))),
]
class Lengths:
    """An engine to which every letter costs one nat."""

    def score(self, prompts, completions):  # noqa: ANN001, ANN201
        return [[-float(len(text)) for text in row] for row in completions]


COMMON = {"lr": LR, "batch_size": 4, "max_length": CONTEXT}


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        out, tokens = Path(folder), tokenizer()
        lm = model(tokens, width=16, layers=1)
        values = _numbers() | _batches() | _halves()
        values |= training_effects("sft", lm, lambda own, log: sft(
            own, tokens, EXAMPLES, TrainSettings(**COMMON, max_steps=3, warmup=0.4), seed=5, out_dir=out, log=log))
        values |= training_effects("sft.accumulated", lm, lambda own, log: sft(
            own, tokens, EXAMPLES, TrainSettings(**COMMON | {"batch_size": 2}, epochs=1, grad_accum=2, weight_decay=0.1,
                                                 max_grad_norm=0.2), seed=5, out_dir=out, log=log))
        values |= training_effects("sft.double", lm.double(), lambda own, log: sft(
            own, tokens, EXAMPLES, TrainSettings(**COMMON, max_steps=3), seed=6, out_dir=out, log=log))
        lm = lm.float()
        scored = referenced(Lengths(), PAIRS)
        values |= {"referenced": repr([(one.ref_chosen, one.ref_rejected) for one in scored]), "referenced.none": len(referenced(Lengths(), []))}
        values |= training_effects("dpo", lm, lambda own, log: dpo(
            own, tokens, PAIRS, DPOSettings(**COMMON, max_steps=3, beta=0.3), seed=5, out_dir=out, log=log))
        values |= training_effects("dpo.episodes", lm, lambda own, log: dpo(
            own, tokens, [*EPISODES, *PAIRS[:2]], DPOSettings(**COMMON | {"batch_size": 2}, max_steps=3, beta=0.2, nll=0.5),
            seed=5, out_dir=out, log=log))
        values |= training_effects("lora", add_adapters(copy.deepcopy(lm), 2, seed=1), lambda own, log: sft(
            own, tokens, EXAMPLES, TrainSettings(**COMMON, max_steps=2), seed=5, out_dir=out, log=log))
    return values


def _numbers() -> dict[str, float]:
    """Losses of numbers written here."""
    logps = torch.tensor([-1.0, -2.5, -0.5, -4.0])
    values = spread("rows", row_sums(logps, [1, 3])) | spread("turns", turn_sums(logps, torch.tensor([0, 1, 0, 1]), 3))
    weights = torch.tensor([1.0, 2.0, 0.0, 1.0])
    values |= spread("loss.dpo", dpo_losses(logps, logps - 1, logps - 0.5, logps.flip(0), beta=0.4, weights=weights))
    return values | {"loss.sft": float(sft_loss(logps, torch.tensor([1.0, 0.0, 2.0, 0.5]), 9))}


def _batches() -> dict[str, float | str]:
    """Orders of training, rows padded to one length, and reference log-probabilities of pairs."""
    lengths = [3, 9, 4, 4, 8, 1, 7, 7, 2, 5, 6]
    orders = [training_order(lengths, per_update=2, seed=1, epochs=2), training_order(lengths, per_update=3, seed=2, max_steps=5)]
    rows = pad_rows([[5, 6], [7]], [[8], [9, 10, 11]], 0)
    scored = referenced(Adding(), PAIRS[:2]) + referenced(Adding(), [])
    return {"order": repr(orders), "padded": repr({name: one.tolist() for name, one in rows.items()})} | spread(
        "referenced", [logp for pair in scored for logp in (pair.ref_chosen, pair.ref_rejected)])


def _halves() -> dict[str, float | str]:
    """Steps of bfloat16 weights too small for bfloat16."""
    weight = torch.nn.Parameter(torch.linspace(0.5, 2.0, 8).bfloat16())
    optimiser = step_in_float32(torch.optim.SGD([weight], lr=1.0))
    for _ in range(5):
        weight.grad = torch.full_like(weight, 6e-4)
        optimiser.step()
    return tensor("halves", weight.float())
