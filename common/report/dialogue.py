"""Several agents as pictures: an expansion with the credit of every utterance, dialogues before and after training,
and what each role does.

Pure functions as in :mod:`common.report.figures`, with its colours, widths and intervals. HTML takes its text and
background colours from the page, so that it is legible in light and dark.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib.figure import Figure

from common.evaluate.stats import t_interval
from common.report.figures import BLUE, GREY, INK, MARKERS, RED, WIDTH
from common.search.expansion import Branch, Expansion
from common.track.rows import MetricRow
from common.types import Turn

Dialogue = Sequence[Mapping[str, Any]]
"""Turns of one chain: role, text, right (of a critique: its verdict is true), prompt."""
Branches = Sequence[Mapping[str, Any]]
"""One expansion: rows of :func:`common.search.expansion.records`, parents before children."""
ASPECTS = {
    "acc@1": "generator\nanswer is right",
    "verifier_acc_right": "verifier\ncalls a right answer right",
    "verifier_acc_wrong": "verifier\ncalls a wrong answer wrong",
    "cl": "refiner\nkeeps a right answer right",
    "cs": "refiner\nrepairs a wrong answer",
    "success": "all\nfinal answer is right",
}
"""What is measured of each role, by metric."""


def expansions(artifacts: Path) -> list[Branches]:
    """The expansions that a run kept, each with its branches in order; empty when it kept none."""
    path, found = artifacts / "trees.jsonl", {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        row = json.loads(line)
        found.setdefault(row["task"], []).append(row)
    return list(found.values())


def telling(found: Sequence[Branches]) -> Branches | None:
    """The expansion to look at first: the one with most siblings of opposite labels, since from these DPO learns."""

    def split(branches: Branches) -> int:
        groups: dict[int, list[bool]] = {}
        for branch in branches:
            groups.setdefault(branch["parent"], []).append(branch["value"] > 0.5)
        return sum(any(labels) and not all(labels) for labels in groups.values())

    return max(found, key=split, default=None)


def tree(branches: Branches, roles: Sequence[str]) -> Figure:
    """An expansion from left to right, a column for each role; every utterance with its value V.

    Blue and a filled mark: positive (V > 0.5); red and a hollow one: not. Each branch is as high as its leaves.
    """
    heights = _heights(branches)
    leaves = sum(branch["depth"] == len(roles) - 1 for branch in branches)
    top = wrap(f"{branches[0]['prompt'] if branches else ''}   (filled: V > 0.5, imitated)", 100)
    figure = Figure(figsize=(WIDTH, 0.24 * max(leaves, 3) + 0.95 + 0.15 * len(top)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    columns = (0.06, 0.30, 0.74)[: len(roles)]
    for i, branch in enumerate(branches):
        x, y, good = columns[branch["depth"]], heights[i], branch["value"] > 0.5
        left = columns[branch["depth"] - 1] if branch["depth"] else 0.0
        start = (left, heights[branch["parent"]])  # a parent of -1 is the root, whose height is the last
        axes.plot([start[0], x], [start[1], y], color=BLUE if good else "#c9c9c9", lw=1.0 if good else 0.7, zorder=1)
        axes.plot([x], [y], "o", color=BLUE if good else RED, mfc=BLUE if good else "white", ms=5, zorder=2)
        said = f"{_short(branch['text'], 44)}   V {branch['value']:.2f}"
        axes.annotate(said, (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=6.8, color=INK,
                      bbox={"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.85}, zorder=3)  # fmt: skip
    for x, role in zip(columns, roles):
        axes.annotate(role, (x, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 4), textcoords="offset points",
                      fontsize=9, fontweight="bold", color=INK)  # fmt: skip
    axes.set_xlim(-0.02, 1.0)
    axes.set_ylim(leaves - 0.4, -0.6)
    axes.axis("off")
    figure.suptitle("\n".join(top), fontsize=10, color=INK)
    return figure


def _heights(branches: Branches) -> list[float]:
    """Height of every branch, leaves at 0, 1, 2, … and others amid their children; the root's at the end."""
    children: dict[int, list[int]] = {}
    for i, branch in enumerate(branches):
        children.setdefault(branch["parent"], []).append(i)
    heights = [0.0] * (len(branches) + 1)  # the last entry is the root's, whose index is -1
    following = 0

    def place(i: int) -> float:
        nonlocal following
        below = children.get(i, [])
        if below:
            heights[i] = sum(map(place, below)) / len(below)
        else:
            heights[i], following = float(following), following + 1
        return heights[i]

    place(-1)
    return heights


