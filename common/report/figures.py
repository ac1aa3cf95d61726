"""Metric rows, claim records and training events as matplotlib figures.

Pure functions: data in, a ``Figure`` out, no pyplot and no global state. Every figure is at most 10 inches
wide, white with dark text (legible on light and dark pages), in the Okabe–Ito colours, prints its n, and
draws 95 % t-intervals over training seeds; one seed has no interval and is drawn without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.evaluate.stats import Interval, t_interval
from common.rows import MetricRow

WIDTH = 10.0
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY, INK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8c8c8c", "#222222")
CYCLE = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, INK, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
VERDICTS = {"supported": (BLUE, "o"), "contradicted": (RED, "X"), "inconclusive": (GREY, "s")}
RATES = ("success", "planned_success", "score", "pair_accuracy", "truncated")
"""Metrics in [0, 1], whose axes start at 0."""
MEANING = {
    "success": "share of tasks",
    "planned_success": "share of tasks",
    "delta": "second accuracy − first",
    "cl": "right again after a right first answer",
    "vote": "expected correctness of the majority",
    "excess": "reward beyond single-agent RL at equal KL",
    "return": "mean sum of an episode's rewards",
}
"""What the axis says beside a metric's name; the whole glossary is docs/metrics.md."""


def ladder(
    rows: Sequence[MetricRow], variants: Sequence[str], *, metric: str = "success",
    references: Mapping[str, float] | None = None,
) -> Figure:
    """One line a variant, the first at the bottom; a column for each panel. Dots are seeds, diamonds means.

    Variants named ``<policy>+<search>`` act with search at test time and have their own colour. To the right:
    mean ± half the interval, then seeds × items. ``references``: label → value, drawn as dashed lines.
    """
    found = _by_panel(rows, variants, metric)
    figure, columns = _columns(found, 0.36 * len(variants) + 1.5)
    for axes, (panel, by_variant) in zip(columns, found.items(), strict=True):
        for y, variant in enumerate(variants):
            mine = by_variant.get(variant, [])
            if mine:
                _level(axes, y, mine, ORANGE if "+" in variant else BLUE)
        _references(axes, references or {}, len(variants))
        axes.set_yticks(range(len(variants)), variants)
        axes.set_ylim(-0.6, len(variants) - (0.1 if references else 0.4))
        axes.set_xlabel(f"{metric}{f' ({MEANING[metric]})' if metric in MEANING else ''}\n{panel}")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x", color="#e6e6e6", lw=0.8)
        _from_zero(axes, metric, "x")
    note = "mean ± 95 % t-interval over training seeds (right: seeds × tasks); small dots: single seeds"
    figure.supxlabel(note, fontsize=8, color="#555555")
    return figure


def forest(records: Sequence[Mapping[str, Any]], *, metric: str = "success") -> Figure:
    """Effect and interval of every claim on ``metric``, right of zero where it speaks for the claim.

    ``records``: those of ``results/claims/``. Colour and marker tell the verdict; n and the corrected p
    stand at the right. Claims that were not run are left out.
    """
    shown = [r for r in records if r["metric"] == metric and r["effect"] is not None]
    figure, axes = _single(0.3 * max(len(shown), 2) + 1.6)
    for y, record in enumerate(reversed(shown)):
        colour, marker = VERDICTS[record["verdict"]]
        if record["ci_low"] is not None:
            axes.plot([record["ci_low"], record["ci_high"]], [y, y], color=colour, lw=2.2, solid_capstyle="round")
        axes.plot([record["effect"]], [y], marker, color=colour, ms=7, mec="white", mew=0.6)
        p = "" if record["p_holm"] is None else f", p = {max(record['p_holm'], 0.001):.3f}"
        _margin_note(axes, y, f"n = {record['n_seeds']}{p}")
    several = len({r["profile"] for r in shown}) > 1
    starts = [i == 0 or shown[i - 1]["id"] != record["id"] for i, record in enumerate(shown)]
    names = [_claim_name(r, first=first, profile=several) for r, first in zip(shown, starts, strict=True)]
    axes.set_yticks(range(len(shown)), names[::-1], fontsize=7.5)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.axvline(0, color=INK, lw=0.8)
    axes.grid(axis="x", color="#e6e6e6", lw=0.8)
    axes.set_xlabel(f"effect on {metric}: better − worse, paired by seed\n(p corrected after Holm)")
    for verdict, (colour, marker) in VERDICTS.items():
        axes.plot([], [], marker, color=colour, label=verdict)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    return figure


def _claim_name(record: Mapping[str, Any], *, first: bool, profile: bool) -> str:
    """Panel of a claim; its id and sides too on its first line, a difference of variants on two lines."""
    panel = record["panel"] + (f", {record['profile']}" if profile else "")
    gap = "\n" if " - " in record["better"] else " "
    return f"{record['id']}  {record['better']}{gap}vs {record['worse']}   {panel}" if first else panel


