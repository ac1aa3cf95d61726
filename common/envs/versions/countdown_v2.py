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
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np

from common.envs.contract import Demonstration
from common.envs.countdown import solvable, step_actions
from common.envs.versions.countdown_v1 import CountdownEnv
from common.rng import generator
from common.types import Task

LARGEST = 30
MOST = 3
"""Tasks of one set of numbers."""
CHECKED = 1.0
"""Share of demonstrated steps with another one that the critic judges."""
FALSE = 0.1
"""Share of false verdicts among those that the critic is shown."""
SIZES = {"test": 500, "validation": 300, "demos": 5000, "train": 7000}


class CountdownV2(CountdownEnv):
    """Step-wise Countdown with + and −, see :class:`common.envs.versions.countdown_v1.CountdownEnv`."""

    id = "countdown-v2"
    operators = "+-"

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """A player who does not look ahead: a step at random, but the one that lands nearest the target when it is the last (of
        several such, one at random)."""
        options = step_actions(self._state.numbers, self.operators)
        if len(self._state.numbers) == 2:
            nearest = min(abs(rest[0] - self._state.target) for _, rest in options)
            options = tuple(option for option in options if abs(option[1][0] - self._state.target) == nearest)
        action = options[int(rng.integers(len(options)))][0]
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
    """Solvable tasks of three numbers in 1…30; no *set of numbers* is in two panels."""
    rng, env_id = generator(seed, CountdownV2.id, "panels"), CountdownV2.id
    sets = list(combinations_with_replacement(range(LARGEST, 0, -1), 3))
    order, panels = iter(rng.permutation(len(sets))), {}
    for split, size in SIZES.items():
        tasks: list[tuple[tuple[int, ...], int]] = []
        while len(tasks) < size:
            numbers = sets[next(order)]
            targets = [target for target in range(1, 3 * LARGEST + 1) if solvable(numbers, target, CountdownV2.operators)]
            tasks += [(numbers, targets[i]) for i in rng.permutation(len(targets))[:MOST]]
        tasks = [tasks[i] for i in rng.permutation(len(tasks))[:size]]
        panels[split] = [asdict(Task(f"{env_id}/{split}/{i:04d}", env_id, split, {"numbers": list(numbers), "target": target}))
                         for i, (numbers, target) in enumerate(tasks)]  # fmt: skip
    return panels


def make(data_dir: Path) -> CountdownV2:
    return CountdownV2()
