"""CORY's own figures: they draw what the rows say, with one seed, several and none."""

from __future__ import annotations

import json

import pytest
from matplotlib.figure import Figure

from common.report.figures import CYCLE
from common.report.show import svg
from common.rows import COST_FIELDS, MetricRow
from papers.cory import figures
from papers.cory.figures import against_kl

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


@pytest.mark.parametrize("seeds", [0, 1])
def test_results_hold_the_frontiers_of_the_variants_given_and_tables_of_both_agents(seeds):
    parts = figures.results(rows(seeds), ("base", "single", "single@eta=0", "cory"))
    [figure] = [part for part in parts if isinstance(part, Figure)]
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == (["base", "single", "cory"] if seeds else [])
    assert parts[2] == "Nothing has been measured yet."  # no frontier has rows here
    assert ("| `cory` | e-v1/test | 0.400 | – | 0.500 |" in parts[-1]) == bool(seeds)


def test_the_toy_is_right():
    printed = figures.toy()[-1]
    # sums 2, 1, 1, 0 beyond the others' means 2/3, 1, 1, 4/3; r(a₂) 1, 1, 0, 0 beyond 1/3, 1/3, 2/3, 2/3
    assert printed.count("pioneer +1.33") == printed.count("pioneer -1.33") == 1 and printed.count("pioneer +0.00") == 2
    assert printed.count("a₁, +0.67") == printed.count("a₁, -0.67") == 2
    # corners (0, .2), (.5, .3), (2, .5) and (0, .2), (1, .3), (3, .5): areas by trapezoids up to 2
    assert "near: mean reward at equal KL, from 0 to 2 nats, 0.363" in printed
    assert "far : mean reward at equal KL, from 0 to 2 nats, 0.300" in printed


def test_examples_are_dialogues_that_training_changed(tmp_path):
    [nothing] = figures.examples(tmp_path / "absent")
    assert nothing.startswith("No dialogues") and "\n" not in nothing
    for name in figures.DIALOGUES:
        turns = [{"task": "t", "turn": k + 1, "role": role, "prompt": "p", "text": f"{name} {role}", "right": k == 1}
                 for k, role in enumerate(("pioneer", "observer"))]  # fmt: skip
        (tmp_path / f"dialogues.{name}.jsonl").write_text("".join(json.dumps(turn) + "\n" for turn in turns))
    title, table = figures.examples(tmp_path)
    assert title == "**the trained observer repairs what the pioneer answered**"
    assert table.startswith("<table") and "\n\n" not in table and "cory_no_exchange observer" in table
