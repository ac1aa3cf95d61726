"""Settings of a training run (optimiser, schedule, batches), and the statistics that it returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of one training run: AdamW, linear decay to zero after a linear warm-up, clipped gradients.

    Exactly one of ``epochs`` and ``max_steps`` is given. One update sees ``batch_size · grad_accum``
    examples; ``batch_size`` of them share a forward pass, or are shared by the processes that train together.

    Raises:
        ValueError: naming the field, for a value outside its range.
    """

    lr: float
    """Peak learning rate, > 0."""
    batch_size: int
    """Examples (pairs) in one forward pass, ≥ 1."""
    max_length: int
    """Most tokens of prompt and completion together; a longer example is an error, never cut."""
    epochs: int | None = None
    """Passes over the data, ≥ 1."""
    max_steps: int | None = None
    """Updates, ≥ 1; the data is repeated as often as needed."""
    grad_accum: int = 1
    """Forward passes in one update, ≥ 1."""
    warmup: float = 0.0
    """Share of the updates spent on warm-up, in [0, 1)."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay of matrices, ≥ 0 (norms and biases are spared)."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm, > 0."""
    save_every: int | None = None
    """Updates between checkpoints in ``out_dir``, ≥ 1, and one at the end; the same call goes on from the newest, on any
    number of processes. None: no checkpoints, as in units, whose stages are saved whole."""

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError(
                f"epochs: {self.epochs} and max_steps: {self.max_steps}; exactly one of the two sets the length of "
                f"training; leave the other one out"
            )
        for name in ("lr", "max_grad_norm"):
            _require(self, name, 0 < getattr(self, name) < math.inf, "be positive and finite")
        for name in ("batch_size", "grad_accum", "max_length"):
            _require(self, name, getattr(self, name) >= 1, "be at least 1")
        for name in ("epochs", "max_steps", "save_every"):
            _require(self, name, getattr(self, name) is None or getattr(self, name) >= 1, "be at least 1")
        _require(self, "warmup", 0 <= self.warmup < 1, "lie in [0, 1): it is a share of the updates")
        _require(self, "weight_decay", 0 <= self.weight_decay < math.inf, "be at least 0 and finite")


@dataclass(frozen=True, kw_only=True)
class DPOSettings(TrainSettings):
    """As :class:`TrainSettings`, where ``batch_size`` counts pairs and ``max_length`` bounds each turn."""

    beta: float
    """Inverse temperature of the implicit reward β · (log π − log ref), > 0."""
    nll: float = 0.0
    """Weight of −log π(chosen) per token beside each pair's DPO loss, ≥ 0 (Pang et al. 2024, iterative
    RPO, eq. 1). It keeps the chosen side likely, which DPO alone does not. 0 is plain DPO."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self, "beta", 0 < self.beta < math.inf, "be positive and finite")
        _require(self, "nll", 0 <= self.nll < math.inf, "be at least 0 and finite")


def _require(settings: TrainSettings, name: str, ok: bool, rule: str) -> None:
    if not ok:
        raise ValueError(f"{name}: {getattr(settings, name)!r} must {rule}; change it in the training settings")


@dataclass(frozen=True)
class TrainStats:
    """Statistics of one training run. Everything but ``seconds`` repeats exactly on one machine."""

    updates: int
    """Optimiser steps."""
    examples: int
    """Examples or pairs seen, repetitions counted."""
    tokens: int
    """Tokens run forward, prompts included, padding not; both sides of a pair count."""
    first_loss: float
    """Loss of the first update, before it."""
    last_loss: float
    """Loss of the last update, before it."""
    seconds: float = field(compare=False)
    """Wall-clock time of the call."""
