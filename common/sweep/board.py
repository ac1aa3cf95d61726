"""Progress of a sweep, unit by unit: written by the process that runs it, shown in a terminal or a notebook.

``runs/sweeps/<name>/board.json`` holds the units with their states and the owner, the process that writes it. How far a running
unit is, is read from its own folder: finished stages and the newest event. So a table in a terminal and a widget in a notebook,
in another process or later, show the same. A sweep that outlives whoever started it, a notebook's kernel or a closed browser::

    started = start_in_background("--paper agent_q --grid search.alpha=0,0.5,1 --seeds 0-1")
    sweep_view(started)                # common.report.sweeps; also later, from another kernel, as sweep_view()
    started.stop()                     # like Ctrl-C: what is finished is kept, the same words go on with the rest
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import psutil

from common.config import ConfigError
from common.files import StoreError, storage, write_atomic
from common.sweep.plan import Planned, read_json
from common.sweep.unit import project_root
from common.track.events import EventTail
from common.track.owner import alive, current_owner
from common.track.store import read_unit, unit_path

ACTIVE, ENDED = ("waiting", "running"), ("finished", "failed", "restored", "interrupted")
"""States of a unit. "restored": it was finished before the sweep began."""

COLUMNS = ("state", "unit", "stages", "at", "latest", "minutes", "left")
STYLES = {"running": "bold cyan", "finished": "green", "failed": "bold red", "interrupted": "yellow", "waiting": "dim",
          "restored": "dim green"}
REFRESH_SECONDS = 0.5


@dataclass
class UnitStatus:
    """One unit on the board. ``folder`` is relative to the root; ``started`` in unix seconds; ``expected`` and ``minutes`` in minutes."""

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
            name = f"{one.paper} " * several + f"{one.env} seed {one.seed}{changes}"
            self.entries.append(UnitStatus(name, one.env, one.profile, unit_path(self.root, one.unit).relative_to(self.root).as_posix(),
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

    def minutes_left(self, workers: int) -> float | None:
        """Of the whole sweep, as far as the units say that are finished or were estimated; None when one says nothing."""
        units = [vars(one) for one in self.entries]
        usual = _usual_minutes(units)
        left = [_minutes_left(one, usual) for one in units if one["state"] in ACTIVE]
        return None if None in left else sum(left) / max(1, min(workers, len(left)))

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


# -- reading it -----------------------------------------------------------------------------------------------------


def find_board(root: Path, name: str = "") -> Path:
    """The newest ``board.json`` whose folder's name begins with ``name``. ConfigError when there is none."""
    boards = sorted((root / "runs" / "sweeps").glob("*/board.json"), key=lambda path: path.stat().st_mtime)
    found = [path for path in boards if path.parent.name.startswith(name)]
    if not boards:
        raise ConfigError("no sweep has run here yet; start one: python -m common sweep --paper agent_q "
                          "--grid search.alpha=0,0.5,1")
    if not found:
        known = ", ".join(sorted(path.parent.name for path in boards))
        raise ConfigError(f'no sweep in runs/sweeps begins with "{name}"; known: {known}')
    return found[-1]


def read_board(path: Path) -> tuple[dict[str, Any], bool]:
    """A board and whether its owner still runs it. ConfigError when it cannot be read."""
    board = read_json(path)
    if "units" not in board:
        raise ConfigError(f"{path.parent.name}/board.json is damaged or gone; run the sweep again to write it")
    return board, alive(board["owner"], local=True)


