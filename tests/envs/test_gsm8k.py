"""GSM8K: panels from a user's files, and the dialogue."""

import os
from pathlib import Path

import pytest

from common.envs import check_env, load_panel, make, user_rows
from common.envs.final_number import final_number
from common.envs.versions import gsm8k_v1
from common.envs.word_problems import WordProblemEnv
from common.evaluate.correction import attempts_of
from common.types import Observation, Step, Task, Trajectory, Turn
from tests.envs.rows import gsm8k_rows, write

ENV = "gsm8k-v1"
REAL = os.environ.get("GSM8K_DATA", "")


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "gsm8k"
    write(folder, train=gsm8k_rows(620), test=gsm8k_rows(30, 600))  # 20 questions of the training split stand in the test split
    monkeypatch.setenv("GSM8K_DATA", str(folder))
    user_rows.forget()
    yield folder
    user_rows.forget()


def test_panels_share_no_question_and_keep_the_official_numbers(files):
    panels = {name: load_panel("data", f"{ENV}/{name}") for name in ("train", "validation", "test")}
    assert {name: len(tasks) for name, tasks in panels.items()} == {"train": 100, "validation": 500, "test": 30}
    asked = [task.data["question"] for tasks in panels.values() for task in tasks]
    assert len(set(asked)) == len(asked)
    for task in [*panels["train"], *panels["validation"]]:
        assert task.data["answer"] == f"1{int(task.id[-4:]):03d}" and task.id == f"{ENV}/{task.split}/{task.id[-4:]}"
    again = gsm8k_v1.panels()
    assert all(again[name] == tasks for name, tasks in panels.items())


def test_the_environment_keeps_the_contract_and_reads_solutions(files):
    env, tasks = make(ENV, "data"), load_panel("data", f"{ENV}/test")
    check_env(env, tasks[:5])
    env.reset(tasks[0])
    assert env.prompt()[0]["content"].startswith(tasks[0].data["question"]) and "####" in env.prompt()[0]["content"]
    assert env.score("600 and 1,000 are 1,600.\n#### 1600") == 1.0 and env.score("#### 1601") == env.score("") == 0.0
    first = env.step("The answer is 3.")
    assert not first.done and first.text == env.RETRY and env.prompt()[1]["content"] == "The answer is 3."
    assert env.step("#### 1,600").reward == 1.0
    long = env.dialogue(3, window=1)
    long.reset(tasks[0])
    for _ in range(2):
        long.step("#### 1")
    assert (long.id, long.max_steps, len(long.prompt())) == (ENV, 3, 3)


def test_answers_are_judged_by_what_they_declare():
    def episode(*texts):
        return Trajectory("t", tuple(Step((), Turn(text, -1.0, 9), Observation("")) for text in texts))

    env = WordProblemEnv(id=ENV)
    episodes = [episode("3 + 4 = 7\n#### 7\nThat was 2 steps.", "no idea")]
    judged = attempts_of(env, [Task("t", ENV, "test", {"question": "3 + 4?", "answer": "7"})], episodes)
    assert judged.answers == (("7", ""),) and judged.correct.tolist() == [[True, False]]


@pytest.mark.skipif(not REAL, reason="GSM8K_DATA names no folder with GSM8K's rows")
def test_the_real_rows():
    user_rows.forget()
    panels = gsm8k_v1.panels()
    assert {name: len(tasks) for name, tasks in panels.items()} == {"test": 1319, "validation": 500, "train": 6973}
    for split in ("train", "test"):
        for row in gsm8k_v1.rows()[split]:
            assert final_number(row["answer"]) == final_number(row["answer"].rpartition("####")[2])
    check_env(make(ENV, "data"), panels["test"][:50])
    user_rows.forget()
