"""Arithmetic: contract, exact values, known scores and panels."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import product

import pytest

from common.envs.versions.arithmetic_v1 import LARGEST, NEAR, TERMS, ArithmeticEnv, build_panels
from common.envs.contract import check_env
from common.envs.answers import GAMMA
from common.rng import generator
from common.types import Task


@pytest.fixture(scope="module")
def panels() -> dict[str, list[Task]]:
    return build_panels(0)


def task(*numbers: int) -> Task:
    return Task("t", "arithmetic-v1", "test", {"numbers": list(numbers)})


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_it_keeps_the_contract(panels, turns):
    check_env(ArithmeticEnv(turns=turns), panels["test"][:20])


def test_the_last_declared_answer_counts_and_the_hint_never_tells():
    env = ArithmeticEnv()
    for attempts, reward in [(("30", "31"), 0.0), (("31", "30"), 1.0), (("30", "30"), 1.0), (("", ""), 0.0)]:
        assert env.reset(task(7, 3, 20)).text == "compute 7 + 3 + 20"
        first, second = env.step(attempts[0]), env.step(attempts[1])
        assert (first.text, first.reward, first.done) == (ArithmeticEnv.RETRY, 0.0, False)
        assert second.terminated and second.reward == reward
    env.reset(task(7, 3, 20))
    env.step("31")
    assert [m["content"] for m in env.prompt()] == ["compute 7 + 3 + 20", "31", ArithmeticEnv.RETRY]
    assert [m["role"] for m in env.prompt()] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("text", "right"),
    [("30", True), (" 30 ", True), ("030", True), ("31\n30", True), ("30\n31", False), ("30.0", False), ("+30", False),
     ("30 31", False), ("7 + 3 + 20", False), ("= 30", False), ("٣٠", False), ("", False), ("3" * 5000, False),
     ("thirty", False), ("-30", False)],
)  # fmt: skip
def test_an_answer_is_one_number_in_digits(text, right):
    env = ArithmeticEnv()
    env.reset(task(7, 3, 20))
    assert env.score(text) == float(right)


def test_values_count_the_attempts_left():
    env = ArithmeticEnv(turns=3)
    env.reset(task(1, 2, 3))
    start = env.snapshot()
    assert env.value(start) == GAMMA**2 == env.q(start, "junk") and env.oracle() == "6"
    env.step("junk")
    env.step("6")
    last = env.snapshot()
    assert (env.value(last), env.q(last, "6"), env.q(last, "7")) == (1.0, 1.0, 0.0)
    env.step("6")
    over = env.snapshot()
    assert env.value(over) == 0.0 and env.actions() == []
    with pytest.raises(RuntimeError, match="is over"):
        env.q(over, "6")
    assert env.snapshot() == over


def play(env: ArithmeticEnv, one: Task, choose) -> float:
    seen = env.reset(one)
    while not seen.done:
        seen = env.step(choose(env))
    return seen.reward


def test_the_oracle_solves_all_and_the_lazy_agent_nothing(panels):
    for split in ("test", "validation", "train"):
        assert all(play(ArithmeticEnv(), one, lambda e: e.oracle()) == 1.0 for one in panels[split])
        assert not any(play(ArithmeticEnv(), one, lambda e: e.lazy()) for one in panels[split])


def test_the_demonstrator_means_what_is_right_and_errs_nearby_before_the_last_attempt(panels):
    env, rng, errors = ArithmeticEnv(), generator("expert"), []
    for one in panels["demos"][:400]:
        env.reset(one)
        meant, taken = env.expert(rng)
        assert meant == env.oracle() and 1 <= int(taken) <= LARGEST + NEAR and abs(int(taken) - int(meant)) <= NEAR
        errors.append(taken != meant)
        env.step(taken)
        assert env.expert(rng) == (env.oracle(), env.oracle())
    assert abs(sum(errors) / 400 - ArithmeticEnv.SLIP) < 0.1
    once = ArithmeticEnv(turns=1)
    once.reset(task(1, 2, 3))
    assert {once.expert(rng) for _ in range(20)} == {("6", "6")}


def test_panels_are_disjoint_as_sets_of_numbers_and_of_known_size(panels):
    sets = {split: {tuple(sorted(one.data["numbers"])) for one in tasks} for split, tasks in panels.items()}
    for first, second in product(sets, sets):
        assert first == second or not sets[first] & sets[second], (first, second)
    assert {split: len(tasks) for split, tasks in panels.items()} == {
        "test": 400, "validation": 200, "train": 1600, "demos": 2760}  # fmt: skip
    for split, tasks in panels.items():
        assert [one.id for one in tasks] == [f"arithmetic-v1/{split}/{i:04d}" for i in range(len(tasks))]
        for one in tasks:
            assert (one.split, one.env) == (split, "arithmetic-v1") and len(one.data["numbers"]) == 3
            assert all(number in TERMS for number in one.data["numbers"])


def test_panels_repeat_byte_for_byte_and_the_seed_matters(panels):
    def blob(seed: int) -> str:
        return json.dumps({k: list(map(asdict, v)) for k, v in build_panels(seed).items()}, sort_keys=True)

    assert blob(0) == blob(0) != blob(1)
