"""Countdown with ``undo``: what is refused, what ends an episode, what prompts hold, that states are restored, and the rule that retries."""

from __future__ import annotations

import pytest

from common.envs.undo import REFUSED, Retrying, UndoEnv, remaining, takes_back, without_history
from common.envs.versions.countdown_v2 import CountdownV2
from common.types import Task, Turn

TASK = Task("by hand", "countdown-v2", "train", {"numbers": [9, 4, 2], "target": 15})  # 9 + 4 + 2, and no other way


@pytest.fixture
def env() -> UndoEnv:
    found = UndoEnv(CountdownV2(), 6)
    found.reset(TASK)
    return found


def seen(env: UndoEnv) -> str:
    return env.prompt()[0]["content"]


def test_an_episode_goes_on_after_a_wrong_result_until_the_target_is_reached(env):
    assert seen(env) == "numbers 9 4 2 target 15" and "undo" not in env.actions()
    assert env.step("undo").text == REFUSED  # nothing to take back, and a step is spent
    assert not env.step("9 - 4").done and seen(env) == "numbers 5 2 target 15"  # as in plain Countdown
    assert not env.step("5 + 2").done and env.stuck() and env.actions() == ["undo"]
    assert env.step("7 + 2").text == REFUSED
    env.step("undo")
    assert seen(env) == "numbers 5 2 target 15, 9 - 4, 5 + 2, undo" and without_history(env.prompt())[0]["content"] == "numbers 5 2 target 15"
    assert env.step("undo").truncated and not env.actions()  # the sixth
    with pytest.raises(RuntimeError, match="over"):
        env.step("9 + 4")


def test_the_target_ends_it_and_states_are_restored(env):
    start = env.snapshot()
    env.step("9 + 4")
    middle = env.snapshot()
    last = env.step("13 + 2")
    assert (last.reward, last.terminated, last.truncated) == (1.0, True, False)
    env.restore(middle)
    assert seen(env) == "numbers 13 2 target 15" and env.step("13 + 2") == last
    env.restore(start)
    assert env.right("9 + 4") and env.right("4 + 2") and not env.right("9 - 4") and seen(env) == "numbers 9 4 2 target 15"


def test_what_remains():
    assert remaining(("a", "undo", "b", "c", "undo")) == ("b",) and remaining(()) == remaining(("a", "undo")) == ()


def test_a_fixed_rule_takes_all_back_after_a_result(env):
    class Always:
        def propose(self, prompts, keys, n):
            assert not any("," in prompt[0]["content"] for prompt in prompts)
            return [[Turn(prompt[0]["content"], -1.0, 3)] * n for prompt in prompts]

    written = []
    for text in ("9 - 4", "5 + 2", "undo", "undo"):
        written.append(takes_back(env.prompt()))
        [[turn]] = Retrying(Always()).propose([env.prompt()], [0], 1)
        assert (turn.text == "undo") == written[-1]
        env.step(text)
    assert written == [False, False, True, True] and not takes_back(env.prompt())
