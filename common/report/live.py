"""A sweep's table in a notebook, changing while the sweep runs in another process, or as it was when it ended.

    from common.report.live import sweep_view
    sweep_view()                       # the newest sweep of this laboratory; sweep_view("agent_q") the newest of a paper

It reads the run store only, so a notebook that is opened again, or a kernel that was killed, finds the sweep where it is.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.config import ConfigError
from common.sweep.board import COLUMNS, Background, Reader, find_board, headline, read_board, text
from common.sweep.unit import project_root

PERIOD = 2.0
"""Seconds between two looks at the run store."""

COLOURS = {"running": "#1f6feb", "finished": "#2e7d32", "failed": "#c62828", "interrupted": "#b26a00"}


class SweepView:
    """What a cell shows of a sweep: a widget that keeps up with it, with a table in HTML and in plain text for front ends that
    show no widgets."""

    def __init__(self, root: Path, board: Path) -> None:
        self.path, self._reader = board, Reader(root)
        self._widget: Any = None

    def look(self) -> tuple[str, list[tuple[str, ...]], bool]:
        """Headline, lines of ``COLUMNS``, and whether somebody runs the sweep, as of now."""
        board, living = read_board(self.path)
        return headline(board, living=living), self._reader.lines(board, living=living), living

    def __repr__(self) -> str:
        head, lines, _ = self.look()
        return text(head, lines)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        head, lines, living = self.look()
        bundle = {"text/plain": text(head, lines), "text/html": page(head, lines)}
        if living and self._widget is None:
            self._widget = _widget(bundle["text/html"])
            if self._widget is not None:
                threading.Thread(target=self._follow, daemon=True).start()
        return bundle if self._widget is None else {**self._widget._repr_mimebundle_(), **bundle}

    def _follow(self) -> None:
        """Bring the widget up to date until the sweep is over; the last table stays."""
        living = True
        while living:
            time.sleep(PERIOD)
            try:
                head, lines, living = self.look()
            except ConfigError:  # deleted meanwhile
                return
            self._widget.value = page(head, lines)


def sweep_view(sweep: Background | str = "", *, root: Path | None = None) -> SweepView:
    """The newest sweep whose folder in ``runs/sweeps`` begins with ``sweep``, or the one just started in the background, once
    it has begun. ConfigError, with what it printed, when it stopped before that."""
    root = project_root() if root is None else root
    if isinstance(sweep, str):
        return SweepView(root, find_board(root, sweep))
    while sweep.running:
        for path in (sweep.root / "runs" / "sweeps").glob("*/board.json"):
            if read_board(path)[0]["owner"]["pid"] == sweep.pid:
                return SweepView(sweep.root, path)
        time.sleep(0.2)
    raise ConfigError(repr(sweep))


def page(head: str, lines: Sequence[tuple[str, ...]]) -> str:
    """The table as HTML."""
    cells = "".join(f"<th style='text-align:left'>{name}</th>" for name in COLUMNS)
    rows = "".join(
        f"<tr style='color:{COLOURS.get(line[0], 'inherit')}'>"
        + "".join(f"<td style='text-align:left;padding-right:1em'>{html.escape(cell)}</td>" for cell in line) + "</tr>"
        for line in lines)
    return f"<div><b>{html.escape(head)}</b><table><tr>{cells}</tr>{rows}</table></div>"


def _widget(value: str) -> Any:
    """An HTML widget; None where ipywidgets is not installed."""
    try:
        from ipywidgets import HTML
    except ImportError:
        return None
    return HTML(value=value)
