"""countdown-v2: the game of countdown-v1 with so many tasks that what is learned on some can be of use on others.

``Task.data`` and the rules are those of countdown-v1. Its three numbers lie in 1…20 instead of 1…13: 1,540 sets of numbers instead
of 455, of which no panel shares one with another. There are thousands of demonstrated and of training tasks, so that a policy cannot
know them all by heart: the base model solves tasks that it saw about as often as others.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

from common.envs.countdown import solvable
from common.envs.versions.countdown_v1 import CountdownEnv
from common.rng import generator
from common.types import Task

LARGEST = 25
SHARES = {"test": 0.1, "validation": 0.05, "demos": 0.45, "train": 0.4}
"""Of the sets of numbers."""
MOST = {"test": 500, "validation": 300, "demos": 12000, "train": 9000}
"""Tasks, drawn evenly from all of a panel's."""


class CountdownV2(CountdownEnv):
    """Step-wise Countdown, see :class:`common.envs.versions.countdown_v1.CountdownEnv`."""

    id = "countdown-v2"


def split_tasks(seed: int, env_id: str) -> dict[str, list[tuple[tuple[int, ...], int]]]:
    """Panel → solvable tasks (three numbers from largest to smallest, a target in 10…99), disjoint in the *set of numbers*."""
    rng = generator(seed, env_id, "panels")
    sets = list(combinations_with_replacement(range(LARGEST, 0, -1), 3))
    sets = [sets[i] for i in rng.permutation(len(sets))]
    panels: dict[str, list[tuple[tuple[int, ...], int]]] = {}
    at = 0
    for split, share in SHARES.items():
        own = sets[at : at + round(share * len(sets))]
        at += len(own)
        tasks = [(numbers, target) for numbers in own for target in range(10, 100) if solvable(numbers, target)]
        panels[split] = [tasks[i] for i in rng.permutation(len(tasks))[: MOST[split]]]
    return panels


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return {
        split: [asdict(Task(f"{CountdownV2.id}/{split}/{i:04d}", CountdownV2.id, split, {"numbers": list(numbers), "target": target}))
                for i, (numbers, target) in enumerate(tasks)]
        for split, tasks in split_tasks(seed, CountdownV2.id).items()
    }  # fmt: skip


def make(data_dir: Path) -> CountdownV2:
    return CountdownV2()
