"""countdown-worked-v1: worked answers judged by hand, the words of a second turn, and the demonstrations of its base model."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from common.base import CRITIC_QUESTION, imitated
from common.envs import check_env
from common.envs.countdown import descending
from common.envs.versions.countdown_worked_v1 import (
    KEPT_RIGHT, KEPT_WRONG, CountdownWorkedEnv, build, result_of, worked,
)  # fmt: skip
from common.evaluate.correction import attempts_of
from common.lm.tokenizer import ASSISTANT, END, USER
from common.rng import generator
from common.types import Observation, Step, Task, Trajectory, Turn

TASK = Task("t", "countdown-worked-v1", "t", {"numbers": [3, 14, 5], "target": 16})
RIGHT, WRONG = "14 + 5 = 19 , 19 - 3 = 16", "14 + 5 = 19 , 19 + 3 = 22"


@pytest.fixture(scope="module")
def panels():
    return {name: [Task(**row) for row in rows] for name, rows in build(0).items()}


@pytest.mark.parametrize(("answer", "result"), [
    (RIGHT, 16), (WRONG, 22), ("5 + 14 = 19 , 19 - 3 = 16", 16), (RIGHT.replace(" ,", ","), 16),
    ("14 + 5 = 18 , 18 - 3 = 15", None),     # miscalculated
    ("14 + 5 = 19 , 19 - 5 = 14", None),     # 5 twice, 3 never
    ("14 + 5 = 19", None), (f"{RIGHT} , 16 - 1 = 15", None),
    ("5 - 14 = 9 , 9 + 3 = 12", None), ("5 * 3 = 15 , 15 + 14 = 29", None),  # what the game does not admit
    ("", None), ("yes", None), ("14 + 5", None),
])  # fmt: skip
def test_an_answer_is_worth_its_last_result_if_every_step_is_true(answer, result):
    assert result_of(answer, (14, 5, 3)) == result


def test_every_worked_answer_is_listed_once_with_its_result():
    listed = dict(worked((3, 2)))
    assert listed == {"3 + 2 = 5": 5, "3 - 2 = 1": 1}
    assert all(result_of(text, (14, 5, 3)) == result for text, result in worked((14, 5, 3)))


@pytest.mark.parametrize(("second", "answer", "reward"), [
    ("yes", WRONG, 0.0), (f"no , {RIGHT}", RIGHT, 1.0), (RIGHT, RIGHT, 1.0), ("no", "no", 0.0), ("no , ", "", 0.0), ("yes yes", "yes yes", 0.0),
])
def test_a_second_turn_keeps_or_replaces_the_first_answer(second, answer, reward):
    env = CountdownWorkedEnv()
    env.reset(TASK)
    assert env.step(WRONG).reward == 0.0 and env.prompt()[1:] == (
        {"role": "assistant", "content": WRONG}, {"role": "user", "content": "right ?"})
    assert env.score(second) == reward
    assert env.step(second).reward == reward and env.snapshot().attempts == (WRONG, answer)


def test_keeping_counts_as_the_answer_that_is_kept_and_as_a_copy():
    turns = [RIGHT, "yes", f"no , {WRONG}", "yes"]
    episode = Trajectory("t", tuple(Step((), Turn(text, 0.0, 1), Observation("")) for text in turns))
    attempts = attempts_of(CountdownWorkedEnv(turns=4), [TASK], [episode])
    assert attempts.answers == ((RIGHT, RIGHT, WRONG, WRONG),)
    assert attempts.correct.tolist() == [[True, True, False, False]]


def test_panels_share_no_numbers(panels):
    assert {name: len(tasks) for name, tasks in panels.items()} == {"test": 500, "validation": 300, "demos": 5000, "train": 3000}
    sets = {name: {descending(task.data["numbers"]) for task in tasks} for name, tasks in panels.items()}
    assert sum(map(len, sets.values())) == len(set().union(*sets.values()))


def test_the_contract_holds(panels):
    check_env(CountdownWorkedEnv(), panels["test"][:20])


def test_demonstrations_check_truthfully_and_keep_right_answers_hardly_more_often(panels):
    env, seen = CountdownWorkedEnv(), Counter()
    for task, repeat in product(panels["demos"], range(2)):
        for one in env.demonstrations(task, generator(repeat, task.id), CRITIC_QUESTION):
            _, first, asked, second = (message["content"] for message in one.messages)
            env.reset(task)
            right = env.score(first) == 1.0
            if asked == CRITIC_QUESTION:
                assert second == ("yes" if right else "no") and one.learned == 3
                seen["checks", right] += 1
            else:
                assert asked == env.RETRY and one.learned == 1
                seen["turns", right] += 1
                seen["kept", right] += second == "yes"
    assert seen["checks", True] == pytest.approx(seen["checks", False], rel=0.25)
    assert seen["kept", True] / seen["turns", True] == pytest.approx(KEPT_RIGHT, abs=0.08)
    assert seen["kept", False] / seen["turns", False] == pytest.approx(KEPT_WRONG, abs=0.05)
    assert 0.45 < seen["turns", True] / (seen["turns", True] + seen["turns", False]) < 0.65


def test_a_demonstrated_dialogue_is_one_example_with_its_later_messages_as_completion(panels):
    env = CountdownWorkedEnv()
    shown = [one for task in panels["demos"][:20] for one in env.demonstrations(task, generator(1, task.id), CRITIC_QUESTION)]
    turn = next(one for one in shown if one.learned == 1)
    question, first, again, second = (message["content"] for message in turn.messages)
    example = imitated(turn)
    assert example.prompt == ({"role": "user", "content": question},)
    assert example.completion == f"{first}{END}{USER}{again}{END}{ASSISTANT}{second}"
