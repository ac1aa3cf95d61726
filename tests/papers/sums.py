"""A small world for self-correction: two-number Countdown whose target is always the sum, and a half-taught policy."""

from __future__ import annotations

from pathlib import Path

from common.envs.versions.countdown_answer_v1 import CountdownAnswerEnv
from common.base import demonstrations
from tests.papers.units import operators, sums, teach, write_panels

ENV = "countdown-answer-v1"


def build(root: Path, name: str = "tiny sums") -> Path:
    """The world in ``root``; ``name`` decides which numbers are for training."""
    write_panels(root, ENV, sums(ENV, name))
    examples = demonstrations(CountdownAnswerEnv(), operators(ENV), seed=0, repeats=2)
    teach(root, examples, vocab=340, context=96, updates=150)
    return root
