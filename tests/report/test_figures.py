"""Figures show the rows they were given: positions of means, intervals, labels, colours and widths."""

from __future__ import annotations

import warnings
from io import BytesIO
from xml.dom import minidom

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from common.evaluate.stats import t_interval
from common.report import figures
from common.report.show import png, svg
from common.rows import COST_FIELDS, MetricRow, cost_of
from common.types import Cost


def row(variant: str, seed: int, value: float, *, metric: str = "success", panel: str = "e/test", steps: int = 0):
    return MetricRow(paper="p", env="e", profile="smoke", scale="toy", variant=variant, seed=seed, panel=panel,
                     metric=metric, value=value, n=50, cost=cost_of(Cost(env_steps=steps)))


LADDER = [row("base", s, v) for s, v in enumerate((0.1, 0.2, 0.3))] + [row("base+mcts", s, 0.5) for s in range(3)]


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_a_ladder_has_means_intervals_and_n_and_colours_search_apart():
    [axes] = figures.ladder(LADDER, ["base", "base+mcts"]).axes
    means = [(round(float(line.get_xdata()[0]), 9), float(line.get_ydata()[0]), line.get_color())
             for line in axes.lines if line.get_marker() == "D"]
    assert means == [(0.2, 0.0, figures.BLUE), (0.5, 1.0, figures.ORANGE)]
    expected = t_interval([0.1, 0.2, 0.3])
    spans = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "None"]
    assert spans == [[pytest.approx(expected.low), pytest.approx(expected.high)]]  # equal seeds have no interval
    assert [label.get_text() for label in axes.get_yticklabels()] == ["base", "base+mcts"]
    assert "0.200 ± 0.248   3 × 50" in texts(axes.figure) and "0.500   3 × 50" in texts(axes.figure)


def test_a_ladder_has_a_column_for_each_panel_and_leaves_out_what_was_not_run():
    rows = [*LADDER, row("base", 0, 0.4, panel="e/other"), row("more", 0, 0.4, panel="e/other"), row("base", 0, 0.6, panel="e/demos")]
    columns = figures.ladder(rows, ["base", "more", "base+mcts"]).axes
    assert [axes.get_xlabel().split("\n")[1] for axes in columns] == ["e/other", "e/test"]  # on e/demos nothing is compared
    assert [sum(line.get_marker() == "D" for line in one.lines) for one in columns] == [2, 2]
    [alone] = figures.ladder([row("base", 0, 0.6, panel="e/demos")], ["base", "more"]).axes
    assert alone.get_xlabel().endswith("e/demos")  # where there is nothing else


def test_a_forest_tells_verdicts_by_colour_and_leaves_out_what_was_not_run():
    record = {"id": "T1", "better": "a", "worse": "b", "panel": "e/test", "profile": "cpu", "metric": "success",
              "effect": 0.1, "ci_low": 0.05, "ci_high": 0.15, "n_seeds": 5, "verdict": "supported"}
    other = {**record, "id": "T2", "effect": -0.2, "ci_low": None, "verdict": "contradicted"}
    figure = figures.forest([record, other, {**record, "effect": None}, {**record, "metric": "pairs"}])
    [axes] = figure.axes
    points = {(float(line.get_xdata()[0]), line.get_color()) for line in axes.lines if line.get_marker() in "oXs"
              and len(line.get_xdata())}
    assert points == {(0.1, figures.BLUE), (-0.2, figures.RED)}
    assert "n = 5" in texts(figure)


def test_an_audit_orders_thresholds_as_numbers():
    values = {"0.0": 0.5, "0.1": 0.6, "0.65": 0.7}
    rows = [row(f"v@theta={theta}", s, value + s, metric=metric, panel="e/train") for s in range(2)
            for metric in ("pair_accuracy", "pair_count") for theta, value in values.items()]
    top, bottom = figures.audit(rows, "v@theta=").axes
    assert list(bottom.lines[0].get_xdata()) == [0.0, 0.1, 0.65]
    assert list(bottom.lines[0].get_ydata()) == pytest.approx([1.0, 1.1, 1.2])  # means over the two seeds
    assert top.get_title() == "e/train, 2 seeds"


