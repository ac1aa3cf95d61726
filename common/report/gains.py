"""Gains between two turns as pictures and tables: what part of them is confidence and what critique.

Pure functions as in :mod:`common.report.correction`, whose rows, colours and intervals they share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.figure import Figure

from common.evaluate.decompose import Levels, change
from common.evaluate.stats import t_interval
from common.report.correction import finish, panel_columns
from common.report.figures import GREEN, GREY, INK, ORANGE
from common.rows import MetricRow


def parts(rows: Sequence[MetricRow], variants: Sequence[str]) -> Figure:
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
    finish(figure, columns, variants)
    return figure


def levels_of(rows: Sequence[MetricRow], panel: str, variant: str) -> dict[int, Levels]:
    """seed → Acc_1, CL and CS of ``variant``, as far as they were published."""
    by_seed: dict[int, dict[str, float]] = {}
    for row in rows:
        if (row.panel, row.variant) == (panel, variant) and row.metric in ("acc@1", "cl", "cs"):
            by_seed.setdefault(row.seed, {})[row.metric] = row.value
    return {seed: Levels(one["acc@1"], one.get("cl"), one.get("cs"))
            for seed, one in sorted(by_seed.items()) if "acc@1" in one and len(one) > 1}  # fmt: skip


def change_table(found: Mapping[str, Sequence[MetricRow]], panel: str) -> str:
    """How far each variant's Δ is from that of its paper's base, split by Acc₁, CL and CS; means over seeds.

    ``found``: paper → its rows. Variants without a turn of their own to correct in (no CL, no CS) are left out.
    """
    lines = ["| paper | variant | Δ | Δ − base's | by Acc₁ | by confidence (CL) | by critique (CS) | seeds |",
             "|---|---|---:|---:|---:|---:|---:|---:|"]
    for paper, rows in found.items():
        base = levels_of(rows, panel, "base")
        for variant in dict.fromkeys(row.variant for row in rows):
            mine = levels_of(rows, panel, variant)
            seeds = [seed for seed in mine if seed in base and _comparable(base[seed], mine[seed])]
            if variant == "base" or not seeds:
                continue
            moved = [change(base[seed], mine[seed]) for seed in seeds]
            cells = [_signed([mine[seed].delta for seed in seeds]), _signed([one.total for one in moved])]
            cells += [_signed([getattr(one, part) for one in moved]) for part in ("first", "confidence", "critique")]
            lines.append(f"| {paper} | `{variant}` | {' | '.join(cells)} | {len(seeds)} |")
    return "\n".join(lines) if len(lines) > 2 else "Nothing has been measured yet."


def _comparable(before: Levels, after: Levels) -> bool:
    """Whether both rates are defined for one of the policies at least, as a toy run's often are not."""
    return all(getattr(before, name) is not None or getattr(after, name) is not None for name in ("cl", "cs"))


def _signed(values: Sequence[float]) -> str:
    found = t_interval(values)
    return f"{found.mean:+.3f}" + ("" if found.high is None else f" ± {found.high - found.mean:.3f}")
