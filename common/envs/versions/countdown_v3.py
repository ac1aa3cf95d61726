"""countdown-v3: step-wise Countdown whose demonstrators know solutions, and whose base model knows the rules and nothing else.

Tasks, rules and operators are those of countdown-v2, with panels of its own. The expert takes one of the steps from which the target
can be reached, at random. The base model was shown legal steps at random and no target that mattered: like the untuned models of
papers on imitation it can take part and hardly ever succeeds, and like theirs it tries what an expert would not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common.envs.contract import Demonstration
from common.envs.countdown import sum_tasks
from common.envs.versions.countdown_v1 import CountdownEnv
from common.envs.versions.countdown_v2 import SIZES, CountdownV2
from common.rng import generator
from common.types import Task


class CountdownV3(CountdownV2):
    """Step-wise Countdown with + and −, see :class:`common.envs.versions.countdown_v1.CountdownEnv`."""

    id = "countdown-v3"

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        return CountdownEnv.expert(self, rng)

    def demonstrations(self, task: Task, rng: np.random.Generator, critic: str) -> Iterator[Demonstration]:
        """The steps of one episode of the base model's warm start, each any legal one. Nobody is asked the critic's question."""
        observation = self.reset(task)
        while not observation.done:
            prompt, options = self.prompt(), self.actions()
            action = options[int(rng.integers(len(options)))]
            yield Demonstration((*prompt, {"role": "assistant", "content": action}), learned=len(prompt))
            observation = self.step(action)


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    panels = sum_tasks(CountdownV3.id, generator(seed, CountdownV3.id, "panels"), SIZES, largest=30, most=3)
    return {name: list(map(asdict, tasks)) for name, tasks in panels.items()}


def make(data_dir: Path) -> CountdownV3:
    return CountdownV3()
