"""Training a policy: supervised fine-tuning and direct preference optimisation, over TRL's trainers.

TRL brings configuration, optimiser, schedule, accumulation, clipping and devices; one overridden
method, ``compute_loss``, brings the tested functions of :mod:`common.learn.losses` with weights.
The override also asks :mod:`common.lm.predict` for what the loss needs and no more: a prompt that several
completions share is read once, and nothing but completions is projected through the vocabulary.

One process, or several that share the rows of each update (:mod:`common.ranks`): the same updates up to the
rounding of sums. Repeating a call on one CPU gives bit-identical weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from common.learn.batches import (
    SFTExample,
    TrajectoryPair,
    as_trajectories,
    check_model,
    collate_rows,
    encode,
    positive,
    training_order,
)
from common.learn.losses import dpo_losses, row_sums, sft_loss, turn_sums
from common.learn.monitor import Log, MonitoredTrainer, preserve_state, run_training, trainer_arguments
from common.learn.settings import DPOSettings, TrainSettings, TrainStats
from common.lm.predict import passes, predictions
from common.types import PreferencePair


def sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[SFTExample],
    settings: TrainSettings,
    *,
    seed: int,
    out_dir: Path,
    log: Log | None = None,
) -> TrainStats:
    """Supervised fine-tuning on completions, not on what is ``given`` before them; updates ``model`` in place.

    The loss of an update is −Σ w_b · log π(completion_b | prompt_b) / (its completion tokens), see
    :func:`~common.learn.losses.sft_loss`. ``log`` gets loss, grad_norm, lr, logp (mean summed
    log-probability of a completion) and tokens_per_second. ``out_dir`` is written to on failure only, unless
    ``settings.save_every`` asks for checkpoints.

    Raises:
        ValueError: no example of positive weight, a negative weight, or one longer than ``max_length``.
        FloatingPointError: loss or gradient norm not finite; the batch is then in ``out_dir``.
    """
    started = time.perf_counter()
    check_model("sft", model, settings.max_length)
    weighted = positive("sft", examples, [example.weight for example in examples])
    prompts, completions = encode(
        "sft", tokenizer, [e.prompt for e in weighted], [e.completion for e in weighted], max_length=settings.max_length,
        given=[e.given for e in weighted],
    )  # fmt: skip
    rows = Dataset.from_dict(
        {"prompt_ids": prompts, "completion_ids": completions, "weight": [float(e.weight) for e in weighted]}
    )
    lengths = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        padded = collate_rows(batch, tokenizer.pad_token_id)
        n_scored = int(padded["completion_mask"].sum())
        return padded | {"weight": torch.tensor([r["weight"] for r in batch]), "n_items": n_scored}

    with preserve_state(model):
        trainer = _SFT(
            model,
            SFTConfig(
                **trainer_arguments(settings, model, seed=seed, out_dir=out_dir),
                max_length=None,  # checked above; TRL would cut
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            data_collator=collate,
            train_dataset=rows.select(_order(lengths, settings, seed)),
            processing_class=tokenizer,
        )
        return run_training(trainer.start("sft", settings, out_dir, log), started)


def dpo(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair | TrajectoryPair],
    settings: DPOSettings,
    *,
    seed: int,
    out_dir: Path,
    log: Log | None = None,
) -> TrainStats:
    """Direct preference optimisation against stored reference log-probabilities; updates ``model`` in place.

    No reference model is run. A trajectory pair's log-ratios are summed over all its turns, which run
    in one forward pass: for long episodes take a smaller ``batch_size`` and more ``grad_accum``. The
    loss of an update is the mean over its pairs of :func:`~common.learn.losses.dpo_losses`.

    ``log`` gets loss, grad_norm, lr, tokens_per_second and, as means over pairs and before their
    weights: reward_margin (β · difference of the log-ratios), reward_accuracy (share with a margin
    above 0) and logratio_chosen, logratio_rejected (log π − log ref, in nats per side; how far the
    policy has moved).

    Raises:
        ValueError: no pair of positive weight, a negative weight, a side without turns, a turn longer
            than ``max_length``, or a reference log-probability that is not finite or above 0.
        FloatingPointError: loss or gradient norm not finite; the batch is then in ``out_dir``.
    """
    started = time.perf_counter()
    check_model("dpo", model, settings.max_length)
    weighted = [as_trajectories(pair) for pair in positive("dpo", pairs, [pair.weight for pair in pairs])]
    _check_pairs(weighted)
    turns = [turn for pair in weighted for turn in (*pair.chosen, *pair.rejected)]
    prompts, actions = encode(
        "dpo", tokenizer, [t.prompt for t in turns], [t.action for t in turns], max_length=settings.max_length
    )
    columns: dict[str, list] = {name: [] for name in ("prompt_ids", "completion_ids", "n_chosen", "ref", "weight")}
    lengths, at = [], 0
    for pair in weighted:
        end = at + len(pair.chosen) + len(pair.rejected)
        columns["prompt_ids"].append(prompts[at:end])
        columns["completion_ids"].append(actions[at:end])
        columns["n_chosen"].append(len(pair.chosen))
        columns["ref"].append([sum(t.ref_logp for t in pair.chosen), sum(t.ref_logp for t in pair.rejected)])
        columns["weight"].append(float(pair.weight))
        lengths.append(max(len(p) + len(c) for p, c in zip(prompts[at:end], actions[at:end], strict=True)))
        at = end

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        owner = [2 * i + (k >= r["n_chosen"]) for i, r in enumerate(batch) for k in range(len(r["prompt_ids"]))]
        turns = [
            {"prompt_ids": prompt, "completion_ids": action}
            for r in batch
            for prompt, action in zip(r["prompt_ids"], r["completion_ids"], strict=True)
        ]
        return collate_rows(turns, tokenizer.pad_token_id) | {
            "owner": torch.tensor(owner),
            "ref": torch.tensor([r["ref"] for r in batch]),
            "weight": torch.tensor([r["weight"] for r in batch]),
            "n_items": len(batch),
            "n_examples": len(batch),
        }

    with preserve_state(model):
        trainer = _DPO(
            model,
            args=DPOConfig(
                **trainer_arguments(settings, model, seed=seed, out_dir=out_dir),
                beta=settings.beta,
                max_length=None,  # checked above; TRL would cut
                precompute_ref_log_probs=True,  # no reference model is made
                disable_dropout=False,  # it would change the caller's model for good; nano models have none
            ),
            data_collator=collate,
            train_dataset=Dataset.from_dict(columns).select(_order(lengths, settings, seed)),
            processing_class=tokenizer,
        )
        return run_training(trainer.start("dpo", settings, out_dir, log), started)


class _SFT(MonitoredTrainer, SFTTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # noqa: ANN001, ANN201
        logps = _completion_logps(model, inputs)
        loss = sft_loss(logps, inputs["weight"], num_items_in_batch)
        return self.record_loss(loss, inputs, {"logp": float(logps.detach().sum())})


class _DPO(MonitoredTrainer, DPOTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # noqa: ANN001, ANN201
        ref, weight = inputs["ref"], inputs["weight"]
        sides = turn_sums(_completion_logps(model, inputs), inputs["owner"], 2 * len(weight)).view(-1, 2)
        losses = dpo_losses(sides[:, 0], sides[:, 1], ref[:, 0], ref[:, 1], beta=self.beta, weights=weight)
        if self.settings.nll:
            lengths = inputs["completion_mask"].sum(1).to(sides)
            tokens = turn_sums(lengths, inputs["owner"], 2 * len(weight)).view(-1, 2)
            losses = losses - self.settings.nll * weight * sides[:, 0] / tokens[:, 0]
        ratios = (sides - ref).detach()
        margins = self.beta * (ratios[:, 0] - ratios[:, 1])
        metrics = {
            "reward_margin": float(margins.sum()),
            "reward_accuracy": float((margins > 0).sum()),
            "logratio_chosen": float(ratios[:, 0].sum()),
            "logratio_rejected": float(ratios[:, 1].sum()),
        }
        return self.record_loss(losses.sum() / num_items_in_batch, inputs, metrics)

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):  # noqa: ANN001, ANN202
        return dataset  # tokenised already

    def _precompute_ref_logps(self, dataset, name, batch_size):  # noqa: ANN001, ANN202
        return dataset  # the pairs bring their reference; TRL would score them with today's model


def _completion_logps(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """[R] log-probability of each row's completion, in the order of the rows."""
    rows, scored = [], []
    lengths, completions = (batch[name].sum(1).tolist() for name in ("attention_mask", "completion_mask"))
    for ids, length, n in zip(batch["input_ids"].tolist(), lengths, completions, strict=True):
        rows.append(ids[-length:])
        scored.append(range(length - n, length))
    order, distributions = [], []
    for some in passes(model, rows, scored):
        predicted = predictions(model, [rows[i] for i in some], [scored[i] for i in some])
        distributions.append(row_sums(predicted.logps(), [len(scored[i]) for i in some]))
        order += some
    return torch.cat(distributions)[torch.tensor(order).argsort().to(distributions[0].device)]


def _order(lengths: list[int], settings: TrainSettings, seed: int) -> list[int]:
    per_update = settings.batch_size * settings.grad_accum
    return training_order(
        lengths, per_update=per_update, seed=seed, epochs=settings.epochs, max_steps=settings.max_steps
    )


def _check_pairs(pairs: list[TrajectoryPair]) -> None:
    for i, pair in enumerate(pairs):
        for name, side in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            if not side:
                raise ValueError(f"dpo: the {name} side of pair {i} has no turns; drop pairs of empty episodes")
            for turn in side:
                if not -math.inf < turn.ref_logp <= 1e-3:  # rounding can lift log 1 a little above 0
                    raise ValueError(
                        f"dpo: reference log-probability {turn.ref_logp} of pair {i} ({name}) must be finite and at "
                        f"most 0; take Turn.logprob of the sampled action, or pass the pairs through referenced(engine, pairs)"
                    )
