"""Parameters that several papers share: one definition here, one table of values with sources in ``shared.yaml``.

    class Params(ModelParams):          # a paper that trains a language model
        rl: Reinforce                   # its own parameters

A paper's params.yaml states only its own parameters, and those shared ones for which it needs another value.
Their ranges (:mod:`common.config.ranges`) stand here, with their types; those of a paper's own parameters in its params.yaml.
A field with a default is left out of written parameters while it has that value: a new one without effect moves no key.
Nothing here imports torch: parameters are checked before any model is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from common.config.ranges import parse_range

NOT_EMPTY, COUNT = parse_range("not empty"), parse_range(">= 1")


@dataclass(frozen=True, kw_only=True)
class UnitParams:
    """Parameters of every paper."""

    panels: Annotated[tuple[str, ...], NOT_EMPTY]
    """Panels of the environment on which every variant is evaluated; artifacts are kept of the first."""
    only: tuple[str, ...] = ()
    """Names of the variants to train and evaluate, for pilots; empty means all of them."""
    admission: bool = False
    """Whether the base model is also measured by what admission checks ask for: ``pass@<draws>``, the share of tasks that one of its
    draws solves in the first turn, and an evaluation on tasks that were demonstrated to it (panel ``demos``)."""

    @property
    def scale(self) -> str:
        """The name of the base model's scale in metric rows."""
        return "nano"


@dataclass(frozen=True, kw_only=True)
class ModelParams(UnitParams):
    """Parameters of a paper that trains a language model, from a base model of ours or a pretrained one."""

    model: Annotated[str, NOT_EMPTY]
    """The base model: "nano" is the environment's own, trained here; else a pretrained model's name."""
    lora_rank: Annotated[int, parse_range(">= 0")]
    """Rank of the LoRA adapters that are trained; 0 trains all weights."""
    four_bit: bool
    """Whether the base model's weights are rounded to 4 bits; adapters are then trained beside them."""
    answer_tokens: Annotated[int, COUNT]
    """Most tokens of one turn."""

    def __post_init__(self) -> None:
        if self.four_bit and not self.lora_rank:
            raise ValueError("four_bit: true needs adapters, since 4-bit weights are not trained themselves, but lora_rank is 0; set "
                             "lora_rank, for instance to 32")  # fmt: skip

    @property
    def scale(self) -> str:
        return self.model


@dataclass(frozen=True)
class Fit:
    """One training: how many ``updates``, of ``batch`` examples each, at the learning rate ``lr``."""

    updates: int
    batch: int
    lr: float


@dataclass(frozen=True)
class Evaluation:
    """Evaluation budget: how many tasks and sampled episodes evaluate a variant."""

    tasks: Annotated[int, parse_range("[1, tasks(panels)]")]
    """Tasks of each panel, the first ones."""
    draws: Annotated[int, COUNT]
    """Sampled episodes of each task."""
