"""countdown-v2: step-wise Countdown in which a small policy can become good, and starts as one that does not look ahead.

``Task.data`` and the rules are those of countdown-v1, with the operators + and − alone: sums and differences are learned by a model of
half a million parameters, products are not. Thousands of tasks, whose *sets of numbers* no two panels share, so that a policy cannot
know them by heart: the base model solves tasks that it saw as often as others.

The demonstrator of the base model knows no solution: its first step is at random, its last one lands as near the target as it can. So a
base model can play, and its own successes have something to teach: which first steps lead to the target (half of them do). As a
critic it is shown steps with a verdict on whether they lead to the target, which is false now and then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common.envs.contract import Demonstration
from common.envs.countdown import SUMS, short_sighted_step, sum_tasks
from common.envs.versions.countdown_v1 import CountdownEnv
from common.rng import generator
from common.types import Task

CHECKED = 1.0
"""Share of demonstrated steps with another one that the critic judges."""
FALSE = 0.1
"""Share of false verdicts among those that the critic is shown."""
SIZES = {"test": 500, "validation": 300, "demos": 5000, "train": 7000}


class CountdownV2(CountdownEnv):
    """Step-wise Countdown with + and −, see :class:`common.envs.versions.countdown_v1.CountdownEnv`."""

    id = "countdown-v2"
    operators = SUMS

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        action, _ = short_sighted_step(self._state.numbers, self._state.target, self.operators, rng)
        return action, action

    def demonstrations(self, task: Task, rng: np.random.Generator, critic: str) -> Iterator[Demonstration]:
        """The steps of one episode of the base model's warm start, and of some of them another step with the critic's verdict."""
        observation = self.reset(task)
        while not observation.done:
            prompt, (action, _) = self.prompt(), self.expert(rng)
            yield Demonstration((*prompt, {"role": "assistant", "content": action}), learned=len(prompt))
            if rng.random() < CHECKED:
                options = self.actions()
                other = options[int(rng.integers(len(options)))]
                good = (self.q(self.snapshot(), other) > 0) != (rng.random() < FALSE)
                yield Demonstration((*prompt, {"role": "assistant", "content": other}, {"role": "user", "content": critic},
                                     {"role": "assistant", "content": "yes" if good else "no"}), learned=len(prompt) + 2)  # fmt: skip
            observation = self.step(action)


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    panels = sum_tasks(CountdownV2.id, generator(seed, CountdownV2.id, "panels"), SIZES, largest=30, most=3)
    return {name: list(map(asdict, tasks)) for name, tasks in panels.items()}


def make(data_dir: Path) -> CountdownV2:
    return CountdownV2()
