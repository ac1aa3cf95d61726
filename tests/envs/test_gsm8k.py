"""GSM8K: panels from a user's files, the dialogue, and what is said when the rows cannot be had."""

import json
import os
import shutil
from pathlib import Path

import pytest

from common.envs import PanelError, check_env, data_hash, load_panel, make
from common.envs.final_number import final_number
from common.envs.versions import gsm8k_v1
from common.envs.word_problems import WordProblemEnv
from common.evaluate.correction import attempts_of
from common.types import Observation, Step, Task, Trajectory, Turn

ENV = "gsm8k-v1"
REAL = os.environ.get("GSM8K_DATA", "")


def rows(n: int, start: int = 0) -> list[dict]:
    return [{"question": f"Tom has {i} eggs and finds 1,000 more. How many has he?", "answer": f"{i} + 1000\n#### 1,{i:03d}"}
            for i in range(start, start + n)]  # fmt: skip


def write(folder: Path, **splits: list[dict]) -> None:
    folder.mkdir(exist_ok=True)
    for split, found in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "gsm8k"
    write(folder, train=rows(620), test=rows(30, 600))  # 20 questions of the training split stand in the test split
    monkeypatch.setenv("GSM8K_DATA", str(folder))
    gsm8k_v1._rows.cache_clear()
    yield folder
    gsm8k_v1._rows.cache_clear()


def test_panels_share_no_question_and_keep_the_official_numbers(files):
    panels = {name: load_panel("data", f"{ENV}/{name}") for name in ("train", "validation", "test")}
    assert {name: len(tasks) for name, tasks in panels.items()} == {"train": 100, "validation": 500, "test": 30}
    asked = [task.data["question"] for tasks in panels.values() for task in tasks]
    assert len(set(asked)) == len(asked)
    for task in [*panels["train"], *panels["validation"]]:
        assert task.data["answer"] == f"1{int(task.id[-4:]):03d}" and task.id == f"{ENV}/{task.split}/{task.id[-4:]}"
    again = gsm8k_v1.panels()
    assert all(again[name] == tasks for name, tasks in panels.items())


def test_the_hash_is_that_of_the_rows(files):
    first = data_hash("data", ENV)
    (files / "test.jsonl").write_text("\n" + (files / "test.jsonl").read_text())
    gsm8k_v1._rows.cache_clear()
    assert data_hash("data", ENV) == first
    write(files, test=rows(29, 600))
    gsm8k_v1._rows.cache_clear()
    assert data_hash("data", ENV) != first


@pytest.mark.parametrize(("damage", "words"), [
    (lambda folder: (folder / "test.jsonl").unlink(), "test.jsonl is missing; point GSM8K_DATA"),
    (lambda folder: (folder / "test.jsonl").write_text("{}\n"), "test.jsonl is not GSM8K's JSON lines"),
    (lambda folder: (folder / "train.jsonl").write_text("not json\n"), "train.jsonl is not GSM8K's JSON lines"),
    (shutil.rmtree, "train.jsonl is missing"),
])  # fmt: skip
def test_damaged_files_are_named(files, damage, words):
    damage(files)
    with pytest.raises(PanelError, match=words):
        load_panel("data", f"{ENV}/test")


def test_without_files_the_hub_is_asked_and_its_refusal_told(monkeypatch):
    monkeypatch.delenv("GSM8K_DATA", raising=False)
    gsm8k_v1._rows.cache_clear()
    asked = []

    def load(name, config, *, split, revision):
        asked.append((name, config, split, revision))
        if split == "test":
            raise ConnectionError("Couldn't reach the hub\nmore")
        return rows(3)

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(PanelError, match="the hub gave none .Couldn't reach the hub.; set GSM8K_DATA"):
        data_hash("data", ENV)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, split, **__: rows(3, 0 if split == "train" else 10))
    assert len(data_hash("data", ENV)) == 64
    assert asked[0] == ("openai/gsm8k", "main", "train", gsm8k_v1.REVISION)
    gsm8k_v1._rows.cache_clear()


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
    told = [episode("3 + 4 = 7\n#### 7\nThat was 2 steps.", "no idea")]
    judged = attempts_of(env, [Task("t", ENV, "test", {"question": "3 + 4?", "answer": "7"})], told)
    assert judged.answers == (("7", ""),) and judged.correct.tolist() == [[True, False]]


@pytest.mark.skipif(not REAL, reason="GSM8K_DATA names no folder with GSM8K's rows")
def test_the_real_rows(monkeypatch):
    gsm8k_v1._rows.cache_clear()
    panels = gsm8k_v1.panels()
    assert {name: len(tasks) for name, tasks in panels.items()} == {"test": 1319, "validation": 500, "train": 6973}
    for split in ("train", "test"):
        for row in gsm8k_v1._lines(Path(REAL) / f"{split}.jsonl"):
            assert final_number(row["answer"]) == final_number(row["answer"].rpartition("####")[2])
    check_env(make(ENV, "data"), panels["test"][:50])
    gsm8k_v1._rows.cache_clear()
