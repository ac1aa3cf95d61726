"""Rows in the formats of GSM8K and MATH-500, and files of them as a user supplies them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.envs import user_rows


@pytest.fixture(autouse=True)
def anew():
    """What was read of a user's files is forgotten before and after each test of a module that imports this."""
    user_rows.forget()
    yield
    user_rows.forget()


def write(folder: Path, **splits: list[dict]) -> None:
    """``<split>.jsonl`` in ``folder``."""
    folder.mkdir(exist_ok=True)
    for split, found in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


def gsm8k_rows(n: int, start: int = 0) -> list[dict]:
    return [{"question": f"Tom has {i} eggs and finds 1,000 more. How many has he?", "answer": f"{i} + 1000\n#### 1,{i:03d}"}
            for i in range(start, start + n)]  # fmt: skip


def math500_rows(n: int, start: int = 0) -> list[dict]:
    return [{"problem": f"What is half of ${i}$?", "solution": f"It is $\\boxed{{\\frac{{{i}}}{{2}}}}$.", "answer": f"\\frac{{{i}}}{{2}}",
             "subject": "Prealgebra", "level": 1, "unique_id": f"test/prealgebra/{i}.json"} for i in range(start, start + n)]  # fmt: skip
