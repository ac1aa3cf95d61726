"""Pictures of discussions: they draw what rows and games say, with one seed, several and none; HTML is harmless."""

from __future__ import annotations

import json

import pytest

from common.report.examples import recorded_dialogues
from common.report.show import svg
from common.rows import COST_FIELDS, MetricRow
from papers.social_deduction import figures

COST = dict.fromkeys(COST_FIELDS, 0)


def rows(seeds: int) -> list[MetricRow]:
    metrics = [*(f"belief@{k}" for k in range(6)), *figures.SPEECH]
    return [MetricRow("s", "e-v1", "cpu", "nano", variant, seed, "e-v1/test", metric, 0.2 + 0.1 * seed, 8, COST)
            for seed in range(seeds) for variant in ("base", "rl") for metric in metrics]  # fmt: skip


def game(task: str = "t", *, right: bool = True, text: str = "saw red 2") -> list[dict]:
    shared = {"task": task, "impostor": "white", "listeners": ["blue", "red"], "prompt": "crew blue", "role": "crew"}
    say = shared | {"turn": 1, "who": "blue", "kind": "say", "text": text, "right": right,
                    "before": [0.2, 0.3], "after": [0.9, 0.7]}  # fmt: skip
    votes = [shared | {"turn": 2 + k, "who": who, "kind": "vote", "text": "white" if right else "", "right": right,
                       "before": [0.9, 0.7], "after": [0.9, 0.7]} for k, who in enumerate(("blue", "red"))]  # fmt: skip
    return [say, *votes]


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_figures_draw_any_number_of_seeds(seeds):
    drawn = figures.beliefs(rows(seeds), ("base", "rl", "absent"))
    [axes] = drawn.axes
    assert svg(drawn) and drawn.get_figwidth() <= 10
    assert "probability" in axes.get_ylabel() and "number" in axes.get_xlabel()
    lines = [line for line in axes.lines if len(line.get_xdata()) == 6]
    assert len(lines) == (2 if seeds else 0)
    spans = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    assert len(spans) == (12 if seeds == 3 else 0)
    if not seeds:
        assert "nothing was measured" in axes.texts[0].get_text()
    spoken = figures.speech(rows(seeds), ("base", "rl"))
    assert svg(spoken) and len(spoken.axes) == len(figures.SPEECH)
    assert all("share" in one.get_xlabel() for one in spoken.axes)


def test_the_change_of_a_turn_is_that_of_the_others():
    assert figures.change(game()[0]) == pytest.approx(0.4)


def test_games_are_read_and_shown_with_beliefs_and_marks(tmp_path):
    (tmp_path / "dialogues.rl.jsonl").write_text("".join(json.dumps(turn) + "\n" for turn in game(text="<b>")))
    found = recorded_dialogues(tmp_path, "rl")
    assert found == {"t": game(text="<b>")}
    shown = figures.viewer({"rl": found}, "t")
    assert "&lt;b&gt;</code> ✓" in shown and "<b>rl</b>" in shown and "+0.40" in shown and "0.70" in shown
    assert "votes white" in shown and "impostor is white" in shown
    assert "votes for nobody" in figures.viewer({"rl": {"t": game(right=False)}}, "t")
    assert "No game of x&lt; was kept" in figures.viewer({"rl": found}, "x<")


def test_contrasts_are_three_different_games():
    before = {"a": game("a", right=False), "b": game("b"), "c": game("c")}
    after = {"a": game("a"), "b": game("b", right=False), "c": game("c")}
    chosen = figures.contrasts(before, after)
    assert [task for _, task in chosen] == ["a", "b", "c"] and "misled" in chosen[2][0]
    assert figures.contrasts({}, after) == []


def test_the_notebook_s_parts_need_neither_rows_nor_a_run(tmp_path):
    shown = "\n".join(figures.toy())
    assert "green names pink      blue 0.27   pink 0.73" in shown and "the two messages earn [0.15, 0.15]" in shown
    assert len(figures.results([], [])) == 3 and "no games" in figures.examples(tmp_path)[0]
    for name in ("base", "rl_listen", "rl_listen_speak"):
        kept = game(right=name != "base", text="a\n\n$b")
        (tmp_path / f"dialogues.{name}.jsonl").write_text("".join(json.dumps(turn) + "\n" for turn in kept))
    parts = figures.examples(tmp_path)
    assert "most for the impostor after" in parts[1] and parts[2].count("<table") == 3
    assert "\n\n" not in parts[2] and "a <span>&#36;</span>b" in parts[2]
