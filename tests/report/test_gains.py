"""Pictures and tables of gains: they draw what the rows say, with one seed, several, and none."""

from __future__ import annotations

import pytest

from common.report.gains import change_table, levels_of, parts
from common.report.show import svg
from common.rows import COST_FIELDS, MetricRow

PANEL = "arithmetic-v1/test"


def row(variant: str, seed: int, metric: str, value: float) -> MetricRow:
    return MetricRow("rise", "arithmetic-v1", "cpu", "nano", variant, seed, PANEL, metric, value, 400,
                     dict.fromkeys(COST_FIELDS, 0))  # fmt: skip


def rows(seeds: range) -> list[MetricRow]:
    names = ("acc@1", "delta", "cl", "cs")
    values = {"base": (0.4, -0.06, 0.7, 0.1), "rise_self": (0.5, 0.1, 0.9, 0.3)}
    made = [row(variant, seed, name, value + 0.01 * seed)
            for seed in seeds for variant, found in values.items() for name, value in zip(names, found)]  # fmt: skip
    return made + [row("rise_self+vote", seed, "success", 0.58) for seed in seeds]


@pytest.mark.parametrize("seeds", [range(0), range(1), range(3)])
def test_it_is_drawn_with_any_number_of_seeds(seeds):
    figure = parts(rows(seeds), ("base", "rise_self"))
    assert svg(figure) and figure.get_figwidth() <= 10
    if not seeds:
        assert "nothing was measured" in figure.axes[0].texts[0].get_text()


def test_bars_are_the_two_parts_of_the_gain():
    axes = parts(rows(range(1)), ("base",)).axes[0]
    drawn = sorted(bar.get_width() for bar in axes.patches if bar.get_width())  # those of the legend have no width
    assert drawn == pytest.approx([-0.4 * 0.3, 0.6 * 0.1])


def test_the_table_splits_the_way_from_the_base_and_adds_up():
    made = rows(range(1))
    assert levels_of(made, PANEL, "rise_self+vote") == {}
    table = change_table({"rise": made}, PANEL)
    [line] = [line for line in table.splitlines() if "`" in line]
    name, *numbers, seeds = [cell.strip() for cell in line.split("|")[2:-1]]
    delta, total, first, confidence, critique = map(float, numbers)
    assert (name, seeds) == ("`rise_self`", "1")
    assert delta == pytest.approx(0.5 * 0.9 + 0.5 * 0.3 - 0.5, abs=5e-4)
    assert total == pytest.approx(first + confidence + critique, abs=2e-3)
    assert confidence == pytest.approx(0.2 * 0.45, abs=5e-4) and critique == pytest.approx(0.2 * 0.55, abs=5e-4)
    assert "±" in change_table({"rise": rows(range(3))}, PANEL)
    assert change_table({"rise": []}, PANEL) == "Nothing has been measured yet."
