"""MATH-500: panels from a user's files, and the dialogue."""

import os
from pathlib import Path

import pytest

from common.envs import PanelError, check_env, load_panel, make, user_rows
from common.envs.latex_answer import same_answer
from common.envs.versions import math500_v1
from common.evaluate.correction import attempts_of
from common.types import Observation, Step, Task, Trajectory, Turn
from tests.envs.rows import math500_rows, write

ENV = "math500-v1"
REAL = os.environ.get("MATH500_DATA", "")


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "math"
    write(folder, test=math500_rows(30, 600))
    monkeypatch.setenv("MATH500_DATA", str(folder))
    user_rows.forget()
    yield folder
    user_rows.forget()


def test_there_is_a_test_panel_alone(files):
    assert [task.id for task in load_panel("data", f"{ENV}/test")[:2]] == [f"{ENV}/test/0000", f"{ENV}/test/0001"]
    with pytest.raises(PanelError, match="math500-v1/train' is unknown; it must be one of test; what others need, .*math500_v1.py says"):
        load_panel("data", f"{ENV}/train")


@pytest.mark.parametrize(("n", "sizes"), [(620, (300, 300)), (1620, (1090, 500))])
def test_rows_to_train_on_give_panels_that_share_no_problem(files, n, sizes):
    write(files, train=math500_rows(n))  # some or all of the 30 test problems stand among them
    panels = {name: load_panel("data", f"{ENV}/{name}") for name in ("train", "validation", "test")}
    assert (len(panels["train"]), len(panels["validation"])) == sizes
    asked = [task.data["question"] for tasks in panels.values() for task in tasks]
    assert len(set(asked)) == len(asked)
    assert all(task.data["answer"] == f"\\frac{{{int(task.id[-4:])}}}{{2}}" for task in panels["train"])


def test_the_environment_keeps_the_contract_and_reads_solutions(files):
    env, tasks = make(ENV, "data"), load_panel("data", f"{ENV}/test")
    check_env(env, tasks[:5])
    env.reset(tasks[1])
    assert env.prompt()[0]["content"].startswith("What is half of $601$?") and "\\boxed{}" in env.prompt()[0]["content"]
    for right in ("\\boxed{300.5}", "So it is $\\boxed{\\dfrac{601}{2}}$.", "The answer is $300\\frac12$."):
        assert env.score(right) == env.score(env.declared(right)) == 1.0, right
    for wrong in ("300.5", "\\boxed{601}", "", "\\boxed{300.5} or \\boxed{301}", env.lazy()):
        assert env.score(wrong) == env.score(env.declared(wrong)) == 0.0, wrong
    assert env.dialogue(3, window=1).id == ENV


def test_equal_answers_count_as_one_when_turns_are_compared():
    texts = ("It is \\boxed{.5}", "\\boxed{\\frac12}", "5")
    episodes = [Trajectory("t", tuple(Step((), Turn(text, -1.0, 9), Observation("")) for text in texts))]
    task = Task("t", ENV, "test", {"question": "Half?", "answer": "0.5"})
    assert attempts_of(make(ENV, "data"), [task], episodes).answers == (("\\boxed{1/2}", "\\boxed{1/2}", ""),)


@pytest.mark.skipif(not REAL, reason="MATH500_DATA names no folder with MATH-500's rows")
def test_the_real_rows():
    user_rows.forget()
    tasks = math500_v1.panels()["test"]
    assert len(tasks) == 500 and {task.data["level"] for task in tasks} == {1, 2, 3, 4, 5}
    env = make(ENV, "data")
    check_env(env, tasks)
    for task, row in zip(tasks, math500_v1.rows()["test"], strict=True):
        env.reset(task)
        assert env.score(row["solution"]) == 1.0 and same_answer(row["answer"], row["answer"]), row
    user_rows.forget()
