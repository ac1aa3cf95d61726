"""Dialogues of several agents before and after training, to be read.

HTML takes its text and background colours from the page, so that it is legible in light and dark.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.report.figures import BLUE, RED

Dialogue = Sequence[Mapping[str, Any]]
"""Turns of one chain: role, text, right (of a critique: its verdict is true), prompt."""


def dialogues(artifacts: Path, variant: str) -> dict[str, Dialogue]:
    """task id → turns of the chain that the run kept of ``variant``; empty when it kept none."""
    path, found = artifacts / f"dialogues.{variant}.jsonl", {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        turn = json.loads(line)
        found.setdefault(turn["task"], []).append(turn)
    return found


def contrasts(before: Mapping[str, Dialogue], after: Mapping[str, Dialogue]) -> list[tuple[str, str]]:
    """(what happened, task id), at most one of each kind and each task once: three chains worth reading.

    Repaired after training: the first answer is wrong, the verdict true, the last answer right. Lost: right at the
    end before, wrong after. Misled: after training a false verdict and a wrong last answer. Of two answers without a
    critique between them: repaired, or broken.
    """
    kinds = {
        "the trained team finds the mistake and repairs it": lambda b, a: a == (False, True, True) and not b[-1],
        "right at the end before training, wrong after": lambda b, a: b[-1] and not a[-1],
        "a false verdict, and a wrong answer after it": lambda b, a: a[1:] == (False, False),
        "the trained observer repairs what the pioneer answered": lambda b, a: a == (False, True),
        "the trained observer breaks what the pioneer answered": lambda b, a: a == (True, False),
        "wrong before, right after, at the first turn already": lambda b, a: a[0] and a[-1] and not b[-1],
    }
    chosen: list[tuple[str, str]] = []
    for name, fits in kinds.items():
        for task in before:
            if task in after and task not in {t for _, t in chosen}:
                ends = [tuple(bool(turn["right"]) for turn in told[task]) for told in (before, after)]
                if fits(*ends):
                    chosen.append((name, task))
                    break
    return chosen[:3]


def viewer(told: Mapping[str, Mapping[str, Dialogue]], task: str) -> str:
    """The chains of several variants at one task as an HTML table: a line for each role, a column for each variant.

    ✓ and ✗ are the environment's: the answer is right, the critique's verdict is true. Words that differ from the
    first variant's are marked.
    """
    names = [name for name, one in told.items() if task in one]
    if not names:
        return f"<p>No chain of {html.escape(task)} was kept.</p>"
    first = told[names[0]][task]
    cell = "border:1px solid #8c8c8c;padding:4px 8px;text-align:left;vertical-align:top"
    heads = "".join(f"<th style='{cell}'>{html.escape(name)}</th>" for name in ("role", *names))
    caption = f"<caption style='text-align:left'><b>{one_line(first[0]['prompt'])}</b></caption>"
    lines = [f"<table style='border-collapse:collapse'>{caption}", f"<tr>{heads}</tr>"]
    for k, turn in enumerate(first):
        cells = [f"<td style='{cell}'>{html.escape(turn['role'])}</td>"]
        for name in names:
            other = told[name][task][k]
            mark, colour = ("✓", BLUE) if other["right"] else ("✗", RED)
            changed = " <i>(changed)</i>" if other["text"] != turn["text"] else ""
            cells.append(f"<td style='{cell};border-left:4px solid {colour}'><code>{one_line(other['text'])}</code> "
                         f"{mark}{changed}</td>")  # fmt: skip
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table>"])


def present(*tables: str) -> None:
    """Display HTML below the cell."""
    from IPython.display import HTML, display

    display(HTML("<br>".join(tables)))


def one_line(text: str) -> str:
    """``text`` as one line of HTML inside Markdown, where a blank line would end the table and $ begin a formula."""
    return html.escape(" ".join(text.split())).replace("$", "&#36;")
