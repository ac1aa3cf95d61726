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

import hashlib
import json
import os
from functools import cache
from pathlib import Path

from common.envs.latex_answer import declared_answer, normal_form
from common.envs.word_problems import ProblemState, WordProblemEnv
from common.rng import generator
from common.types import Observation, Task

ENV_ID = "math500-v1"
VALIDATION = 500
FIELDS = ("problem", "solution", "answer", "subject", "level", "unique_id")
REVISION = "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"
"""Of ``HuggingFaceH4/MATH-500`` on the hub."""

Rows = list[dict[str, object]]


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


def _lines(path: Path) -> Rows:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [{field: row[field] for field in FIELDS} for row in rows]
    except FileNotFoundError:
        raise FileNotFoundError(f"{ENV_ID}: {path} is missing; point MATH500_DATA to the folder that holds test.jsonl") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{ENV_ID}: {path} is not JSON lines with {', '.join(FIELDS)} ({error!r}); fetch it anew") from None


def _hub() -> Rows:
    from datasets import load_dataset

    try:
        rows = load_dataset("HuggingFaceH4/MATH-500", split="test", revision=REVISION)
    except Exception as error:  # noqa: BLE001 - of requests, the hub or datasets, whatever is missing
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FileNotFoundError(f"{ENV_ID} needs MATH-500's rows, and the hub gave none ({reason}); set MATH500_DATA to a folder "
                                "with test.jsonl, or go online once") from None  # fmt: skip
    return [{field: row[field] for field in FIELDS} for row in rows]


@cache
def _rows(folder: str) -> dict[str, Rows]:
    if not folder:
        return {"test": _hub()}
    train = Path(folder) / "train.jsonl"
    return {"test": _lines(Path(folder) / "test.jsonl")} | ({"train": _lines(train)} if train.exists() else {})


def _read() -> dict[str, Rows]:
    return _rows(os.environ.get("MATH500_DATA", ""))


def panels() -> dict[str, list[Task]]:
    """``test``, and where there are rows to train on ``validation`` and ``train``; FileNotFoundError or ValueError, with the
    next step, when the rows cannot be had."""
    rows = _read()
    split = {"test": list(enumerate(rows["test"]))}
    if "train" in rows:
        asked = {row["problem"] for row in rows["test"]}
        own = [(i, row) for i, row in enumerate(rows["train"]) if row["problem"] not in asked]
        size = min(VALIDATION, len(own) // 2)
        held_out = set(generator(0, ENV_ID, "validation").permutation(len(own))[:size].tolist())
        split["validation"] = [row for at, row in enumerate(own) if at in held_out]
        split["train"] = [row for at, row in enumerate(own) if at not in held_out]
    return {name: [_task(name, i, row) for i, row in chosen] for name, chosen in split.items()}


def _task(panel: str, number: int, row: dict[str, object]) -> Task:
    """Numbered as in the file."""
    data = {"question": str(row["problem"]).strip(), "answer": row["answer"], "subject": row["subject"], "level": row["level"]}
    return Task(f"{ENV_ID}/{panel}/{number:04d}", ENV_ID, panel, data)


def data_hash() -> str:
    """Of the rows themselves, wherever they were read."""
    return hashlib.sha256(json.dumps(_read(), sort_keys=True).encode()).hexdigest()


def make(data_dir: Path) -> Math500Env:
    return Math500Env(id=ENV_ID)
