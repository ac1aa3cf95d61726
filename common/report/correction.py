"""Self-correction: accuracy from turn to turn, answers repaired and broken, and gains split into confidence and critique.

Pure functions as in :mod:`common.report.figures`, with its colours, widths and intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.evaluate.decompose import Levels, change
from common.evaluate.stats import t_interval
from common.report.figures import (
    BLUE, CYCLE, GREEN, GREY, INK, MARKERS, NOTE, ORANGE, RED, by_panel, margin_note, mean_on_line, panel_axes,
)  # fmt: skip
from common.report.tables import markdown, mean_and_half
from common.rows import MetricRow


def pictures(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """The four pictures of a paper's second attempts, or one sentence where its policies make none."""
    if not any(row.metric == "delta" for row in rows):
        return ["The policies of this paper answer once: there is no second attempt to compare with the first."]
    return [draw(rows, variants) for draw in (turns, transitions, confidence_and_critique, gain_parts)]


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
            mean_on_line(axes, one, y + 0.12, GREY, "o")
            mean_on_line(axes, two, y - 0.12, BLUE if fmean(two) >= fmean(one) else RED, "D")
            n = next(r.n for r in rows if (r.panel, r.variant) == (panel, variant) and r.metric == f"{prefix}delta")
            margin_note(axes, y, f"Δ {mean_and_half(delta, '+.3f')}   {len(delta)} × {n}")
        axes.set_xlabel(f"{prefix}accuracy (share of tasks)\n{panel}")
        axes.plot([], [], "o", color=GREY, label="first attempt")
        axes.plot([], [], "D", color=BLUE, label="second, not worse")
        axes.plot([], [], "D", color=RED, label="second, worse")
        axes.set_xlim(left=0)
    _finish(figure, columns, variants)
    return figure


def transitions(rows: Sequence[MetricRow], variants: Sequence[str]) -> Figure:
    """Share of tasks repaired (wrong then right, to the right) and broken (to the left), and the copy rate (cross)."""
    figure, columns = panel_columns(rows, variants, "i2c", 0.42 * len(variants) + 1.5)
    for axes, panel in columns:
        for y, variant in enumerate(variants):
            for metric, sign, colour in (("i2c", 1, GREEN), ("c2i", -1, ORANGE)):
                values = seed_values(rows, panel, variant, metric)
                if values:
                    axes.barh(y, sign * fmean(values), height=0.5, color=colour, alpha=0.85)
                    interval = t_interval(values)
                    if interval.low is not None:
                        axes.plot([sign * interval.low, sign * interval.high], [y, y], color=INK, lw=1.2)
            copied = seed_values(rows, panel, variant, "copy")
            if copied:
                margin_note(axes, y, f"copies {fmean(copied):.0%}")
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_xlabel(f"share of tasks: broken (left), repaired (right)\n{panel}")
        axes.plot([], [], "s", color=GREEN, label="wrong → right")
        axes.plot([], [], "s", color=ORANGE, label="right → wrong")
    _finish(figure, columns, variants)
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


def gain_parts(rows: Sequence[MetricRow], variants: Sequence[str]) -> Figure:
    """Δ of each variant (diamond) as the sum of what confidence loses (to the left) and critique gains."""
    figure, columns = panel_columns(rows, variants, "delta", 0.42 * len(variants) + 1.5)
    for axes, panel in columns:
        for y, variant in enumerate(variants):
            found = levels_of(rows, panel, variant)
            if not found:
                continue
            for part, colour in (("confidence", ORANGE), ("critique", GREEN)):
                value = fmean([getattr(one, part) for one in found.values()])
                axes.barh(y, value, height=0.5, color=colour, alpha=0.85)
            interval = t_interval([one.delta for one in found.values()])
            if interval.low is not None:
                axes.plot([interval.low, interval.high], [y, y], color=INK, lw=1.4)
            axes.plot([interval.mean], [y], "D", color=INK, ms=6, mec="white", mew=0.6)
        axes.axvline(0, color=GREY, lw=0.8)
        axes.set_xlabel(f"share of tasks\n{panel}")
        axes.barh(0, 0, color=ORANGE, label="confidence: Acc₁·(CL − 1)")
        axes.barh(0, 0, color=GREEN, label="critique: (1 − Acc₁)·CS")
        axes.plot([], [], "D", color=INK, label="their sum, Δ")
    _finish(figure, columns, variants)
    return figure


