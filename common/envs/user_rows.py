"""Rows of public data sets that this project does not contain: JSON lines in a folder of the user's, else from the hub."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from common.rng import generator

Row = dict[str, Any]


class Source(NamedTuple):
    """A data set and where an environment finds it: ``<split>.jsonl`` in the folder that ``variable`` names, or, where that is
    not set, the hub. Both give the same rows."""

    env: str
    name: str
    variable: str
    lines: str
    """What a file holds, in the message of one that does not."""
    fields: tuple[str, ...]
    """Of a row; others are left out."""
    splits: tuple[str, ...]
    """Those that there must be; the hub has no others."""
    extra: tuple[str, ...]
    """Those that a folder may have."""
    hub: tuple[str, ...]
    """Repository and, where there are several, configuration."""
    revision: str


def source_rows(source: Source) -> dict[str, list[Row]]:
    """The rows of each split, read once a process.

    Raises:
        FileNotFoundError: a file is missing, or the hub gives no rows.
        ValueError: a file holds something else.
    """
    return _read(source, os.environ.get(source.variable, ""))


def rows_hash(rows: Mapping[str, list[Row]]) -> str:
    """SHA-256 of the rows themselves, wherever they were read."""
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def panel_rows(
    env: str, rows: Mapping[str, list[Row]], question: str, *, validation: int, share: float = 1.0
) -> dict[str, list[tuple[int, Row]]]:
    """``test`` and, of rows to train on, ``validation`` and ``train``, each row with its number in its split.

    Rows whose field ``question`` stands in the test split too are left out; of the others ``validation`` are drawn once, at
    most ``share`` of them.
    """
    panels = {"test": list(enumerate(rows["test"]))}
    if "train" in rows:
        asked = {row[question] for row in rows["test"]}
        own = [(i, row) for i, row in enumerate(rows["train"]) if row[question] not in asked]
        size = min(validation, int(share * len(own)))
        held_out = set(generator(0, env, "validation").permutation(len(own))[:size].tolist())
        panels["validation"] = [row for at, row in enumerate(own) if at in held_out]
        panels["train"] = [row for at, row in enumerate(own) if at not in held_out]
    return panels


@cache
def _read(source: Source, folder: str) -> dict[str, list[Row]]:
    if not folder:
        return {split: _hub(source, split) for split in source.splits}
    extra = [split for split in source.extra if (Path(folder) / f"{split}.jsonl").exists()]
    return {split: _lines(source, Path(folder) / f"{split}.jsonl") for split in (*source.splits, *extra)}


forget = _read.cache_clear
"""Have rows read anew."""


def _lines(source: Source, path: Path) -> list[Row]:
    if not path.is_file():
        raise FileNotFoundError(f"{source.env}: {path} is missing; point {source.variable} to the folder that holds {_files(source)}")
    try:
        return _cut(source, (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source.env}: {path} is not {source.lines} ({error!r}); fetch it anew") from None


def _hub(source: Source, split: str) -> list[Row]:
    from datasets import load_dataset

    try:
        rows = load_dataset(*source.hub, split=split, revision=source.revision)
    except Exception as error:  # noqa: BLE001 - of requests, the hub or datasets, whatever is missing
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FileNotFoundError(f"{source.env} needs {source.name}'s rows, and the hub gave none ({reason}); set {source.variable} to "
                                f"a folder with {_files(source)}, or go online once") from None  # fmt: skip
    return _cut(source, rows)


def _cut(source: Source, rows: Iterable[Row]) -> list[Row]:
    return [{field: row[field] for field in source.fields} for row in rows]


def _files(source: Source) -> str:
    return " and ".join(f"{split}.jsonl" for split in source.splits)
