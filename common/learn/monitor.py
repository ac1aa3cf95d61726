"""A monitored transformers ``Trainer``: the part that all training runs here share.

Metrics streamed after each update; a stop, with the batch saved, at the first number that is not
finite; losses divided by the items of the whole update; the rows of a batch shared by the processes that
train together; no telemetry or trackers; and the caller's model and random state left as they were, but for
the weights.
"""

from __future__ import annotations

import gc
import hashlib
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer

from common import ranks
from common.learn.finite import require_finite
from common.learn.precision import step_in_float32
from common.learn.settings import TrainSettings, TrainStats

Log = Callable[[int, dict[str, float]], None]
"""``log(step, metrics)`` after each update; ``step`` counts updates from 1. Of several processes, only rank 0 calls it."""

PROGRESS = "progress.json"
"""In a checkpoint, beside the trainer's own files: what :class:`TrainStats` counts, and whose checkpoint it is."""


def trainer_arguments(settings: TrainSettings, model: torch.nn.Module, *, seed: int, out_dir: Path) -> dict[str, Any]:
    """Arguments common to the TRL and transformers configurations.

    Every default that would change numbers or cost time is set: TRL's are bf16 and gradient
    checkpointing on, transformers' hide NaN losses and log rarely. The dataset arrives in training
    order with all its repetitions, so it is read once from front to back.
    """
    return {
        "output_dir": str(out_dir),
        "learning_rate": settings.lr,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.grad_accum,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "lr_scheduler_type": "linear",
        "warmup_steps": settings.warmup,  # below 1: a share of the updates
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "optim": "adamw_torch",
        "seed": seed % 2**32,  # NumPy's legacy seed takes no more
        "use_cpu": model.device.type == "cpu",
        "bf16": False,
        "fp16": False,
        "activation_checkpointing": False,
        "use_cache": model.config.use_cache,  # the trainer writes it into the model's config
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no" if settings.save_every is None else "steps",
        "save_steps": settings.save_every or 500,
        "save_total_limit": 2,  # a kill while the newest is written leaves the one before
        "eval_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


class MonitoredTrainer(Trainer):
    """Base class of our trainers, mixed in before a TRL one. A subclass's ``compute_loss`` ends with ``return self.record_loss(...)``
    and gets batches with three integers beside tensors: ``n_items`` (what its loss is divided by),
    ``n_examples`` and ``n_tokens``."""

    loss_is_scaled_for_ga = True  # compute_loss divides by the items of the update; no further division

    def start(self, stage: str, settings: TrainSettings, out_dir: Path, log: Log | None) -> MonitoredTrainer:
        self.stage, self.settings, self.out_dir, self.stream = stage, settings, out_dir, log
        self.sums: dict[str, float] = defaultdict(float)
        self.losses: list[float] = []
        self.examples = self.tokens = self.unlogged_tokens = 0
        self.last_batch: dict[str, Any] = {}
        self.remove_callback(PrinterCallback)
        if ranks.world_size() > 1:
            self._join_ranks()
        return self

    # -- several processes: each takes its share of every batch, and gradients are summed before they are clipped -------

    def _join_ranks(self) -> None:
        kind = self.accelerator.distributed_type.value
        if kind not in ("MULTI_CPU", "MULTI_GPU"):
            raise ValueError(
                f"{self.stage}: accelerate's distributed_type is {kind} but this loop needs whole weights on each rank; "
                f"launch it with configs/accelerate/gpu2.yaml or gpu8.yaml, and shard TRL's own trainers only"
            )
        # Not wrapped in DDP, whose hooks wait for the module's own forward pass: ours reads a shared prompt once.
        self.model._is_accelerate_prepared = True
        ranks.broadcast_weights(self.model)

    def get_train_dataloader(self) -> DataLoader:
        if ranks.world_size() == 1:
            return super().get_train_dataloader()

        def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
            if own := ranks.share(rows):
                return self.data_collator(own)
            # Every rank takes part in the sum of gradients; one without rows runs one that counts nowhere.
            return self.data_collator(rows[:1]) | {"n_items": 0, "n_examples": 0, "n_tokens": 0}

        # accelerate's would give whole batches to ranks and fill up the last ones; the updates would be others.
        return DataLoader(self.train_dataset, batch_size=self.args.per_device_train_batch_size, collate_fn=collate)

    def _clip_grad_norm(self, model: torch.nn.Module) -> torch.Tensor:
        ranks.all_reduce_gradients(model)
        return super()._clip_grad_norm(model)

    # -- monitoring -------------------------------------------------------------------------------------------

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, int]:
        self.clock = time.perf_counter()
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, int(*ranks.total([sum(batch["n_items"] for batch in batches)]))

    def create_optimizer(self, *args: Any) -> torch.optim.Optimizer:
        return step_in_float32(super().create_optimizer(*args))

    def record_loss(self, loss: torch.Tensor, batch: dict[str, Any], metrics: dict[str, float]) -> torch.Tensor:
        """Count the batch, add ``metrics`` (sums over its examples) to those of the update, refuse a loss that is not finite.
        Returns the loss."""
        self.last_batch = batch
        if not batch["n_examples"]:  # this rank's share of the rows was empty
            loss, metrics = 0.0 * loss, dict.fromkeys(metrics, 0.0)
        self._require_finite("loss", *ranks.total([float(loss.detach())]))  # summed, so that all ranks stop together
        self.examples += batch["n_examples"]
        self.tokens += batch["n_tokens"]
        self.unlogged_tokens += batch["n_tokens"]
        self.sums["n"] += batch["n_examples"]
        for name, value in metrics.items():
            self.sums[name] += value
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: torch.Tensor | None = None) -> torch.Tensor:
        # The last point before the optimiser writes a broken gradient into the weights.
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._require_finite("gradient norm", float(grad_norm))
        return grad_norm

    def _require_finite(self, name: str, value: float) -> None:
        def batch() -> dict[str, Any]:
            rows = {k: v.tolist() if isinstance(v, torch.Tensor) else v for k, v in self.last_batch.items()}
            return {"texts": self.processing_class.batch_decode(self.last_batch["input_ids"]), "batch": rows}

        step = self.state.global_step + 1
        require_finite(self.stage, step, {name: value}, lr=self.settings.lr, batch=batch, out_dir=self.out_dir)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" not in logs:  # the summary at the end of training
            return
        self.losses.append(logs["loss"] * ranks.world_size())  # the trainer's mean over ranks of what is to be summed
        *sums, tokens = ranks.total([*self.sums.values(), self.unlogged_tokens])
        totals = dict(zip(self.sums, sums, strict=True))
        if self.stream is not None and ranks.rank() == 0:
            n = totals.pop("n")
            metrics = {"loss": self.losses[-1], "grad_norm": float(logs["grad_norm"]), "lr": logs["learning_rate"]}
            metrics |= {name: value / n for name, value in totals.items()}
            metrics["tokens_per_second"] = tokens / (time.perf_counter() - self.clock)
            self.stream(self.state.global_step, metrics)
        self.sums.clear()
        self.unlogged_tokens = 0

    # -- checkpoints ------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: torch.nn.Module, trial: None) -> None:
        super()._save_checkpoint(model, trial)
        examples, tokens = ranks.total([self.examples, self.tokens])
        if ranks.rank() == 0:
            done = {"examples": int(examples), "tokens": int(tokens), "losses": self.losses, "of": self.identity()}
            folder = self.out_dir / f"checkpoint-{self.state.global_step}"
            (folder / PROGRESS).write_text(json.dumps(done))  # the last file: without it the checkpoint is torn

    def newest_checkpoint(self) -> Path | None:
        """The newest complete checkpoint in ``out_dir``; from there the counters go on, on rank 0 alone.

        Raises:
            ValueError: for one of another training.
        """
        if self.settings.save_every is None:
            return None
        complete = [path.parent for path in self.out_dir.glob(f"checkpoint-*/{PROGRESS}")]
        newest = max(complete, key=lambda folder: int(folder.name.split("-")[1]), default=None)
        if newest is None:
            return None
        done = json.loads((newest / PROGRESS).read_text())
        if done["of"] != self.identity():
            raise ValueError(
                f"{self.stage}: '{newest}' was made with other data, settings or seed, so going on from it would mix two "
                f"trainings; delete it or give another out_dir"
            )
        self.losses = done["losses"]
        if ranks.rank() == 0:
            self.examples, self.tokens = done["examples"], done["tokens"]
        return newest

    def identity(self) -> str:
        """Hash of all that a training is but its first weights; ranks and how often it is saved have no part in it."""
        what = (self.stage, replace(self.settings, save_every=None), self.args.seed, self.train_dataset.to_dict())
        return hashlib.sha256(repr(what).encode()).hexdigest()

    def _send_telemetry(self) -> None:
        """TRL reports each trainer to its authors over the network; a laboratory run does not."""


