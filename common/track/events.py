"""``events.jsonl``: metrics that a unit's process streams, read by the processes that display or log them.

One JSON object per line: ``{"t": unix seconds, "variant": name, "step": int, "metrics": {name: value}}``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def training_metric(part: int, metric: str) -> str:
    """The name under which a metric of the ``part``-th training of a variant, counted from 1, is logged."""
    return f"r{part}/train/{metric}"


def training_part(name: str) -> tuple[int, str] | None:
    """Part and metric of a name by :func:`training_metric`, None for another one."""
    match = re.fullmatch(r"r(\d+)/train/(\w+)", name)
    return (int(match[1]), match[2]) if match else None


class EventTail:
    """Reads what was appended since the last call; a line still being written waits for the next."""

    def __init__(self, path: Path) -> None:
        self.path, self._offset = path, 0

    def read(self) -> list[dict[str, Any]]:
        """The complete new events, oldest first; empty when the file does not exist yet."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return []
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [event for event in map(_parse, complete.splitlines()) if event is not None]


def read_events(path: Path) -> list[dict[str, Any]]:
    """All events; when a resumed stage logged a (variant, step, metric) again, only the last one counts."""
    events = EventTail(path).read()
    last = {(event["variant"], event["step"], name): i for i, event in enumerate(events) for name in event["metrics"]}
    latest = []
    for i, event in enumerate(events):
        metrics = {name: value for name, value in event["metrics"].items()
                   if last[event["variant"], event["step"], name] == i}
        if metrics:
            latest.append({**event, "metrics": metrics})
    return latest


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:  # a line torn by a kill
        return None