def levels_of(rows: Sequence[MetricRow], panel: str, variant: str) -> dict[int, Levels]:
    """seed → Acc_1, CL and CS of ``variant``, for the seeds that have been published."""
    by_seed: dict[int, dict[str, float]] = {}
    for row in rows:
        if (row.panel, row.variant) == (panel, variant) and row.metric in ("acc@1", "cl", "cs"):
            by_seed.setdefault(row.seed, {})[row.metric] = row.value
    return {seed: Levels(one["acc@1"], one.get("cl"), one.get("cs"))
            for seed, one in sorted(by_seed.items()) if "acc@1" in one and len(one) > 1}  # fmt: skip


def change_table(rows_by_paper: Mapping[str, Sequence[MetricRow]], panel: str) -> str:
    """The difference of each variant's Δ from that of its paper's base, split into parts of Acc₁, CL and CS; means over seeds.

    ``rows_by_paper``: paper → its rows. Variants without a turn of their own to correct in (no CL, no CS) are left out.
    """
    lines = []
    for paper, rows in rows_by_paper.items():
        base = levels_of(rows, panel, "base")
        for variant in dict.fromkeys(row.variant for row in rows):
            mine = levels_of(rows, panel, variant)
            seeds = [seed for seed in mine if seed in base and _comparable(base[seed], mine[seed])]
            if variant == "base" or not seeds:
                continue
            moved = [change(base[seed], mine[seed]) for seed in seeds]
            columns = [[mine[seed].delta for seed in seeds]]
            columns += [[getattr(one, part) for one in moved] for part in ("total", "first", "confidence", "critique")]
            lines.append((paper, f"`{variant}`", *(mean_and_half(column, "+.3f") for column in columns), len(seeds)))
    head = ("paper", "variant", "Δ", "Δ − base's", "by Acc₁", "by confidence (CL)", "by critique (CS)", "seeds")
    return markdown(head, lines, numbers=6) if lines else "Nothing has been measured yet."


def _comparable(before: Levels, after: Levels) -> bool:
    """Whether both rates are defined for one of the policies at least, as a toy run's often are not."""
    return all(getattr(before, name) is not None or getattr(after, name) is not None for name in ("cl", "cs"))


# -- shared parts ----------------------------------------------------------------------------------------


def seed_values(rows: Sequence[MetricRow], panel: str, variant: str, metric: str) -> list[float]:
    """Values of ``metric`` on ``panel`` in the order of the seeds; empty where it was not measured."""
    mine = [r for r in rows if (r.panel, r.variant, r.metric) == (panel, variant, metric)]
    return [r.value for r in sorted(mine, key=lambda r: r.seed)]


def panel_columns(
    rows: Sequence[MetricRow], variants: Sequence[str], metric: str, height: float
) -> tuple[Figure, list[tuple[Axes, str]]]:
    """A figure of ``height`` inches with a column for each panel that compares variants by ``metric``: (axes, panel)."""
    panels = sorted(by_panel(rows, variants, metric))
    figure, axes = panel_axes(
        panels, height, "nothing was measured yet, or it is not defined (no right answer, no wrong one)")
    return figure, list(zip(axes, panels))


def _finish(figure: Figure, columns: Sequence[tuple[Axes, str]], variants: Sequence[str]) -> None:
    """Put the variants on the vertical axes, and legend and note on the figure."""
    for axes, _ in columns:
        axes.set_yticks(range(len(variants)), variants)
        axes.set_ylim(-0.6, len(variants) - 0.4)
        axes.grid(axis="x", color="#e6e6e6", lw=0.8)
    if columns:
        figure.legend(*columns[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False,
                      fontsize=9)  # fmt: skip
        note = "mean ± 95 % t-interval over training seeds; small dots: single seeds"
        figure.supxlabel(note, **NOTE)
