"""household-v1: an episode in full, what has no effect, exact values, what is told to whom, and how far search and knowledge get."""

from __future__ import annotations

from itertools import permutations
from statistics import fmean

import pytest

from common.envs import check_env
from common.envs.versions.household_v1 import (GOALS, INFORMED, INVALID, MADE, MAX_STEPS, OTHERS, PLACES, SIZES, SLIPS, UNINFORMED, USUAL,
                                               HouseholdEnv, build, described, did, first_page, goal_of, next_step, told_of_home)  # fmt: skip
from common.rng import generator
from common.types import Task

THINGS = [[], ["cup"], ["hat"], ["egg", "pan"], [], ["sock"], [], []]
DATA = {"thing": "egg", "made": "hot", "to": "desk", "things": THINGS, "makers": ["sink", "oven", "bed"], "told": "", "usual": "shelf"}
TASK = Task("t", "household-v1", "t", DATA)


@pytest.fixture(scope="module")
def panels():
    return {name: [Task(**row) for row in rows] for name, rows in build(0).items()}


def played(*actions: str, **data) -> tuple[HouseholdEnv, list]:
    env = HouseholdEnv()
    env.reset(Task("t", env.id, "t", DATA | data))
    return env, [env.step(action) for action in actions]


def test_the_contract_holds(panels):
    check_env(HouseholdEnv(), panels["test"][:20] + panels["demos"][:20])


def test_an_episode_in_full():
    way = ["go shelf", "take egg", "go sink", "make hot", "go desk", "put egg"]
    env, seen = played(*way[:1])
    assert env.prompt()[0]["content"] == "hot egg to desk\nnew fridge oven sink desk bed box sofa\ndid go shelf\nshelf has egg pan\nhave nothing"
    env, seen = played(*way[:4])
    assert seen[-1].text == "hot egg to desk\nnew fridge oven desk bed box sofa\nseen hot sink\ndid make hot\nsink has hat makes hot\nhave hot egg"
    env, seen = played(*way)
    assert [one.reward for one in seen] == [0.0] * 5 + [1.0] and seen[-1].terminated and not seen[-1].truncated and env.actions() == []


def test_what_has_no_effect_costs_its_step():
    env, seen = played("take egg", "go shelf", "take pan", "take cup", "make hot", "put egg", "go shelf", "take egg", "take egg")
    assert [one.text.startswith(INVALID) for one in seen] == [True, False, True, True, True, True, True, False, True]
    assert seen[2].text.split("\n")[2:4] == ["new fridge oven sink desk bed box sofa", INVALID]
    assert (seen[-1].truncated, seen[-1].terminated, seen[-1].reward) == (True, False, 0.0) and len(seen) == MAX_STEPS
    env, seen = played("go shelf", "take egg", "go oven", "make cold", "make hot", "go desk", "put egg")
    assert [one.text.startswith(INVALID) for one in seen[3:]] == [True, True, False, True]  # the goal asks for another thing


def test_exact_values_by_hand():
    env, _ = played()
    assert env.value(env.snapshot()) == pytest.approx(0.95**5) and env.q(env.snapshot(), "go shelf") == pytest.approx(0.95**5)
    assert env.q(env.snapshot(), "go box") == pytest.approx(0.95**6)
    env, _ = played("go box", "go bed", "go box", "go sofa")
    assert env.value(env.snapshot()) == 0.0  # five steps are left, six are needed
    env, _ = played("go shelf", "take egg", "go sink", "make hot", "go desk")
    assert env.value(env.snapshot()) == 1.0 == env.q(env.snapshot(), "put egg")


def test_the_panels_share_one_home_and_no_goal(panels):
    assert {name: len(tasks) for name, tasks in panels.items()} == SIZES
    goals = {name: {told_of_home(task)[0] for task in tasks} for name, tasks in panels.items()}
    assert all(goals[a].isdisjoint(goals[b]) for a in GOALS for b in GOALS if a != b)
    here = [task for name in GOALS for task in panels[name]]
    assert len({tuple(task.data["makers"]) for task in here}) == 1 and {task.data["told"] for task in here} == {""}
    env, usual = HouseholdEnv(), []
    for task in here:
        env.reset(task)
        home, told = env.snapshot().home, told_of_home(task)[1].split()
        assert told[::2] == [home.thing, home.made] and told[3] == home.maker and len({home.where, home.maker, home.to}) == 3
        assert sum(map(len, home.things)) == OTHERS + 1
        usual.append(told[1] == home.where)
    assert fmean(usual) == pytest.approx(USUAL, abs=0.04)
    assert len({tuple(task.data["makers"]) for task in panels["demos"]}) == 8 * 7 * 6


