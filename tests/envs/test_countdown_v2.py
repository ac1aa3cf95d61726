"""countdown-v2: its operators, its panels, a demonstrator that does not look ahead, and what its base model is shown."""

from __future__ import annotations

from collections import Counter

import pytest

from common.base import CRITIC_QUESTION, imitated
from common.envs import check_env
from common.envs.contract import Demonstration
from common.envs.countdown import descending, solvable, step_actions
from common.envs.versions.countdown_v2 import FALSE, SIZES, CountdownV2, build
from common.lm.tokenizer import ASSISTANT, END, USER
from common.rng import generator
from common.types import Task

TASK = Task("t", "countdown-v2", "t", {"numbers": [3, 14, 5], "target": 16})


@pytest.fixture(scope="module")
def panels():
    return {name: [Task(**row) for row in rows] for name, rows in build(0).items()}


def test_numbers_are_added_and_subtracted_and_nothing_else():
    env = CountdownV2()
    env.reset(TASK)
    assert env.actions() == ["14 + 5", "14 - 5", "14 + 3", "14 - 3", "5 + 3", "5 - 3"]
    assert env.step("14 * 5").text.startswith("invalid step")
    env.reset(TASK)
    assert env.step("14 + 5").text == "numbers 19 3 target 16" and env.step("19 - 3").reward == 1.0


def test_exact_values_know_the_operators():
    """24 from 8, 3 and 1 needs a product: 8 · 3 · 1."""
    assert solvable((8, 3, 1), 24) and not solvable((8, 3, 1), 24, "+-")
    env = CountdownV2()
    env.reset(Task("t", "countdown-v2", "t", {"numbers": [8, 3, 1], "target": 24}))
    assert env.value(env.snapshot()) == 0.0
    env.reset(TASK)
    assert env.value(env.snapshot()) == pytest.approx(0.95)
    # 16 = 14 + 5 − 3: the first steps 14 + 5, 14 − 3 and 5 − 3 lead there
    assert [action for action in env.actions() if env.q(env.snapshot(), action) > 0] == ["14 + 5", "14 - 3", "5 - 3"]


def test_the_contract_holds(panels):
    check_env(CountdownV2(), panels["test"][:20])


def test_panels_share_no_numbers_and_give_at_most_three_tasks_of_a_set(panels):
    assert {name: len(tasks) for name, tasks in panels.items()} == SIZES
    sets = {name: Counter(descending(task.data["numbers"]) for task in tasks) for name, tasks in panels.items()}
    assert sum(map(len, sets.values())) == len(set().union(*sets.values()))
    assert all(max(own.values()) <= 3 for own in sets.values())
    assert all(solvable(descending(task.data["numbers"]), task.data["target"], "+-") for task in panels["test"])


def test_the_demonstrator_steps_at_random_and_lands_as_near_as_it_can():
    rng, env = generator(0, "demonstrator"), CountdownV2()

    def steps(numbers: list[int], target: int, times: int) -> Counter[str]:
        env.reset(Task("t", "countdown-v2", "t", {"numbers": numbers, "target": target}))
        return Counter(env.expert(rng)[1] for _ in range(times))

    first = steps([14, 5, 3], 16, 1200)
    assert set(first) == {action for action, _ in step_actions((14, 5, 3), "+-")} and min(first.values()) > 120  # 200 expected
    assert set(steps([19, 3], 16, 50)) == {"19 - 3"}
    assert set(steps([19, 3], 19, 50)) == {"19 + 3", "19 - 3"}  # 22 and 16 are as near


def test_its_critic_is_shown_each_step_once_with_a_verdict_that_is_seldom_false(panels):
    env, seen = CountdownV2(), Counter()
    for task in panels["demos"][:800]:
        env.reset(task)
        start = env.snapshot()
        for one in env.demonstrations(task, generator(0, task.id), CRITIC_QUESTION):
            seen["all"] += 1
            if len(one.messages) == 2:
                assert one.learned == 1
                continue
            question, action, asked, verdict = (message["content"] for message in one.messages)
            assert asked == CRITIC_QUESTION and one.learned == 3
            if question.count(" ") == 5:  # three numbers: a first step
                seen["first"] += 1
                seen["false"] += (verdict == "yes") != (env.q(start, action) > 0)
    assert seen["all"] == 4 * 800 and seen["first"] == 800
    assert seen["false"] / seen["first"] == pytest.approx(FALSE, abs=0.035)


def test_a_demonstrated_dialogue_is_one_example_with_its_later_messages_as_completion():
    ask, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    more = ({"role": "user", "content": "good?"}, {"role": "assistant", "content": "yes"})
    assert imitated(Demonstration((ask, answer, *more), learned=1)).completion == f"a{END}{USER}good?{END}{ASSISTANT}yes"
    judged = imitated(Demonstration((ask, answer, *more), learned=3))
    assert judged.prompt == (ask, answer, more[0]) and judged.completion == "yes"
