"""MALT's figures: trees, roles with one seed, several and none, and what the notebook shows without a run."""

from __future__ import annotations

import json

import pytest

from common.envs.roles import ROLES
from common.report.examples import by_task
from common.report.show import svg
from common.rows import COST_FIELDS, MetricRow
from papers.malt import figures


def expansion(values: tuple[float, ...] = (0.75, 1.0, 0.5, 1, 1, 1, 0)) -> list[dict]:
    """One generation, two critiques, two refinements of each."""
    parents = (-1, 0, 0, 1, 1, 2, 2)
    depths = (0, 1, 1, 2, 2, 2, 2)
    name = f"t{sum(values)}"
    return [{"task": name, "branch": i, "depth": d, "parent": p, "prompt": "generate $", "text": f"say {i}", "value": v}
            for i, (d, p, v) in enumerate(zip(depths, parents, values))]  # fmt: skip


def test_branches_stand_amid_their_children():
    heights = figures._heights(expansion())
    assert heights == [1.5, 0.5, 2.5, 0.0, 1.0, 2.0, 3.0, 1.5]


def test_the_tree_shows_every_utterance_with_its_value_and_label():
    figure = figures.tree(expansion(), ROLES)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [t for t in texts if "V " in t] == [f"say {i}   V {v:.2f}" for i, v in
                                               enumerate((0.75, 1, 0.5, 1, 1, 1, 0))]  # fmt: skip
    marks = [line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [mark == figures.BLUE for mark in marks] == [True, True, False, True, True, True, False]
    assert set(ROLES) <= set(texts) and svg(figure) and figure.get_figwidth() <= 10

    branches = [branch | {"prompt": 12 * "how many eggs are left, "} for branch in expansion()]
    top = figures.tree(branches, ROLES).get_suptitle().split("\n")
    assert " ".join(top).count("eggs") == 12 and len(top) == 4 and max(map(len, top)) <= 100  # a word problem, not cut


def test_the_telling_tree_has_most_siblings_of_opposite_labels(tmp_path):
    dull, split = expansion((1,) * 7), expansion()
    assert figures.telling([dull, split]) is split and figures.telling([]) is None
    (tmp_path / "trees.jsonl").write_text("".join(json.dumps(row) + "\n" for one in (dull, split) for row in one))
    assert list(by_task(tmp_path / "trees.jsonl").values()) == [dull, split]


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_every_role_is_drawn_with_any_number_of_seeds(seeds):
    cost = dict.fromkeys(COST_FIELDS, 0)
    rows = [MetricRow("malt", "e-v1", "cpu", "nano", variant, seed, "e-v1/test", metric, 0.3 + 0.1 * seed, 8, cost)
            for seed in range(seeds) for variant in ("trio", "malt") for metric in figures.ASPECTS]  # fmt: skip
    figure = figures.roles(rows, ("trio", "malt"))
    assert svg(figure) and figure.get_figwidth() <= 10 and len(figure.axes) == 6
    spans = [line for axes in figure.axes for line in axes.lines if len(line.get_xdata()) == 2]
    assert len(spans) == (12 if seeds == 3 else 0)
    if not seeds:
        assert "nothing was measured" in figure.axes[0].texts[0].get_text()


def test_the_notebook_s_parts_need_neither_rows_nor_a_run(tmp_path):
    shown = "\n".join(figures.toy())
    assert "generation  V = 0.44   value: -   one outcome: +   any: +" in shown
    assert "[('critique 0', 'critique 1'), ('critique 0', 'critique 2')]" in shown
    assert any("Nothing has been measured" in part for part in figures.results([], []) if isinstance(part, str))
    [line] = figures.examples(tmp_path)
    assert "no trees" in line


def test_examples_are_a_tree_and_the_chains_that_training_changed(tmp_path):
    (tmp_path / "trees.jsonl").write_text("".join(json.dumps(row) + "\n" for row in expansion()))
    after = (False, True, True)
    for name, rights in (("trio", (False, False, False)), ("malt_sft", after), ("malt", after)):
        rows = [{"task": "a", "role": role, "prompt": "p", "text": f"costs $5\n\nand {right}", "right": right}
                for role, right in zip(ROLES, rights, strict=True)]  # fmt: skip
        (tmp_path / f"dialogues.{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = figures.examples(tmp_path)
    assert "finds the mistake and repairs it" in parts[-2]
    assert "<span>&#36;</span>5 and True" in parts[-1] and "\n\n" not in parts[-1] and "$" not in parts[-1]
