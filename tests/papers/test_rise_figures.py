"""RISE's own figures: they draw what the rows say, with one seed, several, and none."""

from __future__ import annotations

import json

import pytest
from matplotlib.figure import Figure

from common.report.show import svg
from common.rows import COST_FIELDS, MetricRow
from papers.rise import figures

PANEL = "arithmetic-v1/test"


def rows(seeds: range) -> list[MetricRow]:
    names = ("acc@1", "acc@2", "acc@3", "vote", "parallel_vote")
    values = {"base": (0.4, 0.35, 0.34, 0.36, 0.45), "rise_self": (0.5, 0.55, 0.6, 0.58, 0.55)}
    return [MetricRow("rise", "arithmetic-v1", "cpu", "nano", variant, seed, PANEL, name, value + 0.01 * seed, 400,
                      dict.fromkeys(COST_FIELDS, 0))
            for seed in seeds for variant, found in values.items() for name, value in zip(names, found)]  # fmt: skip


@pytest.mark.parametrize("seeds", [range(0), range(1), range(3)])
def test_it_is_drawn_with_any_number_of_seeds(seeds):
    [figure] = [part for part in figures.results(rows(seeds), ("base", "rise_self")) if isinstance(part, Figure)]
    assert svg(figure) and figure.get_figwidth() <= 10
    if not seeds:
        assert "nothing was measured" in figure.axes[0].texts[0].get_text()


def test_lines_go_through_the_turns_and_votes_stand_beside_them():
    axes = figures.by_turn(rows(range(1)), ("base", "rise_self")).axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines if line.get_label()[0] != "_"}
    assert lines == {"base": pytest.approx([0.4, 0.35, 0.34]), "rise_self": pytest.approx([0.5, 0.55, 0.6])}
    votes = sorted(float(line.get_ydata()[0]) for line in axes.lines if len(line.get_ydata()) == 1)
    assert votes == pytest.approx([0.36, 0.45, 0.55, 0.58])


def test_the_toy_prints_weights_votes_and_limits_by_value():
    *sources, printed = figures.toy()
    assert [text.startswith("```python\ndef ") for text in sources] == [True, True]
    assert "τ =  0.4: a right answer weighs 12.2 times a wrong one" in printed
    assert "votes AAbcd (upper case is right): right with probability 1.00" in printed
    assert "votes AbbcA (upper case is right): right with probability 0.50" in printed
    assert "0.30 → 0.25 → " in printed and "limit 0.20\n" in printed  # 0.3 · 0.6 + 0.7 · 0.1; 0.1 / (1 − 0.6 + 0.1)
    assert "limit 0.67\n" in printed


def test_examples_are_the_dialogues_that_were_kept(tmp_path):
    [nothing] = figures.examples(tmp_path / "absent")
    assert nothing.startswith("No dialogues") and "\n" not in nothing
    for name in figures.DIALOGUES:
        turns = [{"task": "t", "turn": k, "prompt": "p", "answer": f"a{k}", "correct": k == 5} for k in range(1, 6)]
        (tmp_path / f"dialogues.{name}.jsonl").write_text("".join(json.dumps(turn) + "\n" for turn in turns))
    [table] = figures.examples(tmp_path)
    assert table.count("`a4` ✗ → `a5` ✓") == len(figures.DIALOGUES)
