"""The run store under kills, full disks, two processes and damaged files."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from common.config import ConfigError
from common.files import StoreError, folder_atomic, write_atomic
from common import files
from common.track.events import EventTail, read_events
from common.track.store import Run, is_finished, read_unit, unit_path
from tests.track.units import UNIT, row

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path):
    run = Run.open(tmp_path, UNIT)
    yield run
    run.close()


def test_the_key_is_stable_and_depends_on_every_field():
    # SHA-256 of the canonical JSON list, computed by sha256sum outside this project
    assert UNIT.key == "cae156d71c76fc04"
    assert replace(UNIT, params='{"search": {"depth": 2},  "alpha": 0.5}').key == UNIT.key  # layout of the JSON
    changed = [replace(UNIT, **change) for change in (
        {"paper": "x"}, {"env": "x"}, {"seed": 4}, {"profile": "x"}, {"params": '{"alpha":0.25,"search":{"depth":2}}'},
        {"room": "x"}, {"layers": {"engine": "x", "file:common/one.py": "f11e"}}, {"layers": {"engine": "e791e"}},
        {"data": {"shop-v1/test": "x"}}, {"data": {}}, {"base": "x"}, {"pins": "x"})]
    assert len({unit.key for unit in changed} | {UNIT.key}) == len(changed) + 1
    rerun = replace(UNIT, code="other", lock="other", digests={"engine": "other"})  # what was run, not what it depends on
    assert rerun.key == UNIT.key


def test_a_unit_from_before_keys_had_layers_is_read_with_the_key_it_had(tmp_path):
    # the key and the file as the code of that time wrote them
    (tmp_path / "unit.json").write_text(
        '{"base": "ba5e", "code": "c0de", "data": {"shop-v1/test": "da7a"}, "env": "shop-v1", "lock": "10cc", "paper": "ladder", '
        '"params": "{\\"alpha\\":0.5,\\"search\\":{\\"depth\\":2}}", "profile": "cpu", "seed": 3}\n')
    old = read_unit(tmp_path)
    assert old.key == "909b182712294e32" and (old.room, old.layers, old.code) == ("", {}, "c0de")
    assert replace(old, code="x").key != old.key != replace(old, lock="x").key


def test_opening_writes_what_the_unit_is(run, tmp_path):
    assert run.path == tmp_path / "runs" / "ladder" / UNIT.key == unit_path(tmp_path, UNIT)
    assert read_unit(run.path) == UNIT
    assert json.loads((run.path / "config.resolved.json").read_text()) == {"alpha": 0.5, "search": {"depth": 2}}
    (run.path / "unit.json").write_text("{}")
    with pytest.raises(StoreError, match="unit.json is not a unit"):
        read_unit(run.path)


def test_a_stage_is_computed_once_and_first_and_later_values_are_alike(run, tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"scores": (0.1, 1 / 3), "n": 2}

    first = run.stage("collect", compute)
    run.close()
    again = Run.open(tmp_path, UNIT)
    assert again.stage("collect", compute) == first == {"scores": [0.1, 1 / 3], "n": 2}
    assert calls == [1] and again.has_stage("collect") and not again.has_stage("train")
    assert again.stage("collect", compute, load=lambda value: value["n"] + 1) == 3
    assert run.stage("other", lambda: 5, load=lambda value: value + 1) == 6


def test_a_failing_stage_leaves_nothing(run):
    def compute():
        with run.stage_dir("train") as folder:
            (folder / "weights").write_text("half")
            raise KeyError("no such thing")

    with pytest.raises(KeyError):
        run.stage("train", compute)
    assert list((run.path / "stages").iterdir()) == []


def test_a_stage_folder_appears_whole_and_is_not_written_again(run):
    def compute():
        with run.stage_dir("train") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "weights").write_text("w")
            assert not run.stage_path("train").exists()
        return 1

    assert run.stage("train", compute, load=lambda _: (run.stage_path("train") / "deep/weights").read_text()) == "w"
    with pytest.raises(StoreError, match="stage train is finished"), run.stage_dir("train"):
        pass
    assert (run.stage_path("train") / "deep/weights").read_text() == "w"


def test_stage_names_with_points_and_equals_signs_are_told_apart(run):
    assert run.stage("alpha=0.5", lambda: 1) == 1 and run.stage("alpha=0.25", lambda: 2) == 2
    assert run.stage_path("alpha=0.5") != run.stage_path("alpha=0.25")
    assert run.stage_path("alpha=0.5").name == "alpha=0.5"
    for name in ("", "../up", "a/b", ".hidden", "a.json", "x" * 121):
        with pytest.raises(StoreError, match="rename the stage"):
            run.stage(name, lambda: 1)


def test_values_that_are_not_finite_json_are_refused(run):
    for value in (float("nan"), {1, 2}, object()):
        with pytest.raises(StoreError, match="the result of stage x cannot be written as JSON"):
            run.stage("x", lambda value=value: value)
    assert not run.has_stage("x")


DAMAGES = {
    "value": ("train.json", lambda path: path.write_text("{"), "is damaged"),
    "truncated": ("train/deep/weights", lambda path: os.truncate(path, 3), "3 bytes instead of 5"),
    "altered": ("train/deep/weights", lambda path: path.write_text("WHOLE"), "its SHA-256 is not the one that was saved"),
    "gone": ("train/deep/weights", Path.unlink, "is missing"),
}


@pytest.mark.parametrize(("inner", "damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_stage_is_named_and_computed_again(run, tmp_path, capsys, inner, damage, words):
    calls = []

    def compute():
        calls.append(1)
        with run.stage_dir("train") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "weights").write_text("whole")
        return 1

    run.stage("train", compute)
    run.close()
    damage(run.path / "stages" / inner)
    closed = Run(run.path, UNIT)  # as a finished unit is read, without its lock
    assert not closed.has_stage("train")
    with pytest.raises(StoreError, match=f"{inner} .*{words}.* delete .*DONE and run the unit"):
        closed.stage("train", compute)
    run = Run.open(tmp_path, UNIT)
    assert run.stage("train", compute) == 1 and len(calls) == 2
    assert inner in (told := capsys.readouterr().err) and words in told and told.count("\n") == 1
    assert (run.stage_path("train") / "deep/weights").read_text() == "whole"
    assert run.stage("train", compute) == 1 and len(calls) == 2 and not capsys.readouterr().err


def test_a_stage_from_before_files_were_recorded_is_read(run, tmp_path):
    def compute():
        with run.stage_dir("train") as folder:
            (folder / "weights").write_text("w")
        return 1

    run.stage("train", compute)
    (run.path / "stages/.train.files").unlink()
    run.close()
    assert Run.open(tmp_path, UNIT).stage("train", lambda: 2) == 1


def test_a_crash_between_writing_and_renaming_leaves_the_old_state(run, monkeypatch):
    run.stage("before", lambda: 1)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            run.stage("train", lambda: 2)
        with pytest.raises(KeyboardInterrupt), run.stage_dir("train") as folder:
            (folder / "weights").write_text("w")
    assert [path.name for path in (run.path / "stages").iterdir()] == ["before.json"]
    assert run.stage("train", lambda: 3) == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from common.track.store import Run
from tests.track.units import UNIT
run = Run.open(Path(sys.argv[1]), UNIT)
run.stage("first", lambda: 1)
with open(run.path / "events.jsonl", "a") as file:
    file.write('{"t": 1, "variant": "dpo", "step": 1, "metrics": {"loss": 0.5}}\\n{"t": 2, "vari')
def train():
    with run.stage_dir("train") as folder:
        (folder / "weights").write_text("half")
        if sys.argv[2] == "inside":
            os.kill(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)     # the folder is there, its stages/train.json is not
run.stage("train", train)
"""


