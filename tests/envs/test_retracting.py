"""Steps that are taken back: what remains by hand, and which steps were right when they were written."""

from __future__ import annotations

import pytest

from common.envs.retracting import RetractingEnv, remaining, written
from common.types import Task

NUMBERS, TARGET = [3, 14, 5], 16  # 14 + 5 - 3 alone, in any order
RIGHT = "14 + 5 = 19 , 19 - 3 = 16"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RIGHT, RIGHT),
        ("a , no , b", "b"),
        ("a , b , no , no , c , d", "c , d"),
        ("a , b , no , c", "a , c"),
        ("no , a", "no , a"),  # nothing to take back: it stays
        ("a , no , no , b", "no , b"),
        ("a , no", ""),
        ("thought\na , no , b\n", "b"),
        ("", ""),
    ],
)
def test_what_remains(text, expected):
    assert remaining(text) == expected


def test_the_environment_scores_what_remains():
    env = RetractingEnv(turns=1, window=1)
    env.reset(Task("t", env.id, "train", {"numbers": NUMBERS, "target": TARGET}))
    assert env.score(RIGHT) == 1.0
    assert env.score("14 - 5 = 9 , 9 + 3 = 12 , no , no , " + RIGHT) == 1.0
    assert env.score("14 - 5 = 9 , no , " + RIGHT) == 1.0
    assert env.score("no , " + RIGHT) == env.score(RIGHT + " , no") == env.score("14 - 5 = 9 , " + RIGHT) == 0.0


def test_steps_as_they_were_written():
    found = written("14 - 5 = 9 , 9 + 3 = 12 , no , no , 14 + 5 = 19 , 19 + 3 = 22 , no , 19 - 3 = 16", NUMBERS, TARGET)
    assert [(one.step, one.right, one.last, one.retracted) for one in found] == [
        ("14 - 5 = 9", False, False, True),  # 9 + 3 and 9 - 3 are not 16
        ("9 + 3 = 12", False, True, True),
        ("14 + 5 = 19", True, False, False),
        ("19 + 3 = 22", False, True, True),
        ("19 - 3 = 16", True, True, False),
    ]
    assert [one.before for one in found] == [(), ("14 - 5 = 9",), (), ("14 + 5 = 19",), ("14 + 5 = 19",)]


def test_a_miscalculated_step_is_wrong_and_so_is_what_follows_until_it_is_taken_back():
    found = written("14 + 5 = 18 , 18 - 3 = 15 , no , no , 14 + 5 = 19", NUMBERS, TARGET)
    assert [one.right for one in found] == [False, False, True]
