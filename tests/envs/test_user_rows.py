"""Rows of GSM8K and MATH-500 from a user's folder or the hub, and the message when they are missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from common.envs import PanelError, data_hash, load_panel, user_rows
from common.envs.versions import gsm8k_v1, math500_v1
from tests.envs.rows import anew, gsm8k_rows, math500_rows, write  # noqa: F401

GSM8K, MATH500 = gsm8k_v1.ENV_ID, math500_v1.ENV_ID
VARIABLE = {GSM8K: "GSM8K_DATA", MATH500: "MATH500_DATA"}
ROWS = {GSM8K: gsm8k_rows, MATH500: math500_rows}
BOTH = pytest.mark.parametrize("env", [GSM8K, MATH500])


@pytest.fixture
def files(env, tmp_path, monkeypatch) -> Path:
    write(folder := tmp_path / "rows", train=ROWS[env](620), test=ROWS[env](30, 600))
    monkeypatch.setenv(VARIABLE[env], str(folder))
    return folder


@BOTH
def test_the_hash_is_that_of_the_rows(env, files):
    first = data_hash("data", env)
    (files / "test.jsonl").write_text("\n" + (files / "test.jsonl").read_text())
    write(files, train=[row | {"more": 1} for row in ROWS[env](620)])  # a field that is not read
    user_rows.forget()
    assert data_hash("data", env) == first
    write(files, train=ROWS[env](10))
    user_rows.forget()
    assert data_hash("data", env) != first


@pytest.mark.parametrize(("env", "damage", "words"), [
    (GSM8K, lambda folder: (folder / "test.jsonl").unlink(),
     r"test.jsonl is missing; point GSM8K_DATA to the folder that holds train.jsonl and test.jsonl$"),
    (GSM8K, lambda folder: (folder / "test.jsonl").write_text("{}\n"),
     r"test.jsonl line 1: question is missing but must be text that is not empty; correct it or fetch the file anew$"),
    (GSM8K, lambda folder: (folder / "train.jsonl").write_text("not json\n"),
     r"train.jsonl line 1 is not JSON \(.*\) but must be a JSON object with question, answer; correct the line or fetch the file anew$"),
    (GSM8K, shutil.rmtree, "train.jsonl is missing"),
    (MATH500, lambda folder: (folder / "test.jsonl").unlink(),
     r"test.jsonl is missing; point MATH500_DATA to the folder that holds test.jsonl$"),
    (MATH500, lambda folder: (folder / "test.jsonl").write_text('{"problem": "1"}\n'),
     r"test.jsonl line 1: solution is missing but must be text that is not empty; correct it or fetch the file anew$"),
    (MATH500, lambda folder: (folder / "train.jsonl").write_text("not json\n"), "train.jsonl line 1 is not JSON"),
])  # fmt: skip
def test_damaged_files_are_named(env, files, damage, words):
    damage(files)
    with pytest.raises(PanelError, match=f"data panel: {env}: .*{words}"):
        load_panel("data", f"{env}/test")


@BOTH
def test_without_files_the_hub_is_asked_and_its_refusal_told(env, monkeypatch):
    monkeypatch.delenv(VARIABLE[env], raising=False)
    asked, needed = [], {GSM8K: "train.jsonl and test.jsonl", MATH500: "test.jsonl"}[env]

    def load(*hub, split, revision):
        asked.append((*hub, split, revision))
        if split == "test":
            raise ConnectionError("Couldn't reach the hub\nmore")
        return ROWS[env](3)

    monkeypatch.setattr("common.envs.user_rows.hub_answers", lambda: True)
    monkeypatch.setattr("datasets.load_dataset", load)
    words = f"needs .*'s rows, and the hub gave none .Couldn't reach the hub.; set {VARIABLE[env]} to a folder with {needed}, or go online"
    with pytest.raises(PanelError, match=words):
        data_hash("data", env)
    assert asked == {
        GSM8K: [("openai/gsm8k", "main", split, gsm8k_v1.SOURCE.revision) for split in ("train", "test")],
        MATH500: [("HuggingFaceH4/MATH-500", "test", math500_v1.SOURCE.revision)],
    }[env]
    monkeypatch.setattr("datasets.load_dataset", lambda *_, split, **__: ROWS[env](3, 0 if split == "train" else 10))
    assert len(load_panel("data", f"{env}/test")) == 3 and len(data_hash("data", env)) == 64