def test_curves_put_the_second_round_behind_the_first():
    points = [{"variant": "a", "round": r, "update": u, "metric": "loss", "value": 1.0 / (r * u)}
              for r in (1, 2) for u in (1, 2, 3)]
    [axes, _] = [*figures.curves(points, ("loss",)).axes, None]
    assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2, 3], [4, 5, 6]]


def test_a_long_curve_is_drawn_by_its_moving_mean():
    assert figures.moving_mean([1.0, 2.0, 6.0, 3.0], 1) == [1.5, 3.0, 11 / 3, 4.5]
    points = [{"variant": "a", "round": 1, "update": u, "metric": "loss", "value": float(u % 2)} for u in range(1, 101)]
    faint, line = figures.curves(points, ("loss",)).axes[0].lines
    assert list(faint.get_ydata())[:2] == [1.0, 0.0] and faint.get_alpha() < 0.5
    assert all(abs(y - 0.5) < 0.04 for y in line.get_ydata()[15:-15]) and line.get_label() == "a"


def test_an_ablation_leaves_out_absent_variants():
    series = {"s": {0.0: "a0", 0.5: "ah", 1.0: "a1"}}
    figure = figures.ablation([row("a0", 0, 0.1), row("a1", 0, 0.3)], series, xlabel="α")
    assert list(figure.axes[0].lines[0].get_xdata()) == [0.0, 1.0]


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_depths_are_drawn_with_any_number_of_seeds(seeds):
    rows = [MetricRow("p", "shop-v1", "cpu", "nano", "iwm", seed, "shop-v1/test", f"{metric}@{d}", 0.9 / d - 0.01 * seed, 9,
                      dict.fromkeys(COST_FIELDS, 0))
            for seed in range(seeds) for metric in ("tokens", "exact") for d in (1, 2, 3)]  # fmt: skip
    figure = figures.depths(rows, ["iwm"])
    assert svg(figure) and figure.get_figwidth() <= 10
    assert [len(axes.lines[0].get_xdata()) for axes in figure.axes] == [3 * bool(seeds)] * 2
    intervals = sum(len(line.get_xdata()) == 2 for line in figure.axes[0].lines)
    assert intervals == (3 if seeds > 1 else 0)


@pytest.mark.parametrize("figure", [
    figures.ladder([], ["base"]), figures.forest([]), figures.audit([], "x"), figures.depths([], ["a"]),
    figures.curves([], ("loss", "logp")), figures.ablation([], {"s": {0.0: "a"}}, xlabel="α"),
], ids=["ladder", "forest", "audit", "depths", "curves", "ablation"])  # fmt: skip
def test_figures_of_nothing_are_drawn_and_fit_the_page(figure):
    assert figure.get_figwidth() <= figures.WIDTH
    minidom.parseString(svg(figure))


def test_svg_repeats_and_survives_what_an_untrained_model_writes():
    def draw() -> Figure:
        figure = Figure()
        figure.subplots().set_title("click[\x1b] -- > & <b> é")
        return figure

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a character without a glyph is not worth a warning below the figure
        first, second = svg(draw()), svg(draw())
    assert first == second and first.startswith("<svg")
    minidom.parseString(first)


def test_a_small_picture_keeps_the_colours_of_rare_lines():
    points = [{"variant": f"v{k}", "round": 1, "update": update, "metric": "loss", "value": (5.0 if k == 4 else 0.2) * (update * 7 * k % 5)}
              for k in range(6) for update in range(500 if k > 3 else 150)]  # fmt: skip
    figure = figures.curves(points, ("loss",))
    kept = np.unique(np.asarray(Image.open(BytesIO(png(figure))).convert("RGB")).reshape(-1, 3), axis=0)
    away = [np.abs(kept - 255 * np.array(to_rgb(colour))).max(axis=1) for colour in figures.CYCLE[:6]]
    assert len({one.argmin() for one in away}) == 6 and max(one.min() for one in away) < 35
