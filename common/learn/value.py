"""A value head on a language model: state values, action values and process rewards in (0, 1).

The head reads the last layer's hidden state at the last token of a prompt (state value) or of prompt
and action (action value, process reward), as ReST-MCTS* (arXiv 2406.03816) reads a scalar from the
last token. Trained by regression on a plain transformers ``Trainer``: TRL's ``RewardTrainer`` fits
scores to preferences between pairs, while the targets here are numbers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from common.learn.batches import check_model, collate_rows, encode, pad_rows, training_order
from common.learn.losses import value_mse
from common.learn.monitor import Log, MonitoredTrainer, preserve_state, run_training, trainer_arguments
from common.learn.settings import TrainSettings, TrainStats
from common.types import Message


@dataclass(frozen=True)
class ValueExample:
    """A state (``action`` None) or a state with an action, and the value it should have, in [0, 1]."""

    prompt: tuple[Message, ...]
    action: str | None
    target: float


class ValueHead(torch.nn.Module):
    """Hidden states [B, H] to logits [B]; σ(logit) is the value. Starts at 0.5 everywhere."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(hidden_size, 1)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.linear(hidden.to(self.linear.weight.dtype))[:, 0]


def train_value(
    model: PreTrainedModel,
    head: ValueHead,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[ValueExample],
    settings: TrainSettings,
    *,
    seed: int,
    out_dir: Path,
    log: Log | None = None,
) -> TrainStats:
    """Least squares of σ(head(model(prompt, action))) against the targets.

    Updates ``head`` and every parameter of ``model`` that requires a gradient, in place: pass a copy
    of the policy to keep the policy, or ``model.requires_grad_(False)`` to train the head alone.
    ``log`` gets loss (mean squared error), grad_norm, lr, value (mean prediction) and
    tokens_per_second.

    Raises:
        ValueError: no examples, a target outside [0, 1], or an example longer than ``max_length``.
        FloatingPointError: loss or gradient norm not finite; the batch is then in ``out_dir``.
    """
    started = time.perf_counter()
    check_model("value", model, settings.max_length)
    if not examples:
        raise ValueError("value: examples is empty, so there is nothing to learn from; collect more data")
    for i, example in enumerate(examples):
        if not 0 <= example.target <= 1:
            raise ValueError(f"value: target {example.target} of example {i} must lie in [0, 1]; rescale it")
    prompts, actions = encode(
        "value", tokenizer, [e.prompt for e in examples], [e.action for e in examples], max_length=settings.max_length
    )
    rows = Dataset.from_dict(
        {"prompt_ids": prompts, "completion_ids": actions, "target": [float(e.target) for e in examples]}
    )
    order = training_order(
        [len(p) + len(a) for p, a in zip(prompts, actions, strict=True)],
        per_update=settings.batch_size * settings.grad_accum,
        seed=seed,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
    )

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        targets = torch.tensor([r["target"] for r in batch])
        return collate_rows(batch, tokenizer.pad_token_id) | {"target": targets, "n_items": len(batch)}

    with preserve_state(model):
        trainer = _Value(
            _ModelAndHead(model, head),
            TrainingArguments(**trainer_arguments(settings, model, seed=seed, out_dir=out_dir)),
            data_collator=collate,
            train_dataset=rows.select(order),
            processing_class=tokenizer,
        )
        return run_training(trainer.start("value", settings, out_dir, log), started)


@torch.inference_mode()
def predict_values(
    model: PreTrainedModel,
    head: ValueHead,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Message]],
    actions: Sequence[str | None],
    *,
    batch: int = 128,
) -> list[float]:
    """Values in (0, 1), one for each prompt with its action (None: of the prompt alone).

    Raises:
        ValueError: when prompt and action do not fit the model's context.
    """
    prompt_ids, action_ids = encode(
        "value", tokenizer, prompts, actions, max_length=model.config.max_position_embeddings
    )
    training = model.training
    model.eval()
    order = sorted(range(len(prompt_ids)), key=lambda i: len(prompt_ids[i]) + len(action_ids[i]))
    values = [0.0] * len(order)
    for at in range(0, len(order), batch):
        chunk = order[at : at + batch]
        rows = pad_rows([prompt_ids[i] for i in chunk], [action_ids[i] for i in chunk], tokenizer.pad_token_id)
        rows = {name: tensor.to(model.device) for name, tensor in rows.items()}
        for i, value in zip(chunk, torch.sigmoid(_logits(model, head, rows)).tolist(), strict=True):
            values[i] = value
    model.train(training)
    return values


class _ModelAndHead(torch.nn.Module):
    """One module for the trainer to optimise; the batch goes through it whole."""

    def __init__(self, model: PreTrainedModel, head: ValueHead) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return _logits(self.model, self.head, batch)


class _Value(MonitoredTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # noqa: ANN001, ANN201
        logits = model(inputs)
        loss = value_mse(logits, inputs["target"]).sum() / num_items_in_batch
        return self.record_loss(loss, inputs, {"value": float(torch.sigmoid(logits.detach()).sum())})


def _logits(model: PreTrainedModel, head: ValueHead, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """[R] value logits at the last token of each left-padded row."""
    hidden = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
        logits_to_keep=1,  # the vocabulary is not needed
        output_hidden_states=True,
        use_cache=False,
    ).hidden_states[-1]
    return head(hidden[:, -1])
