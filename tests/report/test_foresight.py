"""The viewer of imagined and real states: differences marked, texts harmless; foresight by depth drawn."""

from __future__ import annotations

import json

import pytest

from common.report.foresight import depths, differing, forecast_html, forecasts, marked, viewer
from common.report.show import svg
from common.report.webcheck import foreign
from common.rows import COST_FIELDS, MetricRow

FORECAST = {"task": "a", "prompt": "goal: x", "actions": ["click[1]", "click[2]"], "real": ["p 1\nred lamp $5", "over"],
        "imagined": ["p 1\nblue lamp $5", "over"]}  # fmt: skip


def test_only_what_differs_is_marked():
    left, right = marked("p 1\nblue lamp $5", "p 1\nred lamp $5")
    assert left == 'p 1\n<span class="extra">blue</span> lamp $5'
    assert right == 'p 1\n<span class="missing">red</span> lamp $5'
    assert marked("same text", "same text") == ("same text", "same text")
    assert marked("", "a b")[1] == '<span class="missing">a b</span>'


def test_a_forecast_is_a_table_of_action_imagined_and_real():
    html = forecast_html(FORECAST)
    assert html.count("<tr>") == 4 and html.count('class="extra"') == html.count('class="missing"') == 1
    early = forecast_html(FORECAST | {"imagined": ["over"]})
    assert early.count("<tr>") == 4


def test_texts_are_harmless_and_the_viewer_stands_alone():
    evil = FORECAST | {"prompt": "<script>x</script>", "imagined": ["<b>\x00", "<img src=x>"], "actions": ["<i>", "&"]}
    html = viewer([evil])
    assert "<script" not in html and "<img" not in html and "<i>" not in html and "\x00" not in html
    assert foreign(html) == [] and "No forecast" in viewer([])


def test_telling_forecasts_come_first_one_a_task():
    right = FORECAST | {"imagined": FORECAST["real"]}
    other = FORECAST | {"task": "b"}
    assert differing([right, FORECAST, other]) == [FORECAST, other]
    assert differing([right, FORECAST, other], most=1) == [FORECAST] and differing([]) == []


def test_forecasts_are_read_back(tmp_path):
    (tmp_path / "forecasts.iwm.jsonl").write_text(json.dumps(FORECAST) + "\n")
    assert forecasts(tmp_path, "iwm") == [FORECAST] and forecasts(tmp_path, "absent") == []


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_depths_are_drawn_with_any_number_of_seeds(seeds):
    rows = [MetricRow("p", "shop-v1", "cpu", "nano", "iwm", seed, "shop-v1/test", f"{metric}@{d}", 0.9 / d - 0.01 * seed, 9,
                      dict.fromkeys(COST_FIELDS, 0))
            for seed in range(seeds) for metric in ("tokens", "exact") for d in (1, 2, 3)]  # fmt: skip
    figure = depths(rows, ["iwm"])
    assert svg(figure) and figure.get_figwidth() <= 10
    assert [len(axes.lines[0].get_xdata()) for axes in figure.axes] == [3 * bool(seeds)] * 2
    intervals = sum(len(line.get_xdata()) == 2 for line in figure.axes[0].lines)
    assert intervals == (3 if seeds > 1 else 0)
