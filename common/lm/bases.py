"""How large each environment's base model is and how long it is warmed up: the rows of ``bases.yaml``.

A file of values beside the code, so that a change of one row makes one base model stale and not all: the pipeline has a stage for
each row of ``shipped``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

SMOKE = {"width": 32, "layers": 1, "heads": 2, "repeats": 1, "updates": 10, "batch": 16, "lr": 3.0e-3}
SMOKE_CONTEXT = 256
"""At least: an untrained policy babbles, and what it writes must fit when the critic reads it back."""


@dataclass(frozen=True)
class BaseSettings:
    """Size of the nano model and length of its warm start."""

    width: int
    layers: int
    heads: int
    context: int
    vocab: int
    split_digits: bool
    repeats: int
    """Demonstrated episodes per task of the ``demos`` panel."""
    updates: int
    batch: int
    lr: float


@cache
def _sections() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


@cache
def _rows() -> dict[str, Any]:
    """Environment → its row, or "none" where there is no base model."""
    rows = _sections()
    return {**rows["shipped"], **rows["waiting"], **rows["supplied"], **dict.fromkeys(rows["none"], "none")}


def has_base(env_id: str) -> bool:
    """Whether policies of ``env_id`` start from a base model of ours."""
    return _rows().get(env_id) != "none"


def is_shipped(env_id: str) -> bool:
    """Whether the base models of ``env_id`` come with the project; those that wait for a paper or a user's files do not."""
    return env_id in _sections()["shipped"]


def base_seeds(env_id: str) -> int:
    """How many base models ``env_id`` has, one for each of the training seeds 0, 1, …; 1 where all seeds start from the same."""
    row = _rows().get(env_id)
    return row.get("seeds", 1) if isinstance(row, dict) else 1


def settings_for(env_id: str, profile: str) -> BaseSettings:
    """The base settings of ``env_id``; ``smoke`` is the same code path at a toy size, for tests and probes."""
    row = {name: value for name, value in _rows()[env_id].items() if name != "seeds"}
    if profile == "smoke":
        row = row | SMOKE | {"context": max(row["context"], SMOKE_CONTEXT)}
    return BaseSettings(**row)
