"""Figures of pixel games: lines where there are rows, the right cells coloured, the telling steps picked."""

from __future__ import annotations

import json

from common.rows import MetricRow, cost_of
from common.types import Cost
from papers.spr import figures


def row(variant: str, metric: str, value: float, seed: int = 0) -> MetricRow:
    return MetricRow(paper="spr", env="minatar-breakout-v1", profile="cpu", scale="nano", variant=variant, seed=seed,
                     panel="minatar-breakout-v1/test", metric=metric, value=value, n=4, cost=cost_of(Cost()))


ROWS = [row("spr", f"return@{step}", step / 1000 + seed, seed) for step in (1000, 500) for seed in (0, 1)]
STEP = {"cells": [[0, 9, 4], [1, 5, 5], [3, 5, 5]], "q": [0.1, 0.5, -0.2], "action": 1, "reward": 0.0, "over": False}


def test_numbers_behind_the_at_sign_are_in_order():
    assert figures.by_number(ROWS, "spr", "return") == {500: [0.5, 1.5], 1000: [1.0, 2.0]}
    assert figures.by_number([*ROWS, row("spr", "return", 9.0)], "rainbow", "return") == {}


def test_curves_have_a_line_for_each_variant_with_rows_and_units_on_both_axes():
    figure = figures.along(ROWS, ["rainbow", "spr"], {"return": "mean return (points)", "rank": "effective rank"},
                          xlabel="environment steps", references={"random": 0.5})  # fmt: skip
    left, right = figure.axes
    assert len(left.lines) == 2 and list(left.lines[0].get_xdata()) == [500, 1000]  # a variant and a reference
    assert list(left.lines[0].get_ydata()) == [1.0, 1.5] and len(left.collections) == 1
    assert (left.get_xlabel(), left.get_ylabel()) == ("environment steps", "mean return (points)")
    assert not right.lines and "2 training seeds" in figure._supxlabel.get_text()
    assert "nothing" in figures.along([], ["spr"], {"rank": "rank"}, xlabel="x")._supxlabel.get_text()


def test_the_telling_steps_are_those_with_reward_and_the_last():
    steps = [dict(STEP, reward=float(i == 3)) for i in range(20)]
    assert figures.chosen(steps, 4) == [3, 17, 18, 19] and figures.chosen(steps[:2], 7) == [0, 1]


def test_a_film_shows_cells_and_marks_the_action_taken():
    steps = [STEP, dict(STEP, reward=1.0), dict(STEP, over=True)]
    figure = figures.film(steps, ("paddle", "ball", "trail", "brick"), ("n", "l", "r"))
    picture = figure.axes[0].images[0].get_array()
    assert (picture[9, 4], picture[5, 5], picture[0, 0]) == (1, 2, 0)  # the ball before the brick
    bars = figure.axes[3].patches
    assert len({bar.get_facecolor() for bar in bars}) == 2 and bars[0].get_facecolor() == bars[2].get_facecolor()
    assert "reward 1" in figure.axes[1].get_title() and "ends" in figure.axes[2].get_title()
    assert figures.film([], ("paddle",), ("n",)).axes


def test_kept_episodes_are_read_and_absent_ones_are_none(tmp_path):
    (tmp_path / "episodes.spr.json").write_text(json.dumps([[STEP]]))
    assert figures.episodes(tmp_path, "spr") == [[STEP]] and figures.episodes(tmp_path, "rainbow") == []


def test_the_notebook_s_parts_need_neither_rows_nor_a_run(tmp_path):
    texts = "\n".join(part for part in figures.toy() if isinstance(part, str))
    assert "loss 4.08" in texts and "loss 0.08" in texts and "→ [0.0, 0.35, 0.65]" in texts
    assert len(figures.results(ROWS, figures.LADDER)) == len(figures.results([], [])) == 6
    assert "no episodes" in figures.examples(tmp_path)[0]


def test_examples_are_films_of_the_unit_s_own_game(tmp_path):
    (tmp_path / "unit.json").write_text('{"env": "minatar-breakout-v1"}')
    (tmp_path / "artifacts").mkdir()
    for name in ("rainbow", "spr", "no_stop_grad"):
        (tmp_path / "artifacts" / f"episodes.{name}.json").write_text(json.dumps([[STEP, dict(STEP, reward=1.0)]]))
    parts = figures.examples(tmp_path / "artifacts")
    assert len(parts) == 7 and "`spr`: 1 points in the first 2 steps" in parts
    assert [text.get_text() for text in parts[2].legends[0].get_texts()] == ["paddle", "ball", "trail", "brick"]
