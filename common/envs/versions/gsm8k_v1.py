"""gsm8k-v1: word problems of grade-school mathematics (Cobbe et al. 2021, arXiv:2110.14168), answered in prose.

The rows are GSM8K's own (MIT), never part of this project: ``train.jsonl`` and ``test.jsonl`` in the folder that
``GSM8K_DATA`` names, else ``openai/gsm8k`` through ``datasets``, from the hub or its cache. Both give the same panels and
the same hash. Panels: ``test``, the official 1,319; of the official 7,473 for training ``validation``, 500 drawn once, and
``train``, the others. Rows whose question stands in the test split too are left out of both.

The rules of the dialogue are those of :mod:`common.envs.word_problems`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

from common.envs.user_rows import TEXT, Row, Rule, Source, is_text, panel_rows, rows_hash, source_rows
from common.envs.word_problems import WordProblemEnv
from common.types import Task

ENV_ID = "gsm8k-v1"
VALIDATION = 500


def answer(solution: str) -> str:
    """The number behind the last ``####``, without commas."""
    return solution.rpartition("####")[2].strip().replace(",", "")


def _is_solution(value: object) -> bool:
    if not is_text(value) or "####" not in value:
        return False
    try:
        return re.fullmatch(r"[-\d./]+", answer(value)) is not None and Fraction(answer(value)) is not None
    except (ValueError, ZeroDivisionError):
        return False


RULES = (("question", TEXT), ("answer", Rule("a solution that ends with #### and a number", _is_solution)))


SOURCE = Source(
    env=ENV_ID, name="GSM8K", variable="GSM8K_DATA", lines="GSM8K's JSON lines with question and answer",
    rules=RULES, splits=("train", "test"), extra=(), hub=("openai/gsm8k", "main"),
    revision="740312add88f781978c0658806c59bc2815b9866",
)  # fmt: skip


def rows() -> dict[str, list[Row]]:
    """GSM8K's own, ``train`` and ``test``; FileNotFoundError or ValueError, with the next step, when they cannot be had."""
    return source_rows(SOURCE)


def panels() -> dict[str, list[Task]]:
    """All panels; raises as :func:`rows`."""
    split = panel_rows(ENV_ID, rows(), "question", validation=VALIDATION)
    return {name: [_task(name, i, row) for i, row in chosen] for name, chosen in split.items()}


def _task(panel: str, index: int, row: Row) -> Task:
    """Numbered as in the official split."""
    data = {"question": row["question"].strip(), "answer": answer(row["answer"])}
    return Task(f"{ENV_ID}/{panel}/{index:04d}", ENV_ID, panel, data)


def data_hash() -> str:
    """Hash of the rows themselves, wherever they were read."""
    return rows_hash(rows())


def make(data_dir: Path) -> WordProblemEnv:
    return WordProblemEnv(id=ENV_ID)
