"""countdown-v3: an expert who knows solutions, and what its base models are shown: legal steps at random."""

from __future__ import annotations

from collections import Counter

import pytest

from common.base import CRITIC_QUESTION
from common.envs import check_env
from common.envs.countdown import descending, step_actions
from common.envs.versions.countdown_v2 import SIZES
from common.envs.versions.countdown_v2 import build as build_v2
from common.envs.versions.countdown_v3 import CountdownV3, build
from common.rng import generator
from common.types import Task

TASK = Task("t", "countdown-v3", "t", {"numbers": [3, 14, 5], "target": 16})


@pytest.fixture(scope="module")
def panels():
    return {name: [Task(**row) for row in rows] for name, rows in build(0).items()}


def test_the_contract_holds_and_panels_share_no_numbers(panels):
    check_env(CountdownV3(), panels["test"][:20])
    assert {name: len(tasks) for name, tasks in panels.items()} == SIZES
    sets = [{descending(task.data["numbers"]) for task in tasks} for tasks in panels.values()]
    assert sum(map(len, sets)) == len(set().union(*sets))
    assert [task.data for task in panels["test"]] != [row["data"] for row in build_v2(0)["test"]]


def test_the_expert_takes_each_step_from_which_the_target_can_be_reached():
    env, rng = CountdownV3(), generator(0, "expert")
    env.reset(TASK)
    assert set(Counter(env.expert(rng)[0] for _ in range(100))) == {"14 + 5", "14 - 3", "5 - 3"}
    env.step("14 + 5")
    assert env.expert(rng) == ("19 - 3", "19 - 3")


def test_the_base_is_shown_every_legal_step_and_no_target_that_matters():
    env, seen = CountdownV3(), Counter()
    for i in range(600):
        first, last = env.demonstrations(TASK, generator(0, i), CRITIC_QUESTION)
        assert first.learned == last.learned == 1 and len(first.messages) == len(last.messages) == 2
        seen[first.messages[1]["content"]] += 1
    assert set(seen) == {action for action, _ in step_actions((14, 5, 3), "+-")}
    assert all(60 < n < 140 for n in seen.values())  # 100 expected of each of six
