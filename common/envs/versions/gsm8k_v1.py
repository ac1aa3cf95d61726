"""gsm8k-v1: word problems of grade-school mathematics (Cobbe et al. 2021, arXiv:2110.14168), answered in prose.

The rows are GSM8K's own (MIT), never part of this project: ``train.jsonl`` and ``test.jsonl`` in the folder that
``GSM8K_DATA`` names, else ``openai/gsm8k`` through ``datasets``, from the hub or its cache. Both give the same panels and
the same hash. Panels: ``test``, the official 1,319; of the official 7,473 for training ``validation``, 500 drawn once, and
``train``, the others. Rows whose question stands in the test split too are left out of both.

The rules of the dialogue are those of :mod:`common.envs.word_problems`.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from common.envs.word_problems import WordProblemEnv
from common.rng import generator
from common.types import Task

ENV_ID = "gsm8k-v1"
VALIDATION = 500
REVISION = "740312add88f781978c0658806c59bc2815b9866"
"""Of ``openai/gsm8k`` on the hub."""


def _lines(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{ENV_ID}: {path} is missing; point GSM8K_DATA to the folder that holds train.jsonl and test.jsonl")
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [{"question": row["question"], "answer": row["answer"]} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{ENV_ID}: {path} is not GSM8K's JSON lines with question and answer ({error!r}); fetch it anew") from None


def _hub(split: str) -> list[dict[str, str]]:
    from datasets import load_dataset

    try:
        rows = load_dataset("openai/gsm8k", "main", split=split, revision=REVISION)
    except Exception as error:  # noqa: BLE001 - of requests, the hub or datasets, whatever is missing
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FileNotFoundError(f"{ENV_ID} needs GSM8K's rows, and the hub gave none ({reason}); set GSM8K_DATA to a folder with "
                                "train.jsonl and test.jsonl, or go online once") from None  # fmt: skip
    return [{"question": row["question"], "answer": row["answer"]} for row in rows]


@cache
def _rows(folder: str) -> dict[str, list[dict[str, str]]]:
    return {split: _lines(Path(folder) / f"{split}.jsonl") if folder else _hub(split) for split in ("train", "test")}


def _read() -> dict[str, list[dict[str, str]]]:
    return _rows(os.environ.get("GSM8K_DATA", ""))


def panels() -> dict[str, list[Task]]:
    """All panels; FileNotFoundError or ValueError, with the next step, when the rows cannot be had."""
    rows = _read()
    asked = {row["question"] for row in rows["test"]}
    own = [(i, row) for i, row in enumerate(rows["train"]) if row["question"] not in asked]
    held_out = set(generator(0, ENV_ID, "validation").permutation(len(own))[:VALIDATION].tolist())
    split = {
        "test": list(enumerate(rows["test"])),
        "validation": [row for at, row in enumerate(own) if at in held_out],
        "train": [row for at, row in enumerate(own) if at not in held_out],
    }
    return {name: [_task(name, i, row) for i, row in chosen] for name, chosen in split.items()}


def _task(panel: str, number: int, row: dict[str, Any]) -> Task:
    """Numbered as in the official split."""
    answer = row["answer"].rpartition("####")[2].strip().replace(",", "")
    return Task(f"{ENV_ID}/{panel}/{number:04d}", ENV_ID, panel, {"question": row["question"].strip(), "answer": answer})


def data_hash() -> str:
    """Of the rows themselves, wherever they were read."""
    return hashlib.sha256(json.dumps(_read(), sort_keys=True).encode()).hexdigest()


def make(data_dir: Path) -> WordProblemEnv:
    return WordProblemEnv(id=ENV_ID)
