"""Published rows: which of them join, how a ladder is ordered, and the tables and pictures drawn from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from common.envs.versions.countdown_v1 import CountdownEnv
from common.evaluate.claims import headline_metric
from common.report import pictures, published, story, tables
from common.report.toy import ScriptedPolicy, toy_rows
from common.rows import write_metrics
from common.types import Task

ROOT = Path(__file__).resolve().parents[2]
TASK = Task("t/0", "countdown-v1", "t", {"numbers": [8, 7, 24], "target": 24})


def test_the_ladder_of_a_paper_is_read_from_its_claims():
    groups = published.claim_groups(ROOT / "papers/agent_q/claims.yaml")
    ladder = groups["D2.4"]
    assert list(groups)[0] == "D2.4" and ladder[0] == "base" and ladder[-1] == "agent_q+mcts"
    for lower, higher in (("base", "rft"), ("rft", "traj_dpo"), ("traj_dpo", "agent_q")):
        assert ladder.index(lower) < ladder.index(higher)


def test_own_rows_replace_those_of_the_same_seed_and_join_no_other_profile():
    others = toy_rows({"a": (0.1, 0.2, 0.3)})
    [own] = [row for row in toy_rows({"a": (0.0, 0.9)}) if row.seed == 1]
    assert sorted((r.seed, r.value) for r in published.replace_seed([own], others)) == [(0, 0.1), (1, 0.9), (2, 0.3)]
    assert published.replace_seed([], others) == others
    foreign = [type(own)(**{**vars(row), "profile": "cpu"}) for row in others]
    assert published.replace_seed([own], foreign) == [own]


def test_published_rows_are_found_or_their_absence_is_one_sentence(tmp_path):
    rows, sentence = published.published_rows(tmp_path, "toy", "countdown-v1", "cpu")
    assert rows == [] and sentence == ("Nothing is published for toy on countdown-v1 yet; `python -m common run --paper toy --envs "
                                       "countdown-v1 --profile cpu` computes it.")
    write_metrics(tmp_path / "results/toy/metrics.jsonl", toy_rows({"a": (0.1, 0.2)}))
    rows, sentence = published.published_rows(tmp_path, "toy", "countdown-v1", "cpu")
    assert len(rows) == 2 and "profile `smoke`, 2 seeds" in sentence
    assert published.published_rows(tmp_path, "toy", "shop-v1", "cpu")[0] == []


def test_acting_lists_searched_policies_with_their_baselines():
    rows = toy_rows({name: (0.1,) for name in ("base", "base+mcts", "base+bon", "rft", "dpo", "dpo+mcts")})
    assert published.acting(rows, ["base", "rft", "dpo"]) == ["base", "base+bon", "base+mcts", "dpo", "dpo+mcts"]
    assert published.acting(rows, ["base", "dpo", "dpo+mcts"]) == published.acting(rows, ["base", "dpo"])  # as a ladder names them


def test_a_section_is_what_stands_under_its_heading(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("# T\n\n## One\n\ntext\n\n## Two\nmore\n")
    assert [published.section(path, name) for name in ("One", "Two", "Three")] == ["text", "more", ""]
    assert published.section(tmp_path / "absent.md", "One") == ""


def test_training_points_are_split_from_their_names(tmp_path):
    path = tmp_path / "events.jsonl"
    events = [{"t": 0, "variant": "a", "step": 3, "metrics": {"r2/train/loss": 0.5, "collect/pairs": 7}}]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert story.training_points(path) == [
        {"variant": "a", "round": 2, "update": 3, "metric": "loss", "value": 0.5}]
    assert story.training_points(tmp_path / "absent.jsonl") == []


def test_the_scripted_policy_proposes_what_is_admissible():
    env = CountdownEnv()
    env.reset(TASK)
    [turns] = ScriptedPolicy().propose([env.prompt()], [3], 400)
    assert {turn.text for turn in turns} == set(env.actions())
    assert ScriptedPolicy().critique([env.prompt()], [["8 - 7", "24 * 8"]]) == [[1.0, 1 / 169]]


def test_tables_hold_means_by_variant():
    rows = toy_rows({"a": (0.1, 0.3), "b": (0.5,)})
    assert "| `a` | countdown-v1/toy | 0.200 ±\N{NO-BREAK SPACE}1.271 | 2 |" in tables.summary_table(rows, ["a", "b"], ("success",))
    assert "| countdown-v1 | `b` | 1 | 1,000 |" in tables.cost_table(rows, ["b"])
    assert "yet" in tables.summary_table([], ["a"], ("success",)) and "yet" in tables.cost_table(rows, ["z"])

def test_a_family_s_table_has_a_line_for_each_claim_with_its_words_and_where_it_was_judged():
    record = {"paper": "ladder", "id": "D1", "statement": "dpo beats base", "scale": "nano", "profile": "cpu", "panel": "shop-v1/test", "n_seeds": 10,
              "verdict": "supported"}  # fmt: skip
    table = tables.family_table([record, record | {"id": "D2", "statement": 40 * "long ", "verdict": "undecided"}])
    lines = table.splitlines()[2:]
    assert lines[:2] == ["| **ladder**: nano, shop-v1/test, 10 seeds |  |", "| D1 dpo beats base | supported |"]
    assert lines[2].endswith("long … | undecided |") and len(lines[2]) < 150
    other = record | {"scale": "Smol", "profile": "smol", "n_seeds": 1, "verdict": "undecided"}
    assert tables.family_table([record, other]).splitlines()[2:] == [
        "| **ladder**: nano, shop-v1/test, 10 seeds; Smol, shop-v1/test, 1 seed |  |",
        "| D1 dpo beats base | supported (shop-v1); undecided (shop-v1 at smol) |",
    ]


def test_a_ladder_is_drawn_by_the_metric_of_most_claims():
    found = {paper: headline_metric(ROOT / f"papers/{paper}/claims.yaml") for paper in ("agent_q", "score", "malt")}
    assert found == {"agent_q": "success", "score": "delta", "malt": "success"}


def to_draw(root: Path) -> list[str]:
    """Names of pictures that are missing or were drawn from other rows than those in ``results/``."""
    paths = {name: (root / pictures.FOLDER / name, source) for name, (_, source) in pictures.draw(root).items()}
    return [name for name, (path, source) in paths.items()
            if not path.exists() or Image.open(path).info.get("Source") != source]


def test_pictures_follow_the_results(tmp_path):
    lab = tmp_path / "lab"
    claims = lab / "papers/agent_q/claims.yaml"
    claims.parent.mkdir(parents=True)
    claims.write_text((ROOT / "papers/agent_q/claims.yaml").read_text())
    rows = [type(row)(**{**vars(row), "paper": "agent_q", "scale": "nano"}) for row in toy_rows({"base": (0.1, 0.2), "rft": (0.2, 0.3)})]
    write_metrics(lab / "results/agent_q/metrics.jsonl", rows)
    assert to_draw(lab) == ["agent_q_ladder.png"]
    first = [path.read_bytes() for path in pictures.write_pictures(lab)]
    assert to_draw(lab) == [] and [path.read_bytes() for path in pictures.write_pictures(lab)] == first
    write_metrics(lab / "results/agent_q/metrics.jsonl", rows[1:])
    assert to_draw(lab) == ["agent_q_ladder.png"]


def test_the_project_has_the_pictures_of_its_results():
    if not list((ROOT / "results").glob("*/metrics*.jsonl")):
        pytest.skip("no results are published yet, so there is nothing to draw")
    assert to_draw(ROOT) == [], "draw them again: python -m common.report.pictures"
    empty = [name for name, (figure, _) in pictures.draw(ROOT).items() if not any(axes.lines or axes.patches for axes in figure.axes)]
    assert empty == []


def test_without_figures_of_its_own_a_paper_s_ladder_holds_every_claimed_variant_with_the_headline_metric(tmp_path):
    lab = tmp_path / "lab"
    (lab / "papers/cory").mkdir(parents=True)
    shutil.copy(ROOT / "papers/cory/claims.yaml", lab / "papers/cory")
    rungs = {"cory": (0.1, 0.2), "cory_blind": (0.2, 0.3)}  # D3.4 before them compares frontiers, by another metric
    rows = [type(row)(**{**vars(row), "paper": "cory", "metric": "excess", "scale": "nano"}) for row in toy_rows(rungs)]
    write_metrics(lab / "results/cory/metrics.jsonl", rows)
    figure, _ = pictures.draw(lab)["cory_ladder.png"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["cory_blind", "cory"]
    assert "equal KL" in figure.axes[0].get_xlabel()
