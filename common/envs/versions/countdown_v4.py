"""countdown-v4: step-wise Countdown with four numbers, deep enough that a search has something to find.

Rules and operators are those of countdown-v2; three steps end a game, and a step that the rules forbid loses it. Steps at random solve
one task in six, and about half of the steps of each kind lead on: whoever tries several at every depth finds much more than whoever
plays as many games to the end.

The demonstrator of the base model knows the rules and no target: each step is any legal one. As a critic the base model is shown of each of these
steps whether the target can still be reached after it. So it plays at random and has begun to learn what steps are worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common.envs.contract import Demonstration
from common.envs.countdown import sum_tasks
from common.envs.versions.countdown_v2 import CountdownV2
from common.rng import generator
from common.types import Task

STEPS = 3
SIZES = {"test": 500, "validation": 300, "demos": 4000, "train": 4000}


class CountdownV4(CountdownV2):
    """Step-wise Countdown with + and −, see :class:`common.envs.versions.countdown_v1.CountdownEnv`."""

    id = "countdown-v4"

    def __init__(self) -> None:
        super().__init__(max_steps=STEPS)

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        options = self.actions()
        action = options[int(rng.integers(len(options)))]
        return action, action

    def demonstrations(self, task: Task, rng: np.random.Generator, critic: str) -> Iterator[Demonstration]:
        """The steps of one episode of the base model's warm start, each with a true verdict."""
        observation = self.reset(task)
        while not observation.done:
            prompt, (action, _) = self.prompt(), self.expert(rng)
            verdict = "yes" if self.q(self.snapshot(), action) > 0 else "no"
            yield Demonstration((*prompt, {"role": "assistant", "content": action}, {"role": "user", "content": critic},
                                 {"role": "assistant", "content": verdict}), learned=len(prompt))  # fmt: skip
            observation = self.step(action)


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    panels = sum_tasks(CountdownV4.id, generator(seed, CountdownV4.id, "panels"), SIZES, largest=15, most=3, count=STEPS + 1)
    return {name: list(map(asdict, tasks)) for name, tasks in panels.items()}


def make(data_dir: Path) -> CountdownV4:
    return CountdownV4()
