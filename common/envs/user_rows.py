"""Rows of public data sets that this project does not contain: JSON lines in a folder of the user's, else from the hub."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from common.network import hub_answers
from common.rng import generator

Row = dict[str, Any]


class Rule(NamedTuple):
    """What a value must be, in the words of a message, and whether one is."""

    words: str
    holds: Callable[[Any], bool]


def is_text(value: Any) -> bool:
    """Whether a value is text with something in it that can be written as UTF-8."""
    try:
        return isinstance(value, str) and value.encode("utf-8").strip() != b""
    except UnicodeEncodeError:
        return False


TEXT = Rule("text that is not empty", is_text)


class Source(NamedTuple):
    """A data set and where an environment finds it: ``<split>.jsonl`` in the folder that ``variable`` names, or, where that is
    not set, the hub. Both give the same rows."""

    env: str
    name: str
    variable: str
    lines: str
    """What a file holds, in the message of one that does not."""
    rules: tuple[tuple[str, Rule], ...]
    """Fields of a row, each with its rule; other fields are left out."""
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
    try:  # at ASCII line ends alone: a string of JSON may hold U+2028 or U+0085 as it is, which str.splitlines takes for ends
        lines = re.split(r"\r\n?|\n", path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{source.env}: {path} is not UTF-8 ({error.reason} at byte {error.start}) but must be; save it as UTF-8 or "
                         "fetch it anew") from None  # fmt: skip
    rows = [_checked(source, f"{path} line {number}", _parsed(source, f"{path} line {number}", line))
            for number, line in enumerate(lines, start=1) if line.strip()]  # fmt: skip
    if not rows:
        raise ValueError(f"{source.env}: {path} has no row but must hold {source.lines}; fetch it anew")
    return rows


def _parsed(source: Source, where: str, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source.env}: {where} is not JSON ({error}) but must be {_object(source)}; correct the line or fetch the "
                         "file anew") from None  # fmt: skip


def _checked(source: Source, where: str, row: Any) -> Row:
    """The fields of a row that are read. ValueError names the place, the field and its rule when a value breaks it."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{source.env}: {where} is {_shown(row)} but must be {_object(source)}; correct the line or fetch the file anew")
    for field, rule in source.rules:
        if field not in row or not rule.holds(row[field]):
            value = _shown(row[field]) if field in row else "missing"
            raise ValueError(f"{source.env}: {where}: {field} is {value} but must be {rule.words}; correct it or fetch the file anew")
    return {field: row[field] for field, _ in source.rules}


def _object(source: Source) -> str:
    return f"a JSON object with {', '.join(field for field, _ in source.rules)}"


def _shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hub(source: Source, split: str) -> list[Row]:
    answers = hub_answers()  # where not, what was fetched before is looked for
    from datasets import load_dataset

    try:
        rows = load_dataset(*source.hub, split=split, revision=source.revision)
    except Exception as error:  # noqa: BLE001 - of requests, the hub or datasets, whatever is missing
        reason = next(iter(str(error).splitlines()), type(error).__name__) if answers else "it does not answer"
        raise FileNotFoundError(f"{source.env} needs {source.name}'s rows, and the hub gave none ({reason}); set {source.variable} to "
                                f"a folder with {_files(source)}, or go online once") from None  # fmt: skip
    return _cut(source, split, rows)


def _cut(source: Source, split: str, rows: Iterable[Row]) -> list[Row]:
    return [_checked(source, f"{source.hub[0]} {split} row {number}", row) for number, row in enumerate(rows, start=1)]


def _files(source: Source) -> str:
    return " and ".join(f"{split}.jsonl" for split in source.splits)
