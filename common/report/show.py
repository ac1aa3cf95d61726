"""Display in notebooks: figures as SVG, texts as Markdown, and progress while a unit runs."""

from __future__ import annotations

import inspect
import io
import os
import re
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from common.report.hover import MIME, Chart
from common.sweep.board import stages_done, stages_of
from common.track.events import EventTail
from common.track.store import Run


AS_PNG = "LAB_PNG"
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML forbids even when escaped; an untrained model writes such characters into its actions."""


def svg(figure: Figure) -> str:
    """The figure as SVG text; the same figure gives the same bytes (no date, ids from a fixed salt)."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "report", "svg.fonttype": "path"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a nano policy writes such characters
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = re.sub(r"<!--.*?-->", "", UNPRINTABLE.sub("", buffer.getvalue()), flags=re.DOTALL)
    return re.sub(r"^.*?(?=<svg)", "", text, flags=re.DOTALL)


def png(figure: Figure) -> bytes:
    """The figure as a small picture, legible on a code host's page: 128 colours, chosen so that thin lines keep theirs (Pillow's default
    gives two rare colours a common one)."""
    from PIL import Image

    drawn, packed = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(drawn, format="png", dpi=90, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(packed, format="png", optimize=True)
    return packed.getvalue()


def show(figure: Figure) -> None:
    """Display a figure below the cell, sharp at every zoom, and where it has one its chart to hover over, which JupyterLab shows in
    its place; where ``LAB_PNG`` is set, as the gallery does, as a small picture alone."""
    from IPython.display import Image, display

    if os.environ.get(AS_PNG):
        display(Image(png(figure)))
        return
    chart = {MIME: figure.hover} if isinstance(figure, Chart) and figure.hover else {}
    display({"image/svg+xml": svg(figure), "text/plain": repr(figure), **chart}, raw=True)


def say(*texts: str) -> None:
    """Display Markdown, each text a paragraph."""
    from IPython.display import Markdown, display

    display(Markdown("\n\n".join(texts)))


DOLLAR = "<span>&#36;</span>"
"""A dollar sign in Markdown or HTML that begins no formula. JupyterLab undoes ``\\$`` and ``&#36;`` before it looks for formulas,
but looks for none that reaches over the border of an element."""


def source(function: Callable[..., Any]) -> str:
    """The function's source as a Markdown code block, to stand beside its equation."""
    return f"```python\n{textwrap.dedent(inspect.getsource(function)).rstrip()}\n```"


def code(text: str) -> str:
    """Plain text, such as a printed table, as a Markdown code block."""
    return f"```text\n{text}\n```"


def display_parts(parts: Iterable[Figure | str]) -> None:
    """Display figures, Markdown texts, and texts that begin with ``<`` as HTML, in their order. HTML holds recorded texts and no
    formulas: JupyterLab is told so, which else sets what stands between the dollar signs of two prices as one."""
    from IPython.display import HTML, display

    for part in parts:
        if isinstance(part, Figure):
            show(part)
        else:
            display(HTML(f'<div class="mathjax_ignore">{part}</div>')) if part.startswith("<") else say(part)


def quiet() -> None:
    """Silence transformers' progress bars and its warning about widgets, which it prints in a notebook at every load."""
    warnings.filterwarnings("ignore", message="IProgress not found")
    from transformers.utils import logging

    logging.disable_progress_bar()


def progress_line(seconds: float, stages: str, event: Mapping[str, Any] | None, minutes: float | None) -> str:
    """What a run does after ``seconds``: finished ``stages``, the newest ``event``, and the time left of the ``minutes`` that a unit
    usually takes."""
    parts = [f"{seconds:.0f} s"]
    if stages:
        parts.append(f"stages finished: {stages}")
    if event:
        parts.append(f"{event['variant']}, step {event['step']}")
    if minutes is None:
        parts.append("time left unknown")
    elif seconds < 60 * minutes:
        parts.append(f"about {minutes - seconds / 60:.1f} min left")
    else:
        parts.append(f"longer than the usual {minutes:.1f} min")
    return "; ".join(parts)


@contextmanager
def progress(run: Run, *, every: float = 1.0, minutes: float | None = None) -> Iterator[None]:
    """Show one line below the cell with what the run is doing, updated until the block ends. ``minutes``: what such a unit usually takes.

    Reads the run's folder; everything else keeps quiet meanwhile.
    """
    from IPython.display import Markdown, display

    quiet()
    done, started, tail = threading.Event(), time.monotonic(), EventTail(run.path / "events.jsonl")
    line = display(Markdown("starting …"), display_id=True)

    def update_line() -> None:
        last, total = None, stages_of(run.path.parent, (run.unit.env, run.unit.profile))
        while not done.wait(every):
            last = next(reversed(tail.read()), last)
            text = progress_line(time.monotonic() - started, stages_done(run.path, total), last, minutes)
            if line is not None:
                line.update(Markdown(text))

    updater = threading.Thread(target=update_line, daemon=True)
    updater.start()
    try:
        yield
    finally:
        done.set()
        updater.join()
        if line is not None:
            line.update(Markdown(f"ended after {time.monotonic() - started:.0f} s"))
