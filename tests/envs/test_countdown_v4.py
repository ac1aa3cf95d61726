"""countdown-v4: four numbers in three steps, a step that the rules forbid loses, and what its base models are shown."""

from __future__ import annotations

from collections import Counter

import pytest

from common.base import CRITIC_QUESTION
from common.envs import check_env
from common.envs.countdown import descending, step_actions
from common.envs.versions.countdown_v4 import SIZES, STEPS, CountdownV4, build
from common.rng import generator
from common.types import Task

TASK = Task("t", "countdown-v4", "t", {"numbers": [9, 5, 3, 2], "target": 15})  # 9 + 5 + 3 - 2


@pytest.fixture(scope="module")
def panels():
    return {name: [Task(**row) for row in rows] for name, rows in build(0).items()}


def test_the_contract_holds_and_panels_share_no_numbers(panels):
    check_env(CountdownV4(), panels["test"][:20])
    assert {name: len(tasks) for name, tasks in panels.items()} == SIZES
    assert {len(task.data["numbers"]) for task in panels["test"]} == {STEPS + 1}
    sets = [{descending(task.data["numbers"]) for task in tasks} for tasks in panels.values()]
    assert sum(map(len, sets)) == len(set().union(*sets))


def by_chance(numbers: tuple[int, ...], target: int) -> float:
    """How often steps at random reach ``target``."""
    options = step_actions(numbers, "+-")
    return sum(by_chance(rest, target) for _, rest in options) / len(options) if options else float(numbers[0] == target)


def test_steps_at_random_solve_one_task_in_six(panels):
    tasks = panels["validation"][:100]
    assert sum(by_chance(descending(task.data["numbers"]), task.data["target"]) for task in tasks) / 100 == pytest.approx(1 / 6, abs=0.03)


def test_a_step_that_the_rules_forbid_loses():
    env = CountdownV4()
    env.reset(TASK)
    assert env.q(env.snapshot(), "9 + 5") > 0 and env.q(env.snapshot(), "9 * 5") == 0.0
    assert [env.step(action).done for action in ("9 * 5", "9 + 5", "14 + 3")] == [False, False, True]


def test_the_base_is_shown_every_legal_step_and_whether_it_leads_on():
    env, seen = CountdownV4(), Counter()
    for i in range(300):
        for shown in env.demonstrations(TASK, generator(0, i), CRITIC_QUESTION):
            prompt, action, question, verdict = (message["content"] for message in shown.messages)
            assert shown.learned == 1 and question == CRITIC_QUESTION
            if prompt == "numbers 9 5 3 2 target 15":
                env.reset(TASK)
                seen[action] += 1
                assert verdict == ("yes" if env.q(env.snapshot(), action) > 0 else "no")
    assert set(seen) == {action for action, _ in step_actions((9, 5, 3, 2), "+-")} and max(seen.values()) < 50
