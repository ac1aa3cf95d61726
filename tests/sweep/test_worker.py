"""A worker's kernel that dies before its first cell is started again; what a notebook raises is not tried twice."""

from __future__ import annotations

import errno

import papermill
import pytest

from common.sweep import worker

NOTEBOOK = '# %% [markdown]\n# # Toy\n\n# %% tags=["parameters"]\nseed: int = 0\n'


@pytest.fixture
def job(tmp_path):
    (tmp_path / "toy.py").write_text(NOTEBOOK)
    return worker.Job(root=str(tmp_path), notebook=str(tmp_path / "toy.py"), parameters={"seed": 1},
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
    assert worker.run_job(job).ok and len(calls) == 2


def test_not_for_ever(job, monkeypatch):
    calls = ends(monkeypatch, *[DIED] * 9)
    outcome = worker.run_job(job)
    assert not outcome.ok and "Kernel died" in outcome.error and len(calls) == worker.STARTS


def test_a_full_disk_is_named_with_what_to_do(job, monkeypatch):
    ends(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    outcome = worker.run_job(job)
    assert outcome.error.startswith("run store: the disk below ") and "free some space" in outcome.error


def test_other_ends_are_final(job, monkeypatch):
    calls = ends(monkeypatch, RuntimeError("disk is full"), None)
    outcome = worker.run_job(job)
    assert not outcome.ok and outcome.error == "RuntimeError: disk is full" and len(calls) == 1
