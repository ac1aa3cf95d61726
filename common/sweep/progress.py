"""Progress of long work: a table or a bar on a terminal, one line every 30 s otherwise."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from common.sweep.board import Board


class Progress:
    """Shows what is done and what remains, what runs now, and the time that is left."""

    def __init__(
        self, total: int, label: str, *, what: str = "units", stream: TextIO | None = None, every: float = 30.0,
        scope: str = "",
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
        left = time_left(minutes_left, self._scope)
        if self._bar is not None:
            self._bar.n = done
            self._bar.set_postfix_str(f"{left}; {'; '.join(running)}")
            return
        if time.monotonic() - self._last >= self._every:
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


REFRESH_SECONDS = 0.5
STYLES = {"running": "bold cyan", "finished": "green", "failed": "bold red", "interrupted": "yellow", "waiting": "dim",
          "restored": "dim green"}


class LiveTable:
    """The units of a sweep as a table that changes in place; the last one stays on the screen. Used as :class:`Progress`."""

    def __init__(self, board: Board, total: int, scope: str = "") -> None:
        from rich.console import Console
        from rich.live import Live

        from common.sweep.board import Reader

        self._board, self._reader, self.total, self._scope = board, Reader(board.root), total, scope
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, redirect_stderr=sys.stderr.isatty())
        self._live.start()
        self._last = 0.0

    def update(self, done: int, running: list[str], minutes_left: float | None) -> None:
        """As :meth:`Progress.update`; what runs is read from the board."""
        if time.monotonic() - self._last >= REFRESH_SECONDS:
            self._last = time.monotonic()
            self._live.update(self._table(time_left(minutes_left, self._scope), self._console.height - 7), refresh=True)

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

        from common.sweep.board import COLUMNS, headline

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


def time_left(minutes: float | None, scope: str) -> str:
    return "time left unknown" if minutes is None else f"~{max(minutes, 0.1):.1f} min left{scope}"


def progress_of(board: Board, total: int, scope: str = "") -> Progress | LiveTable:
    """A table where standard output is a terminal that can draw one; else a bar or plain lines on standard error."""
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return LiveTable(board, total, scope)
    return Progress(total, board.paper, scope=scope)
