"""textworld-home-v1: an episode in full, a wrong place, exact values against play, what panels share, how far search and knowledge get."""

from __future__ import annotations

import itertools
from collections import Counter
from statistics import fmean

import pytest

from common.envs import check_env, load_panel, make
from common.envs.textworld import engine as java
from common.envs.textworld.game import NOWHERE, SLIPS
from common.envs.textworld.home import ROOMS, SEEDS, HomeEnv, HomeWorld, choose, usual_places, way
from common.envs.textworld.panels import layout_of
from common.envs.textworld.world import World
from common.envs.versions.textworld_home_v1 import (CHOSEN, DEMOS, ENV_ID, FOLD, GAME, INFORMED, INVALID, OTHERS, TOLD, UNINFORMED, described,
                                                    did, facts, first_page, goal_of, thing_of, told_of_home)  # fmt: skip
from common.rng import generator
from common.types import Task

PANELS = ("test", "validation", "train")
PAGE = "put vase away\nbeen pantry, kitchen\ndid move south\nno vase\nkitchen: closed fridge, counter\nnorth pantry been, west living room"


@pytest.fixture(scope="module")
def package():
    pytest.importorskip("textworld_express", reason="textworld-express is not installed: pip install -e '.[textworld-express]'")
    try:
        return java.package()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def tasks(panel: str) -> list[Task]:
    return load_panel("data", f"{ENV_ID}/{panel}")


def task(seed: int, fold: str = FOLD, *, told: bool = False) -> Task:
    return Task("t", ENV_ID, "t", {"seed": seed, "fold": fold, "told": told})


def begun(seed: int, *actions: str, **more) -> tuple[HomeEnv, list]:
    env = make(ENV_ID, "data")
    env.reset(task(seed, **more))
    return env, [env.step(action) for action in actions]


# -- reading, without the package -------------------------------------------------------------------


def test_states_in_words_that_hold_in_other_homes():
    assert goal_of(PAGE) == "put vase away" == goal_of(f"told vase side table\n{PAGE}") and thing_of(goal_of(PAGE)) == "vase"
    assert goal_of(first_page("put vase away")) == "put vase away"
    assert did(PAGE) == "did move south" and did(first_page("put vase away")) == ""
    assert did(PAGE.replace("move south", INVALID)) == f"did {INVALID}"
    assert described(PAGE) == "no new west" and described(PAGE + " been") == "no"
    assert described(PAGE.replace("no vase", "here vase")) == "here vase"
    assert described(PAGE.replace("no vase", "have vase")) == "have vase in kitchen new west"
    assert described(PAGE.replace("no vase", "have vase") + " been") == "have vase in kitchen"


def test_what_an_expert_shows_that_it_knows():
    have = PAGE.replace("no vase", "have vase")
    assert facts([(PAGE, "open fridge"), (PAGE, "move west")]) == {}
    assert facts([(PAGE, "move west"), (have, "move west"), (have, "open side table"), (have, "put it in fridge")]) == {"put": "vase side table"}
    assert facts([(have, "put it in side table")]) == {"put": "vase side table"}


def test_a_way_is_the_shortest_of_what_is_known():
    ways = {"a": {"move north": "b", "move east": "c"}, "b": {"move south": "a", "move east": "d"}, "c": {"move west": "a"}}
    assert way(ways, "a", {"a", "d"}) == [] and way(ways, "c", {"d"}) == ["move west", "move north", "move east"]
    with pytest.raises(ValueError, match="no way from a to e"):
        way(ways, "a", {"e"})


# -- episodes ---------------------------------------------------------------------------------------


def test_the_contract_holds(package):
    check_env(make(ENV_ID, "data"), tasks("validation")[:12] + tasks("demos")[:12])


def test_an_episode_in_full(package):
    env, seen = begun(2, "move south", told=True)
    assert env.prompt()[0]["content"] == (
        "told vase side table\nput vase away\nbeen pantry, kitchen\ndid move south\nhere vase\nkitchen: closed fridge, counter, closed kitchen "
        "cupboard, closed cutlery drawer, closed trash can, closed dishwasher, dining chair\nnorth pantry been, west living room")
    assert seen[0].text == env.prompt()[0]["content"].partition("\n")[2]
    for action in ("take it", "open fridge", "move west"):
        env.step(action)
    assert "\nhave vase\nliving room: " in env.prompt()[0]["content"]
    seen = env.step("put it in side table")
    assert (seen.text, seen.reward, seen.terminated, seen.truncated, env.actions()) == ("done", 1.0, True, False, [])


