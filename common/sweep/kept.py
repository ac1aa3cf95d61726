"""The unit that is published whole enough to be looked at: ``results/<paper>/unit/``, of a paper's first seed in its first environment.

It is laid out as the unit's own folder in ``runs/``: ``unit.json``, ``config.resolved.json``, ``events.jsonl`` and ``artifacts/``, with some of
the tasks and some of the updates, so that notebooks show dialogues, trees and curves in a clone that has not run anything.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.files import StoreError, write_atomic
from common.rows import read_metrics
from common.sweep.inputs import published_processors
from common.sweep.verify import another_processor
from common.track import processor
from common.track.events import read_events, training_part
from common.track.store import finished_rows

MOST_BYTES = 200_000
"""Of a paper's published unit."""
TASKS = (60, 40, 30, 20, 15, 10, 7, 5, 3, 2, 1)
UPDATES = (60, 40, 30, 20, 10)
"""How many tasks' records, and how many points of a curve, are kept: the first that fits."""


def keep_unit(run: Path, table: Path) -> tuple[Path, int]:
    """Write a part of the finished unit in ``run`` beside its paper's ``table``; (folder, bytes). ``unit.json`` says how many of its
    values differ from the table's, which on the table's own processor must be none. Curves get half of the room; records share the rest
    by kind (dialogues, trees, …), so that all of a kind are of the same tasks.

    Raises:
        StoreError: ``run`` is not finished, or its rows are not those that ``table`` publishes: what is shown belongs to what is told.
    """
    rows, spec = finished_rows(run), json.loads((run / "unit.json").read_text(encoding="utf-8"))
    published = {row.identity: row.value for row in read_metrics(table)}
    other = [row for row in rows if published.get(row.identity) != row.value]
    elsewhere = another_processor(published_processors(table, spec["env"], spec["profile"]), processor.read(run))
    for row in other:
        if row.identity not in published or not elsewhere:
            raise StoreError(f"{run}: {row.env} {row.seed} {row.panel} {row.variant} {row.metric} is {row.value}, and "
                             f"{published.get(row.identity, 'absent')} in {table}; publish the table of this unit first (python -m common run), or take "
                             "the unit it was published from")  # fmt: skip
    spec |= {"differ": len(other), "values": len(rows), "largest": max((abs(row.value - published[row.identity]) for row in other), default=0.0)}
    fixed = {"unit.json": json.dumps(spec, indent=1, sort_keys=True) + "\n",
             "config.resolved.json": (run / "config.resolved.json").read_text(encoding="utf-8")}  # fmt: skip
    events = read_events(run / "events.jsonl")
    parts = fixed | {"events.jsonl": first_fit(UPDATES, lambda updates: {"": lines(thinned(events, updates))}, MOST_BYTES // 2)[""]}
    kinds: dict[str, list[Path]] = {}
    for path in sorted((run / "artifacts").glob("*.json*")):
        kinds.setdefault(path.name.split(".")[0], []).append(path)
    left = MOST_BYTES - size_of(parts)
    for share, (_, paths) in enumerate(sorted(kinds.items(), key=lambda kind: sum(path.stat().st_size for path in kind[1])), start=-len(kinds)):
        kept = first_fit(TASKS, lambda tasks: {f"artifacts/{path.name}": records(path, tasks) for path in paths}, left // -share)  # noqa: B023
        left -= size_of(kept)
        parts |= kept
    folder, half = table.parent / "unit", table.parent / "unit.tmp"  # whole or not at all
    shutil.rmtree(half, ignore_errors=True)
    for name, text in parts.items():
        (half / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(half / name, text)
    shutil.rmtree(folder, ignore_errors=True)
    half.rename(folder)
    return folder, size_of(parts)


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def short(number: str) -> float:
    """Four digits, for eyes."""
    return float(f"{float(number):.4g}")


def thinned(events: Sequence[dict[str, Any]], most: int) -> Iterator[dict[str, Any]]:
    """Events of training alone, at most ``most`` of each part of each variant, the first and the last among them, without times."""
    steps: dict[tuple[str, int], list[int]] = {}
    for event in events:
        for name in event["metrics"]:
            if part := training_part(name):
                steps.setdefault((event["variant"], part[0]), []).append(event["step"])
    chosen = {where: evenly(sorted(set(found)), most) for where, found in steps.items()}
    for event in events:
        metrics = {name: short(value) for name, value in event["metrics"].items()
                   if (part := training_part(name)) and event["step"] in chosen[event["variant"], part[0]]}
        if metrics:
            yield {"variant": event["variant"], "step": event["step"], "metrics": metrics}


def evenly(steps: Sequence[int], most: int) -> set[int]:
    """At most ``most`` of ``steps``, which are sorted, the first and the last among them."""
    last = len(steps) - 1
    return set(steps) if last < most else {steps[round(k * last / (most - 1))] for k in range(most)}


def first_fit(sizes: Sequence[int], make: Callable[[int], dict[str, str]], most: int) -> dict[str, str]:
    """``make`` of the first of ``sizes`` whose texts have at most ``most`` bytes, of the last where none has."""
    for size in sizes:
        made = make(size)
        if size_of(made) <= most:
            break
    return made


def size_of(parts: Mapping[str, str]) -> int:
    return sum(len(text.encode()) for text in parts.values())


def records(path: Path, tasks: int) -> str:
    """Of a file of records those of its first ``tasks`` tasks, or as many first records where they belong to none; of another JSON file
    everything."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.dumps(json.loads(text, parse_float=short)) + "\n"
    rows = [json.loads(line, parse_float=short) for line in text.splitlines()]
    names = [row.get("task", i) for i, row in enumerate(rows)]
    kept = set(list(dict.fromkeys(names))[:tasks])
    return lines(row for row, name in zip(rows, names, strict=True) if name in kept)
