"""What a sweep is doing, unit by unit: written by the process that runs it, read by whoever wants to see.

``runs/sweeps/<name>/board.json`` holds the units with their states and the owner, the process that writes it. How far a
running unit is, is read from its own folder: finished stages and the newest event. So a table in a terminal and a widget in
a notebook, in another process or later, show the same.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.config import ConfigError
from common.files import StoreError, write_atomic
from common.sweep.plan import Planned, read_json
from common.track.events import EventTail
from common.track.owner import alive, current_owner
from common.track.store import read_unit, unit_path

ACTIVE, ENDED = ("waiting", "running"), ("finished", "failed", "restored", "interrupted")
"""States of a unit. "restored": it was finished before the sweep began."""

COLUMNS = ("state", "unit", "stages", "at", "latest", "minutes", "left")


@dataclass
class Entry:
    """One unit. ``folder`` is relative to the root; ``started`` in unix seconds; ``expected`` and ``minutes`` in minutes."""

    name: str
    env: str
    profile: str
    folder: str
    state: str
    expected: float | None
    started: float | None = None
    minutes: float = 0.0
    message: str = ""


class Board:
    """The units of one sweep, in the order of its plan. Only the process that runs the sweep has one."""

    def __init__(self, root: Path, folder: Path, *, paper: str, command: str, metric: str | None = None) -> None:
        """``paper`` names what is run: a paper, or several. ``metric`` is the one to show of each unit's events, where it is
        among them."""
        self.root, self.folder, self.paper, self.entries = root, folder, paper, []
        self._head = {"paper": paper, "command": command, "metric": metric, "started": time.time(), "owner": current_owner()}

    def add(self, planned: Sequence[Planned]) -> None:
        several = len({one.paper for one in planned} | {self.paper}) > 1
        for one in planned:
            changes = "".join(f" {name}={value}" for name, value in one.overrides.items() if name not in ("panel", "panels"))
            folder = unit_path(self.root, one.unit).relative_to(self.root).as_posix()
            name = f"{one.env} seed {one.seed}{changes}"
            self.entries.append(Entry(f"{one.paper} {name}" if several else name, one.env, one.profile, folder,
                                      "restored" if one.finished else "waiting", one.minutes))
        self.write()

    def start(self, index: int) -> None:
        self.entries[index].state, self.entries[index].started = "running", time.time()
        self.write()

    def end(self, index: int, state: str, message: str = "") -> None:
        one = self.entries[index]
        one.state, one.message, one.minutes = state, message, (time.time() - (one.started or time.time())) / 60
        self.write()

    def stop(self) -> None:
        """The sweep ends here, whatever was under way."""
        for index, one in enumerate(self.entries):
            if one.state == "running":
                self.end(index, "interrupted")

    def write(self) -> None:
        with suppress(StoreError):  # only a view is lost
            write_atomic(self.folder / "board.json", json.dumps(self.snapshot()) + "\n")

    def snapshot(self) -> dict[str, Any]:
        """What ``board.json`` holds."""
        return {**self._head, "units": [asdict(one) for one in self.entries]}


def board_folder(root: Path, planned: Sequence[Planned]) -> Path:
    """Where the board, the table and the picture of a plan are: the same units, the same folder."""
    name = hashlib.sha256(json.dumps(sorted(one.unit.key for one in planned)).encode()).hexdigest()[:12]
    return root / "runs" / "sweeps" / f"{planned[0].paper}-{name}"


def find_board(root: Path, name: str = "") -> Path:
    """The newest ``board.json`` whose folder's name begins with ``name``. ConfigError when there is none."""
    found = sorted((root / "runs" / "sweeps").glob(f"{name}*/board.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        known = sorted(path.parent.name for path in (root / "runs" / "sweeps").glob("*/board.json"))
        raise ConfigError(f'no sweep in runs/sweeps begins with "{name}"; known: {", ".join(known)}' if known else "no sweep "
                          "has run here yet; start one: python -m common sweep --paper agent_q --grid search.alpha=0,0.5,1")
    return found[-1]


class Reader:
    """Lines for people from a board's snapshot; keeps its place in the units' event files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tails: dict[str, EventTail] = {}
        self._latest: dict[str, dict[str, Any]] = {}
        self._totals: dict[tuple[str, str], int] = {}

    def lines(self, board: dict[str, Any], *, living: bool = True) -> list[tuple[str, ...]]:
        """One line of ``COLUMNS`` a unit. Where the owner is not ``living``, what it was doing is interrupted."""
        shown = []
        for unit in board["units"]:
            state = "interrupted" if unit["state"] == "running" and not living else unit["state"]
            folder, expected = self._root / unit["folder"], _expected(unit, board["units"])
            spent = (time.time() - unit["started"]) / 60 if state == "running" else unit["minutes"]
            at, latest = "", unit["message"]
            if state in ("running", "interrupted"):
                at, latest = self._event(unit["folder"], board["metric"])
            left = max(expected - spent, 0.0) if state == "running" and expected is not None else None
            shown.append((state, unit["name"], self._stages(folder, unit), at, latest, f"{spent:.1f}" if spent else "",
                          "" if left is None else f"{left:.1f}"))
        return shown

    def _event(self, folder: str, metric: str | None) -> tuple[str, str]:
        """Variant and step of the newest event, and its metric: ``metric`` on any panel, else the first."""
        tail = self._tails.setdefault(folder, EventTail(self._root / folder / "events.jsonl"))
        for event in tail.read():
            self._latest[folder] = event
        event = self._latest.get(folder)
        if not event or not event["metrics"]:
            return "", ""
        names = sorted(event["metrics"], key=lambda name: (name.rpartition("/")[2] != metric, "loss" not in name))
        return f"{event['variant']} {event['step']}", f"{names[0]} {event['metrics'][names[0]]:.4g}"

    def _stages(self, folder: Path, unit: dict[str, Any]) -> str:
        """How many stages are finished, of how many in a finished unit like it."""
        done, kind = _stage_count(folder), (unit["env"], unit["profile"])
        if unit["state"] in ("finished", "restored"):
            self._totals[kind] = done
        elif kind not in self._totals:
            self._totals[kind] = self._total(folder.parent, kind)
        total = self._totals[kind]
        return "" if unit["state"] == "waiting" else f"{done}/{total}" if 0 < total >= done else str(done)

    def _total(self, paper: Path, kind: tuple[str, str]) -> int:
        for marker in sorted(paper.glob("*/DONE"), key=lambda path: -path.stat().st_mtime):
            with suppress(StoreError):
                unit = read_unit(marker.parent)
                if (unit.env, unit.profile) == kind:
                    return _stage_count(marker.parent)
        return 0


def _stage_count(folder: Path) -> int:
    return sum(1 for _ in (folder / "stages").glob("*.json"))


def _expected(unit: dict[str, Any], units: Sequence[dict[str, Any]]) -> float | None:
    """Minutes of one unit: those of its environment that this sweep finished say more than earlier estimates."""
    done = [one["minutes"] for one in units if one["state"] == "finished" and one["env"] == unit["env"]]
    return statistics.median(done) if done else unit["expected"]


def read_board(path: Path) -> tuple[dict[str, Any], bool]:
    """A board and whether its owner still runs it. ConfigError when it cannot be read."""
    board = read_json(path)
    if "units" not in board:
        raise ConfigError(f"{path.parent.name}/board.json is damaged or gone; run the sweep again to write it")
    return board, alive(board["owner"], local=True)


def headline(board: dict[str, Any], *, living: bool) -> str:
    """One sentence: how many units ended how, and what remains."""
    count = {state: sum(one["state"] == state for one in board["units"]) for state in (*ACTIVE, *ENDED)}
    if not living:
        count["interrupted"], count["running"] = count["interrupted"] + count["running"], 0
    parts = [f"{number} {state}" for state, number in count.items() if number]
    open_ends = count["waiting"] + count["interrupted"]
    over = "" if living else f"; nobody runs it now: {board['command']}" if open_ends else "; it is over"
    return f"{board['paper']}: {len(board['units'])} units, {', '.join(parts)}{over}"


def text(head: str, lines: Sequence[tuple[str, ...]]) -> str:
    """A plain table under its headline."""
    rows = [COLUMNS, *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join([head, *(row.rstrip() for row in padded)])
