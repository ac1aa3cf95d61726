"""Early Experience's unit: its rows by hand, matched budgets, repetition and resume; and that it learns to foresee.

The world is a shop of sixty products with a half-taught policy. Foresight is learned there within seconds. That
acting gains from it is not to be shown on a toy of this size, and no test here says so: the claims do, or do not.
"""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from statistics import fmean

import pytest

from common.config import ConfigError
from common.envs.panels import load_panel
from common.envs.shop.instruction import BEFORE, FORESEE
from common.evaluate.claims import load_claims
from common.rng import generator
from common.search.experience import OVER, Moment, Tried
from papers.early_experience import method
from tests.papers.small_shop import ENV, build
from tests.papers.units import content, interrupt, open_unit



@pytest.fixture(scope="module")
def new_unit(tmp_path_factory):
    return partial(open_unit, build(tmp_path_factory.mktemp("shop")), "early_experience", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab")
    return unit, method.run(unit)


# -- the unit --------------------------------------------------------------------------------------------------------


def test_every_claimed_variant_has_its_rows(whole):
    unit, rows = whole
    found = {(row.variant, row.panel, row.metric) for row in rows}
    names = {row.variant for row in rows}
    for claim in load_claims(Path(method.__file__).with_name("claims.yaml"), variants=names).claims:
        assert {(variant, claim.panel, claim.metric) for variant in claim.variants} <= found
    trained = {variant.name for variant in method.variants(unit.params)}
    assert names == {"start", "iwm_world", *trained, *(f"{name}_rl" for name in method.REINFORCED)}
    for name in method.FORESEEING:
        assert (name, f"{ENV}/test", "tokens@1") in found
    assert unit.run.finished and unit.run.rows() == sorted(rows, key=lambda row: row.identity)


def test_budgets_are_matched(whole):
    unit, rows = whole
    p, costs = unit.params, {row.variant: row.cost for row in rows}
    assert set(costs["start"].values()) == {0}
    for variant in method.variants(p):
        cost = costs[variant.name]
        assert cost["updates"] == p.learn.updates, variant.name
        assert (cost["env_steps"] > 0) == (variant.kind in ("iwm", "sr")), variant.name
        assert (cost["sampled_tokens"] > 0) == (variant.kind != "imitation"), variant.name
    assert costs["iwm_world"]["updates"] == p.learn.world_updates
    assert costs["iwm_world"]["env_steps"] == costs["iwm"]["env_steps"] > costs["iwm_eighth"]["env_steps"]
    assert {**costs["star"], "env_steps": costs["sr"]["env_steps"]} == costs["sr"]
    for name in method.REINFORCED:
        spent = {k: costs[f"{name}_rl"][k] - costs[name][k] for k in ("updates", "env_steps")}
        assert spent["updates"] == p.rl.updates
        most = p.rl.updates * (p.rl.env_steps + p.rl.group * 15 - 1)
        assert p.rl.updates * p.rl.env_steps <= spent["env_steps"] <= most


def test_a_second_run_gives_the_same_bytes_and_another_seed_does_not(whole, new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab")
    method.run(unit)
    assert content(unit) == content(whole[0])
    for folder in (unit.run.path / "stages").glob("train.*/"):
        first, second = folder / "model.safetensors", whole[0].run.path / "stages" / folder.name / "model.safetensors"
        assert first.read_bytes() == second.read_bytes(), folder.name
    other = new_unit(tmp_path / "other", seed=1)
    method.run(other)
    assert content(other) != content(unit)


def test_a_finished_unit_is_read_and_not_run(whole, new_unit, monkeypatch):
    monkeypatch.setattr(method, "Experiment", None)
    assert method.run(new_unit(whole[0].root)) == sorted(whole[1], key=lambda row: row.identity)


def test_a_unit_that_falls_over_again_and_again_ends_with_the_same_rows(whole, new_unit, tmp_path, monkeypatch):
    """In trying others, in training, in saving, in RL and in evaluation."""
    for name, after in (("try_others", 0), ("sft", 2), ("save_model", 1), ("policy_gradient", 1), ("evaluate", 4)):
        interrupt(method, new_unit(tmp_path / "lab"), name, after, monkeypatch)
    unit = new_unit(tmp_path / "lab")
    method.run(unit)
    assert content(unit) == content(whole[0])


def test_two_names_of_one_method_differ_in_nothing_and_sr_and_star_in_their_outcomes_only(whole, new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab")
    every = {variant.name: variant for variant in method.variants(unit.params)}
    work = method.Experiment(unit)
    pair = [every["iwm"], dataclasses.replace(every["iwm"], name="null")]
    stages = [work.train(variant)[0] for variant in pair]
    one, two = ((work.run.stage_path(stage) / "model.safetensors").read_bytes() for stage in stages)
    assert one == two != (work.run.stage_path("train.start") / "model.safetensors").read_bytes()
    moments = work.moments(1)
    real, made_up = (work.rows(every[name], moments)[len(moments) :] for name in ("sr", "star"))
    tried = {(m.prompt[0]["content"], m.expert.action) for m in moments if m.others}
    for rows in (real, made_up):
        told = {(r.prompt[0]["content"], r.completion.split("\n")[-1]) for r in rows}
        assert told and told <= tried
    assert {r.completion for r in real} != {r.completion for r in made_up}


def test_one_eighth_is_a_part_of_the_whole(new_unit, tmp_path):
    work = method.Experiment(new_unit(tmp_path / "lab"))
    few, all_ = work.moments(work.p.experience.few), work.moments(1)
    assert all_[: len(few)] == few and len({m.task_id for m in few}) == len(work.tasks) // work.p.experience.few
    assert len({m.task_id for m in all_}) == len(work.tasks) == work.p.experience.tasks
    test = {task.id for name in ("test", "test_products") for task in work.panels[name]}
    assert not test & {m.task_id for m in all_}


def test_episodes_and_walks_are_kept_to_be_read(whole):
    folder = whole[0].run.artifacts
    for name in ("start", "imitation", "sr"):
        assert (folder / f"rollouts.{name}.jsonl").read_text()
    for name in method.FORESEEING:
        for line in (folder / f"walks.{name}.jsonl").read_text().splitlines():
            walk = json.loads(line)
            assert len(walk["actions"]) == len(walk["real"]) >= len(walk["imagined"]) >= 1


# -- in words, from a pretrained model -------------------------------------------------------------------------------


def test_it_runs_in_words_from_a_model_that_has_a_name(told_shop, tmp_path):
    unit = open_unit(told_shop, "early_experience", ENV, tmp_path / "lab", model="someone/chat@1", start__updates=0,
                     experience__draws=6)  # fmt: skip
    rows = method.run(unit)
    assert {row.scale for row in rows} == {"someone/chat@1"}
    found = {(row.variant, row.panel, row.metric): row.value for row in rows}
    written = load_claims(Path(method.__file__).with_name("claims.yaml"))
    assert all((v, claim.panel, claim.metric) in found for claim in written.claims for v in claim.variants)
    assert all((written.room.variant, f"{ENV}/{name}", written.room.metric) in found for name in unit.params.panels)
    assert 0 < found["start", f"{ENV}/test", "invalid"] < 1
    work = method.Experiment(unit)
    assert (work.run.stage_path("train.start") / "model.safetensors").read_bytes() == (
        unit.base / "model.safetensors").read_bytes()  # it starts as it is
    moments, every = work.moments(1), {variant.name: variant for variant in method.variants(unit.params)}
    acting = work.rows(every["sr"], moments)
    assert all(tuple(row.prompt[: len(BEFORE)]) == BEFORE and len(row.prompt) == len(BEFORE) + 1 for row in acting)
    assert any("\n" in row.completion for row in acting)  # reflections
    world = method.world_rows(moments, 2, work.view)
    assert world and all(row.prompt[0]["content"].startswith(f"{FORESEE}\n\ngoal: ") for row in world)


def test_a_model_that_has_a_name_is_not_taught_pages_first(told_shop, tmp_path):
    with pytest.raises(ConfigError, match="start.updates: 4 .* start.updates=0"):
        method.run(open_unit(told_shop, "early_experience", ENV, tmp_path / "lab", model="someone/chat@1"))


# -- its parts, by hand ----------------------------------------------------------------------------------------------

GOAL = "goal: soft lamp with color: red, and price lower than 50 dollars\n"
FITS = "a soft lamp $20\nabout: soft\ncolor: red\nchosen: none\nbuy now, < prev, back to search"
POOR = "a hard lamp $20\nabout: hard\ncolor: red\nchosen: none\nbuy now, < prev, back to search"


def moment(page: str, expert: Tried, *others: Tried) -> Moment:
    return Moment("t", ({"role": "user", "content": GOAL + page},), expert, others)


LIST = moment("did: search\npage 1\n1 a soft lamp $20\n2 a hard lamp $20\nback to search", Tried("click[1]", FITS),
              Tried("click[2]", POOR), Tried("click[9]", "invalid action\npage 1"))  # fmt: skip
ITEM = moment("did: 1\n" + FITS, Tried("click[red]", FITS.replace("none", "red")), Tried("click[buy now]", OVER))
ALONE = moment("search page", Tried("search[soft lamp]", "page 1\n1 a soft lamp $20\nback to search"))


def said(rows) -> list[str]:
    return [row.completion for row in rows]


def test_reading_teaches_pages_without_what_leads_to_them():
    acting = method.imitation_rows([ALONE, LIST])
    rows = method.reading_rows(acting)
    assert said(rows) == ["search page", "page 1\n1 a soft lamp $20\n2 a hard lamp $20\nback to search"]
    assert {row.prompt[0]["content"] for row in rows} == {GOAL.strip()} and all(len(row.prompt) == 1 for row in rows)


def test_the_rows_of_each_way_of_learning():
    moments = [ALONE, LIST, ITEM]
    assert said(method.imitation_rows(moments)) == ["search[soft lamp]", "click[1]", "click[red]"]
    world = method.world_rows(moments, 2)
    # in shorthand. Asked: the goal, what the action touches on its page, the action; said: what is new
    assert said(world) == ["about: hard\ncolor: red", "invalid action\npage 1", OVER]
    assert [[message["content"] for message in row.prompt] for row in world] == [
        [GOAL + "a hard lamp $20\nclick[2]"], [GOAL + "page 1\nback to search\nclick[9]"],
        ["\n".join([GOAL.strip(), *FITS.split("\n")[:-1], "click[buy now]"])],
    ]  # fmt: skip
    assert said(method.world_rows(moments, 1)) == ["about: hard\ncolor: red", OVER]
    assert said(method.reflection_rows(moments, 2, invent=lambda real: real)) == [
        "not lacks soft but choose red\nclick[1]",
        "not invalid but choose red\nclick[1]",
        "not over but fits\nclick[red]",
    ]


def test_invented_outcomes_are_those_of_others_at_the_same_kind_of_page():
    given = []

    def invent(real: list[str]) -> list[str]:
        given.append(real)
        return real[::-1]

    told = said(method.reflection_rows([LIST, ITEM], 2, invent=invent))
    assert given == [["lacks soft", "invalid"], ["over"]]
    assert said(method.reflection_rows([LIST], 1, invent=lambda real: ["choose red"])) == []  # as good as the expert's
    assert told == ["not invalid but choose red\nclick[1]", "not lacks soft but choose red\nclick[1]",
                    "not over but fits\nclick[red]"]


# -- does it learn? --------------------------------------------------------------------------------------------------


def test_world_modelling_learns_what_actions_lead_to_and_not_from_shuffled_pages(new_unit, tmp_path, monkeypatch):
    """On tasks never demonstrated, against the same rows with pages dealt to the wrong actions: how likely is the page
    that really follows an action? In nats a page. A weak test, whose margin was set after 1.6 nats were measured: in a
    minute a policy learns the language of pages, and little yet of what an action leads to."""
    found, plain = {}, method.world_rows

    def shuffled(moments, k, view):
        rows = plain(moments, k, view)
        pages = generator("shuffled").permutation([row.completion for row in rows]).tolist()
        return [dataclasses.replace(row, completion=page) for row, page in zip(rows, pages, strict=True)]

    for name, make in (("real", plain), ("shuffled", shuffled)):
        unit = new_unit(tmp_path / name, learn__world_updates=80, learn__world_lr=6e-3, learn__batch=16,
                        experience__tasks=24, experience__draws=4)  # fmt: skip
        work = method.Experiment(unit)
        variant = next(v for v in method.variants(unit.params) if v.name == "iwm")
        with monkeypatch.context() as patch:
            patch.setattr(method, "world_rows", make)
            stage, _ = work.model_world(variant)
        work.tasks = load_panel(unit.data, f"{ENV}/validation")[:8]
        del work._moments  # those of other tasks now
        held_out = plain(work.moments(1), variant.k)
        for key, engine in (("start", work.engine(work.start())), (name, work.engine(stage))):
            scores = engine.score([row.prompt for row in held_out], [[row.completion] for row in held_out])
            found[key] = fmean(one for [one] in scores)
    print({name: round(value, 1) for name, value in found.items()})
    assert found["start"] < found["shuffled"] < found["real"] - 1