def roles(rows: Sequence[MetricRow], variants: Sequence[str]) -> Figure:
    """What each role does (``ASPECTS``), one line a variant: mean and 95 % t-interval over seeds, small dots seeds."""
    figure = Figure(figsize=(WIDTH, 2 * (0.3 * len(variants) + 1.1)), layout="constrained", facecolor="white")
    grid = figure.subplots(2, 3, sharey=True)
    for k, (axes, (metric, title)) in enumerate(zip(grid.flat, ASPECTS.items(), strict=True)):
        for y, variant in enumerate(variants):
            values = [row.value for row in sorted(rows, key=lambda r: r.seed)
                      if (row.variant, row.metric) == (variant, metric)]  # fmt: skip
            if values:
                found, colour = t_interval(values), BLUE if y else GREY
                axes.plot(values, [y] * len(values), "o", color=colour, alpha=0.35, ms=3, mew=0)
                if found.low is not None:
                    axes.plot([found.low, found.high], [y, y], color=colour, lw=1.8, solid_capstyle="round")
                axes.plot([found.mean], [y], MARKERS[0 if y else 1], color=colour, ms=6, mec="white", mew=0.6)
                axes.annotate(f"{found.mean:.2f}", (1.0, y), xycoords=("axes fraction", "data"), xytext=(-2, 0),
                              textcoords="offset points", ha="right", va="center", fontsize=8, color="#444444")
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_xlim(0, 1.12)
        axes.set_yticks(range(len(variants)), variants, fontsize=8)
        axes.set_ylim(-0.6, len(variants) - 0.4)
        axes.grid(axis="x", color="#e6e6e6", lw=0.8)
        if k >= 3:
            axes.set_xlabel("share (rate in [0, 1])", fontsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    if not any(row.metric in ASPECTS and row.variant in variants for row in rows):
        grid[0][0].text(0.5, 0.5, "nothing was measured yet", ha="center", transform=grid[0][0].transAxes)
    seeds = len({row.seed for row in rows})
    note = f"mean ± 95 % t-interval over {seeds} training seed{'s' * (seeds != 1)}; small dots: single seeds"
    figure.supxlabel(f"{note}; square: before training", fontsize=8, color="#555555")
    return figure


def toy(rewards: Sequence[Sequence[float]]) -> Expansion:
    """An expansion of one generation without a model: a critique for each row, a refinement for each reward in it."""
    made = Expansion("toy")

    def add(depth: int, parent: int, text: str, reward: float | None) -> int:
        prompt = ({"role": "user", "content": "by hand"},)
        made.branches.append(Branch(depth, parent, prompt, Turn(text, -1.0, 1), reward))
        return len(made.branches) - 1

    top = add(0, -1, "generation", None)
    critiques = [add(1, top, f"critique {j}", None) for j in range(len(rewards))]
    for j, row in enumerate(rewards):
        for k, reward in enumerate(row):
            add(2, critiques[j], f"refinement {j}{k}", float(reward))
    return made


# -- dialogues ---------------------------------------------------------------------------------------------------


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
    caption = f"<caption style='text-align:left'><b>{html.escape(first[0]['prompt'])}</b></caption>"
    lines = [f"<table style='border-collapse:collapse'>{caption}", f"<tr>{heads}</tr>"]
    for k, turn in enumerate(first):
        cells = [f"<td style='{cell}'>{html.escape(turn['role'])}</td>"]
        for name in names:
            other = told[name][task][k]
            mark, colour = ("✓", BLUE) if other["right"] else ("✗", RED)
            changed = " <i>(changed)</i>" if other["text"] != turn["text"] else ""
            cells.append(f"<td style='{cell};border-left:4px solid {colour}'><code>{html.escape(other['text'])}</code> "
                         f"{mark}{changed}</td>")  # fmt: skip
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table>"])


def present(*tables: str) -> None:
    """Display HTML below the cell."""
    from IPython.display import HTML, display

    display(HTML("<br>".join(tables)))


def _short(text: str, letters: int) -> str:
    flat = " ".join(text.split()).replace("$", "\\$")
    return flat if len(flat) <= letters else flat[: letters - 1] + "…"
