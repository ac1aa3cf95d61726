"""reasoning-gym-v1: procedurally generated tasks of reasoning-gym (Stojanovski et al. 2025, arXiv:2505.24760), easy enough
that a chat model of 135 M parameters solves some of them.

Three of its data sets at two difficulties each (:data:`CELLS`). A prompt shows :data:`EXAMPLES` solved tasks of its own cell
as earlier turns, then the task in reasoning-gym's words. The last attempt counts, by what it declares
(:func:`~common.envs.latex_answer.declared_answer`, else its last line): 1 where reasoning-gym's own ``score_answer`` gives
full marks, else 0. A number is read as in GSM8K (:func:`~common.envs.final_number.final_number`).

Panels ``train``, ``validation`` and ``test`` hold all cells in turn; each cell is a panel too, named by its split, data set,
difficulty and seed: ``test-needle_haystack-easy-3000000``. Item i of a data set with seed s is drawn from s + i, so seeds lie
far apart. No question stands in two panels, as an example in one, or twice in one. ``Task.id`` ends with data set,
difficulty, seed and i.

Data sets, difficulties and the number of examples were chosen by the accuracy of the untrained SmolLM2-135M-Instruct (the
packaged one, four bits) on training tasks, since it solves hardly any of GSM8K; no other panel was looked at. First 32
training tasks of each cell, one answer of at most 24 tokens; beside it the share of a cell's 200 training tasks that its
commonest answer would solve:

    data set                 difficulty   greedy   temperature 1   commonest answer
    letter_counting          easy           .59            .44               .64
    letter_counting          hard           .47            .34               .36
    needle_haystack          easy           .91            .63               .01
    needle_haystack          hard           .59            .41               .01
    word_sequence_reversal   easy           .69            .59              .005
    word_sequence_reversal   hard           .09            .03              .005
    all                                     .56            .41

Before, of 16 training tasks at temperature 1: without examples none of needle_haystack (hard) and word_sequence_reversal
(easy), and at most a third of chain_sum, products, basic_arithmetic, simple_equations, gcd and leg_counting with small
numbers, with examples or without, which is why these are not here.

What reasoning-gym generates rests on its version, so that exactly :data:`VERSION` is needed: an optional package, never part
of a default install.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from common.envs.answers import declared as last_line
from common.envs.final_number import final_number
from common.envs.latex_answer import declared_answer
from common.envs.optional import require
from common.envs.word_problems import WordProblemEnv
from common.types import Message, Observation, Task

ENV_ID = "reasoning-gym-v1"
VERSION = "0.1.25"
CELLS: dict[tuple[str, str], dict[str, Any]] = {
    ("letter_counting", "easy"): {"min_words": 2, "max_words": 4},
    ("letter_counting", "hard"): {"min_words": 6, "max_words": 9},
    ("needle_haystack", "easy"): {"min_num_statements": 1, "max_num_statements": 1},
    ("needle_haystack", "hard"): {"min_num_statements": 2, "max_num_statements": 2},
    ("word_sequence_reversal", "easy"): {"min_words": 2, "max_words": 2},
    ("word_sequence_reversal", "hard"): {"min_words": 3, "max_words": 3},
}
"""Data set and difficulty → its configuration."""
SEEDS = {"examples": 0, "train": 1_000_000, "validation": 2_000_000, "test": 3_000_000}
SIZES = {"examples": 4, "test": 50, "validation": 20, "train": 200}
"""Tasks of each cell, in the order in which questions are given out."""
EXAMPLES = SIZES["examples"]


class RiddleState(NamedTuple):
    """State of a task: what is asked, solved tasks shown before, and the attempts made."""

    task_id: str
    dataset: str
    text: str
    target: str
    examples: tuple[tuple[str, str], ...]
    attempts: tuple[str, ...]
    over: bool


class ReasoningGymEnv(WordProblemEnv):
    """``turns`` answers to one task; what the last one declares counts."""

    RETRY = "Check your answer. If it is wrong, correct it. Write the answer again after ####."

    def reset(self, task: Task, seed: int = 0) -> Observation:
        data = task.data
        shown = tuple((question, answer) for question, answer in data["examples"])
        self._state = RiddleState(task.id, data["dataset"], data["question"], data["answer"], shown, (), False)
        return Observation(self.question())

    def question(self) -> str:
        return self._state.text

    def prompt(self) -> tuple[Message, ...]:
        shown = [[{"role": "user", "content": asked}, {"role": "assistant", "content": f"#### {answer}"}]
                 for asked, answer in self._state.examples]  # fmt: skip
        return (*(message for pair in shown for message in pair), *super().prompt())

    def declared(self, text: str) -> str:
        """What is declared behind a mark, else the last line, without quotes and full stop; "" for a blank text."""
        return (declared_answer(text) or last_line(text)).strip(" \t*`\"'.!")

    def score(self, action: str) -> float:
        answer = self.declared(action)
        if self._state.target.isdecimal():
            number = final_number(answer)
            answer = "" if number is None else str(number)
        entry = {"question": self._state.text, "answer": self._state.target}
        return float(_package().get_score_answer_fn(self._state.dataset)(answer, entry) >= 1.0)

    def oracle(self) -> str:
        return f"#### {self._state.target}"

    def lazy(self) -> str:
        return "I do not know"


@cache
def _package() -> Any:
    """reasoning-gym. FileNotFoundError, with the next step, unless it is there in this version."""
    require("reasoning-gym", VERSION, f"{ENV_ID} needs", "generates and scores its tasks")
    import reasoning_gym

    return reasoning_gym


@cache
def _cells() -> dict[tuple[str, str, str], list[Task]]:
    """(split, data set, difficulty) → its tasks."""
    made = {}
    for (dataset, level), config in CELLS.items():
        given: set[str] = set()
        examples: list[tuple[str, str]] = []
        for split, size in SIZES.items():
            data = _package().create_dataset(dataset, seed=SEEDS[split], size=100_000, **config)
            tasks: list[Task] = []
            for i in range(len(data)):
                if len(tasks) == size:
                    break
                question, answer = data[i]["question"].strip(), data[i]["answer"]
                if question not in given:
                    given.add(question)
                    name = f"{ENV_ID}/{split}/{dataset}/{level}/{SEEDS[split]}/{i:04d}"
                    tasks.append(Task(name, ENV_ID, split, {"question": question, "answer": answer, "dataset": dataset,
                                                            "examples": list(examples)}))  # fmt: skip
            if split == "examples":
                examples = [(task.data["question"], task.data["answer"]) for task in tasks]
            else:
                made[split, dataset, level] = tasks
    return made


def panels() -> dict[str, list[Task]]:
    """All panels, see the module; FileNotFoundError, with the next step, without the package in its version."""
    cells = _cells()
    tasks_by_panel = {f"{split}-{dataset}-{level}-{SEEDS[split]}": tasks for (split, dataset, level), tasks in cells.items()}
    for split in ("train", "validation", "test"):
        columns = [tasks for (own, _, _), tasks in cells.items() if own == split]
        tasks_by_panel[split] = [task for row in zip(*columns, strict=True) for task in row]
    return tasks_by_panel


def data_hash() -> str:
    """Hash of all tasks, and so of what the package generates."""
    return hashlib.sha256(json.dumps({name: [asdict(task) for task in tasks] for name, tasks in panels().items()},
                                     sort_keys=True).encode()).hexdigest()  # fmt: skip


def make(data_dir: Path) -> ReasoningGymEnv:
    return ReasoningGymEnv(id=ENV_ID)
