"""WebEvolver's unit: budgets by hand, what may touch the environment, and that the world model learns.

The world is a shop of sixty products with a half-taught policy.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import pytest

from common.envs.panels import load_panel
from common.envs.shop.engine import ShopEnv
from common.lab import Lab, run
from common.rng import generator
from common.search.reader import ShopReader
from common.types import Turn
from papers.webevolver import maths, method
from papers.webevolver.lookahead import act, imagined
from tests.papers.small_shop import ENV, build
from tests.papers.units import open_unit


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def new_unit(world):
    return partial(open_unit, world, "webevolver", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab")
    return unit, run(unit)


# -- the unit --------------------------------------------------------------------------------------------------------


def test_world_models_are_measured_by_foresight_and_policies_by_success(whole):
    unit, rows = whole
    names = {row.variant for row in rows}
    trained = {variant.name for variant in method.variants(unit.params)}
    assert names == trained | {f"webevolver+{how}" for how in method.PLANS}
    for name in ("world_1", "world_2", "world_3", "world_blind"):
        assert {f"{metric}@1" for metric in ("tokens", "exact", "end", "meaning")} <= {
            row.metric for row in rows if row.variant == name and row.panel == f"{ENV}/test"}  # fmt: skip
    assert {row.variant for row in rows if row.metric == "success"} == {
        "start", "self_1", "self_2", "self_3", "webevolver", "blind"}  # fmt: skip


def test_budgets_are_those_worked_out_by_hand(whole):
    unit, rows = whole
    p, costs = unit.params, {row.variant: row.cost for row in rows}
    assert set(costs["start"].values()) == {0}
    accepted = {row.variant: row.value for row in rows if row.metric == "accepted_real"}
    solved = [accepted[f"self_{r}"] for r in (1, 2, 3)]
    fits = [sum(solved[:r]) > 0 for r in (1, 2, 3)]  # a toy may solve nothing at first
    for r in (1, 2, 3):
        assert costs[f"self_{r}"]["updates"] == sum(fits[:r]) * p.learn.updates
        assert costs[f"world_{r}"]["updates"] == r * p.world.updates
        assert costs[f"self_{r}"]["env_steps"] == costs[f"world_{r}"]["env_steps"] > 0
    assert costs["world_blind"]["updates"] == costs["world_3"]["updates"]
    assert costs["webevolver"]["env_steps"] == costs["blind"]["env_steps"] == costs["self_3"]["env_steps"]
    dreamt = {row.variant: row.value for row in rows if row.metric == "dreamt_rows"}
    for name in ("webevolver", "blind"):
        own = (fits[2] or dreamt[name] > 0) * p.learn.updates
        assert costs[name]["updates"] == costs["self_2"]["updates"] + own + p.play.rounds * p.world.updates
        assert costs[name]["sampled_tokens"] > costs["self_3"]["sampled_tokens"]
    steps = {row.variant: round(row.value * row.n) for row in rows if row.metric == "planned_length"}
    tried = {row.variant: round(row.value * row.n) for row in rows if row.metric == "simulated_steps"}
    for how in method.PLANS:
        cost, name = costs[f"webevolver+{how}"], f"webevolver+{how}"
        assert cost["env_steps"] == steps[name] + tried[name] and (tried[name] > 0) == how.startswith("real")
        assert cost["updates"] == 0 and cost["lm_calls"] > 0  # of acting alone


def test_dreams_that_are_all_refused_leave_self_improvement_to_the_last_bit(new_unit, tmp_path, monkeypatch):
    monkeypatch.setattr(maths, "dreamt_rows", lambda paths, judge: [])
    lab = Lab(new_unit(tmp_path / "lab"), method)
    method.dream(lab)
    method.improve(lab, 3)
    one, two = ((lab.run.stage_path(f"train.{name}") / "model.safetensors").read_bytes()
                for name in ("self_3", "webevolver"))  # fmt: skip
    assert one == two


# -- what may be touched -----------------------------------------------------------------------------------------------


def test_dreams_and_imagined_look_ahead_never_ask_the_environment(whole, monkeypatch):
    """Inside the last round's dreams and inside look-ahead's simulation the shop raises."""
    lab = Lab(whole[0], method)
    episodes = method.until(lab, 2)
    engine, model = lab.engine(method.improve(lab, 1)), lab.engine(method.model_world(lab, 3))

    def forbidden(*args, **kwargs):
        raise AssertionError("the environment was asked")

    for name in ("step", "reset", "restore", "after", "value", "q", "prompt"):
        monkeypatch.setattr(ShopEnv, name, forbidden)
    world, starts = imagined(method.writer(lab, model), lab.env), maths.unsolved(episodes)
    paths = maths.dreams(starts, lab.policy(engine), world, attempts=2, steps=3, seed=0)
    assert starts and paths and all(2 <= len(path) <= 4 for path in paths)
    assert all(state.hidden is None for path in paths for state in path)
    decide = method.decider(lab, "d2", engine, world)
    assert len(decide(starts, list(range(len(starts))), 0)) == len(starts)


def test_nothing_is_learned_from_tasks_of_the_test_panels(whole):
    lab = Lab(whole[0], method)
    episodes, tasks = method.until(lab, 2), lab.tasks[: lab.p.play.tasks]
    test = {task.id for panel in lab.panels.values() for task in panel}
    assert len(episodes) == 2 * len(tasks) and not test & {episode.task_id for episode in episodes}
    goals = {row.prompt[0]["content"].split("\n", 1)[0] for row in maths.world_rows(episodes, ShopReader())}
    assert goals <= {f"goal: {task.data['instruction']}" for task in tasks}


# -- does it learn? ----------------------------------------------------------------------------------------------------


def test_a_world_model_learns_what_actions_lead_to_and_not_from_shuffled_pages(new_unit, tmp_path, monkeypatch):
    """From episodes of a noisy demonstrator, on tasks not trained on; the half-taught policy of this toy
    hardly leaves the first page. It does *not* show that the page is read: in two runs on this toy the blind model
    foresaw as much (meanings .59 against .54, .83 against .85). Nor that acting gains: the claims do, or do not."""
    found, plain = {}, maths.world_rows

    def shuffled(episodes, reader):
        rows = plain(episodes, reader)
        pages = generator("shuffled").permutation([row.completion for row in rows]).tolist()
        return [dataclasses.replace(row, completion=page) for row, page in zip(rows, pages, strict=True)]

    for name, make in (("real", plain), ("shuffled", shuffled)):
        unit = new_unit(tmp_path / name, play__rounds=1, world__updates=150, world__lr=6e-3, world__batch=16)
        lab = Lab(unit, method)

        def demonstrator(states, keys, step, lab=lab):
            turns = []
            for state, key in zip(states, keys):
                lab.env.restore(state.hidden)
                turns.append(Turn(lab.env.expert(generator(key))[1], 0.0, 1))
            return turns

        train, held_out = (load_panel(unit.data, f"{ENV}/{panel}") for panel in ("train", "validation"))
        lab.once(("played", 1), lambda: act(lab.env, train * 2, demonstrator, keys=range(2 * len(train))))
        lab.once("base episodes", lambda: ({}, act(lab.env, held_out[:12], demonstrator, keys=range(12))))
        world = method.Condition("world_1", "world", 1)
        with monkeypatch.context() as patch:
            patch.setattr(maths, "world_rows", make)
            trained = method.train(lab, world)
        found[name] = method.foresight(lab, world, trained).metrics
    print({name: {k: round(v, 2) for k, v in one.items()} for name, one in found.items()})
    for metric in ("meaning@1", "tokens@1"):
        assert found["real"][metric] > found["shuffled"][metric] + 0.1, metric