class Reader:
    """Lines for people from a board's snapshot; keeps its place in the units' event files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tails: dict[str, EventTail] = {}
        self._latest: dict[str, dict[str, Any]] = {}
        self._totals: dict[tuple[str, str], int] = {}

    def lines(self, board: dict[str, Any], *, living: bool = True) -> list[tuple[str, ...]]:
        """One line of ``COLUMNS`` a unit. Where the owner is not ``living``, what it was doing is interrupted."""
        shown, usual = [], _usual_minutes(board["units"])
        for unit in board["units"]:
            state = "interrupted" if unit["state"] == "running" and not living else unit["state"]
            spent = (time.time() - unit["started"]) / 60 if state == "running" else unit["minutes"]
            at, latest = "", unit["message"]
            if state in ("running", "interrupted"):
                at, latest = self._event(unit["folder"], board["metric"])
            left = _minutes_left(unit, usual) if state == "running" else None
            shown.append((state, unit["name"], self._stages(unit), at, latest, f"{spent:.1f}" if spent else "",
                          "" if left is None else f"{left:.1f}"))
        return shown

    def _event(self, folder: str, metric: str | None) -> tuple[str, str]:
        """Variant and step of the newest event, and its metric: ``metric`` on any panel, else the first."""
        tail = self._tails.setdefault(folder, EventTail(self._root / folder / "events.jsonl"))
        if events := tail.read():
            self._latest[folder] = events[-1]
        event = self._latest.get(folder)
        if not event or not event["metrics"]:
            return "", ""
        name = min(event["metrics"], key=lambda name: (name.rpartition("/")[2] != metric, "loss" not in name, name))
        return f"{event['variant']} {event['step']}", f"{name} {event['metrics'][name]:.4g}"

    def _stages(self, unit: dict[str, Any]) -> str:
        """How many stages are finished, of how many in a finished unit like it."""
        folder, kind = self._root / unit["folder"], (unit["env"], unit["profile"])
        done = _stage_count(folder)
        if unit["state"] in ("finished", "restored"):
            self._totals[kind] = done
        elif kind not in self._totals:
            self._totals[kind] = stages_of(folder.parent, kind)
        return "" if unit["state"] == "waiting" else stages_done(folder, self._totals[kind])


def _usual_minutes(units: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Environment → median minutes of its units that this sweep finished, which say more than earlier estimates."""
    done = [(one["env"], one["minutes"]) for one in units if one["state"] == "finished"]
    return {env: statistics.median(minutes for other, minutes in done if other == env) for env in dict(done)}


def _minutes_left(unit: dict[str, Any], usual: dict[str, float]) -> float | None:
    expected = usual.get(unit["env"], unit["expected"])
    spent = (time.time() - unit["started"]) / 60 if unit["state"] == "running" else 0.0
    return None if expected is None else max(expected - spent, 0.0)


def stages_done(folder: Path, total: int) -> str:
    """How many stages of a unit are finished, of ``total`` where that is known."""
    done = _stage_count(folder)
    return f"{done}/{total}" if 0 < total >= done else str(done)


def stages_of(paper: Path, kind: tuple[str, str]) -> int:
    """Stages of the newest finished unit of an environment and profile, 0 where there is none."""
    for marker in sorted(paper.glob("*/DONE"), key=lambda path: -path.stat().st_mtime):
        with suppress(StoreError):
            unit = read_unit(marker.parent)
            if (unit.env, unit.profile) == kind:
                return _stage_count(marker.parent)
    return 0


def _stage_count(folder: Path) -> int:
    return len(list((folder / "stages").glob("*.json")))


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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join([head, *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)])


# -- showing it while it runs -----------------------------------------------------------------------------------------


def progress_of(board: Board, total: int, scope: str = "") -> Progress | LiveTable:
    """A table where standard output is a terminal that can draw one; else a bar or plain lines on standard error."""
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return LiveTable(board, total, scope)
    return Progress(total, board.paper, scope=scope)


