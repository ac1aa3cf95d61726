"""Charts that show their numbers under the pointer: Vega-Lite specifications beside the figures of ``common.report.figures``.

JupyterLab draws ``MIME`` by itself, without a network. A notebook's output holds the specification and the picture of the same
numbers; front ends that do not know ``MIME`` (code hosts, the site, the gallery) show the picture. Text has the colour of the
page's own text and the ground is transparent, so a chart can be read in light and dark themes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from common.evaluate.stats import t_interval
from common.report.tables import mean_and_half
from common.rows import COST_FIELDS, MetricRow

MIME = "application/vnd.vegalite.v5+json"
TEXT, FAINT = "currentColor", "#80808060"
WIDTH, NOTES = 720, 130
"""Pixels of all panels together, and of the notes at the right of each."""
DIGITS = 5
"""Significant digits of what is drawn; texts have those of the tables."""

Spec = dict[str, Any]


class Chart(Figure):
    """A figure that may have a specification of the same numbers."""

    hover: Spec | None = None


def ladder(panels: Mapping[str, Mapping[str, Sequence[MetricRow]]], colours: Mapping[str, str], *, label: str, zero: bool) -> Spec:
    """``panels``: panel → variant → rows by seed. ``colours``: variant → colour, the lowest variant first. ``zero``: whether the
    axis begins at 0."""
    records = [_rung(panel, variant, rows) for panel, found in panels.items() for variant, rows in found.items()]
    spent = [name for name in COST_FIELDS if any(name in record for record in records)]
    place = {"x": _number("mean", label, zero=zero), "y": _order("variant", list(colours)[::-1])}
    shades = {"color": _colours("variant", colours)}
    level = _tooltip("variant", "panel", "mean ± half=text", "95 % interval=interval", "seeds", "tasks",
                     *(f"{name.replace('_', ' ')}, mean of seeds={name}" for name in spent))  # fmt: skip
    seed = {"transform": [{"flatten": ["values", "numbers"]}], "mark": {"type": "circle", "size": 18, "opacity": 0.5, "yOffset": 6},
            "encoding": place | {"x": _number("values", label, zero=zero)} | shades | _tooltip("variant", "panel", "seed=numbers", "value=values")}  # fmt: skip
    layers = [seed, _rule("low", "high", place, shades), {"mark": _point("diamond"), "encoding": place | shades | level}, _note("note", place["y"])]
    across = max(140, (WIDTH - NOTES * len(panels)) // max(len(panels), 1))
    return _whole(records, {"facet": {"column": {"field": "panel", "title": None}}, "spacing": NOTES, "resolve": {"scale": {"x": "independent"}},
                            "spec": {"width": across, "height": {"step": 30}, "layer": layers}},
                  "mean ± half of the 95 % t-interval over training seeds, seeds × tasks; small dots: single seeds. Point at a mark.")  # fmt: skip


def forest(records: Sequence[Mapping[str, Any]], names: Sequence[str], looks: Mapping[str, tuple[str, str]], *, metric: str) -> Spec:
    """``records`` of claims from the top to the bottom with their ``names``; ``looks``: verdict → colour and Vega's name of a shape."""
    lines = [_verdict(line, record) for line, record in enumerate(records)]
    seen = [verdict for verdict in looks if any(record["verdict"] == verdict for record in records)]
    place = {"x": _number("effect", f"effect on {metric}, paired by seed: right of 0 speaks for the claim", zero=True), "y": _order("line", range(len(lines)))}
    place["y"]["axis"] |= {"labelExpr": f"{json.dumps([name.split(chr(10)) for name in names])}[datum.value]", "labelFontSize": 10}
    marked = {"color": _colours("verdict", {name: looks[name][0] for name in seen}) | {"legend": {"orient": "top", "title": None}},
              "shape": {"field": "verdict", "type": "nominal", "scale": {"domain": seen, "range": [looks[name][1] for name in seen]}}}  # fmt: skip
    shown = _tooltip("claim=id", "it says=statement", "better", "worse", "panel", "profile", "effect=text", "interval", "verdict", "reason", "seeds")
    layers = [{"mark": {"type": "rule", "color": TEXT}, "encoding": {"x": {"datum": 0}}}, _rule("low", "high", place, {"color": marked["color"]}),
              {"mark": _point(), "encoding": place | marked | shown}, _note("note", place["y"])]  # fmt: skip
    step = 34 if any("\n" in name for name in names) else 26
    return _whole(lines, {"width": WIDTH - 300, "height": {"step": step}, "layer": layers},
                  "The intervals of a paper's claims on a panel hold together. Point at a mark for the claim.")  # fmt: skip