def audit(
    rows: Sequence[MetricRow], prefix: str, *, accuracy: str = "pair_accuracy", count: str = "pair_count"
) -> Figure:
    """Pairs against the threshold θ: how many are left (below), how many of them are right (above).

    Takes the variants ``<prefix><number>`` such as ``agent_q@theta=0.2``; a column for each panel. Right is
    what exact Q* says; half is chance.
    """
    variants = sorted({r.variant for r in rows if r.variant.startswith(prefix)}, key=lambda v: float(v[len(prefix):]))
    top, bottom = (_by_panel(rows, variants, metric) for metric in (accuracy, count))
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained", facecolor="white")
    grid = figure.subplots(2, max(len(bottom), 1), squeeze=False, sharex=True)
    for column, panel in enumerate(bottom):
        for axes, found, colour in ((grid[0][column], top, BLUE), (grid[1][column], bottom, GREEN)):
            points = {float(v[len(prefix):]): rows for v, rows in found.get(panel, {}).items()}
            _line(axes, points, colour, "o", "")
            axes.grid(color="#e6e6e6", lw=0.8)
        grid[0][column].axhline(0.5, color=GREY, ls="--", lw=1)
        grid[0][column].set_ylim(0, 1.03)
        grid[1][column].set_ylim(bottom=0)
        seeds = max((len(rows) for rows in bottom[panel].values()), default=0)
        grid[0][column].set_title(f"{panel}, {seeds} seed{'s' * (seeds != 1)}", fontsize=10)
        grid[1][column].set_xlabel("threshold θ on the difference of Q")
    grid[0][0].set_ylabel("pairs that exact Q*\nconfirms (share)")
    grid[1][0].set_ylabel("preference pairs\na seed")
    return _plain(figure)