class Progress:
    """What is done and what remains, what runs now, and the time that is left: a bar on a terminal, else a line now and then."""

    def __init__(
        self, total: int, label: str, *, what: str = "units", stream: TextIO | None = None, every: float = 30.0, scope: str = "",
    ) -> None:
        """``what`` is counted; ``scope`` says what the time left is of; ``every`` is the number of seconds between two lines
        when ``stream`` is no terminal."""
        self._stream = sys.stderr if stream is None else stream
        self._label, self.total, self._what, self._every, self._scope = label, total, what, every, scope
        self._start = self._last = time.monotonic()
        self._bar = None
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=label, file=self._stream, dynamic_ncols=True,
                             bar_format="{desc} {bar:20} {n_fmt}/{total_fmt} " + what + " [{elapsed}{postfix}]")

    def update(self, done: int, running: list[str], minutes_left: float | None) -> None:
        """``running`` describes what runs now; ``minutes_left`` is None when nothing is known."""
        left = _time_left(minutes_left, self._scope)
        if self._bar is not None:
            self._bar.n = done
            self._bar.set_postfix_str(f"{left}; {'; '.join(running)}")
        elif time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self.say(f"{self._label}: {done} of {self.total} {self._what} done, {self.total - done} remaining, {left}, "
                     f"{(self._last - self._start) / 60:.1f} min so far; {'; '.join(running) or 'starting'}")

    def say(self, text: str) -> None:
        """Print a line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class LiveTable:
    """The units of a sweep as a table that changes in place; the last one stays on the screen. Used as :class:`Progress`."""

    def __init__(self, board: Board, total: int, scope: str = "") -> None:
        from rich.console import Console
        from rich.live import Live

        self._board, self._reader, self.total, self._scope = board, Reader(board.root), total, scope
        self._console, self._last = Console(), 0.0
        self._live = Live(console=self._console, auto_refresh=False, redirect_stderr=sys.stderr.isatty())
        self._live.start()

    def update(self, done: int, running: list[str], minutes_left: float | None) -> None:
        """As :meth:`Progress.update`; what runs is read from the board."""
        if time.monotonic() - self._last >= REFRESH_SECONDS:
            self._last = time.monotonic()
            self._live.update(self._table(_time_left(minutes_left, self._scope), self._console.height - 7), refresh=True)

    def say(self, text: str) -> None:
        """Print lines above the table."""
        self._console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Leave all units on the screen, and the cursor as it was."""
        self._live.vertical_overflow = "visible"
        self._live.update(self._table("", len(self._board.entries)), refresh=True)
        self._live.stop()

    def _table(self, left: str, room: int) -> Any:
        from rich.table import Table
        from rich.text import Text

        board = self._board.snapshot()
        lines, hidden = visible(self._reader.lines(board), max(room, 3))
        table = Table(title=headline(board, living=True) + (f", {left}" if left else ""), title_justify="left",
                      caption=f"and {hidden} more" if hidden else None, caption_justify="left")
        for name in COLUMNS:
            table.add_column(name, justify="right" if name in ("stages", "minutes", "left") else "left",
                             no_wrap=name not in ("unit", "latest"), overflow="fold")
        for line in lines:
            table.add_row(*map(Text, line), style=STYLES[line[0]])
        return table


def visible(lines: Sequence[tuple[str, ...]], room: int) -> tuple[list[tuple[str, ...]], int]:
    """At most ``room`` of ``lines`` in their order, and how many are left out: first of all those that run or failed, then
    the next ones to run, then the last ones that ended."""
    order = sorted(range(len(lines)), key=lambda i: {"running": (0, i), "failed": (1, i), "interrupted": (1, i),
                                                     "waiting": (2, i)}.get(lines[i][0], (3, -i)))
    kept = sorted(order[:room])
    return [lines[i] for i in kept], len(lines) - len(kept)


def _time_left(minutes: float | None, scope: str) -> str:
    return "time left unknown" if minutes is None else f"~{max(minutes, 0.1):.1f} min left{scope}"


# -- a sweep that nobody waits for ------------------------------------------------------------------------------------

_DETACH = """
import subprocess, sys
log, *command = sys.argv[1:]
with open(log, "w") as output:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
print(process.pid)
"""
"""Ends at once, so that the sweep is nobody's child: Jupyter ends all descendants of a kernel with it."""


@dataclass(frozen=True)
class Background:
    """A sweep that was started: its process, and the file with what it prints."""

    root: Path
    pid: int
    log: Path

    @property
    def running(self) -> bool:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        return False

    def stop(self) -> None:
        """As Ctrl-C does in a terminal; nothing when it is over."""
        if self.running:
            os.kill(self.pid, signal.SIGINT)

    def __repr__(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        return "\n".join([f"a sweep in the background, process {self.pid}, {'running' if self.running else 'over'}; it prints to "
                          f"{self.log.relative_to(self.root)}", *lines])


def start_in_background(words: str, *, root: Path | None = None) -> Background:
    """Start ``python -m common sweep <words>`` as a process of its own. Mistakes in ``words`` are in the log, which is shown
    with the result."""
    root = project_root() if root is None else root
    log = root / "runs" / "sweeps" / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    with storage(log.parent):
        log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-u", "-m", "common", "sweep", *shlex.split(words)]
    started = subprocess.run([sys.executable, "-c", _DETACH, str(log), *command], cwd=root, stdout=subprocess.PIPE, text=True,
                             env={**os.environ, "LAB_ROOT": str(root)}, check=True)
    return Background(root, int(started.stdout), log)
