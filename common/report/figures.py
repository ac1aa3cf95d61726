"""Figures of metric rows, claim records and training events, and the parts that papers' own figures are made of.

Pure functions: data in, a ``Figure`` out, no pyplot and no global state. Every figure is at most 10 inches
wide, white with dark text (legible on light and dark pages), in the Okabe–Ito colours, prints its n, and
draws 95 % t-intervals over training seeds; one seed has no interval and is drawn without one. Those that are read for
their numbers are charts to hover over in JupyterLab too, see ``common.report.hover``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.evaluate.stats import t_interval
from common.report import hover
from common.report.hover import Chart
from common.report.tables import mean_and_half
from common.rows import Label, MetricRow

WIDTH = 10.0
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY, INK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8c8c8c", "#222222")
CYCLE = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, INK, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SHAPES = {"o": "circle", "X": "cross", "D": "diamond", "s": "square", "v": "triangle-down"}
"""Vega's names of the markers below."""
VERDICTS = {"supported": (BLUE, "o"), "contradicted": (RED, "X"), "no effect": (GREEN, "D"), "undecided": (GREY, "s"),
            "not testable here": (GREY, "v")}  # fmt: skip
RATES = ("success", "planned_success", "score", "pair_accuracy", "truncated")
"""Metrics in [0, 1], whose axes start at 0."""
NOTE = {"fontsize": 8, "color": "#555555"}
"""Look of what is written below or beside a figure."""
MEANING = {
    "success": "share of tasks",
    "planned_success": "share of tasks",
    "delta": "second accuracy − first",
    "cl": "right again after a right first answer",
    "vote": "expected correctness of the majority",
    "excess": "reward beyond single-agent RL at equal KL",
    "return": "mean sum of an episode's rewards",
    "tokens": "words that agree (share)",
    "exact": "states imagined exactly (share)",
}
"""What the axis says beside a metric's name; the whole glossary is docs/metrics.md."""


def ladder(rows: Sequence[MetricRow], variants: Sequence[str], *, metric: str = "success") -> Chart:
    """One line a variant, the first at the bottom; a column for each panel. Dots are seeds, diamonds means.

    Variants named ``<policy>+<search>`` act with search at test time and have their own colour. To the right:
    mean ± half the interval, then seeds × items.
    """
    panels = by_panel(rows, variants, metric)
    figure, columns = panel_axes(panels, 0.36 * len(variants) + 1.5)
    colours = {variant: ORANGE if Label.of(variant).acting else BLUE for variant in variants}
    label = f"{metric}{f' ({MEANING[metric]})' if metric in MEANING else ''}"
    for axes, (panel, by_variant) in zip(columns, panels.items()):
        for y, variant in enumerate(variants):
            mine = by_variant.get(variant, [])
            if mine:
                _level(axes, y, mine, colours[variant])
        axes.set_yticks(range(len(variants)), variants)
        axes.set_ylim(-0.6, len(variants) - 0.4)
        axes.set_xlabel(f"{label}\n{panel}")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x", color="#e6e6e6", lw=0.8)
        if metric in RATES:
            axes.set_xlim(min(0.0, axes.get_xlim()[0]), axes.get_xlim()[1])
    note = "mean ± 95 % t-interval over training seeds (right: seeds × tasks); small dots: single seeds"
    figure.supxlabel(note, **NOTE)
    if panels:
        figure.hover = hover.ladder(panels, colours, label=label, zero=metric in RATES)
    return figure


def forest(records: Sequence[Mapping[str, Any]], *, metric: str = "success") -> Chart:
    """Effect and interval of every claim on ``metric``, right of zero where it speaks for the claim.

    ``records``: those of ``results/claims/``. Colour and marker tell the verdict; n stands at the
    right. Claims that were not run are left out.
    """
    shown = [r for r in records if r["metric"] == metric and r["effect"] is not None]
    figure = blank(0.3 * max(len(shown), 2) + 1.6)
    axes = figure.subplots()
    despine(figure)
    for y, record in enumerate(reversed(shown)):
        colour, marker = VERDICTS[record["verdict"]]
        if record["ci_low"] is not None:
            axes.plot([record["ci_low"], record["ci_high"]], [y, y], color=colour, lw=2.2, solid_capstyle="round")
        axes.plot([record["effect"]], [y], marker, color=colour, ms=7, mec="white", mew=0.6)
        margin_note(axes, y, f"n = {record['n_seeds']}")
    several = len({r["profile"] for r in shown}) > 1
    starts = [i == 0 or shown[i - 1]["id"] != record["id"] for i, record in enumerate(shown)]
    names = [_claim_name(r, first=first, profile=several) for r, first in zip(shown, starts, strict=True)]
    axes.set_yticks(range(len(shown)), names[::-1], fontsize=7.5)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.axvline(0, color=INK, lw=0.8)
    axes.grid(axis="x", color="#e6e6e6", lw=0.8)
    axes.set_xlabel(f"effect on {metric}, paired by seed: right of 0 speaks for the claim\n(intervals of a paper's claims on a panel hold together)")
    for verdict in dict.fromkeys(("supported", "contradicted", *sorted({record["verdict"] for record in shown}))):
        colour, marker = VERDICTS[verdict]
        axes.plot([], [], marker, color=colour, label=verdict)
    figure.legend(loc="outside upper left", ncols=5, frameon=False, fontsize=9)
    if shown:
        looks = {verdict: (colour, SHAPES[marker]) for verdict, (colour, marker) in VERDICTS.items()}
        figure.hover = hover.forest(shown, names, looks, metric=metric)
    return figure