def ablation(
    rows: Sequence[MetricRow], series: Mapping[str, Mapping[float, str]], *, xlabel: str, metric: str = "success"
) -> Figure:
    """``metric`` along a numeric setting: one line for each entry of ``series``, label → {setting: variant}.

    A column for each panel; settings whose variant was not run are left out.
    """
    names = [variant for points in series.values() for variant in points.values()]
    found = _by_panel(rows, names, metric)
    figure, columns = _columns(found, 3.4)
    for axes, (panel, by_variant) in zip(columns, found.items(), strict=True):
        for k, (label, points) in enumerate(series.items()):
            present = {x: by_variant[variant] for x, variant in points.items() if variant in by_variant}
            _line(axes, present, CYCLE[k], MARKERS[k], label, shift=0.012 * (k - (len(series) - 1) / 2))
        seeds = max(len(mine) for mine in by_variant.values())
        axes.set_title(f"{panel}, {seeds} seed{'s' * (seeds != 1)}", fontsize=10)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(metric)
        axes.grid(color="#e6e6e6", lw=0.8)
    if columns:
        figure.legend(*columns[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return figure


def budget(
    rows: Sequence[MetricRow], variants: Sequence[str], *, axis: str = "env_steps", metric: str = "success"
) -> Figure:
    """What each variant reached against what it spent on ``axis`` (a counter of the rows' cost), means over seeds."""
    found = _by_panel(rows, variants, metric)
    figure, columns = _columns(found, 3.8)
    for axes, (panel, by_variant) in zip(columns, found.items(), strict=True):
        spent = {v: sum(r.cost[axis] for r in mine) / len(mine) for v, mine in by_variant.items()}
        for variant, mine in by_variant.items():
            k = variants.index(variant) % len(CYCLE)
            _line(axes, {spent[variant]: mine}, CYCLE[k], MARKERS[k], variant)
        axes.set_xlim(left=-0.03 * max(1, *spent.values()))
        axes.set_title(panel, fontsize=10)
        axes.set_xlabel(f"{axis.replace('_', ' ')} a seed,\nlearning and acting")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(color="#e6e6e6", lw=0.8)
    if columns:
        columns[0].set_ylabel(metric)
    handles = {label: line for axes in columns for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        order = [variant for variant in variants if variant in handles]
        figure.legend([handles[v] for v in order], order, loc="outside right center", frameon=False, fontsize=8)
    return figure


DENSE = 60
"""Most points of a training curve that can be told apart."""


def moving_mean(values: Sequence[float], reach: int) -> list[float]:
    """Mean of each value and of those up to ``reach`` before and after it, fewer at the ends."""
    return [fmean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]


def curves(points: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> Figure:
    """Training curves, a panel for each of ``metrics``, a line for each variant; rounds follow one another.

    ``points``: records with variant, round, update, metric, value (``stories.training_points``). A round
    that went on from another one starts right of it; vertical gaps between rounds are new data. Where a round has
    more than ``DENSE`` points, they are faint, and their moving mean is the line.
    """
    across = min(2, len(metrics))
    down = -(-len(metrics) // across)
    figure = Figure(figsize=(WIDTH, 2.4 * down + 0.6), layout="constrained", facecolor="white")
    grid = figure.subplots(down, across, squeeze=False, sharex=True)
    variants = sorted({p["variant"] for p in points if p["metric"] in metrics})
    for axes, metric in zip(grid.flat, metrics, strict=False):
        for k, variant in enumerate(variants):
            start = 0
            for part in sorted({p["round"] for p in points if p["variant"] == variant}):
                mine = [p for p in points if (p["variant"], p["round"]) == (variant, part)]
                own = sorted((p["update"], p["value"]) for p in mine if p["metric"] == metric)
                look = {"color": CYCLE[k % 8], "ls": "-" if k < 8 else "--"}
                x, y = [start + update for update, _ in own], [value for _, value in own]
                if len(y) > DENSE:
                    axes.plot(x, y, **look, lw=0.6, alpha=0.25)
                    y = moving_mean(y, DENSE // 4)
                axes.plot(x, y, **look, lw=1.4, label=variant if start == 0 else None)
                start += max(p["update"] for p in mine)
        axes.set_ylabel(metric)
        axes.grid(color="#e6e6e6", lw=0.8)
    for spare in grid.flat[len(metrics) :]:
        spare.remove()
    for axes in grid.flat[: len(metrics)][-across:]:  # the lowest of each column
        axes.set_xlabel("optimiser updates, rounds one after the other")
        axes.tick_params(labelbottom=True)
    if variants:
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=8)
    return _plain(figure)


# -- shared parts --------------------------------------------------------------------------------------


def _by_panel(
    rows: Sequence[MetricRow], variants: Sequence[str], metric: str
) -> dict[str, dict[str, list[MetricRow]]]:
    """panel → variant (in the order given) → rows by seed; panels without any are absent."""
    found: dict[str, dict[str, list[MetricRow]]] = {}
    for row in sorted(rows, key=lambda r: (r.panel, variants.index(r.variant) if r.variant in variants else 0, r.seed)):
        if row.metric == metric and row.variant in variants:
            found.setdefault(row.panel, {}).setdefault(row.variant, []).append(row)
    return found


def _single(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots()
    _plain(figure)
    return figure, axes


def _columns(found: Mapping[str, Any], height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    columns = list(figure.subplots(1, max(len(found), 1), squeeze=False, sharey="row")[0])
    if not found:
        columns[0].text(0.5, 0.5, "nothing was measured yet", ha="center", transform=columns[0].transAxes)
    _plain(figure)
    return figure, columns if found else []


def _plain(figure: Figure) -> Figure:
    for axes in figure.axes:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure


def _level(axes: Axes, y: float, mine: Sequence[MetricRow], colour: str) -> None:
    """One line of the ladder: seeds, mean, interval, and what they are in figures."""
    values = [row.value for row in mine]
    found = t_interval(values)
    axes.plot(values, [y - 0.17] * len(values), "o", color=colour, alpha=0.45, ms=4, mew=0)
    if found.low is not None:
        axes.plot([found.low, found.high], [y, y], color=colour, lw=2.2, solid_capstyle="round")
    axes.plot([found.mean], [y], "D", color=colour, ms=6, mec="white", mew=0.6)
    _margin_note(axes, y, f"{_figures(found)}   {found.n} × {mine[0].n}")


def _figures(found: Interval) -> str:
    return f"{found.mean:.3f}" + ("" if found.high is None else f" ± {found.high - found.mean:.3f}")


def _margin_note(axes: Axes, y: float, text: str) -> None:
    axes.annotate(text, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="#444444")


def _references(axes: Axes, references: Mapping[str, float], top: int) -> None:
    for label, value in references.items():
        axes.axvline(value, color=GREY, ls="--", lw=1)
        axes.annotate(label, (value, top - 0.45), fontsize=8, color="#555555", ha="center", va="bottom")


def _line(
    axes: Axes, points: Mapping[float, Sequence[MetricRow]], colour: str, marker: str, label: str, shift: float = 0.0
) -> None:
    """Means with intervals along x, and the seeds as small dots."""
    found = {x: t_interval([row.value for row in mine]) for x, mine in sorted(points.items())}
    xs = [x + shift for x in found]
    axes.plot(xs, [one.mean for one in found.values()], marker=marker, color=colour, lw=1.6, ms=6, label=label or None)
    for x, one in zip(xs, found.values(), strict=True):
        if one.low is not None:
            axes.plot([x, x], [one.low, one.high], color=colour, lw=1.6, alpha=0.7)
    for x, (_, mine) in zip(xs, sorted(points.items()), strict=True):
        axes.scatter([x] * len(mine), [row.value for row in mine], color=colour, s=9, zorder=3, lw=0.4, ec="white")


def _from_zero(axes: Axes, metric: str, which: str) -> None:
    if metric in RATES:
        low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
        (axes.set_xlim if which == "x" else axes.set_ylim)(min(0.0, low), high)
