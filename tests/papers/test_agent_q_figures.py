"""Agent Q's own figures: what each variant spent."""

from __future__ import annotations

from common.report.figures import CYCLE
from common.report.show import svg
from common.rows import MetricRow, cost_of
from common.types import Cost
from papers.agent_q import figures


def row(variant: str, seed: int, value: float, *, panel: str = "e/test", steps: int = 0) -> MetricRow:
    return MetricRow(paper="p", env="e", profile="smoke", scale="toy", variant=variant, seed=seed, panel=panel,
                     metric="success", value=value, n=50, cost=cost_of(Cost(env_steps=steps)))  # fmt: skip


def test_a_budget_puts_what_was_spent_on_x_and_names_every_variant_once():
    rows = [row("a", 0, 0.2, steps=100), row("a", 1, 0.4, steps=300), row("b", 0, 0.5, panel="e/other", steps=7)]
    figure = figures.budget(rows, ["a", "b"])
    at = {axes.get_title(): list(axes.lines[0].get_xdata()) for axes in figure.axes}
    assert at == {"e/other": [7.0], "e/test": [200.0]}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    colours = {axes.get_title(): axes.lines[0].get_color() for axes in figure.axes}
    assert colours == {"e/test": CYCLE[0], "e/other": CYCLE[1]}


def test_a_budget_of_nothing_is_drawn_and_fits_the_page():
    figure = figures.budget([], ["a"])
    assert svg(figure) and figure.get_figwidth() <= 10
