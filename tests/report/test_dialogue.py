"""Pictures of teams: they draw what rows and runs say, with one seed, several and none; dialogues are harmless."""

from __future__ import annotations

import json

import pytest

from common.report import dialogue
from common.report.show import svg
from common.track.rows import COST_FIELDS, MetricRow

ROLES = ("generator", "verifier", "refiner")


def expansion(values: tuple[float, ...] = (0.75, 1.0, 0.5, 1, 1, 1, 0)) -> list[dict]:
    """One generation, two critiques, two refinements of each."""
    parents = (-1, 0, 0, 1, 1, 2, 2)
    depths = (0, 1, 1, 2, 2, 2, 2)
    name = f"t{sum(values)}"
    return [{"task": name, "branch": i, "depth": d, "parent": p, "prompt": "generate $", "text": f"say {i}", "value": v}
            for i, (d, p, v) in enumerate(zip(depths, parents, values))]  # fmt: skip


def test_branches_stand_amid_their_children():
    heights = dialogue._heights(expansion())
    assert heights == [1.5, 0.5, 2.5, 0.0, 1.0, 2.0, 3.0, 1.5]


def test_the_tree_shows_every_utterance_with_its_value_and_label():
    figure = dialogue.tree(expansion(), ROLES)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [t for t in texts if "V " in t] == [f"say {i}   V {v:.2f}" for i, v in
                                               enumerate((0.75, 1, 0.5, 1, 1, 1, 0))]  # fmt: skip
    marks = [line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [mark == dialogue.BLUE for mark in marks] == [True, True, False, True, True, True, False]
    assert set(ROLES) <= set(texts) and svg(figure) and figure.get_figwidth() <= 10

    told = [branch | {"prompt": 12 * "how many eggs are left, "} for branch in expansion()]
    top = dialogue.tree(told, ROLES).get_suptitle().split("\n")
    assert " ".join(top).count("eggs") == 12 and len(top) == 4 and max(map(len, top)) <= 100  # a word problem, not cut


def test_the_telling_tree_has_most_siblings_of_opposite_labels(tmp_path):
    dull, split = expansion((1,) * 7), expansion()
    assert dialogue.telling([dull, split]) is split and dialogue.telling([]) is None
    (tmp_path / "trees.jsonl").write_text("".join(json.dumps(row) + "\n" for one in (dull, split) for row in one))
    assert dialogue.expansions(tmp_path) == [dull, split] and dialogue.expansions(tmp_path / "none") == []


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_every_role_is_drawn_with_any_number_of_seeds(seeds):
    cost = dict.fromkeys(COST_FIELDS, 0)
    rows = [MetricRow("malt", "e-v1", "cpu", "nano", variant, seed, "e-v1/test", metric, 0.3 + 0.1 * seed, 8, cost)
            for seed in range(seeds) for variant in ("trio", "malt") for metric in dialogue.ASPECTS]  # fmt: skip
    figure = dialogue.roles(rows, ("trio", "malt"))
    assert svg(figure) and figure.get_figwidth() <= 10 and len(figure.axes) == 6
    spans = [line for axes in figure.axes for line in axes.lines if len(line.get_xdata()) == 2]
    assert len(spans) == (12 if seeds == 3 else 0)
    if not seeds:
        assert "nothing was measured" in figure.axes[0].texts[0].get_text()


def told(**chains: tuple[bool, bool, bool]) -> dict:
    return {task: [{"task": task, "role": role, "prompt": f"<{task}>", "text": f"{right} & |", "right": right}
                   for role, right in zip(ROLES, chain)] for task, chain in chains.items()}  # fmt: skip


def test_chains_worth_reading_are_of_different_kinds():
    before = told(a=(False, False, False), b=(True, True, True), c=(False, True, False), d=(False, False, False))
    after = told(a=(False, True, True), b=(True, False, False), c=(False, False, False), d=(True, True, True))
    found = dict((task, name) for name, task in dialogue.contrasts(before, after))
    assert list(found) == ["a", "b", "c"] and "repairs" in found["a"] and "false verdict" in found["c"]
    assert dialogue.contrasts(before, {}) == []
    again = dialogue.contrasts(told(d=(False, False, False)), told(d=(True, True, True)))
    assert [task for _, task in again] == ["d"]
    pair = dialogue.contrasts(told(e=(False, False), f=(True, True)), told(e=(False, True), f=(True, False)))
    assert dict((task, name) for name, task in pair)["e"] == "the trained observer repairs what the pioneer answered"
    assert {task for _, task in pair} == {"e", "f"}


def test_the_viewer_marks_what_is_right_and_what_changed_and_escapes_text(tmp_path):
    sides = {"trio": told(a=(False, True, False)), "malt": told(a=(False, True, True))}
    table = dialogue.viewer(sides, "a")
    assert table.count("✓") == 3 and table.count("✗") == 3 and table.count("(changed)") == 1
    assert "&lt;a&gt;" in table and "<a>" not in table and "&amp;" in table
    assert "was kept" in dialogue.viewer(sides, "zz")
    rows = [turn for turns in sides["malt"].values() for turn in turns]
    (tmp_path / "dialogues.malt.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert dialogue.dialogues(tmp_path, "malt") == sides["malt"] and dialogue.dialogues(tmp_path, "x") == {}
