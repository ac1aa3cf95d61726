"""How far a training moves the weights of a model, and what it tells meanwhile, in numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict

import torch

from common.learn.settings import TrainStats
from common.probes.tiny import tensor

LR = 2e-3
"""Learning rate of all trainings of probes."""

Train = Callable[[torch.nn.Module, Callable[[int, dict[str, float]], None]], TrainStats]


def trained(name: str, lm: torch.nn.Module, train: Train) -> dict[str, float]:
    """How far ``train`` moved the weights of a copy of ``lm``, what it counted, and the metrics of its updates."""
    own, told = copy.deepcopy(lm), []
    stats = train(own, lambda step, metrics: told.append((step, metrics)))
    return moved(name, own, lm) | _told(name, told) | _stats(name, stats)


def moved(name: str, lm: torch.nn.Module, before: torch.nn.Module) -> dict[str, float]:
    """Differences of weights in learning rates: Adam's steps are of about one."""
    found: dict[str, float] = {}
    pairs = zip(lm.named_parameters(), before.parameters(), strict=True)
    for i, (weight, old) in enumerate((weight, old) for (_, weight), old in pairs if weight.requires_grad):
        found |= tensor(f"{name}.{i:02d}", (weight.detach() - old.detach()) / LR)
    return found


def _told(name: str, told: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    return {f"{name}.{step}.{metric}": float(value) for step, metrics in told for metric, value in metrics.items()
            if metric != "tokens_per_second"}  # fmt: skip


def _stats(name: str, stats: TrainStats) -> dict[str, float]:
    return {f"{name}.{field}": value for field, value in asdict(stats).items() if field != "seconds"}