def _claim_name(record: Mapping[str, Any], *, first: bool, profile: bool) -> str:
    """Panel of a claim; its id and sides too on its first line, a difference of variants on two lines."""
    panel = record["panel"] + (f", {record['profile']}" if profile else "")
    gap = "\n" if " - " in record["better"] else " "
    return f"{record['id']}: {record['better']}{gap}vs {record['worse']} · {panel}" if first else panel


def audit(rows: Sequence[MetricRow], prefix: str) -> Figure:
    """Pairs against the threshold θ: how many are left (below), how many of them are right (above).

    Takes the variants ``<prefix><number>`` such as ``agent_q@theta=0.2``; a column for each panel. Right is
    what exact Q* says; half is chance.
    """
    variants = sorted({r.variant for r in rows if r.variant.startswith(prefix)}, key=lambda v: float(v[len(prefix):]))
    top, bottom = (by_panel(rows, variants, metric) for metric in ("pair_accuracy", "pair_count"))
    figure = blank(4.6)
    grid = figure.subplots(2, max(len(bottom), 1), squeeze=False, sharex=True)
    for column, panel in enumerate(bottom):
        for axes, by_variant, colour in ((grid[0][column], top, BLUE), (grid[1][column], bottom, GREEN)):
            points = {float(v[len(prefix):]): mine for v, mine in by_variant.get(panel, {}).items()}
            line_of_means(axes, values_of(points), colour=colour, marker="o", seeds=True)
            axes.grid(color="#e6e6e6", lw=0.8)
        grid[0][column].axhline(0.5, color=GREY, ls="--", lw=1)
        grid[0][column].set_ylim(0, 1.03)
        grid[1][column].set_ylim(bottom=0)
        seeds = max((len(rows) for rows in bottom[panel].values()), default=0)
        grid[0][column].set_title(f"{panel}, {seeds} seed{'s' * (seeds != 1)}", fontsize=10)
        grid[1][column].set_xlabel("threshold θ on the difference of Q")
    grid[0][0].set_ylabel("pairs that exact Q*\nconfirms (share)")
    grid[1][0].set_ylabel("preference pairs\na seed")
    return despine(figure)


