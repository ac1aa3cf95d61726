"""Whole-answer Countdown as the two-turn environment of self-correction: demonstrator and panels."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from common.envs import check_env, load_panel, make
from common.envs.build import build_all
from common.envs.countdown import evaluate_expression, expressions, solvable
from common.envs.versions.countdown_answer_v1 import CountdownAnswerEnv, build_panels as build_answer_panels
from common.rng import generator
from common.types import Task


@pytest.fixture(scope="module")
def panels() -> dict[str, list[Task]]:
    return build_answer_panels(0)


def test_both_answer_environments_are_made_from_their_files(tmp_path):
    build_all(tmp_path)
    for env_id in ("countdown-answer-v1", "arithmetic-v1"):
        env = make(env_id, tmp_path)
        assert (env.id, env.max_steps) == (env_id, 2)
        check_env(env, load_panel(tmp_path, f"{env_id}/test")[:10])


def test_panels_share_no_task(panels):
    assert {split: len(tasks) for split, tasks in panels.items() if split != "demos"} == {
        "test": 400, "validation": 200, "train": 2000}  # fmt: skip
    every = [(tuple(one.data["numbers"]), one.data["target"]) for tasks in panels.values() for one in tasks]
    assert len(set(every)) == len(every) > 4000 and all(solvable(*one) for one in every)
    for split, tasks in panels.items():
        assert [one.id for one in tasks] == [f"countdown-answer-v1/{split}/{i:04d}" for i in range(len(tasks))]
        assert {(one.env, one.split) for one in tasks} == {("countdown-answer-v1", split)}


def test_panels_repeat_byte_for_byte_and_the_seed_matters(panels):
    def blob(made: dict[str, list[Task]]) -> str:
        return json.dumps({k: list(map(asdict, v)) for k, v in made.items()}, sort_keys=True)

    assert blob(build_answer_panels(0)) == blob(panels) != blob(build_answer_panels(1))


def test_the_demonstrator_keeps_what_is_right_and_replaces_what_is_wrong(panels):
    env, rng, errors = CountdownAnswerEnv(), generator("expert"), 0
    for one in panels["demos"][:300]:
        env.reset(one)
        meant, taken = env.expert(rng)
        assert env.score(meant) == 1.0
        assert evaluate_expression(taken, env.snapshot().numbers) is not None  # wrong, but well-formed
        errors += taken != meant
        assert env.score(taken) == float(taken == meant)
        env.step(taken)
        again, written = env.expert(rng)
        assert written == again and env.score(again) == 1.0
        assert (again == taken) == (taken == meant)
    assert abs(errors / 300 - CountdownAnswerEnv.SLIP) < 0.1


def test_in_one_shot_form_the_demonstrator_makes_no_error(panels):
    env, rng = CountdownAnswerEnv(turns=1), generator("one shot")
    for one in panels["demos"][:50]:
        env.reset(one)
        meant, taken = env.expert(rng)
        assert meant == taken and env.score(taken) == 1.0


def test_a_repeated_right_answer_is_the_demonstrator_s_own_even_where_others_are_right():
    env, rng = CountdownAnswerEnv(), generator("repeat")
    env.reset(Task("t", "countdown-answer-v1", "demos", {"numbers": [2, 3, 4], "target": 24}))
    right = [text for text, value in expressions((4, 3, 2)) if value == 24]
    assert len(right) > 1
    env.step(right[1])
    assert all(env.expert(rng) == (right[1], right[1]) for _ in range(10))


@pytest.mark.parametrize("env_id", ["countdown-answer-v1", "arithmetic-v1"])
def test_a_window_shows_the_last_attempts_only_and_two_turns_stay_as_they_were(env_id, panels, tmp_path):
    whole, five = make(env_id, tmp_path), make(env_id, tmp_path).dialogue(5, window=1)
    assert type(five) is type(whole) and (five.max_steps, five.gamma) == (5, whole.gamma)
    one = Task("t", env_id, "demos", {"numbers": [2, 3, 4], "target": 24})
    shown = []
    for env, tries in ((whole, 1), (five, 4), (type(whole)(turns=5), 4), (type(whole)(turns=5, window=2), 4)):
        env.reset(one)
        prompts = [env.prompt()]
        for k in range(tries):
            env.step(f"y{k}")
            prompts.append(env.prompt())
        shown.append([[m["content"] for m in prompt if m["role"] == "assistant"] for prompt in prompts])
        if tries == 1:
            two = prompts
        else:
            assert prompts[:2] == two  # byte for byte
    assert shown[1] == [[], ["y0"], ["y1"], ["y2"], ["y3"]]
    assert shown[2][-1] == ["y0", "y1", "y2", "y3"] and shown[3][-1] == ["y2", "y3"]
    assert five.step(five.oracle()).reward == 1.0  # the fifth and last counts
    with pytest.raises(ValueError, match="window"):
        whole.dialogue(3, window=0)
