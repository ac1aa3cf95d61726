"""Look-ahead drawn: lines for what was run only; decisions with the one taken marked and texts harmless."""

from __future__ import annotations

import pytest

from common.report.show import svg
from common.rows import COST_FIELDS, MetricRow
from papers.webevolver.figures import decision_html, foresight_and_success, telling, viewer

DECISION = {"prompt": "goal: a <b>lamp</b>\npage 1", "step": 1, "chosen": 1, "options": ["click[1]", "click[2]"],
            "scores": [0.0, 0.5],
            "paths": [[["click[1]", "poor"]], [["click[2]", "fine"], ["click[red]", "red"]]]}  # fmt: skip


def row(variant: str, metric: str, value: float, seed: int) -> MetricRow:
    return MetricRow("p", "shop-v1", "cpu", "nano", variant, seed, "shop-v1/test", metric, value, 9,
                     dict.fromkeys(COST_FIELDS, 0))  # fmt: skip


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_both_halves_are_drawn_with_any_number_of_seeds(seeds):
    rows = [row("world", f"meaning@{d}", 0.9 / d - 0.01 * s, s) for s in range(seeds) for d in (1, 2, 3)]
    rows += [row(v, "planned_success", 0.2 + 0.01 * s, s) for s in range(seeds) for v in ("plain", "d1", "best")]
    figure = foresight_and_success(rows, ["world", "absent"], {"imagined": {0: "plain", 1: "d1", 2: "d2"}},
                                   {"bound": "best"})  # fmt: skip
    assert svg(figure) and figure.get_figwidth() <= 10
    left, right = figure.axes
    assert len(left.lines) == (0, 1, 4)[min(seeds, 2)]  # a line, and an interval at each depth
    assert len(right.lines) == (0, 2, 4)[min(seeds, 2)]  # a line, two intervals, the bound
    if seeds:
        assert list(right.lines[0].get_xdata()) == [0, 1]  # what was not run is left out


def test_a_decision_is_a_table_with_what_was_taken_marked():
    html = decision_html(DECISION)
    assert html.count("<tr") == 4 and html.count('class="taken"') == 1 and "<b>" not in html
    assert "then click[red]: red" in html and "click[2] ← taken" in html
    assert "No decision" in viewer([]) and viewer([DECISION]).count("<table") == 1


def test_decisions_that_scores_changed_come_first():
    plain = DECISION | {"chosen": 0}
    other = DECISION | {"prompt": "goal: b\npage 1"}
    assert telling([plain, DECISION, DECISION, other]) == [DECISION, other] and telling([plain]) == []
