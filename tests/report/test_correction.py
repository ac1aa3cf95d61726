"""Pictures and tables of self-correction: they show what the rows say, with one seed, several, and none."""

from __future__ import annotations

import pytest

from common.report.correction import change_table, confidence_and_critique, gain_parts, levels_of, pictures, transitions, turns
from common.report.figures import BLUE, RED
from common.report.show import svg
from common.rows import COST_FIELDS, MetricRow


PANEL = "arithmetic-v1/test"


def row(variant: str, seed: int, metric: str, value: float) -> MetricRow:
    return MetricRow("score", "arithmetic-v1", "cpu", "nano", variant, seed, PANEL, metric, value, 400,
                     dict.fromkeys(COST_FIELDS, 0))  # fmt: skip


def rows(seeds: range) -> list[MetricRow]:
    names = ("acc@1", "acc@2", "delta", "i2c", "c2i", "cl", "cs", "copy")
    values = {"base": dict(zip(names, (0.4, 0.3, -0.1, 0.05, 0.15, 0.6, 0.1, 0.5))),
              "score": dict(zip(names, (0.5, 0.6, 0.1, 0.15, 0.05, 0.9, 0.3, 0.6)))}
    return [row(variant, seed, metric, value + 0.01 * seed)
            for seed in seeds for variant, found in values.items() for metric, value in found.items()]  # fmt: skip


@pytest.mark.parametrize("seeds", [range(0), range(1), range(3)])
@pytest.mark.parametrize("draw", [turns, transitions, confidence_and_critique])
def test_every_picture_is_drawn_with_any_number_of_seeds(draw, seeds):
    figure = draw(rows(seeds), ("base", "score"))
    assert svg(figure) and figure.get_figwidth() <= 10
    if not seeds:
        assert "nothing was measured" in figure.axes[0].texts[0].get_text()


def test_a_second_answer_that_is_worse_is_red():
    axes = turns(rows(range(1)), ("base", "score")).axes[0]
    diamonds = [line for line in axes.lines if line.get_marker() == "D" and len(line.get_ydata())]
    second = {line.get_ydata()[0]: line.get_color() for line in diamonds}
    assert [second[y] for y in sorted(second)] == [RED, BLUE]
    assert ["Δ -0.100" in axes.texts[0].get_text(), "Δ +0.100" in axes.texts[1].get_text()] == [True, True]
    assert "1 × 400" in axes.texts[0].get_text()


def test_policies_that_answer_once_get_a_sentence_instead_of_empty_pictures():
    once = [row for row in rows(range(2)) if row.metric == "acc@1"]
    assert pictures(once, ["base"]) == ["The policies of this paper answer once: there is no second attempt to compare with the first."]


def test_intervals_need_two_seeds():
    one, three = (transitions(rows(range(n)), ("base",)).axes[0] for n in (1, 3))
    assert len([bar for bar in three.patches]) == len([bar for bar in one.patches]) == 2
    spans = [sum(len(line.get_xdata()) == 2 for line in axes.lines) for axes in (one, three)]
    assert spans[1] > spans[0]


def gains(seeds: range) -> list[MetricRow]:
    names = ("acc@1", "delta", "cl", "cs")
    values = {"base": (0.4, -0.06, 0.7, 0.1), "rise_self": (0.5, 0.1, 0.9, 0.3)}
    made = [row(variant, seed, name, value + 0.01 * seed)
            for seed in seeds for variant, found in values.items() for name, value in zip(names, found)]  # fmt: skip
    return made + [row("rise_self+vote", seed, "success", 0.58) for seed in seeds]


@pytest.mark.parametrize("seeds", [range(0), range(1), range(3)])
def test_parts_of_gains_are_drawn_with_any_number_of_seeds(seeds):
    figure = gain_parts(gains(seeds), ("base", "rise_self"))
    assert svg(figure) and figure.get_figwidth() <= 10
    if not seeds:
        assert "nothing was measured" in figure.axes[0].texts[0].get_text()


def test_bars_are_the_two_parts_of_the_gain():
    axes = gain_parts(gains(range(1)), ("base",)).axes[0]
    drawn = sorted(bar.get_width() for bar in axes.patches if bar.get_width())  # those of the legend have no width
    assert drawn == pytest.approx([-0.4 * 0.3, 0.6 * 0.1])


def test_the_table_splits_the_way_from_the_base_and_adds_up():
    made = gains(range(1))
    assert levels_of(made, PANEL, "rise_self+vote") == {}
    table = change_table({"rise": made}, PANEL)
    [line] = [line for line in table.splitlines() if "`" in line]
    name, *numbers, seeds = [cell.strip() for cell in line.split("|")[2:-1]]
    delta, total, first, confidence, critique = map(float, numbers)
    assert (name, seeds) == ("`rise_self`", "1")
    assert delta == pytest.approx(0.5 * 0.9 + 0.5 * 0.3 - 0.5, abs=5e-4)
    assert total == pytest.approx(first + confidence + critique, abs=2e-3)
    assert confidence == pytest.approx(0.2 * 0.45, abs=5e-4) and critique == pytest.approx(0.2 * 0.55, abs=5e-4)
    assert "±" in change_table({"rise": gains(range(3))}, PANEL)
    assert change_table({"rise": []}, PANEL) == "Nothing has been measured yet."
