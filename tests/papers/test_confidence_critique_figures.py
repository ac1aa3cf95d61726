"""Confidence v.s. Critique's own figures: they draw what the rows say, and the toy is right."""

from __future__ import annotations

import re

import pytest
from matplotlib.figure import Figure

from common.report.show import svg
from common.rows import COST_FIELDS, MetricRow
from papers.confidence_critique import figures


def rows(seeds: range) -> list[MetricRow]:
    values = {"base": (0.7, 0.1), "mixture": (0.8, 0.2)}
    return [MetricRow("confidence_critique", "e-v1", "cpu", "nano", variant, seed, "e-v1/test", name, value, 100,
                      dict.fromkeys(COST_FIELDS, 0))
            for seed in seeds for variant, found in values.items()
            for name, value in zip(("prob_cl", "prob_cs"), found)]  # fmt: skip


@pytest.mark.parametrize("seeds", [range(0), range(2)])
def test_the_probability_mode_is_drawn(seeds):
    [figure] = [part for part in figures.results(rows(seeds), figures.LADDER) if isinstance(part, Figure)]
    assert svg(figure)
    points = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in figure.axes[0].lines}
    assert points == ({"base": (0.7, 0.1), "mixture": (0.8, 0.2)} if seeds else {})


def test_the_toy_s_parts_add_up():
    printed = figures.toy()[-1]
    number = r"([+-][\d.]+)"
    deltas = {name: float(value) for name, value in re.findall(rf"^(\w+) +Acc₁.* Δ {number}", printed, re.M)}
    # p_a = .9, .5, .1: Acc₁ = ½; the base keeps .81 + .40 + .05 and repairs .05 + .15 + .18 of three
    assert deltas == {"base": pytest.approx((1.26 + 0.38) / 3 - 0.5, abs=1e-3), "keeps": 0, "replaces": pytest.approx(
        (0.83 + 0.59) / 3 - 0.5, abs=1e-3)}  # fmt: skip
    changes = re.findall(rf"base → (\w+) +Δ changes by {number}: by CL {number}, by CS {number}", printed)
    assert [name for name, *_ in changes] == ["keeps", "replaces"]
    for name, total, by_cl, by_cs in changes:
        assert float(total) == pytest.approx(float(by_cl) + float(by_cs), abs=2e-3)
        assert float(total) == pytest.approx(deltas[name] - deltas["base"], abs=2e-3)


def test_without_a_run_there_is_one_line_of_text(tmp_path):
    [text] = figures.examples(tmp_path)
    assert text.startswith("No dialogues") and "\n" not in text