def run_training(trainer: MonitoredTrainer, started: float) -> TrainStats:
    """Train to the end, from the newest checkpoint if any; ``started``: ``time.perf_counter()`` when the call began."""
    newest = trainer.newest_checkpoint()
    gc.freeze()  # accelerate collects garbage at the end: a third of a second for the million objects of the imports
    try:
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    finally:
        gc.unfreeze()
    examples, tokens = ranks.total([trainer.examples, trainer.tokens])
    return TrainStats(
        updates=trainer.state.global_step,
        examples=int(examples),
        tokens=int(tokens),
        first_loss=trainer.losses[0],
        last_loss=trainer.losses[-1],
        seconds=time.perf_counter() - started,
    )


@contextmanager
def preserve_state(model: torch.nn.Module) -> Iterator[None]:
    """Context manager that restores ``model``, but for its weights, and the global random states when it ends.

    Trainers seed the global generators, switch to training mode and mark the model as prepared;
    TRL's also replace ``model.forward`` by one that would outlive the run, add tags and set pad ids.
    """
    attributes = dict(vars(model))
    pad, generation_pad = model.config.pad_token_id, model.generation_config.pad_token_id
    training, states = model.training, (random.getstate(), np.random.get_state())
    with torch.random.fork_rng():
        try:
            yield
        finally:
            for name in vars(model).keys() - attributes.keys():
                delattr(model, name)
            vars(model).update(attributes)
            model.config.pad_token_id, model.generation_config.pad_token_id = pad, generation_pad
            model.train(training)
            model.zero_grad(set_to_none=True)
            random.setstate(states[0])
            np.random.set_state(states[1])