@pytest.mark.parametrize("moment", ["inside", "after"])
def test_a_killed_process_leaves_no_half_stage_no_lock_and_a_resume_recomputes(tmp_path, moment):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), moment], cwd=REPOSITORY, check=False)
    assert done.returncode == -signal.SIGKILL
    run = Run.open(tmp_path, UNIT)  # the lock went with the process
    assert not list((run.path / "stages").glob("*.tmp"))
    assert run.stage("first", lambda: 99) == 1  # kept
    assert not run.has_stage("train")
    assert run.stage_path("train").exists() == (moment == "after")

    def train():
        with run.stage_dir("train") as folder:
            assert list(folder.iterdir()) == []
            (folder / "weights").write_text("whole")
        run.log("dpo", 2, {"loss": 0.25})
        return 2

    assert run.stage("train", train) == 2 and (run.stage_path("train") / "weights").read_text() == "whole"
    assert sorted(path.name for path in (run.path / "stages").iterdir()) == [".train.files", "first.json", "train", "train.json"]
    assert [event["step"] for event in read_events(run.path / "events.jsonl")] == [1, 2]  # the torn line is passed over
    run.close()


HOLDER = """
import sys, time
from pathlib import Path
from common.track.store import Run
from tests.track.units import UNIT
run = Run.open(Path(sys.argv[1]), UNIT)
print("open", flush=True)
time.sleep(60)
"""