def test_a_wrong_place_costs_steps_and_an_invalid_action_changes_nothing(package):
    env, seen = begun(2, "take it", "move south", "put it in counter", "take it", "put it in fridge", "put it in counter")
    assert [one.text.startswith(INVALID) for one in seen] == [True, False, True, False, True, False]
    assert seen[-1].reward == 0.0 and not seen[-1].done and env.steps_left(env.snapshot()) == 3
    text = env.prompt()[0]["content"]
    assert "\nhere vase\nkitchen: closed fridge, tried counter, " in text and "take it" in env.actions()
    assert not [action for action in env.actions() if action.startswith("put ")]
    env.step("take it")
    assert env.steps_left(env.snapshot()) == 2 and env.value(env.snapshot()) == pytest.approx(env.gamma)
    env.step("move west")
    state = env.snapshot()
    assert env.q(state, "put it in end table") == 1.0 == env.q(state, "put it in side table")  # both are usual places
    assert env.q(state, "put it in sofa") == pytest.approx(env.gamma**2)


def test_names_with_capitals_can_be_said_in_small_letters(package):
    found = next(one for one in tasks("test") if one.data["thing"] == "used q-tip")
    for one in (found, next(task(i, OTHERS) for i in range(200) if HomeWorld(GAME.name, GAME.settings, i, OTHERS).thing == "tv remote control")):
        env = make(ENV_ID, "data")
        env.reset(one)
        while env.actions():
            seen = env.step(env.oracle())
        assert seen.reward == 1.0


class Played(HomeWorld):
    """Steps left by playing everything."""

    steps_left, left_after = World.steps_left, World.left_after


def test_exact_values_are_those_of_playing_everything(package):
    settings, places = GAME.settings.replace("numLocations=3", "numLocations=2"), 0
    for seed, fold in itertools.product((2, 3, 7), (FOLD, OTHERS)):
        played, exact = Played(GAME.name, settings, seed, fold), HomeWorld(GAME.name, settings, seed, fold)
        if sum(exact.closed(room, name) for room in exact.rooms for name in ROOMS[room]) > 4:
            continue  # too many to play
        left = {place: played.steps_left(place) for place in [played.start]} | {place: played.steps_left(place) for place in list(played.seen)}
        assert left == {place: exact.steps_left(place) for place in left}
        assert all(exact.left_after(place, action) == left[then] for (place, action), then in played._after.items() if not played.seen[place].won)
        places += len(left)
    assert places > 500


def test_a_state_can_be_restored_where_it_was_never_met(package):
    env = make(ENV_ID, "data")
    for one in tasks("validation")[:6]:
        rng, seen, states = generator("walk", one.id), env.reset(one), []
        while not seen.done:
            listed = env.actions()
            seen = env.step(listed[int(rng.integers(len(listed)))])
            states.append((env.snapshot(), env.prompt(), env.actions()))
        other = make(ENV_ID, "data")
        for state, prompt, listed in states[::3]:
            other.restore(state)
            assert (other.prompt(), other.actions(), other.value(state)) == (prompt, listed, env.value(state))


# -- panels -----------------------------------------------------------------------------------------


def test_panels_share_things_and_no_layout_and_demonstrations_share_neither(package):
    env, layouts, told = make(ENV_ID, "data"), Counter(), {}
    for panel in PANELS:
        some = tasks(panel)
        assert len(some) == {"test": 350, "validation": 175, "train": 350}[panel] and {one.split for one in some} == {panel}
        assert {(one.data["thing"], one.data["place"]) for one in some} == set(CHOSEN)
        for one in some:
            env.reset(one)
            home = env.home_of(env.snapshot())
            told |= [told_of_home(one)]
            assert told_of_home(one) == (goal_of(env.prompt()[0]["content"]), f"{home.thing} {home.fact}") and len(home.rooms) == 3
            layouts[layout_of(env)] += 1
    assert set(layouts.values()) == {1} and len(told) == len(CHOSEN) == 35 == len(usual_places(FOLD).keys() & {thing for thing, _ in CHOSEN})
    assert not usual_places(FOLD).keys() & usual_places(OTHERS).keys()
    demos = tasks("demos")
    assert len(demos) == DEMOS and {one.data["fold"] for one in demos} == {OTHERS}
    assert fmean(one.data["told"] for one in demos) == pytest.approx(TOLD, abs=0.03)
    for one in demos[:40]:
        env.reset(one)
        home = env.home_of(env.snapshot())
        assert env.prompt()[0]["content"].startswith(f"told {home.thing} {home.fact}\nput {home.thing} away\n") == one.data["told"]