def curves(points: Sequence[Mapping[str, Any]], metrics: Sequence[str], colours: Mapping[str, str]) -> Spec:
    """``points``: records with variant, round, update, metric, value, x (updates since the variant's start) and mean, the moving
    mean that is the line. A click on a variant in the legend makes the others faint."""
    kept = [{**one, "value": _short(one["value"]), "mean": _short(one["mean"])} for one in points]
    place = {"x": {"field": "x", "type": "quantitative", "axis": _axis("optimiser updates")}, "y": _number("mean", None, zero=False),
             "color": _colours("variant", colours) | {"legend": {"orient": "top", "title": None, "columns": 5}},
             "detail": {"field": "round"}}  # fmt: skip
    chosen = {"name": "chosen", "select": {"type": "point", "fields": ["variant"]}, "bind": "legend"}
    at = {"name": "at", "select": {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"}}
    line = {"params": [chosen], "mark": {"type": "line", "strokeWidth": 1.8},
            "encoding": place | {"opacity": {"condition": {"param": "chosen", "value": 1}, "value": 0.12}}}  # fmt: skip
    point = {"params": [at], "mark": _point(),
             "encoding": place | {"opacity": {"condition": {"param": "at", "empty": False, "value": 1}, "value": 0}}
             | _tooltip("variant", "metric", "round", "update", "value", "line (moving mean)=mean")}  # fmt: skip
    drawn = {"facet": {"field": "metric", "title": None, "sort": list(metrics)}, "columns": min(2, len(metrics)),
             "resolve": {"scale": {"y": "independent"}}, "spec": {"width": (WIDTH - 80) // min(2, len(metrics)), "height": 170, "layer": [line, point]}}  # fmt: skip
    return _whole(kept, drawn, "Point at a line for its numbers; a click in the legend shows one variant alone.")


# -- records: the numbers of one mark, and what is said of it ------------------------------------------------------------


def _rung(panel: str, variant: str, rows: Sequence[MetricRow]) -> dict[str, Any]:
    values = [row.value for row in rows]
    found, text = t_interval(values), mean_and_half(values)
    spent = {name: fmean(row.cost[name] for row in rows) for name in COST_FIELDS}
    return {"panel": panel, "variant": variant, "mean": _short(found.mean), "text": text, "seeds": found.n, "tasks": rows[0].n,
            "note": f"{text} · {found.n} × {rows[0].n}", "values": [_short(value) for value in values], "numbers": [row.seed for row in rows],
            **_interval(found.low, found.high), **{name: f"{mean:,.0f}" for name, mean in spent.items() if mean}}  # fmt: skip


def _verdict(line: int, record: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: record.get(name) or "–" for name in ("id", "statement", "better", "worse", "panel", "profile", "verdict", "reason")}
    return {**kept, "line": line, "effect": _short(record["effect"]), "text": f"{record['effect']:+.3f}", "seeds": record["n_seeds"],
            "note": f"n = {record['n_seeds']}", **_interval(record["ci_low"], record["ci_high"])}  # fmt: skip


def _interval(low: float | None, high: float | None) -> dict[str, Any]:
    if low is None or high is None:
        return {"interval": "none: one seed, or all are equal"}
    return {"low": _short(low), "high": _short(high), "interval": f"[{low:+.3f}, {high:+.3f}]"}


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


# -- parts of specifications ------------------------------------------------------------------------------------------------


def _whole(records: Sequence[Mapping[str, Any]], drawn: Spec, note: str) -> Spec:
    """A specification with its data, the note below it, and colours for light and dark pages."""
    heads = {"labelColor": TEXT, "titleColor": TEXT}
    config = {"background": "transparent", "view": {"stroke": None}, "legend": heads, "header": heads, "text": {"color": TEXT}, "title": {"color": TEXT},
              "axis": heads | {"gridColor": FAINT, "domainColor": FAINT, "tickColor": FAINT, "labelLimit": 330, "titleFontWeight": "normal"}}  # fmt: skip
    return {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "data": {"values": list(records)}, **drawn, "config": config,
            "usermeta": {"embedOptions": {"renderer": "svg"}},  # on a canvas, the default, currentColor is black
            "title": {"text": note, "orient": "bottom", "anchor": "start", "fontSize": 11, "fontWeight": "normal", "offset": 8}}  # fmt: skip


def _axis(title: str | None) -> Spec:
    return {"title": title, "tickCount": 4}


def _number(name: str, title: str | None, *, zero: bool) -> Spec:
    return {"field": name, "type": "quantitative", "scale": {"zero": zero}, "axis": _axis(title)}


def _order(name: str, domain: Sequence[Any]) -> Spec:
    """One line for each of ``domain``, from the top down."""
    return {"field": name, "type": "ordinal", "scale": {"domain": list(domain)}, "axis": {"title": None, "grid": False, "domain": False, "ticks": False}}


def _colours(name: str, colours: Mapping[str, str]) -> Spec:
    return {"field": name, "type": "nominal", "scale": {"domain": list(colours), "range": list(colours.values())}, "legend": None}


def _point(shape: str = "circle") -> Spec:
    return {"type": "point", "shape": shape, "filled": True, "size": 90, "opacity": 1}


def _rule(low: str, high: str, place: Spec, more: Spec) -> Spec:
    ends = {"x": place["x"] | {"field": low}, "x2": {"field": high}, "y": place["y"]}
    return {"transform": [{"filter": f"isValid(datum.{low})"}], "mark": {"type": "rule", "strokeWidth": 2.4}, "encoding": ends | more}


def _note(name: str, y: Spec) -> Spec:
    """A text at the right of a line."""
    return {"mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 10}, "encoding": {"x": {"value": "width"}, "y": y, "text": {"field": name}}}


def _tooltip(*fields: str) -> Spec:
    """``title=field``, or a field that is its own title."""
    return {"tooltip": [{"field": one.rpartition("=")[2], "title": one.partition("=")[0], "type": "nominal"} for one in fields]}