def ablation(
    rows: Sequence[MetricRow], series: Mapping[str, Mapping[float, str]], *, xlabel: str, metric: str = "success"
) -> Figure:
    """``metric`` along a numeric setting: one line for each entry of ``series``, label → {setting: variant}.

    A column for each panel; settings whose variant was not run are left out.
    """
    names = [variant for points in series.values() for variant in points.values()]
    panels = by_panel(rows, names, metric)
    figure, columns = panel_axes(panels, 3.4)
    for axes, (panel, by_variant) in zip(columns, panels.items()):
        for k, (label, points) in enumerate(series.items()):
            present = {x: by_variant[variant] for x, variant in points.items() if variant in by_variant}
            line_of_means(axes, values_of(present), colour=CYCLE[k], marker=MARKERS[k], label=label,
                          shift=0.012 * (k - (len(series) - 1) / 2), seeds=True)  # fmt: skip
        seeds = max(len(mine) for mine in by_variant.values())
        axes.set_title(f"{panel}, {seeds} seed{'s' * (seeds != 1)}", fontsize=10)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(metric)
        axes.grid(color="#e6e6e6", lw=0.8)
    if panels:
        figure.legend(*columns[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return figure


def depths(rows: Sequence[MetricRow], variants: Sequence[str], metrics: Sequence[str] = ("tokens", "exact")) -> Figure:
    """Prediction quality by depth, ``<metric>@<depth>``: a column for each metric, a line for each variant, with intervals."""
    figure = blank(3.4)
    columns = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, metric in zip(columns, metrics, strict=True):
        for k, variant in enumerate(variants):
            points: dict[int, list[float]] = {}
            for row in rows:
                label = Label.of(row.metric)
                if (row.variant, label.stem) == (variant, metric) and label.at:
                    points.setdefault(int(label.at), []).append(row.value)
            line_of_means(axes, points, colour=CYCLE[k % 8], marker=MARKERS[k % 8], label=variant)
        axes.set_xlabel("depth: states imagined one after the other")
        axes.set_ylabel(MEANING.get(metric, metric))
        axes.set_ylim(0, 1.03)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color="#e6e6e6", lw=0.8)
    handles, labels = columns[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    figure.supxlabel("mean ± 95 % t-interval over training seeds", **NOTE)
    return despine(figure)


DENSE = 60
"""Most points of a training curve that are distinguishable."""


def plane(
    rows: Sequence[MetricRow], variants: Sequence[str], metrics: Sequence[tuple[str, str]], *,
    guide: tuple[tuple[float, float], tuple[float, float]],
) -> Figure:
    """Two metrics against each other, a column for each panel: small marks are seeds, crosses 95 % intervals of the means.

    ``metrics``: (metric, what it is) to the right and up. ``guide``: both ends of a dotted line (x, x), (y, y), such as that of chance.
    """  # fmt: skip
    right, up = (by_panel(rows, variants, metric) for metric, _ in metrics)
    figure, columns = panel_axes(right, 4.2)
    for axes, panel in zip(columns, right):
        axes.plot(*guide, ":", color=GREY, lw=1)
        for k, name in enumerate(name for name in variants if name in right[panel]):
            colour, mark = CYCLE[k % len(CYCLE)], MARKERS[k % len(MARKERS)]
            x, y = ([row.value for row in found[panel][name]] for found in (right, up))
            axes.plot(x, y, mark, color=colour, ms=3, alpha=0.4, mew=0)
            across, along = t_interval(x), t_interval(y)
            if across.low is not None:
                axes.plot([across.low, across.high], [along.mean] * 2, color=colour, lw=1.6)
                axes.plot([across.mean] * 2, [along.low, along.high], color=colour, lw=1.6)
            axes.plot(across.mean, along.mean, mark, color=colour, ms=8, mec="white", label=name)
        axes.set(xlim=_span(right), ylim=_span(up), title=panel)
        axes.set_xlabel(f"{metrics[0][1]} ({metrics[0][0]})")
        axes.set_ylabel(f"{metrics[1][1]} ({metrics[1][0]})")
        axes.title.set_fontsize(10)
    if right:
        figure.legend(*columns[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return despine(figure)


def _span(found: Mapping[str, Mapping[str, Sequence[MetricRow]]]) -> tuple[float, float]:
    """From 0 to 1, or to the largest value where that is more, with a margin."""
    most = max([1.0, *(row.value for columns in found.values() for rows in columns.values() for row in rows)])
    return -0.04 * most, 1.04 * most


def moving_mean(values: Sequence[float], reach: int) -> list[float]:
    """Mean of each value and of those up to ``reach`` before and after it, fewer at the ends."""
    return [fmean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]


def curves(points: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> Chart:
    """Training curves, a panel for each of ``metrics``, a line for each variant; rounds follow one another.

    ``points``: records with variant, round, update, metric, value (``stories.training_points``). A round
    that went on from another one starts right of it; vertical gaps between rounds are new data. Where a round has
    more than ``DENSE`` points, they are faint, and their moving mean is the line.
    """
    across = min(2, len(metrics))
    down = -(-len(metrics) // across)
    figure = blank(2.4 * down + 0.6)
    grid = figure.subplots(down, across, squeeze=False, sharex=True)
    variants = sorted({p["variant"] for p in points if p["metric"] in metrics})
    drawn: list[dict[str, Any]] = []
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
                drawn += [{"variant": variant, "round": part, "update": update, "metric": metric, "value": value, "x": at, "mean": mean}
                          for at, mean, (update, value) in zip(x, y, own, strict=True)][:: -(-len(own) // DENSE) or 1]  # fmt: skip
                axes.plot(x, y, **look, lw=1.4, label=variant if start == 0 else None)
                start += max(p["update"] for p in mine)
        axes.set_ylabel(metric)
        axes.grid(color="#e6e6e6", lw=0.8)
    for spare in grid.flat[len(metrics) :]:
        spare.remove()
    for axes in grid.flat[: len(metrics)][-across:]:  # the lowest of each column
        axes.set_xlabel("optimiser updates")
        axes.tick_params(labelbottom=True)
    if variants:
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=8)
    despine(figure)
    if drawn:
        figure.hover = hover.curves(drawn, metrics, {variant: _shade(k) for k, variant in enumerate(variants)})
    return figure


def _shade(k: int) -> str:
    """Colour of the ``k``-th line in a chart whose page may be dark."""
    return hover.TEXT if CYCLE[k % 8] == INK else CYCLE[k % 8]


# -- shared parts --------------------------------------------------------------------------------------


def blank(height: float) -> Chart:
    """An empty figure of the page's width and ``height`` inches."""
    return Chart(figsize=(WIDTH, height), layout="constrained", facecolor="white")


def despine(figure: Figure) -> Figure:
    """``figure`` without the top and right border of its axes."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def panel_axes(panels: Collection[str], height: float, empty: str = "nothing was measured yet") -> tuple[Chart, list[Axes]]:
    """A figure with a column for each of ``panels``, or one that says that it is ``empty``."""
    figure = blank(height)
    columns = list(figure.subplots(1, max(len(panels), 1), squeeze=False, sharey="row")[0])
    if not panels:
        columns[0].text(0.5, 0.5, empty, ha="center", transform=columns[0].transAxes)
    despine(figure)
    return figure, columns


def by_panel(rows: Sequence[MetricRow], variants: Sequence[str], metric: str) -> dict[str, dict[str, list[MetricRow]]]:
    """panel → variant (in the order given) → rows by seed. Panels without any are absent, and those on which few variants were
    measured (what the base model was shown) where others hold twice as many."""
    panels: dict[str, dict[str, list[MetricRow]]] = {}
    for row in sorted(rows, key=lambda r: (r.panel, variants.index(r.variant) if r.variant in variants else 0, r.seed)):
        if row.metric == metric and row.variant in variants:
            panels.setdefault(row.panel, {}).setdefault(row.variant, []).append(row)
    most = max(map(len, panels.values()), default=0)
    return {panel: found for panel, found in panels.items() if 2 * len(found) > most}


def values_of(points: Mapping[float, Sequence[MetricRow]]) -> dict[float, list[float]]:
    """The same with the rows' values in the place of rows."""
    return {x: [row.value for row in rows] for x, rows in points.items()}


def mean_on_line(axes: Axes, values: Sequence[float], y: float, colour: str, marker: str) -> None:
    """One line of a horizontal chart: seeds as faint dots, their t-interval, their mean as ``marker``."""
    interval = t_interval(values)
    axes.plot(values, [y] * len(values), "o", color=colour, alpha=0.35, ms=3, mew=0)
    if interval.low is not None:
        axes.plot([interval.low, interval.high], [y, y], color=colour, lw=1.8, solid_capstyle="round")
    axes.plot([interval.mean], [y], marker, color=colour, ms=6, mec="white", mew=0.6)


def line_of_means(
    axes: Axes, points: Mapping[float, Sequence[float]], *, colour: str, marker: str, label: str = "", shift: float = 0.0,
    seeds: bool = False,
) -> None:
    """Means of ``points`` (x → values over seeds) joined along x, with t-intervals; ``seeds`` adds the single values.

    ``shift`` moves a line sideways, so that intervals at the same x stay apart.
    """
    intervals = {x + shift: (t_interval(values), values) for x, values in sorted(points.items())}
    axes.plot(list(intervals), [one.mean for one, _ in intervals.values()], marker=marker, color=colour, lw=1.6, label=label or None)
    for x, (one, _) in intervals.items():
        if one.low is not None:
            axes.plot([x, x], [one.low, one.high], color=colour, lw=1.6, alpha=0.7)
    for x, (_, values) in intervals.items() if seeds else ():
        axes.scatter([x] * len(values), values, color=colour, s=9, zorder=3, lw=0.4, ec="white")


def margin_note(axes: Axes, y: float, text: str) -> None:
    """``text`` at the right of a chart, at height ``y``."""
    axes.annotate(text, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="#444444")


def _level(axes: Axes, y: float, mine: Sequence[MetricRow], colour: str) -> None:
    """One line of the ladder: seeds, mean and interval, drawn and in digits."""
    values = [row.value for row in mine]
    found = t_interval(values)
    axes.plot(values, [y - 0.17] * len(values), "o", color=colour, alpha=0.45, ms=4, mew=0)
    if found.low is not None:
        axes.plot([found.low, found.high], [y, y], color=colour, lw=2.2, solid_capstyle="round")
    axes.plot([found.mean], [y], "D", color=colour, ms=6, mec="white", mew=0.6)
    margin_note(axes, y, f"{mean_and_half(values)}   {found.n} × {mine[0].n}")