def test_seeds_were_chosen_by_the_rule(package):
    some = choose(GAME.settings, FOLD, OTHERS, 3, 5, 4)
    assert len(some) == 3 and all(list(map(int, CHOSEN[key].split()))[:5] == seeds for key, seeds in some.items())


def test_what_stands_in_a_room_is_the_same_in_all_homes_and_takes_things(package):
    met: dict[str, set] = {}
    for seed in range(12):
        home = HomeWorld(GAME.name, GAME.settings, seed, FOLD)
        place = home.start
        for move in way(home.ways, place.room, {home.where}):
            place = home.after(place, move)
        taken = home.after(place, "take it")
        for room in home.rooms:
            place = taken
            for move in way(home.ways, place.room, {room}):
                place = home.after(place, move)
            while closed := [action for action in home.actions(place) if action.startswith("open ")]:
                place = home.after(place, closed[0])
            puts = {action: home.after(place, action) for action in home.actions(place) if action.startswith("put ")}
            met.setdefault(room, set()).add(tuple(sorted(action.removeprefix("put it in ") for action in puts)))
            for action, then in puts.items():
                assert home.at(then).won == (action.removeprefix("put it in ") in home.usual) == (home.steps_left(then) == 0)
    assert met == {room: {tuple(sorted(names))} for room, names in ROOMS.items()}
    with pytest.raises(ValueError, match="other things in the kitchen of seed 4...; take one below 4096"):
        for seed in range(SEEDS, SEEDS + 60):
            HomeWorld(GAME.name, GAME.settings, seed, FOLD)


# -- demonstrators ----------------------------------------------------------------------------------


def won(some, act, **data) -> float:
    """Success of one who acts so, told or not."""
    env, rewards = make(ENV_ID, "data"), []
    for one in some:
        seen, rng = env.reset(Task(one.id, one.env, one.split, one.data | data)), generator("won", one.id)
        while not seen.done:
            action = act(env, rng)
            assert action in env.actions()
            seen = env.step(action)
        rewards.append(seen.reward)
    return fmean(rewards)


def test_how_far_search_and_knowledge_get(package):
    some = tasks("test")
    assert won(some, HomeEnv.visitor) == pytest.approx(UNINFORMED, abs=0.06)
    assert won(some[:150], HomeEnv.visitor, told=True) >= INFORMED - 0.02
    assert won(some[:150], lambda env, rng: env.expert(rng)[0]) >= INFORMED - 0.02
    assert 0.87 < won(some[:150], lambda env, rng: env.expert(rng)[1]) < 0.99


def test_the_expert_puts_the_thing_where_it_belongs_and_slips(package):
    env, slips, known = make(ENV_ID, "data"), [], []
    for one in tasks("train")[:100]:
        seen, rng, steps = env.reset(one), generator("expert", one.id), []
        while not seen.done:
            action, taken = env.expert(rng)
            steps.append((env.prompt()[0]["content"], action))
            slips.append(action != taken)
            assert env._left_after(env.snapshot(), taken) < NOWHERE
            seen = env.step(taken)
        known.append(facts(steps) in ({"put": told_of_home(one)[1]}, {}))
    assert all(known) and fmean(slips) == pytest.approx(SLIPS, abs=0.04)


def test_a_visitor_uses_what_it_is_told_and_searches_otherwise(package):
    env, _ = begun(2, "move south", "take it")
    names = {"fridge", "counter", "kitchen cupboard", "cutlery drawer", "trash can", "dishwasher", "dining chair"}
    assert {env.visitor(generator(i)).rpartition("put it in ")[2].removeprefix("open ") for i in range(80)} == names
    env.step("put it in counter")
    assert env.visitor(generator(0)) == "take it"
    env.step("take it")
    assert not any(env.visitor(generator(i)).endswith("counter") for i in range(80))
    env, _ = begun(2, "move south", "take it", told=True)
    assert {env.visitor(generator(i)) for i in range(9)} == {"move west"}
    env, _ = begun(2, "move south", "take it", "put it in counter", "move north", told=True)
    assert {env.visitor(generator(i)) for i in range(9)} == {"move south"}  # back to where it lies


def test_the_base_is_shown_steps_of_visitors(package):
    env = make(ENV_ID, "data")
    for one in tasks("demos")[:20]:
        for shown in env.demonstrations(one, generator(0, one.id), "good?"):
            assert [message["role"] for message in shown.messages] == ["user", "assistant"] and shown.learned == 1
            assert shown.messages[0]["content"].startswith("told ") == one.data["told"]
