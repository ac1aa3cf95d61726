"""Countdown by three roles: contract, what each role reads and says, known scores, the demonstrator, panels."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from common.envs import check_env, load_panel, make
from common.envs.answers import GAMMA
from common.envs.build import build_all
from common.envs.versions.countdown_roles_v1 import (
    INVALID, LARGEST, ROLES, CountdownRolesEnv, build_panels, candidates, computed, role_of, verdict, visible,
)  # fmt: skip
from common.learn.batches import encode
from common.base import demonstrations
from common.lm.bases import settings_for
from common.lm.tokenizer import train_tokenizer
from common.rng import generator
from common.types import Task

TASK = Task("t", "countdown-roles-v1", "test", {"numbers": [3, 17, 8, 9], "target": 24})


@pytest.fixture(scope="module")
def panels() -> dict[str, list[Task]]:
    return build_panels(0)


@pytest.fixture
def env() -> CountdownRolesEnv:
    made = CountdownRolesEnv()
    made.reset(TASK)
    return made


def test_it_keeps_the_contract_on_its_frozen_panel(tmp_path):
    build_all(tmp_path)
    made = make("countdown-roles-v1", tmp_path)
    assert (made.id, made.max_steps) == ("countdown-roles-v1", 3)
    check_env(made, load_panel(tmp_path, "countdown-roles-v1/test")[:25])


def test_each_role_reads_its_own_prompt_and_the_last_turn_alone_is_rewarded(env):
    given = "numbers 17 9 8 3 target 24"
    seen = []
    for text in ("9 * 3", "makes 27 wrong", "8 * 3"):
        [message] = env.prompt()
        seen.append((role_of(env.prompt()), env.role(), message["content"]))
        observation = env.step(text)
    assert seen == [
        ("generator", "generator", f"generate {given}"),
        ("verifier", "verifier", f"verify {given} answer 9 * 3"),
        ("refiner", "refiner", f"refine {given} answer 9 * 3 critique makes 27 wrong"),
    ]
    assert observation.terminated and observation.reward == 1.0
    env.reset(TASK)
    assert [env.step(text).reward for text in ("8 * 3", "right", "9 * 3")] == [0.0, 0.0, 0.0]  # spoilt by the refiner


def test_values_count_the_turns_left_and_no_early_turn_changes_them(env):
    start = env.snapshot()
    assert env.value(start) == GAMMA**2 == env.q(start, "nonsense") == env.q(start, "8 * 3")
    env.step("nonsense")
    middle = env.snapshot()
    assert env.value(middle) == GAMMA == env.q(middle, "right") == env.q(middle, env.oracle())
    env.step("right")
    last = env.snapshot()
    assert (env.q(last, "8 * 3"), env.q(last, "9 * 3")) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("answer", "value"),
    [("9 * 3", 27), ("3 * 8", 24), (" 17 - 8 ", 9), ("9 / 3", 3), ("8 / 3", None), ("3 - 8", None), ("9 + 9", None),
     ("8 * 4", None), ("8 * 3 * 1", None), ("8*3", None), ("-8 + 3", None), ("", None), ("8 ** 3", None),
     ("١ + ٨", None), ("1" * 50, None), ("9 + 8\n17 + 8", 25), ("17 + 8\nso 25", None)],
)  # fmt: skip
def test_an_answer_combines_two_of_the_numbers_by_a_rule_of_the_game(env, answer, value):
    assert env.worth(answer) == value and env.score(answer) == float(value == 24)


def test_candidates_are_the_listed_answers_with_their_values(env):
    found = dict(candidates((17, 9, 8, 3)))
    assert found["9 * 3"] == 27 and found["9 / 3"] == 3 and "8 / 3" not in found and "3 - 8" not in found
    assert all(env.worth(text) == value for text, value in found.items()) and list(found) == env.actions()


def test_critiques_by_hand(env):
    assert env.critique("9 * 3") == "makes 27 wrong" and env.critique("8 * 3") == "makes 24 right"
    assert env.critique("9 * 3", off=-3) == "makes 24 right"
    for text in ("8 + 8", "8 +", "", "3 - 8"):
        assert env.critique(text) == INVALID, text
    wrong = env.false_critiques("9 * 3")
    assert wrong[0] == "makes 24 right" and env.critique("9 * 3") not in wrong
    assert len(set(wrong)) == len(wrong) == 6 and env.false_critiques("8") == ["invalid right"]
    assert "makes 0 wrong" not in env.false_critiques("9 - 8")


@pytest.mark.parametrize(
    ("critique", "expected", "value"),
    [("makes 27 wrong", False, 27), ("makes 24 right", True, 24), (INVALID, False, None), ("right", True, None),
     ("", None, None), ("makes 24 rightly", None, 24), ("wrong I think", None, None), ("wrong\nmakes 5 right", True, 5),
     ("it makes 5 right", True, None), ("makes", None, None)],
)  # fmt: skip
def test_a_critique_is_read_by_its_last_word_and_its_value(critique, expected, value):
    assert verdict(critique) is expected and computed(critique) == value


def test_what_is_babbled_stays_short_and_ascii_in_later_prompts(env):
    env.step("é" * 500 + "\n")
    assert env.prompt()[0]["content"].endswith("answer " + "?" * env.SHOWN["generator"])
    env.step("right " * 100)
    assert env.prompt()[0]["content"].endswith("critique " + "right right right right")
    assert visible("a\n  8 - 6  \n", 16) == "8 - 6"


def play(env: CountdownRolesEnv, one: Task, choose) -> float:
    seen = env.reset(one)
    while not seen.done:
        seen = env.step(choose(env))
    return seen.reward


def test_the_oracle_solves_all_and_the_lazy_team_largest_sums_only(panels):
    env = CountdownRolesEnv()
    for one in panels["test"]:
        assert play(env, one, lambda e: e.oracle()) == 1.0
        two = sorted(one.data["numbers"])[-2:]
        assert play(env, one, lambda e: e.lazy()) == float(sum(two) == one.data["target"])
    env.reset(TASK)
    written = []
    for _ in range(3):
        written.append(env.lazy())
        env.step(written[-1])
    assert written == ["17 + 9", "right", "17 + 9"]


def test_the_demonstrators_mean_what_is_true_and_err_as_often_as_they_say(panels):
    env, rng = CountdownRolesEnv(), generator("expert")
    errors = false_critiques = invalid = 0
    for one in panels["demos"][:1500]:
        env.reset(one)
        meant, taken = env.expert(rng)
        assert env.score(meant) == 1.0 and env.score(taken) == float(taken == meant)
        errors, invalid = errors + (taken != meant), invalid + (env.worth(taken) is None)
        assert (env.worth(taken) or 0) <= LARGEST
        env.step(taken)
        truth, critique = env.expert(rng)
        assert truth == env.critique(taken) and verdict(truth) == (taken == meant)
        false_critiques += critique != truth
        env.step(critique)
        final, written = env.expert(rng)
        assert final == written and env.score(final) == 1.0 and (final == taken) == (taken == meant)
    assert abs(errors / 1500 - CountdownRolesEnv.SLIP) < 0.04
    assert abs(false_critiques / 1500 - CountdownRolesEnv.FALSE_CRITIQUE) < 0.03
    assert abs(invalid / errors - CountdownRolesEnv.WRONG_NUMBER) < 0.04


def test_a_right_answer_is_written_again_even_where_the_demonstrator_prefers_another():
    env, rng = CountdownRolesEnv(), generator("repeat")
    env.reset(Task("t", "countdown-roles-v1", "demos", {"numbers": [12, 3, 9, 4], "target": 36}))
    right = [text for text, value in candidates((12, 9, 4, 3)) if value == 36]
    assert right == ["12 * 3", "9 * 4"]
    env.step(right[1])
    env.step("makes 35 wrong")
    assert env.expert(rng) == (right[1], right[1])


def test_panels_share_no_task_and_repeat_byte_for_byte(panels):
    def blob(made: dict[str, list[Task]]) -> str:
        return json.dumps({k: list(map(asdict, v)) for k, v in made.items()}, sort_keys=True)

    assert {split: len(tasks) for split, tasks in panels.items()} == {
        "test": 400, "validation": 200, "train": 1000, "demos": 5000}  # fmt: skip
    every = [(tuple(one.data["numbers"]), one.data["target"]) for tasks in panels.values() for one in tasks]
    assert len(set(every)) == len(every)
    for numbers, target in every:
        assert 0 < target <= LARGEST and target not in numbers and len(set(numbers)) == 6
        assert any(value == target for _, value in candidates(numbers))
    for split, tasks in panels.items():
        assert [one.id for one in tasks] == [f"countdown-roles-v1/{split}/{i:04d}" for i in range(len(tasks))]
        assert {(one.env, one.split) for one in tasks} == {("countdown-roles-v1", split)}
    assert blob(build_panels(0)) == blob(panels) != blob(build_panels(1))


def test_no_evaluated_task_is_demonstrated_and_every_prompt_fits_the_context(panels):
    env, chosen = CountdownRolesEnv(), settings_for("countdown-roles-v1", "cpu")
    examples = demonstrations(env, panels["demos"][:400], seed=0, repeats=1)
    prompts = {example.prompt[0]["content"] for example in examples}
    assert {role_of(example.prompt) for example in examples} == set(ROLES)
    for split in ("test", "validation", "train"):
        for one in panels[split]:
            env.reset(one)
            assert env.prompt()[0]["content"] not in prompts
    texts = [f"{e.prompt[0]['content']} {e.completion}" for e in examples]
    tokenizer = train_tokenizer(texts, chosen.vocab, split_digits=chosen.split_digits)
    encode("t", tokenizer, [e.prompt for e in examples], [e.completion for e in examples], max_length=chosen.context)
    env.reset(panels["test"][0])
    env.step("~" * 500)  # the worst a policy can say: every character a token
    env.step("^" * 500)
    [longest], _ = encode("t", tokenizer, [env.prompt()], ["x"], max_length=chosen.context)
    assert len(longest) + 24 <= chosen.context
