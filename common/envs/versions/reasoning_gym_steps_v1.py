"""reasoning-gym-steps-v1: the tasks and panels of reasoning-gym-v1, solved line by line (:mod:`common.envs.steps`).

A prompt shows the solved tasks of reasoning-gym-v1's own prompt, worked out in one to three lines and the answer. Their
form was chosen on training tasks with the untrained SmolLM2-135M-Instruct (the packaged one, four bits): where a line
held a whole list of words, it solved none of 12 word_sequence_reversal tasks, with a word a line 2 of 20. It solves .35
of the first 60 training tasks at temperature 0.7 (at 1: .18), in 2.6 lines of 8 tokens.
"""

from __future__ import annotations

import re
from pathlib import Path

from common.envs.latex_answer import declared_answer
from common.envs.steps import Example, StepsEnv, announces_number
from common.envs.versions import reasoning_gym_v1 as whole
from common.types import Task

ENV_ID = "reasoning-gym-steps-v1"
MAX_STEPS = 6
"""A worked example has at most four lines."""


def worked(dataset: str, question: str, answer: str) -> tuple[str, ...]:
    """The lines of a solution, the last of which declares ``answer``."""
    if dataset == "letter_counting":
        letter, text = re.search(r'letter "(.)" .* text: "(.*)"', question).groups()
        counts = [(word, word.lower().count(letter)) for word in text.split()]
        lines = [", ".join(f"{word} {n}" for word, n in counts), f"{' + '.join(str(n) for _, n in counts)} = {answer}"]
    elif dataset == "needle_haystack":
        lines = [next(sentence for sentence in question.split(". ") if sentence.startswith(f"{answer} ")) + "."]
    else:
        words = question.rpartition(": ")[2].split(", ")
        lines = [f"{name}: {word}" for name, word in zip(("last", "before", "before that"), reversed(words))]
    return (*lines, f"#### {answer}")


def examples(task: Task) -> list[Example]:
    data = task.data
    return [(question, worked(data["dataset"], question, answer)) for question, answer in data["examples"]]


def declares(line: str) -> bool:
    """As reasoning-gym-v1 reads answers: whatever stands behind a mark, or an announced number."""
    return declared_answer(line) is not None or announces_number(line)


def panels() -> dict[str, list[Task]]:
    return whole.panels()


def data_hash() -> str:
    return whole.data_hash()


def make(data_dir: Path) -> StepsEnv:
    return StepsEnv(whole.make(data_dir), id=ENV_ID, examples=examples, declares=declares, max_steps=MAX_STEPS)
