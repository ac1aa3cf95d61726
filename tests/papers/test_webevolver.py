"""WebEvolver's unit: its rows by hand, what may touch the environment, budgets, repetition and resume; learning.

The world is a shop of sixty products with a half-taught policy.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import pytest

from common.envs.panels import load_panel
from common.envs.shop.engine import ShopEnv
from common.envs.shop.judge import judge
from common.envs.shop.shorthand import touched, untouched
from common.evaluate.claims import load_claims
from common.rng import generator
from common.search.experience import OVER, Moment, Tried, shown
from common.search.lookahead import Seen, act
from common.types import Observation, Step, Trajectory, Turn
from papers.webevolver import method
from tests.papers.small_shop import ENV, build
from tests.papers.units import content, open_unit



@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def new_unit(world):
    return partial(open_unit, world, "webevolver", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab")
    return unit, method.run(unit)


# -- the unit --------------------------------------------------------------------------------------------------------


def test_every_claimed_variant_has_its_rows(whole):
    unit, rows = whole
    found = {(row.variant, row.panel, row.metric) for row in rows}
    names = {row.variant for row in rows}
    claims = load_claims(Path(method.__file__).with_name("claims.yaml"), variants=names).claims
    for claim in claims:
        assert {(variant, claim.panel, claim.metric) for variant in claim.variants} <= found
    worlds = {"world_1", "world_2", "world_3", "world_blind"}
    plans = {f"webevolver+{how}" for how in method.PLANS}
    assert names == {"start", "self_1", "self_2", "self_3", "webevolver", "blind", *worlds, *plans}
    for name in worlds:
        assert {(name, f"{ENV}/test", f"{metric}@1") for metric in ("tokens", "exact", "end", "meaning")} <= found
    assert unit.run.finished and unit.run.rows() == sorted(rows, key=lambda row: row.identity)


def test_budgets_are_matched(whole):
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
        assert cost["updates"] == 0 and cost["lm_calls"] > 0


def test_a_second_run_gives_the_same_bytes_and_another_seed_does_not(whole, new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab")
    method.run(unit)
    assert content(unit) == content(whole[0])
    other = new_unit(tmp_path / "other", seed=1)
    method.run(other)
    assert content(other) != content(unit)


def test_a_finished_unit_is_read_and_not_run(whole, new_unit, monkeypatch):
    monkeypatch.setattr(method, "Experiment", None)
    assert method.run(new_unit(whole[0].root)) == sorted(whole[1], key=lambda row: row.identity)


def test_a_unit_that_falls_over_again_and_again_ends_with_the_same_rows(whole, new_unit, tmp_path, monkeypatch):
    """In playing, in training, in saving, in dreaming, in evaluation and in acting."""
    calls = (("rollout", 1), ("sft", 2), ("save_model", 1), ("dreams", 1), ("imagine", 0), ("act", 4))
    for name, after in calls:
        unit, plain, left = new_unit(tmp_path / "lab"), getattr(method, name), [after]

        def failing(*args, plain=plain, left=left, name=name, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt(name)
            return plain(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(method, name, failing)
            try:
                method.run(unit)
            except KeyboardInterrupt as fell:
                assert str(fell) == name
        unit.run.close()
    unit = new_unit(tmp_path / "lab")
    method.run(unit)
    assert content(unit) == content(whole[0])


def test_dreams_that_are_all_refused_leave_self_improvement_to_the_last_bit(new_unit, tmp_path, monkeypatch):
    monkeypatch.setattr(method, "dreamt_rows", lambda paths: [])
    unit = new_unit(tmp_path / "lab")
    work = method.Experiment(unit)
    for r in (1, 2, 3):
        work.improve(r)
        work.model_world(f"world_{r}")
    work.dream("webevolver", "train.world_3", touched)
    one, two = ((unit.run.stage_path(f"train.{name}") / "model.safetensors").read_bytes()
                for name in ("self_3", "webevolver"))  # fmt: skip
    assert one == two


# -- what may be touched -----------------------------------------------------------------------------------------------


def test_dreams_and_imagined_look_ahead_never_ask_the_environment(whole, monkeypatch):
    """Inside the last round's dreams and inside look-ahead's simulation the shop raises."""
    unit, _ = whole
    work = method.Experiment(unit)
    episodes = work.until(2)
    engine, model = work.engine("train.self_1"), work.engine("train.world_3")

    def forbidden(*args, **kwargs):
        raise AssertionError("the environment was asked")

    for name in ("step", "reset", "restore", "after", "value", "q", "prompt"):
        monkeypatch.setattr(ShopEnv, name, forbidden)
    world, starts = work.imagined(model, touched), method.unsolved(episodes)
    paths = method.dreams(starts, work.policy(engine), world, attempts=2, steps=3, seed=0)
    assert starts and paths and all(2 <= len(path) <= 4 for path in paths)
    assert all(state.hidden is None for path in paths for state in path)
    decide = work.decider("d2", engine, world)
    assert len(decide(starts, list(range(len(starts))), 0)) == len(starts)


def test_nothing_is_learned_from_tasks_of_the_test_panels(whole):
    work = method.Experiment(whole[0])
    episodes = work.until(2)
    test = {task.id for panel in work.panels.values() for task in panel}
    assert len(episodes) == 2 * len(work.tasks) and not test & {episode.task_id for episode in episodes}
    shown = {row.prompt[0]["content"].split("\n", 1)[0] for row in method.world_rows(episodes, touched)}
    goals = {f"goal: {task.data['instruction']}" for task in work.tasks}
    assert shown <= goals


# -- its parts, by hand ------------------------------------------------------------------------------------------------

GOAL = "goal: soft lamp with color: red, and price lower than 50 dollars\n"
OPEN = "a soft lamp $20\nabout: soft\ncolor: red\nchosen: none\nbuy now, < prev, back to search"
READY = OPEN.replace("none", "red")
LIST = "page 1\n1 a soft lamp $20\nback to search"


def message(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


def step(page: str, action: str, then: str, reward: float = 0.0, *, over: bool = False, finished: bool = True) -> Step:
    answer = Observation(then, reward, terminated=over)
    return Step(message(GOAL + page), Turn(action, -1.0, 3, finished), answer)


def episode(task: str, reward: float) -> Trajectory:
    return Trajectory(task, (step("search page", "search[soft lamp]", LIST), step(LIST, "click[1]", OPEN),
                             step(READY, "click[buy", READY, finished=False),
                             step(READY, "click[buy now]", "bought a", reward, over=True)))  # fmt: skip


def test_policies_learn_accepted_episodes_and_world_models_all_of_them():
    episodes = [episode("a", 0.5), episode("b", 1.0), episode("c", 0.0), episode("a", 1.0)]
    rows = method.accepted_rows(episodes[:3])
    assert [row.completion for row in rows] == ["search[soft lamp]", "click[1]", "click[buy now]"]
    world = method.world_rows(episodes, touched)
    assert [row.completion for row in world] == [LIST, "about: soft\ncolor: red", OVER]  # equal transitions once
    assert [m["content"] for m in world[1].prompt] == [f"{GOAL}a soft lamp $20\nclick[1]"]
    blind = method.world_rows(episodes, untouched)
    assert [m["content"] for m in blind[1].prompt] == [f"{GOAL}click[1]"]
    assert [row.completion for row in blind] == [row.completion for row in world]
    assert [seen.prompt[0]["content"] for seen in method.unsolved(episodes)] == [GOAL + "search page"]  # of task c


def path(*states: tuple[str, str, str]) -> list[Seen]:
    return [Seen(message(GOAL + page), action, text, over=text == OVER) for page, action, text in states]


def test_dreams_are_learned_from_where_the_judge_accepts_their_end():
    bought = path(("search page", "", ""), (LIST, "search[soft lamp]", LIST), (READY, "click[1]", READY),
                  (READY, "click[buy now]", OVER))  # fmt: skip
    unfinished, poor = bought[:3], path((READY.replace("soft", "hard"), "", ""), (READY, "click[buy now]", OVER))
    assert [judge(one) for one in (bought, unfinished, poor)] == [1.0, 0.5, 0.0]
    rows = method.dreamt_rows([bought, unfinished, poor])
    assert [(row.prompt[0]["content"], row.completion) for row in rows] == [
        (GOAL + "search page", "search[soft lamp]"), (GOAL + LIST, "click[1]"), (GOAL + READY, "click[buy now]")
    ]  # fmt: skip


# -- does it learn? ----------------------------------------------------------------------------------------------------


def test_a_world_model_learns_what_actions_lead_to_and_not_from_shuffled_pages(new_unit, tmp_path, monkeypatch):
    """From episodes of a demonstrator with a slipping hand, on tasks not trained on; the half-taught policy of this toy
    hardly leaves the first page. It does *not* show that the page is read: in two runs on this toy the blind model
    foresaw as much (meanings .59 against .54, .83 against .85). Nor that acting gains: the claims do, or do not."""
    found, plain = {}, method.world_rows

    def shuffled(episodes, view):
        rows = plain(episodes, view)
        pages = generator("shuffled").permutation([row.completion for row in rows]).tolist()
        return [dataclasses.replace(row, completion=page) for row, page in zip(rows, pages, strict=True)]

    for name, make in (("real", plain), ("shuffled", shuffled)):
        unit = new_unit(tmp_path / name, play__rounds=1, world__updates=150, world__lr=6e-3, world__batch=16)
        work = method.Experiment(unit)

        def demonstrator(states, keys, step, work=work):
            turns = []
            for state, key in zip(states, keys):
                work.env.restore(state.hidden)
                turns.append(Turn(work.env.expert(generator(key))[1], 0.0, 1))
            return turns

        train, held_out = (load_panel(unit.data, f"{ENV}/{panel}") for panel in ("train", "validation"))
        work._played = {1: act(work.env, train * 2, demonstrator, keys=range(2 * len(train)))}
        work.walks = [[Moment(e.task_id, s.prompt, Tried(s.turn.text, shown(s.observation))) for s in e.steps]
                      for e in act(work.env, held_out[:12], demonstrator, keys=range(12))]  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(method, "world_rows", make)
            work.model_world("world_1")
        found[name] = work.foresight("world_1", touched)
    print({name: {k: round(v, 2) for k, v in one.items()} for name, one in found.items()})
    for metric in ("meaning@1", "tokens@1"):
        assert found["real"][metric] > found["shuffled"][metric] + 0.1, metric
