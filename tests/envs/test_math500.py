"""MATH-500: panels from a user's files or the hub, the dialogue, and what is said when the rows cannot be had."""

import json
import os
from pathlib import Path

import pytest

from common.envs import PanelError, check_env, data_hash, load_panel, make
from common.envs.latex_answer import same_answer
from common.envs.versions import math500_v1
from common.evaluate.correction import attempts_of
from common.types import Observation, Step, Task, Trajectory, Turn

ENV = "math500-v1"
REAL = os.environ.get("MATH500_DATA", "")


def rows(n: int, start: int = 0) -> list[dict]:
    return [{"problem": f"What is half of ${i}$?", "solution": f"It is $\\boxed{{\\frac{{{i}}}{{2}}}}$.", "answer": f"\\frac{{{i}}}{{2}}",
             "subject": "Prealgebra", "level": 1, "unique_id": f"test/prealgebra/{i}.json"} for i in range(start, start + n)]  # fmt: skip


def write(folder: Path, **splits: list[dict]) -> None:
    folder.mkdir(exist_ok=True)
    for split, found in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "math"
    write(folder, test=rows(30, 600))
    monkeypatch.setenv("MATH500_DATA", str(folder))
    math500_v1._rows.cache_clear()
    yield folder
    math500_v1._rows.cache_clear()


def test_there_is_a_test_panel_alone(files):
    assert [task.id for task in load_panel("data", f"{ENV}/test")[:2]] == [f"{ENV}/test/0000", f"{ENV}/test/0001"]
    with pytest.raises(PanelError, match="math500-v1/train' is unknown; it must be one of test; what others need, .*math500_v1.py says"):
        load_panel("data", f"{ENV}/train")


@pytest.mark.parametrize(("n", "sizes"), [(620, (300, 300)), (1620, (1090, 500))])
def test_rows_to_train_on_give_panels_that_share_no_problem(files, n, sizes):
    write(files, train=rows(n))  # some or all of the 30 test problems stand among them
    panels = {name: load_panel("data", f"{ENV}/{name}") for name in ("train", "validation", "test")}
    assert (len(panels["train"]), len(panels["validation"])) == sizes
    asked = [task.data["question"] for tasks in panels.values() for task in tasks]
    assert len(set(asked)) == len(asked)
    assert all(task.data["answer"] == f"\\frac{{{int(task.id[-4:])}}}{{2}}" for task in panels["train"])


def test_the_hash_is_that_of_the_rows(files):
    first = data_hash("data", ENV)
    write(files, train=rows(10))
    math500_v1._rows.cache_clear()
    assert data_hash("data", ENV) != first


@pytest.mark.parametrize(("damage", "words"), [
    (lambda folder: (folder / "test.jsonl").unlink(), "test.jsonl is missing; point MATH500_DATA"),
    (lambda folder: (folder / "test.jsonl").write_text('{"problem": "1"}\n'), "test.jsonl is not JSON lines with problem, solution"),
    (lambda folder: (folder / "train.jsonl").write_text("not json\n"), "train.jsonl is not JSON lines"),
])  # fmt: skip
def test_damaged_files_are_named(files, damage, words):
    damage(files)
    with pytest.raises(PanelError, match=words):
        load_panel("data", f"{ENV}/test")


def test_without_files_the_hub_is_asked_and_its_refusal_told(monkeypatch):
    monkeypatch.delenv("MATH500_DATA", raising=False)
    math500_v1._rows.cache_clear()
    asked = []

    def refuse(name, *, split, revision):
        asked.append((name, split, revision))
        raise ConnectionError("Couldn't reach the hub\nmore")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(PanelError, match="the hub gave none .Couldn't reach the hub.; set MATH500_DATA"):
        data_hash("data", ENV)
    assert asked == [("HuggingFaceH4/MATH-500", "test", math500_v1.REVISION)]
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: rows(3))
    assert len(load_panel("data", f"{ENV}/test")) == 3
    math500_v1._rows.cache_clear()


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
    told = [Trajectory("t", tuple(Step((), Turn(text, -1.0, 9), Observation("")) for text in ("It is \\boxed{.5}", "\\boxed{\\frac12}", "5")))]
    task = Task("t", ENV, "test", {"question": "Half?", "answer": "0.5"})
    assert attempts_of(make(ENV, "data"), [task], told).answers == (("\\boxed{1/2}", "\\boxed{1/2}", ""),)


@pytest.mark.skipif(not REAL, reason="MATH500_DATA names no folder with MATH-500's rows")
def test_the_real_rows(monkeypatch):
    math500_v1._rows.cache_clear()
    tasks = math500_v1.panels()["test"]
    assert len(tasks) == 500 and {task.data["level"] for task in tasks} == {1, 2, 3, 4, 5}
    env = make(ENV, "data")
    check_env(env, tasks)
    for task, row in zip(tasks, math500_v1._read()["test"], strict=True):
        env.reset(task)
        assert env.score(row["solution"]) == 1.0 and same_answer(row["answer"], row["answer"]), row
    math500_v1._rows.cache_clear()
