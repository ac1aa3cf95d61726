"""Workers forked from a process that has imported already: what they have of it, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from common.sweep import workers
from common.sweep.workers import Job, Local, read_outcome, run_alone

NOTEBOOK = """# %% tags=["parameters"]
seconds: float = 0.0

# %%
import os, pathlib, sys, time

print(os.getcwd(), os.environ["LAB_ROOT"], os.environ["OMP_NUM_THREADS"], "colorsys" in sys.modules, "common.config" in sys.modules)
pathlib.Path(f"kernel-{os.getpid()}").touch()
time.sleep(seconds)
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="forking is used on Linux only")


@pytest.fixture
def job(tmp_path):
    (tmp_path / "toy.py").write_text(NOTEBOOK)

    def of(name: str, **parameters) -> Job:
        return Job(root=str(tmp_path), notebook=str(tmp_path / "toy.py"), parameters=parameters, failed=str(tmp_path / f"{name}.failed"),
                   executed=str(tmp_path / f"{name}.ipynb"), outcome=str(tmp_path / f"{name}.json"))  # fmt: skip

    return of


@pytest.fixture
def forking(tmp_path, monkeypatch):
    """Two places whose fork server has imported little."""
    monkeypatch.setattr(workers, "SLOW", ("colorsys", "nothing_of_that_name", "ipykernel.kernelapp"))
    places = Local(tmp_path, 2, forked=True)
    yield places
    for worker in [*places._running]:
        worker.kill()
    places.close()


def servers() -> list[psutil.Process]:
    living = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in living if "multiprocessing.forkserver" in " ".join(one.cmdline())]


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kernels(folder: Path) -> list[int]:
    """Process ids of the kernels that have begun."""
    return sorted(int(path.name.partition("-")[2]) for path in folder.glob("kernel-*"))


def printed(job: Job) -> list[str]:
    cells = json.loads(Path(job.executed).read_text(encoding="utf-8"))["cells"]
    return "".join(cells[-1]["outputs"][0]["text"]).split()


@linux
def test_a_fork_has_folder_environment_and_imports_but_no_code_of_this_project(forking, job, tmp_path):
    before = dict(os.environ)
    asked = job("a", seconds=0.0)
    worker = forking.start(asked, tmp_path / "log")
    wait_for(lambda: worker.poll() is not None)
    worker.release()
    assert worker.poll() == 0 and read_outcome(asked, 0, tmp_path / "log").ok and dict(os.environ) == before
    assert printed(asked) == [str(tmp_path), str(tmp_path), "1", "True", "False"]
    assert forking.free and not psutil.pid_exists(kernels(tmp_path)[0])


def test_a_job_alone_imports_for_itself(job, tmp_path):
    asked = job("a")
    assert run_alone(tmp_path, asked, tmp_path / "log").ok
    assert printed(asked) == [str(tmp_path), str(tmp_path), "1", "False", "False"]


@linux
def test_a_killed_worker_takes_its_kernel_along_and_no_other_one(forking, job, tmp_path):
    one = forking.start(job("a", seconds=600.0), tmp_path / "a.log")
    wait_for(lambda: len(kernels(tmp_path)) == 1)
    [first] = kernels(tmp_path)
    other = forking.start(job("b", seconds=600.0), tmp_path / "b.log")
    wait_for(lambda: len(kernels(tmp_path)) == 2)
    assert not forking.free
    one.kill()
    [second] = {*kernels(tmp_path)} - {first}
    assert one.poll() == -9 and not psutil.pid_exists(first) and psutil.pid_exists(second) and other.poll() is None
    os.kill(other.process.pid, 9)  # by somebody else: the kernel notices
    wait_for(lambda: not psutil.pid_exists(second), 10)
    told = "the worker process was ended from outside by SIGKILL"
    assert f"{told}, perhaps for want of memory" in read_outcome(job("b"), other.poll(), tmp_path / "b.log").error
    assert f"{told}, not for want" in read_outcome(job("b"), other.poll(), tmp_path / "b.log", workers.oom_kills()).error
    assert "out of memory: the system killed the process" in read_outcome(job("b"), -9, tmp_path / "b.log", workers.oom_kills() - 1).error
    assert "crashed with SIGSEGV" in read_outcome(job("b"), -11, tmp_path / "b.log", 0).error
    assert "ended by itself with exit code 1" in read_outcome(job("b"), 1, tmp_path / "b.log", 0).error


@linux
def test_a_killed_fork_server_ends_its_workers_and_the_next_one_gets_another(forking, job, tmp_path):
    worker = forking.start(job("a", seconds=600.0), tmp_path / "a.log")
    wait_for(lambda: kernels(tmp_path))
    servers()[0].kill()
    wait_for(lambda: worker.poll() is not None, 10)
    family = [worker.process.pid, *kernels(tmp_path)]
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in family), 10)
    worker.release()
    asked = job("b")
    Local(tmp_path, 1, forked=True)  # starts another server, which is killed while it imports
    servers()[0].kill()
    again = forking.start(asked, tmp_path / "b.log")
    wait_for(lambda: again.poll() is not None)
    assert again.poll() == 0 and printed(asked)[3] == "True"
    forking.close()
    wait_for(lambda: not servers(), 10)


@linux
def test_what_is_imported_starts_no_thread(job, tmp_path):
    """A lock that another thread holds while the process forks would never be released in the fork."""
    places = Local(tmp_path, 1, forked=True)
    worker = places.start(job("a"), tmp_path / "log")  # so the imports are done
    names = [path.read_text().strip() for path in Path(f"/proc/{servers()[0].pid}/task").glob("*/comm")]
    worker.kill()
    places.close()
    others = [name for name in names if name != "jemalloc_bg_thd"]  # that one handles forks itself
    assert len(others) == 1 and others[0].startswith("python"), names


def test_gpus_are_those_that_are_named_or_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for given, expected in (("0,2", ["0", "2"]), ("", []), (None, [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given) if given is not None else monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        assert workers.gpus() == expected
    tool = tmp_path / "nvidia-smi"
    for text, expected in (("echo 0; echo 1", ["0", "1"]), ("echo broken; exit 9", [])):
        tool.write_text(f"#!/bin/sh\n{text}\n")
        tool.chmod(0o755)
        assert workers.gpus() == expected
