"""Pictures of self-correction: they draw what the rows say, with one seed, several, and none."""

from __future__ import annotations

import json

import pytest

from common.report.correction import BLUE, RED, confidence_and_critique, dialogue_table, dialogues, transitions, turns
from common.report.show import svg
from common.rows import COST_FIELDS, MetricRow


def row(variant: str, seed: int, metric: str, value: float) -> MetricRow:
    return MetricRow("score", "arithmetic-v1", "cpu", "nano", variant, seed, "arithmetic-v1/test", metric, value, 400,
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


def test_intervals_need_two_seeds():
    one, three = (transitions(rows(range(n)), ("base",)).axes[0] for n in (1, 3))
    assert len([bar for bar in three.patches]) == len([bar for bar in one.patches]) == 2
    spans = [sum(len(line.get_xdata()) == 2 for line in axes.lines) for axes in (one, three)]
    assert spans[1] > spans[0]


def test_dialogues_that_differ_come_first_and_text_is_harmless(tmp_path):
    def told(variant: str, ends: dict[str, bool]) -> dict:
        lines = [{"task": task, "turn": turn, "prompt": f"p {task}", "answer": "a|`$b\n",
                  "correct": turn == 2 and right}
                 for task, right in ends.items() for turn in (1, 2)]  # fmt: skip
        (tmp_path / f"dialogues.{variant}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return dialogues(tmp_path, variant)

    base, score = told("base", {"x": True, "y": False}), told("score", {"x": True, "y": True, "z": True})
    table = dialogue_table({"base": base, "score": score}).splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| p y", "| p x"]
    assert table[2].count("✓") == 1 and table[2].count("✗") == 3 and "a\\|'\\$b" in table[2]
    long = [{"prompt": "p", "answer": "a" * 300 + "|end", "correct": False}] * 2
    told = dialogue_table({"base": {"t": long}})
    assert told.count("aaa […] aaa") == 2 and told.count("a\\|end") == 2 and len(told) < 600
    assert dialogues(tmp_path, "absent") == {}
    for nothing in ({}, {"base": base, "absent": {}}):
        assert dialogue_table(nothing).startswith("No dialogues to show")
