"""A small world of prose: tasks in the format of reasoning-gym-v1, scored without its package, and a chat model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from common.envs.versions import reasoning_gym_steps_v1, reasoning_gym_v1
from common.learn.batches import SFTExample
from common.rng import generator
from common.types import Task
from tests.papers.units import teach

ENV = reasoning_gym_v1.ENV_ID
NAMES = ("Ann", "Bob", "Cy")


def worked_answer(name: str) -> str:
    return f"I think of {name}.\n#### {name}"


def tasks() -> dict[str, list[Task]]:
    """Who likes a number: the name is in the question. ``train`` and ``test`` share no number."""
    found: dict[str, list[Task]] = {"train": [], "test": []}
    for k in generator("riddles").permutation(200).tolist():
        split = "test" if k >= 170 else "train"
        data = {"question": f"{NAMES[k % 3]} likes {k}. Who?", "answer": NAMES[k % 3], "dataset": "needle_haystack",
                "examples": [(f"{NAMES[2]} likes 999. Who?", NAMES[2])]}  # fmt: skip
        found[split].append(Task(f"{ENV}/{split}/{k}", ENV, split, data))
    return found


def build(root: Path) -> Path:
    """``root/base``: a chat model trained on right names, and on wrong ones at half of the first and a third of the second turns."""
    env, examples = reasoning_gym_v1.make(root), []
    for i, task in enumerate(task for panel in tasks().values() for task in panel):
        right = NAMES.index(task.data["answer"])
        env.reset(task)
        first, second = (worked_answer(NAMES[(right + error) % 3]) for error in (i % 2, i % 3 == 1))
        examples.append(SFTExample(env.prompt(), first))
        env.step(first)
        examples.append(SFTExample(env.prompt(), second))
    teach(root, examples, vocab=420, context=192, updates=120, batch=32)
    return root


def build_lines(root: Path) -> Path:
    """``root/base``: a chat model that was shown lines of reasoning-gym-steps-v1, half of them with wrong names."""
    env, examples = reasoning_gym_steps_v1.make(root), []
    for i, task in enumerate(task for panel in tasks().values() for task in panel):
        right, number = NAMES.index(task.data["answer"]), task.data["question"].split()[2]
        name = NAMES[(right + i % 2) % 3]
        env.reset(task)
        for line in (f"{name} likes {number}", f"#### {name}"):
            examples.append(SFTExample(env.prompt(), line))
            env.step(line)
    teach(root, examples, vocab=420, context=320, updates=120, batch=32)
    return root


def stand_in(patch: pytest.MonkeyPatch) -> None:
    """Let the environment read these tasks, and score an answer as the package's data set of names does."""

    def scorer(answer: str, entry: dict) -> float:
        return float(answer.lower() == entry["answer"].lower())

    patch.setattr(reasoning_gym_v1, "panels", tasks)
    patch.setattr(reasoning_gym_v1, "_package", lambda: SimpleNamespace(get_score_answer_fn=lambda dataset: scorer))
