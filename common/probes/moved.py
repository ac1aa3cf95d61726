"""Weight changes and logged metrics of a short training, as named numbers."""

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


def training_effects(name: str, lm: torch.nn.Module, train: Train) -> dict[str, float]:
    """Train a copy of ``lm`` by ``train``: its weight changes, statistics and logged metrics, as named numbers."""
    own, logged = copy.deepcopy(lm), []
    stats = train(own, lambda step, metrics: logged.append((step, metrics)))
    return weight_changes(name, own, lm) | _logged(name, logged) | _stats(name, stats)


def weight_changes(name: str, lm: torch.nn.Module, before: torch.nn.Module) -> dict[str, float]:
    """Weight differences in units of the learning rate; one step of Adam is about one unit."""
    values: dict[str, float] = {}
    pairs = zip(lm.named_parameters(), before.parameters(), strict=True)
    for i, (weight, old) in enumerate((weight, old) for (_, weight), old in pairs if weight.requires_grad):
        values |= tensor(f"{name}.{i:02d}", (weight.detach() - old.detach()) / LR)
    return values


def _logged(name: str, logged: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    return {f"{name}.{step}.{metric}": float(value) for step, metrics in logged for metric, value in metrics.items()
            if metric != "tokens_per_second"}  # fmt: skip


def _stats(name: str, stats: TrainStats) -> dict[str, float]:
    return {f"{name}.{field}": value for field, value in asdict(stats).items() if field != "seconds"}
