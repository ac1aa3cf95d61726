"""Sweeps: a table that follows a running sweep in a notebook, and a parallel-coordinates picture of the settings tried.

    from common.report.sweeps import sweep_view
    sweep_view()                       # the newest sweep of this laboratory; sweep_view("agent_q") the newest of a paper

The table is read from the run store only, so a notebook that is opened again, or a kernel that was killed, finds the sweep
where it is.
"""

from __future__ import annotations

import html
import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from common.config import ConfigError
from common.report.figures import INK, WIDTH
from common.sweep.board import COLUMNS, Background, Reader, find_board, headline, read_board, text
from common.sweep.unit import project_root

PERIOD = 2.0
"""Seconds between two readings of the run store."""

COLOURS = {"running": "#1f6feb", "finished": "#2e7d32", "failed": "#c62828", "interrupted": "#b26a00"}


class SweepView:
    """What a cell shows of a sweep: a widget that keeps up with it, with a table in HTML and in plain text for front ends that
    show no widgets."""

    def __init__(self, root: Path, board: Path) -> None:
        self.path, self._reader = board, Reader(root)
        self._widget: Any = None

    def look(self) -> tuple[str, list[tuple[str, ...]], bool]:
        """The sweep's present headline, its lines of ``COLUMNS``, and whether a process is running it."""
        board, living = read_board(self.path)
        return headline(board, living=living), self._reader.lines(board, living=living), living

    def __repr__(self) -> str:
        head, lines, _ = self.look()
        return text(head, lines)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        head, lines, living = self.look()
        bundle = {"text/plain": text(head, lines), "text/html": table_html(head, lines)}
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
            self._widget.value = table_html(head, lines)


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


def table_html(head: str, lines: Sequence[tuple[str, ...]]) -> str:
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


# -- the picture --------------------------------------------------------------------------------------


def parallel_coordinates(settings: Sequence[Mapping[str, Any]], values: Sequence[float], *, outcome: str, lowest: bool = False) -> Figure:
    """Parallel coordinates (Inselberg 1985): ``settings[i]`` led to ``values[i]``; the best is drawn last and thick, which
    is the highest, or the ``lowest``.

    An axis of numbers that span a factor of ten or more is logarithmic; what is not a number has its values spread
    evenly, in their order of appearance. ``outcome`` names the last axis and the colours, dark to bright.
    """
    names = [*dict.fromkeys(name for setting in settings for name in setting), outcome]
    rows = [{**setting, outcome: value} for setting, value in zip(settings, values, strict=True)]
    figure = Figure(figsize=(min(WIDTH, 1.6 * len(names) + 1.5), 3.6), layout="constrained")
    axes = figure.subplots()
    scales = [_scale([row.get(name) for row in rows]) for name in names]
    colour = Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 1)
    order = sorted(range(len(rows)), key=lambda i: (-values[i] if lowest else values[i], -i))
    for k in order:
        best = k == order[-1]
        heights = [place[repr(rows[k].get(name))] for name, (place, _) in zip(names, scales, strict=True)]
        axes.plot(range(len(names)), heights, color=colormaps["viridis"](0.9 * colour(values[k])), lw=3 if best else 1.2)
    for x, (_, ticks) in enumerate(scales):
        axes.axvline(x, color=INK, lw=0.8)
        for height, label in ticks:
            axes.annotate(label, (x, height), xytext=(4, 0), textcoords="offset points", fontsize=7, va="center",
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.75})  # fmt: skip
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.15, len(names) - 0.6)
    axes.spines[:].set_visible(False)
    note = f"{len(rows)} settings; thick: the {'lowest' if lowest else 'highest'} {outcome}, {values[order[-1]]:.3f}"
    figure.supxlabel(note, fontsize=8, color="#555555")
    return figure


def _scale(values: Sequence[Any]) -> tuple[dict[str, float], list[tuple[float, str]]]:
    """Height in [0, 1] of each value, and (height, label) of at most eight ticks."""
    distinct = list({repr(value): value for value in values}.values())
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in distinct)
    if numbers:
        distinct.sort()
    if not numbers or len(distinct) == 1:
        place = {repr(value): (k + 0.5) / len(distinct) for k, value in enumerate(distinct)}
    else:
        low, high = distinct[0], distinct[-1]
        log = low > 0 and high / low >= 10
        at = math.log if log else float
        place = {repr(value): (at(value) - at(low)) / (at(high) - at(low)) for value in distinct}
    shown = distinct if len(distinct) <= 8 else [distinct[round(k * (len(distinct) - 1) / 4)] for k in range(5)]
    return place, [(place[repr(value)], f"{value:.4g}" if isinstance(value, float) else str(value)) for value in shown]
