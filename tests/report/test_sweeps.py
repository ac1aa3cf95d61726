"""The picture of a sweep: where lines go, which is drawn thick."""

from __future__ import annotations

import pytest

from common.report.sweeps import parallel_coordinates


def test_a_line_goes_through_its_values_and_the_best_is_last_and_thick():
    settings = [{"lr": 1e-4, "kind": "a"}, {"lr": 1e-3, "kind": "b"}, {"lr": 1e-2, "kind": "a"}]
    figure = parallel_coordinates(settings, [0.2, 0.6, 0.4], outcome="success of x")
    axes = figure.axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [line.get_linewidth() for line in lines] == [1.2, 1.2, 3]
    assert list(lines[-1].get_ydata()) == pytest.approx([0.5, 0.75, 1.0])  # the middle of a log axis, the second of two
    assert [label.get_text() for label in axes.get_xticklabels()] == ["lr", "kind", "success of x"]
    assert "0.600" in figure.get_supxlabel()


def test_a_parameter_that_never_changes_or_is_left_out_has_an_axis_all_the_same():
    figure = parallel_coordinates([{"a": 1}, {"a": 1, "b": 2}, {}], [0.0, 0.0, 0.0], outcome="m")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["a", "b", "m"]
    figure.canvas.draw()


def test_the_lowest_may_be_the_best():
    figure = parallel_coordinates([{"a": 1}, {"a": 2}, {"a": 3}], [0.2, 0.1, 0.3], outcome="kl", lowest=True)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] != line.get_xdata()[1]]
    assert [line.get_linewidth() for line in lines] == [1.2, 1.2, 3] and lines[-1].get_ydata()[1] == 0.0
    assert "the lowest kl, 0.100" in figure.get_supxlabel()


def test_of_equal_settings_the_first_is_the_thick_one():
    figure = parallel_coordinates([{"a": 1}, {"a": 2}, {"a": 3}], [0.0, 0.0, 0.0], outcome="m")
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() == 3]
    assert [line.get_ydata()[0] for line in thick] == [0.0]
