"""math500-v1: the 500 competition problems of MATH-500 (Lightman et al. 2023, arXiv:2305.20050), solved in prose.

The rows are MATH's own (Hendrycks et al. 2021, arXiv:2103.03874; MIT), never part of this project: ``test.jsonl`` in the
folder that ``MATH500_DATA`` names, else ``HuggingFaceH4/MATH-500`` through ``datasets``, from the hub or its cache. MATH-500
has a test split alone, so ``test`` is the only panel unless the folder also holds ``train.jsonl``, rows of MATH's training
problems with the same fields. Of these, ``validation`` is 500 drawn once (half of them where there are fewer than 1,000) and
``train`` the others; problems that stand in the test split too are left out of both.

The last attempt counts, by the answer it declares in LaTeX: 1 where that is the reference answer in another spelling
(:mod:`common.envs.latex_answer`), else 0.
"""

from __future__ import annotations

from pathlib import Path

from common.envs.latex_answer import declared_answer, normal_form
from common.envs.user_rows import TEXT, Row, Rule, Source, is_text, panel_rows, rows_hash, source_rows
from common.envs.word_problems import ProblemState, WordProblemEnv
from common.types import Observation, Task

ENV_ID = "math500-v1"
VALIDATION = 500
RULES = (
    ("problem", TEXT),
    ("solution", TEXT),
    ("answer", Rule("text that declares an answer", lambda value: is_text(value) and normal_form(value) != "")),
    ("subject", TEXT),
    ("level", Rule("a whole number or text", lambda value: is_text(value) or type(value) is int)),
    ("unique_id", TEXT),
)
SOURCE = Source(
    env=ENV_ID, name="MATH-500", variable="MATH500_DATA", lines=f"JSON lines with {', '.join(dict(RULES))}",
    rules=RULES, splits=("test",), extra=("train",), hub=("HuggingFaceH4/MATH-500",),
    revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
)  # fmt: skip


class Math500Env(WordProblemEnv):
    """``turns`` worked solutions of one problem; the LaTeX answer that the last one declares counts."""

    HOW = "Think step by step. Put the final answer in \\boxed{}."
    RETRY = ("Check your solution step by step. If there is a mistake in it, correct it. Then write the whole solution "
             "again with the final answer in \\boxed{}.")  # fmt: skip

    def reset(self, task: Task, seed: int = 0) -> Observation:
        self._state = ProblemState(task.id, task.data["question"], normal_form(task.data["answer"]), (), False)
        return Observation(self.question())

    def declared(self, text: str) -> str:
        """The answer that a solution declares, in one spelling and a box; "" when it declares none."""
        answer = declared_answer(text)
        return "" if answer is None else f"\\boxed{{{normal_form(answer)}}}"

    def score(self, action: str) -> float:
        return float(self.declared(action) == self.oracle())

    def oracle(self) -> str:
        return f"\\boxed{{{self._state.target}}}"

    def lazy(self) -> str:
        return "I do not know."


def rows() -> dict[str, list[Row]]:
    """MATH-500's ``test`` and the user's ``train``, if any; FileNotFoundError or ValueError, with the next step, when they
    cannot be had."""
    return source_rows(SOURCE)


def panels() -> dict[str, list[Task]]:
    """``test``, and where there are rows to train on ``validation`` and ``train``; raises as :func:`rows`."""
    split = panel_rows(ENV_ID, rows(), "problem", validation=VALIDATION, share=0.5)
    return {name: [_task(name, i, row) for i, row in chosen] for name, chosen in split.items()}


def _task(panel: str, number: int, row: Row) -> Task:
    """Numbered as in the file."""
    data = {"question": row["problem"].strip(), "answer": row["answer"], "subject": row["subject"], "level": row["level"]}
    return Task(f"{ENV_ID}/{panel}/{number:04d}", ENV_ID, panel, data)


def data_hash() -> str:
    """Hash of the rows themselves, wherever they were read."""
    return rows_hash(rows())


def make(data_dir: Path) -> Math500Env:
    return Math500Env(id=ENV_ID)