def test_two_processes_never_execute_one_unit(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE,
                              text=True)
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=f"ladder shop-v1 seed 3 cpu is being executed by process {holder.pid}"):
            Run.open(tmp_path, UNIT)
        Run.open(tmp_path, replace(UNIT, seed=4)).close()  # another unit is free
    finally:
        holder.kill()
        holder.wait()
    run = Run.open(tmp_path, UNIT)
    assert Run.open(tmp_path, UNIT).stage("x", lambda: 1) == 1  # again in this process, as when a cell is rerun
    run.close()


def test_nothing_is_written_without_the_lock(tmp_path):
    run = Run.open(tmp_path, UNIT)
    run.stage("x", lambda: 1)
    run.close()
    for action in (lambda: run.stage("y", lambda: 1), lambda: run.log("v", 0, {"a": 1}),
                   lambda: run.write_rows([row()]), run.finish):
        with pytest.raises(StoreError, match="is closed; open it with Run.open"):
            action()
    assert run.stage("x", lambda: 2) == 1  # reading is fine


def test_finish_comes_last_and_guards_the_rows(run, tmp_path):
    with pytest.raises(StoreError, match="no metric rows; call write_rows before finish"):
        run.finish()
    run.write_rows([row(), row(variant="base")])
    assert not run.finished and not is_finished(tmp_path, UNIT)
    run.finish()
    assert run.finished and is_finished(tmp_path, UNIT) and [r.variant for r in run.rows()] == ["base", "dpo"]
    again = Run.open(tmp_path, UNIT)
    with pytest.raises(StoreError, match="is finished; delete"):
        again.stage("late", lambda: 1)
    (run.path / "rows.jsonl").write_text((run.path / "rows.jsonl").read_text().replace("0.25", "0.95"))
    with pytest.raises(StoreError, match="rows.jsonl is not what was finished; delete .*DONE and run the unit again"):
        again.rows()


def test_rows_must_be_of_this_unit(run):
    with pytest.raises(ConfigError, match="seed is 4 but this unit's is 3"):
        run.write_rows([row(seed=4)])
    with pytest.raises(ConfigError, match="no metric rows; evaluate"):
        run.write_rows([])
    assert not (run.path / "rows.jsonl").exists()


def test_events_are_seen_at_once_and_bad_numbers_are_refused(run):
    tail = EventTail(run.path / "events.jsonl")
    assert tail.read() == []
    run.log("dpo", 1, {"loss": 0.5, "n": 3})
    (event,) = tail.read()
    assert (event["variant"], event["step"], event["metrics"]) == ("dpo", 1, {"loss": 0.5, "n": 3.0})
    assert abs(event["t"] - time.time()) < 60 and tail.read() == []
    with pytest.raises(StoreError, match="metric loss of variant dpo is nan at step 2 but must be finite"):
        run.log("dpo", 2, {"loss": float("nan")})
    assert tail.read() == []
    with open(run.path / "events.jsonl", "a") as file:
        file.write('{"t": 1, "variant": "dpo",')
        file.flush()
        assert tail.read() == []  # not complete yet
        file.write(' "step": 5, "metrics": {}}\n')
    assert [event["step"] for event in tail.read()] == [5]


def test_of_repeated_events_only_the_last_counts(run):
    for loss in (0.5, 0.4):
        run.log("dpo", 1, {"loss": loss})
    run.log("dpo", 1, {"margin": 0.1})
    run.log("base", 1, {"loss": 0.9})
    assert [(event["variant"], event["metrics"]) for event in read_events(run.path / "events.jsonl")] == [
        ("dpo", {"loss": 0.4}), ("dpo", {"margin": 0.1}), ("base", {"loss": 0.9})]


@pytest.mark.parametrize(("code", "words"), [
    (errno.ENOSPC, "the disk is full; free some space"),
    (errno.EROFS, "it is not writable .*make it writable"),
    (errno.EACCES, "it is not writable"),
    (errno.EIO, "the system refused"),
])
def test_a_full_or_unwritable_store_is_one_sentence_and_nothing_is_left(run, monkeypatch, code, words):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(StoreError, match=words) as caught:
        run.stage("x", lambda: 1)
    assert "x.json" in str(caught.value) and "\n" not in str(caught.value)
    assert list((run.path / "stages").iterdir()) == []


def test_a_store_that_cannot_be_made(tmp_path):
    (tmp_path / "runs").write_text("a file where the store should be")
    with pytest.raises(StoreError, match="cannot write .*runs.*the system refused"):
        Run.open(tmp_path, UNIT)


def test_a_library_that_only_mentions_the_full_disk(tmp_path):
    with pytest.raises(StoreError, match="the disk is full"), folder_atomic(tmp_path / "weights"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError, match="something else"), folder_atomic(tmp_path / "weights"):
        raise RuntimeError("something else")
    assert list(tmp_path.iterdir()) == []


def test_writing_replaces_all_or_nothing(tmp_path, monkeypatch):
    write_atomic(tmp_path / "a", "old")
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
