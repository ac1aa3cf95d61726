"""Self-correction as pictures: from the first to the second attempt, what was repaired and broken, and dialogues.

Pure functions as in :mod:`common.report.figures`, with its colours, widths and intervals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.evaluate.stats import t_interval
from common.report.figures import BLUE, CYCLE, GREEN, GREY, INK, MARKERS, ORANGE, RED, WIDTH
from common.rows import MetricRow

NOTE = "mean ± 95 % t-interval over training seeds; small dots: single seeds"


def turns(rows: Sequence[MetricRow], variants: Sequence[str], *, prefix: str = "") -> Figure:
    """acc@1 (circle) and acc@2 (diamond) of each variant, one line a variant, a column for each panel.

    At the right: Δ with its interval, then seeds × tasks. ``prefix``: "" sampled, "greedy_" greedy.
    """
    figure, columns = panel_columns(rows, variants, f"{prefix}acc@1", 0.42 * len(variants) + 1.5)
    for axes, panel in columns:
        for y, variant in enumerate(variants):
            one, two, delta = (seed_values(rows, panel, variant, f"{prefix}{m}") for m in ("acc@1", "acc@2", "delta"))
            if not delta:
                continue
            _interval(axes, one, y + 0.12, GREY, "o")
            _interval(axes, two, y - 0.12, BLUE if fmean(two) >= fmean(one) else RED, "D")
            found = t_interval(delta)
            half = "" if found.high is None else f" ± {found.high - found.mean:.3f}"
            n = next(r.n for r in rows if (r.panel, r.variant) == (panel, variant) and r.metric == f"{prefix}delta")
            axes.annotate(f"Δ {found.mean:+.3f}{half}   {found.n} × {n}", (1.01, y), va="center", fontsize=8,
                          xycoords=("axes fraction", "data"), color="#444444")  # fmt: skip
        axes.set_xlabel(f"{prefix}accuracy (share of tasks)\n{panel}")
        axes.plot([], [], "o", color=GREY, label="first attempt")
        axes.plot([], [], "D", color=BLUE, label="second, not worse")
        axes.plot([], [], "D", color=RED, label="second, worse")
        axes.set_xlim(left=0)
    finish(figure, columns, variants)
    return figure


def transitions(rows: Sequence[MetricRow], variants: Sequence[str], *, prefix: str = "") -> Figure:
    """Share of tasks repaired (wrong then right, to the right) and broken (to the left), and the copy rate (cross)."""
    figure, columns = panel_columns(rows, variants, f"{prefix}i2c", 0.42 * len(variants) + 1.5)
    for axes, panel in columns:
        for y, variant in enumerate(variants):
            for metric, sign, colour in (("i2c", 1, GREEN), ("c2i", -1, ORANGE)):
                values = seed_values(rows, panel, variant, f"{prefix}{metric}")
                if values:
                    axes.barh(y, sign * fmean(values), height=0.5, color=colour, alpha=0.85)
                    found = t_interval(values)
                    if found.low is not None:
                        axes.plot([sign * found.low, sign * found.high], [y, y], color=INK, lw=1.2)
            copied = seed_values(rows, panel, variant, f"{prefix}copy")
            if copied:
                axes.annotate(f"copies {fmean(copied):.0%}", (1.01, y), xycoords=("axes fraction", "data"),
                              va="center", fontsize=8, color="#444444")  # fmt: skip
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_xlabel(f"{prefix}share of tasks: broken (left), repaired (right)\n{panel}")
        axes.plot([], [], "s", color=GREEN, label="wrong → right")
        axes.plot([], [], "s", color=ORANGE, label="right → wrong")
    finish(figure, columns, variants)
    return figure


def confidence_and_critique(rows: Sequence[MetricRow], variants: Sequence[str], *, prefix: str = "") -> Figure:
    """CL (keeping right answers) against CS (repairing wrong ones), means over seeds, a point for each variant."""
    figure, columns = panel_columns(rows, variants, f"{prefix}cl", 3.6)
    for axes, panel in columns:
        for k, variant in enumerate(variants):
            cl, cs = (seed_values(rows, panel, variant, f"{prefix}{m}") for m in ("cl", "cs"))
            if cl and cs:
                axes.plot([fmean(cl)], [fmean(cs)], MARKERS[k % 8], color=CYCLE[k % 8], ms=7, label=variant, ls="")
        axes.set_xlabel(f"{prefix}CL = P(right second | right first)\n{panel}")
        axes.grid(color="#e6e6e6", lw=0.8)
        axes.margins(0.18)
    if columns:
        columns[0][0].set_ylabel("CS = P(right second | wrong first)")
        handles = {label: mark for axes, _ in columns for mark, label in zip(*axes.get_legend_handles_labels())}
        shown = [variant for variant in variants if variant in handles]
        figure.legend([handles[v] for v in shown], shown, loc="outside right center", frameon=False, fontsize=8)
    return figure


def dialogues(artifacts: Path, variant: str) -> dict[str, list[dict[str, Any]]]:
    """task id → turns of the dialogue that the run kept of ``variant``; empty when it kept none."""
    path, found = artifacts / f"dialogues.{variant}.jsonl", {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        turn = json.loads(line)
        found.setdefault(turn["task"], []).append(turn)
    return found


def dialogue_table(told: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], *, most: int = 8) -> str:
    """Dialogues of several variants on the same tasks as a Markdown table; ✓ and ✗ are the environment's.

    ``told``: variant → :func:`dialogues`. Of long texts beginning and end. Tasks on which the variants' last answers
    differ in correctness come first. One line of text where no task has a dialogue of every variant.
    """
    shared = [task for task in next(iter(told.values()), {}) if all(task in one for one in told.values())]
    if not shared:
        return "No dialogues to show: this unit was not run on this machine."
    split = {task: len({one[task][-1]["correct"] for one in told.values()}) for task in shared}
    chosen = sorted(shared, key=lambda task: -split[task])[:most]
    lines = [f"| task | {' | '.join(told)} |", "|---|" + "---|" * len(told)]
    for task in chosen:
        cells = [" → ".join(f"`{_plain(_short(turn['answer']))}` {'✓' if turn['correct'] else '✗'}" for turn in one[task])
                 for one in told.values()]  # fmt: skip
        lines.append(f"| {_plain(_short(next(iter(told.values()))[task][0]['prompt']))} | {' | '.join(cells)} |")
    return "\n".join(lines)


# -- shared parts ----------------------------------------------------------------------------------------


def _short(text: str, most: int = 220) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} […] {text[-most // 2 :]}"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'").replace("$", "\\$") or " "


def seed_values(rows: Sequence[MetricRow], panel: str, variant: str, metric: str) -> list[float]:
    """Values of ``metric`` on ``panel`` in the order of the seeds; empty where it was not measured."""
    mine = [r for r in rows if (r.panel, r.variant, r.metric) == (panel, variant, metric)]
    return [r.value for r in sorted(mine, key=lambda r: r.seed)]


def _interval(axes: Axes, values: Sequence[float], y: float, colour: str, marker: str) -> None:
    found = t_interval(values)
    axes.plot(values, [y] * len(values), "o", color=colour, alpha=0.35, ms=3, mew=0)
    if found.low is not None:
        axes.plot([found.low, found.high], [y, y], color=colour, lw=1.8, solid_capstyle="round")
    axes.plot([found.mean], [y], marker, color=colour, ms=6, mec="white", mew=0.6)


def panel_columns(
    rows: Sequence[MetricRow], variants: Sequence[str], metric: str, height: float
) -> tuple[Figure, list[tuple[Axes, str]]]:
    """A figure of ``height`` inches with a column for each panel that has ``metric`` of a variant: (axes, panel)."""
    panels = sorted({row.panel for row in rows if row.metric == metric and row.variant in variants})
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    axes = list(figure.subplots(1, max(len(panels), 1), squeeze=False, sharey="row")[0])
    if not panels:
        axes[0].text(0.5, 0.5, "nothing was measured yet, or it is not defined (no right answer, no wrong one)",
                     ha="center", transform=axes[0].transAxes)  # fmt: skip
    for one in axes:
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
    return figure, list(zip(axes, panels))


def finish(figure: Figure, columns: Sequence[tuple[Axes, str]], variants: Sequence[str]) -> None:
    """Put the variants on the vertical axes, and legend and note on the figure."""
    for axes, _ in columns:
        axes.set_yticks(range(len(variants)), variants)
        axes.set_ylim(-0.6, len(variants) - 0.4)
        axes.grid(axis="x", color="#e6e6e6", lw=0.8)
    if columns:
        figure.legend(*columns[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False,
                      fontsize=9)  # fmt: skip
        figure.supxlabel(NOTE, fontsize=8, color="#555555")