def test_the_expert_looks_at_the_usual_place_first_and_slips(panels):
    env, slips, won, first = HouseholdEnv(), [], [], []
    for task in panels["train"]:
        seen, rng = env.reset(task), generator("expert", task.id)
        first.append(env.expert(generator("first", task.id))[0] == f"go {task.data['usual']}")
        while not seen.done:
            action, taken = env.expert(rng)
            assert taken in env.actions()
            slips.append(action != taken)
            seen = env.step(taken)
        won.append(seen.reward)
    assert all(first) and fmean(slips) == pytest.approx(SLIPS, abs=0.03) and 0.6 < fmean(won) < INFORMED
    env, _ = played("go box", usual="box")  # it is not there
    assert {env.expert(generator(i))[0] for i in range(60)} == {f"go {place}" for place in PLACES if place != "box"}
    env, _ = played("go shelf", "take egg")
    assert {env.expert(generator(i))[0] for i in range(9)} == {"go sink"}


def visited(tasks, told) -> float:
    """Success of a visitor who is told these facts and never slips."""
    env, won = HouseholdEnv(), []
    for task in tasks:
        seen, rng = env.reset(Task(task.id, task.env, task.split, task.data | {"told": told(task)})), generator("visitor", task.id)
        while not seen.done:
            seen = env.step(env.visitor(rng))
        won.append(seen.reward)
    return fmean(won)


def test_a_visitor_uses_what_it_is_told_and_searches_otherwise(panels):
    env, _ = played(told="egg shelf hot sink")
    assert env.prompt()[0]["content"].startswith("told egg shelf hot sink\nhot egg to desk\n") and env.visitor(generator(0)) == "go shelf"
    env, _ = played("go box", "go bed", told="egg box")  # wrong: the thing is not there
    assert {env.visitor(generator(i)) for i in range(60)} == {f"go {place}" for place in PLACES if place not in ("box", "bed")}
    env, _ = played("go sink", "go shelf", "take egg")
    assert {env.visitor(generator(i)) for i in range(9)} == {"go sink"}  # it has seen what makes hot
    tasks = panels["test"] + panels["train"]
    assert visited(tasks, lambda task: "") < UNINFORMED + 0.03
    assert visited(tasks, lambda task: told_of_home(task)[1]) == pytest.approx(0.88, abs=0.04)


def test_how_far_search_and_knowledge_get():
    """By trying all places of the thing and its maker, in the order in which one looks into the seven places that are not the goal's."""

    def steps(thing: int, maker: int) -> int:
        looked = max(thing, maker) if thing < maker else thing + 1  # back to a maker that was seen before the thing was
        return looked + 4

    done = [steps(thing, maker) <= MAX_STEPS for thing, maker in permutations(range(1, len(PLACES)), 2)]
    assert UNINFORMED == pytest.approx(fmean(done))
    assert INFORMED == pytest.approx(USUAL + (1 - USUAL) * 3 / 5)
    assert len(MADE) == 3 and next_step(played()[0].snapshot(), "box", "bed") == "go box"


def test_the_base_is_shown_steps_of_visitors(panels):
    env = HouseholdEnv()
    for task in panels["demos"][:20]:
        for shown in env.demonstrations(task, generator(0, task.id), "good?"):
            assert [message["role"] for message in shown.messages] == ["user", "assistant"] and shown.learned == 1
            assert shown.messages[0]["content"].startswith(f"told {task.data['told']}\n") == bool(task.data["told"])


def read(here: str = "shelf has cup egg", have: str = "nothing", before: str = "did go shelf") -> str:
    return "\n".join(["hot egg to desk", "new oven", before, here, f"have {have}"])


def test_states_in_words_that_hold_for_other_goals():
    env, _ = played()
    assert env.prompt()[0]["content"] == first_page("hot egg to desk") and goal_of(read()) == "hot egg to desk" == goal_of("told egg box\n" + read())
    assert described(first_page("hot egg to desk")) == "no egg" and described(read("shelf has cup")) == "no egg" and described(read()) == "has egg"
    assert described(read("shelf has nothing", "egg")) == "to hot" == described(read("sink has hat makes cold", "egg")) == described(read("box has hot", "egg"))
    assert described(read("oven has nothing makes hot", "egg")) == "makes hot"
    assert described(read("oven has nothing makes hot", "hot egg")) == "to desk" and described(read("desk has cup", "hot egg")) == "egg to put"
    assert (did(first_page("hot egg to desk")), did(read()), did(read(before=INVALID))) == ("", "did go shelf", INVALID)
