"""S³c-Math: wrong steps and revisions by hand, what carries loss, equal budgets, and that steps are taken back after training alone."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest

from common.envs.retracting import AND, NO, RetractingEnv, remaining, written
from common.lab import Lab, run
from common.types import Task
from papers.s3c_math import figures, method
from papers.s3c_math.method import Condition, Sampled, examples, revisions, step_metrics, wrong_steps
from tests.papers.units import open_unit

ENV = "countdown-worked-v1"
TASK = Task("t", ENV, "train", {"numbers": [14, 5, 3], "target": 16})
RIGHT = "14 + 5 = 19 , 19 - 3 = 16"
FIRST, LAST = "14 - 5 = 9", "19 + 3 = 22"
ONE = Sampled(TASK, [RIGHT], [f"{FIRST} , 9 + 3 = 12", f"14 + 5 = 19 , {LAST}", f"{FIRST} , 9 - 3 = 6"])


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "s3c_math", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab", admission=True, sft__updates=250, sft__batch=32, sft__lr=3e-3, collect__tasks=60, collect__samples=8,
                    test__tasks=20, test__draws=8)
    return unit, run(unit)


def test_wrong_steps_stand_where_the_answer_was_still_right():
    assert wrong_steps(TASK, ONE.wrong) == {(): [FIRST, FIRST], ("14 + 5 = 19",): [LAST]}  # as often as they were written
    assert wrong_steps(TASK, [RIGHT]) == {}


def lab_of(seed: int) -> SimpleNamespace:
    return SimpleNamespace(seed=seed, env=RetractingEnv(turns=1, window=1))


@pytest.mark.parametrize("variant", [Condition("s3c", "step"), Condition("u", "step", uniform=True), Condition("whole", "answer")])
def test_a_revision_ends_as_the_right_answer(variant):
    seen = set()
    for seed in range(20):
        [(given, rest)] = revisions(lab_of(seed), ONE, variant)
        text = given + rest
        assert remaining(text) == RIGHT and rest.startswith(AND + NO)
        assert [one.retracted for one in written(given, [14, 5, 3], 16)] == [False] * len(given.split(AND))  # the words "no" carry loss
        seen.add(text)
    if variant.uniform:  # the places of the model's own errors, and what else may be written there
        assert len(seen) > 2 and all(text.split(AND)[0] != "14 + 5 = 19" or text.split(AND)[1] == LAST for text in seen)
    if variant.name == "s3c":
        assert seen == {f"{FIRST} , no , {RIGHT}", f"14 + 5 = 19 , {LAST} , no , 19 - 3 = 16"}
    if variant.name == "whole":
        assert seen == {f"{wrong} , no , no , {RIGHT}" for wrong in ONE.wrong}


def test_rows():
    [plain, revised] = examples(lab_of(0), [ONE], Condition("s3c", "step"))
    assert (plain.completion, plain.given) == (RIGHT, "") and revised.given and revised.completion.startswith(AND + NO)
    imitated = examples(lab_of(0), [ONE], Condition("s3c_unmasked", "step", masked=False))[1]
    assert (imitated.given, imitated.completion) == ("", revised.given + revised.completion)
    assert [row.completion for row in examples(lab_of(0), [ONE], Condition("rft"))] == [RIGHT]
    assert examples(lab_of(0), [Sampled(TASK, [], ONE.wrong)], Condition("s3c", "step")) == []  # nothing right to go on with
    assert len(examples(lab_of(0), [Sampled(TASK, [RIGHT], [])], Condition("s3c", "step"))) == 1


def test_steps_are_counted_by_place():
    told = [f"{FIRST} , no , 14 + 5 = 19 , {LAST}", f"14 + 5 = 19 , no , {RIGHT}"]
    found = step_metrics([written(text, [14, 5, 3], 16) for text in told] + [[]])  # wrong: FIRST (taken back), LAST (kept); right: 14 + 5 three times, once taken back, and 19 - 3
    assert (found["caught"], found["false_alarm"], found["told_apart"]) == (0.5, 0.25, 0.25)
    assert (found["caught_first"], found["false_alarm_first"]) == (1.0, pytest.approx(1 / 3))
    assert (found["caught_last"], found["false_alarm_last"], found["told_apart_last"]) == (0.0, 0.0, 0.0)
    assert found["first_right"] == 0.5 and step_metrics([]) == {}


def test_budgets_and_rows(whole):
    unit, rows = whole
    cost = {row.variant: row.cost for row in rows}
    learned = set(cost) - {"base"}
    assert len(learned) == 5 and {cost[name]["updates"] for name in learned} == {unit.params.sft.updates}
    assert {cost[name]["samples"] for name in learned} == {60 * 8}


def test_who_was_shown_steps_taken_back_takes_steps_back(whole):
    value = {(row.variant, row.metric): row.value for row in whole[1] if row.panel.endswith("/test")}
    for name in ("base", "rft"):
        assert value[name, "caught"] == value[name, "false_alarm"] == 0.0
    assert value["s3c", "caught"] > 0 and value["whole", "caught"] > 0.05
    assert value["rft", "success"] > value["base", "success"]  # by how much depends on the processor


def test_the_notebook_s_parts(whole):
    assert "14 - 5 = 9" in figures.toy()[-1]
    assert figures.results(whole[1], figures.LADDER)[-1].axes
