"""A sweep as a picture: one line a setting, through an axis for each parameter to what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from common.report.figures import INK, WIDTH


def parallel(settings: Sequence[Mapping[str, Any]], values: Sequence[float], *, outcome: str, lowest: bool = False) -> Figure:
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
        heights = [place[_key(rows[k].get(name))] for name, (place, _) in zip(names, scales, strict=True)]
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


def _key(value: Any) -> str:
    return repr(value)


def _scale(values: Sequence[Any]) -> tuple[dict[str, float], list[tuple[float, str]]]:
    """Height in [0, 1] of each value, and (height, label) of at most eight ticks."""
    distinct = list({_key(value): value for value in values}.values())
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in distinct)
    if numbers:
        distinct.sort()
    if not numbers or len(distinct) == 1:
        place = {_key(value): (k + 0.5) / len(distinct) for k, value in enumerate(distinct)}
    else:
        low, high = distinct[0], distinct[-1]
        log = low > 0 and high / low >= 10
        at = math.log if log else float
        place = {_key(value): (at(value) - at(low)) / (at(high) - at(low)) for value in distinct}
    shown = distinct if len(distinct) <= 8 else [distinct[round(k * (len(distinct) - 1) / 4)] for k in range(5)]
    return place, [(place[_key(value)], f"{value:.4g}" if isinstance(value, float) else str(value)) for value in shown]
