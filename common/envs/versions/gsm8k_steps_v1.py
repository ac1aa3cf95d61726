"""gsm8k-steps-v1: the problems and panels of gsm8k-v1, solved line by line (:mod:`common.envs.steps`)."""

from __future__ import annotations

from pathlib import Path

from common.envs.steps import Example, StepsEnv, announces_number
from common.envs.versions import gsm8k_v1 as whole
from common.types import Task

ENV_ID = "gsm8k-steps-v1"
MAX_STEPS = 10
"""All but one of GSM8K's own 8,792 solutions have at most as many lines, the answer's included."""
EXAMPLES: tuple[Example, ...] = (
    (
        "Mia has 4 boxes with 6 pencils each. She gives 9 pencils away. How many pencils does she have left?",
        ("In the boxes there are 4 * 6 = 24 pencils.", "She has 24 - 9 = 15 pencils left.", "#### 15"),
    ),
    (
        "A shirt costs $20 and a hat costs half as much. How much do three shirts and one hat cost?",
        ("A hat costs 20 / 2 = 10 dollars.", "Three shirts cost 3 * 20 = 60 dollars.",
         "Together they cost 60 + 10 = 70 dollars.", "#### 70"),
    ),
)  # fmt: skip
"""In our own words."""


def panels() -> dict[str, list[Task]]:
    return whole.panels()


def data_hash() -> str:
    return whole.data_hash()


def make(data_dir: Path) -> StepsEnv:
    return StepsEnv(whole.make(data_dir), id=ENV_ID, examples=lambda task: EXAMPLES, declares=announces_number,
                    max_steps=MAX_STEPS)  # fmt: skip
