"""The picture of reward against KL: it draws what the rows say, with one seed, several and none."""

from __future__ import annotations

import pytest

from common.report.figures import CYCLE
from common.report.frontier import against_kl
from common.report.show import svg
from common.track.rows import COST_FIELDS, MetricRow

WHERE = {"base": (0.0, 0.2), "single": (1.0, 0.3), "single@eta=0": (2.0, 0.25), "cory": (0.5, 0.4), "blind": (1.5, 0.3)}


def rows(seeds: int) -> list[MetricRow]:
    cost = dict.fromkeys(COST_FIELDS, 0)
    return [MetricRow("cory", "e-v1", "cpu", "nano", variant, seed, "e-v1/test", metric, value + 0.01 * seed, 400, cost)
            for seed in range(seeds) for variant, at in WHERE.items()
            for metric, value in zip(("kl", "success"), at)]  # fmt: skip


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_it_is_drawn_with_any_number_of_seeds(seeds):
    figure = against_kl(rows(seeds), {"single": ("single", "single@eta=0"), "cory": ("cory", "absent")}, ("blind",))
    assert svg(figure) and figure.get_figwidth() <= 10
    axes = figure.axes[0]
    if not seeds:
        assert "nothing was measured" in axes.texts[0].get_text()
        return
    assert axes.get_legend_handles_labels()[1] == ["base", "single", "cory", "blind"]
    assert f"{seeds} seed" in axes.get_title()
    spans = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.0]
    assert len(spans) == (2 * 4 if seeds == 3 else 0)


def test_lines_are_the_frontiers():
    axes = against_kl(rows(1), {"single": ("single", "single@eta=0"), "cory": ("cory",)}).axes[0]
    lines = {line.get_color(): line.get_xydata().tolist() for line in axes.lines if line.get_linewidth() == 1.6}
    assert lines[CYCLE[0]] == [[0, 0.2], [1, 0.3], [2, 0.3]]  # the second point lies below: flat beyond the first
    assert lines[CYCLE[1]] == [[0, 0.2], [0.5, 0.4], [0.5, 0.4]]
