"""sorting-v1: a step takes a number, the smallest first; wrong steps are not mended; what its base models are shown."""

from __future__ import annotations

from collections import Counter

import pytest

from common.base import CRITIC_QUESTION
from common.envs import check_env
from common.envs.versions.sorting_v1 import COUNT, FALSE, SIZES, SortingEnv, build
from common.rng import generator
from common.types import Task

TASK = Task("t", "sorting-v1", "t", {"numbers": [7, 3, 9, 5, 1, 8]})


@pytest.fixture(scope="module")
def panels():
    return {name: [Task(**row) for row in rows] for name, rows in build(0).items()}


def played(*actions: str) -> tuple[SortingEnv, list]:
    env = SortingEnv()
    env.reset(TASK)
    return env, [env.step(action) for action in actions]


def test_the_contract_holds_and_no_two_tasks_share_their_numbers(panels):
    check_env(SortingEnv(), panels["test"][:20])
    assert {name: len(tasks) for name, tasks in panels.items()} == SIZES
    sets = [frozenset(task.data["numbers"]) for tasks in panels.values() for task in tasks]
    assert len(set(sets)) == len(sets) and set(map(len, sets)) == {COUNT}


def test_the_right_solution_in_full():
    env, seen = played("1", "3", "5", "7", "8")
    assert [one.reward for one in seen] == [0.0, 0.0, 0.0, 0.0, 1.0] and seen[-1].terminated and not seen[-1].truncated
    assert [one.text for one in seen[:2]] == ["sort 7 3 9 5 8 : 1", "sort 7 9 5 8 : 1 3"] and seen[-1].text == "sort : 1 3 5 7 8 9"


def test_a_wrong_step_is_taken_and_nothing_mends_it():
    env, seen = played("3")
    assert seen[0].text == "sort 7 9 5 1 8 : 3" and env.value(env.snapshot()) == 0.0
    assert all(env.q(env.snapshot(), action) == 0.0 for action in env.actions())
    env, seen = played("3", "1", "5", "7", "8")
    assert (seen[-1].reward, seen[-1].terminated) == (0.0, True)


def test_exact_values_by_hand():
    env, _ = played()
    assert env.value(env.snapshot()) == pytest.approx(0.95**4) and env.q(env.snapshot(), "1") == pytest.approx(0.95**4)
    env, _ = played("1", "3", "5", "7")
    assert env.value(env.snapshot()) == 1.0 and env.q(env.snapshot(), "8") == 1.0 and env.q(env.snapshot(), "9") == 0.0


def test_an_invalid_step_costs_the_task():
    env, seen = played("2")
    assert seen[0].text == "invalid step. sort 7 3 9 5 1 8 :" and not seen[0].done and env.value(env.snapshot()) == 0.0
    env, seen = played("2", "1", "3", "5", "7")
    assert (seen[-1].reward, seen[-1].truncated, seen[-1].terminated) == (0.0, True, False)


def test_the_base_is_shown_either_of_the_two_smallest_and_verdicts_of_which_some_are_false():
    env, taken, false = SortingEnv(), Counter(), []
    for i in range(300):
        for shown in env.demonstrations(TASK, generator(0, i), CRITIC_QUESTION):
            prompt, action, *judged = (message["content"] for message in shown.messages)
            if prompt != "sort 7 3 9 5 1 8 :":
                continue
            if not judged:
                assert shown.learned == 1
                taken[action] += 1
            else:
                assert shown.learned == 3 and judged[0] == CRITIC_QUESTION
                false.append((judged[1] == "yes") != (action == "1"))
    assert set(taken) == {"1", "3"} and 120 < taken["1"] < 180
    assert sum(false) / len(false) == pytest.approx(FALSE, abs=0.07)


def test_the_laziest_step_is_never_right(panels):
    env = SortingEnv()
    for task in panels["test"][:20]:
        env.reset(task)
        assert env.q(env.snapshot(), env.lazy()) == 0.0
