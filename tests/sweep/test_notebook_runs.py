"""A worker's kernel that dies before its first cell is started again; what a notebook raises is not tried twice. A unit that
ran out of memory gets a message with numbers."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import papermill
import pytest

from common.sweep.ends import oom_kills
from common.sweep.notebook import STARTS, out_of_memory, run_job
from common.sweep.workers import Job

NOTEBOOK = '# %% [markdown]\n# # Toy\n\n# %% tags=["parameters"]\nseed: int = 0\n'


@pytest.fixture
def job(tmp_path):
    (tmp_path / "toy.py").write_text(NOTEBOOK)
    return Job(root=str(tmp_path), notebook=str(tmp_path / "toy.py"), parameters={"seed": 1},
               executed=str(tmp_path / "toy.ipynb"), outcome=str(tmp_path / "outcome.json"),
               failed=str(tmp_path / "failed" / "toy.ipynb"))  # fmt: skip


def ends(monkeypatch, *errors):
    """Let papermill fail with ``errors`` in turn (None: succeed); returns the calls."""
    calls = []

    def execute(*args, **kwargs):
        calls.append(kwargs)
        if error := errors[len(calls) - 1]:
            raise error

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    return calls


DIED = RuntimeError("Kernel died before replying to kernel_info")


def test_a_stillborn_kernel_is_started_again(job, monkeypatch):
    calls = ends(monkeypatch, DIED, None)
    assert run_job(job).ok and len(calls) == 2


def test_not_for_ever(job, monkeypatch):
    calls = ends(monkeypatch, *[DIED] * 9)
    outcome = run_job(job)
    assert not outcome.ok and "Kernel died" in outcome.error and len(calls) == STARTS


def test_a_full_disk_is_named_with_what_to_do(job, monkeypatch):
    ends(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    outcome = run_job(job)
    assert outcome.error.startswith("run store: the disk below ") and "free some space" in outcome.error


def test_other_ends_are_final(job, monkeypatch):
    calls = ends(monkeypatch, RuntimeError("disk is full"), None)
    outcome = run_job(job)
    assert not outcome.ok and outcome.error == "RuntimeError: disk is full" and len(calls) == 1


# -- out of memory ------------------------------------------------------------------------------------------------

ON_GPU = ("OutOfMemoryError: CUDA out of memory. Tried to allocate 1.95 GiB. GPU 0 has a total capacity of 14.57 GiB of which "
          "1.58 GiB is free. Process 2493055 has 12.02 GiB memory in use.")  # fmt: skip
PARAMS = {"model": "SmolLM2-135M-Instruct", "lora_rank": 0, "answer_tokens": 400, "sft": {"lr": 1e-5, "batch": 128},
          "learn": {"dpo_batch": 16}}  # fmt: skip


def test_the_sentence_has_the_numbers_and_what_to_halve():
    text = out_of_memory(ON_GPU, PARAMS)
    assert text.startswith("out of memory on the GPU (1.95 GiB more were asked for, 1.58 GiB of 14.57 GiB were free); halve "
                           "answer_tokens (400) or sft.batch (128) or learn.dpo_batch (16) or train adapters (lora_rank 32)")  # fmt: skip
    assert "same command" in text and "\n" not in text
    nano = out_of_memory(ON_GPU, {"model": "nano", "lora_rank": 0, "steps": 3})
    assert "halve" not in nano and "lora_rank" not in nano and "; make room" in nano
    assert out_of_memory("CUDA error: out of memory", {}).startswith("out of memory on the GPU; make room")


@pytest.mark.parametrize(("error", "words"), [
    ("RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
     "allocate 3221225472 bytes. Error code 12", r"on the processor \(3.00 GiB more were asked for, [\d.]+ of [\d.]+ GiB are free"),
    ("_ArrayMemoryError: Unable to allocate 7.28 TiB for an array", r"on the processor \(7.28 TiB more were asked for, "),
    ("MemoryError: ", r"on the processor \([\d.]+ of [\d.]+ GiB are free now\)"),
])  # fmt: skip
def test_the_processor_s_memory(error, words):
    assert re.search(words, out_of_memory(error, {}))


@pytest.mark.parametrize("error", ["ValueError: the toy fell over", "RuntimeError: CUDA error: device-side assert triggered"])
def test_other_errors_are_not_taken_for_it(error):
    assert out_of_memory(error, PARAMS) is None


def runs(job, code):
    (Path(job.notebook)).write_text(f"{NOTEBOOK}\n# %%\n{code}\n")
    Path(job.executed).with_name("config.resolved.json").write_text(json.dumps(PARAMS))
    return run_job(job)


@pytest.mark.parametrize("cell", [1, 3])
def test_a_failing_cell_is_counted_as_in_the_source(job, cell):
    """Papermill adds a cell behind the parameters."""
    Path(job.notebook).write_text('# %%\nimport sys\n\n# %% tags=["parameters"]\nseed: int = 0\n\n# %%\n1\n')
    text = Path(job.notebook).read_text()
    Path(job.notebook).write_text(text.replace("import sys", "1 / 0") if cell == 1 else text.replace("\n1\n", "\n1 / 0\n"))
    found = run_job(job)
    assert (found.cell, found.error) == (cell, "ZeroDivisionError: division by zero")


def test_a_tensor_that_nothing_can_hold(job):
    found = runs(job, "import torch\n\ntorch.empty(2**60)")
    assert not found.ok and found.cell == 3 and "torch.empty(2**60)" in found.tail and Path(found.notebook).exists()
    assert re.match(r"out of memory on the processor \(4294967296.00 GiB more .* halve answer_tokens \(400\)", found.error)


# -- a kernel that left no word -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "words"), [
    ("os.abort()", "the notebook's kernel crashed with SIGABRT, a fault in compiled code and no lack of memory"),
    ("os.kill(os.getpid(), 11)", "the notebook's kernel crashed with SIGSEGV"),
    ("os.kill(os.getpid(), 15)", "the notebook's kernel was ended by SIGTERM"),
    ("os._exit(3)", "the notebook's kernel ended by itself with exit code 3"),
])  # fmt: skip
def test_a_dead_kernel_is_told_by_its_signal(job, code, words):
    found = runs(job, f"import os, signal\n\nsignal.signal(15, signal.SIG_DFL)\n{code}")
    assert not found.ok and found.error.startswith(words) and "run the same command again" in found.error
    assert "halve" not in found.error and "out of memory" not in found.error


@pytest.mark.parametrize(("counts", "words"), [
    ((4, 4), "the notebook's kernel was ended from outside by SIGKILL, not for want of memory"),
    ((None, None), "the notebook's kernel was ended from outside by SIGKILL, perhaps for want of memory"),
    ((4, 5), "out of memory: the system killed the process for want of it ("),
])  # fmt: skip
def test_a_killed_kernel_ran_out_of_memory_only_where_the_system_counts_it(job, monkeypatch, counts, words):
    left = [*counts]
    monkeypatch.setattr("common.sweep.notebook.oom_kills", lambda: left.pop(0))
    found = runs(job, "import os\n\nos.kill(os.getpid(), 9)")
    assert not found.ok and found.error.startswith(words) and ("halve answer_tokens (400)" in found.error) == (counts == (4, 5))


def test_where_the_system_counts(tmp_path):
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    assert oom_kills(proc, groups) is None
    (proc / "vmstat").write_text("nr_free_pages 5\noom_kill 7\n")
    assert oom_kills(proc, groups) == 7  # of the whole machine
    (groups / "memory/jobs").mkdir(parents=True)
    (groups / "memory/jobs/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    (proc / "self/cgroup").write_text("9:name=systemd:/\n4:memory:/jobs\n0::/\n")
    assert oom_kills(proc, groups) == 3  # of the control group, version 1
    (groups / "slice/job").mkdir(parents=True)
    (groups / "slice/job/memory.events").write_text("low 0\noom 2\noom_kill 1\noom_group_kill 9\n")
    (proc / "self/cgroup").write_text("0::/slice/job\n")
    assert oom_kills(proc, groups) == 1  # version 2
    (groups / "slice/job/memory.events").unlink()
    (groups / "memory.events").write_text("oom_kill 2\n")
    assert oom_kills(proc, groups) == 2  # inside a container the group's own path does not exist
