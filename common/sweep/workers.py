"""Worker processes of this machine: what they see of cores and GPUs, what they are forked from, how they are ended.

:class:`Local` and :class:`common.sweep.cluster.Cluster` are what the executor hands its jobs to. Where many units import torch,
workers are forked by the fork server of ``multiprocessing``, which has imported what is slow to import. It has one thread
besides jemalloc's, which pyarrow brings and which looks after forks itself, so that forking is safe (a test counts the threads);
where it is not (macOS, Windows), and for a single unit, a worker imports for itself. A worker whose parent or fork server is gone
ends at once and its kernel with it, so that a killed sweep leaves nothing behind.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any, Protocol

import psutil

THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
                 "VECLIB_MAXIMUM_THREADS")
"""Set to 1 for each worker: results do not depend on the number of cores, and workers share them fairly."""

SLOW = ("papermill", "nbclient", "ipykernel.kernelapp", "ipykernel.ipkernel", "IPython", "matplotlib_inline.backend_inline",
        "jupytext", "matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
        "scipy.stats", "torch", "safetensors.torch",
        "transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto",
        "transformers.tokenization_utils_fast", "tokenizers", "pandas", "datasets", "peft", "trl.trainer.sft_trainer",
        "trl.trainer.dpo_trainer", "rliable.metrics")  # fmt: skip
"""Third-party modules that notebooks import. Nothing of this project: a worker must read its code as it is now."""


@dataclass(frozen=True)
class Job:
    """``notebook`` source, ``parameters`` for its cell, ``executed`` the notebook to write, ``outcome`` the file
    for :class:`Outcome`, ``failed`` where a failed notebook is kept. Paths are absolute texts."""

    root: str
    notebook: str
    parameters: dict[str, Any]
    executed: str
    outcome: str
    failed: str


@dataclass(frozen=True)
class Outcome:
    """``cell`` counts the source notebook's cells from 1, 0 when no cell failed; ``tail`` are the last lines."""

    ok: bool
    notebook: str
    cell: int = 0
    error: str = ""
    tail: str = ""


def read_outcome(job: Job, code: int, log: Path) -> Outcome:
    """What a worker that ended with ``code`` reported, or what can be said when it died without a word."""
    with suppress(OSError, ValueError):
        return Outcome(**json.loads(Path(job.outcome).read_text(encoding="utf-8")))
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:] if log.exists() else []
    reason = f"signal {-code}, perhaps out of memory" if code < 0 else f"exit code {code}"
    kept = job.executed if Path(job.executed).exists() else ""
    return Outcome(ok=False, notebook=kept, error=f"the worker process died ({reason})", tail="\n".join(tail))


class Worker(Protocol):
    """One started job."""

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs. Never waits."""

    def release(self) -> None:
        """Give back what an ended worker held."""

    def kill(self) -> None:
        """End it and its kernel now."""


class Workers(Protocol):
    """A number of places that each run one job at a time."""

    @property
    def free(self) -> bool:
        """Whether a job can start now."""

    def start(self, job: Job, log: Path) -> Worker:
        """Run ``job`` in a free place, what it prints in ``log``."""

    def close(self) -> None:
        """End what is left and give everything back."""


class Local:
    """``count`` workers on this machine, each with one thread and, where there are GPUs, one of those that the fewest others
    have. With ``forked`` they are forks of one process that has imported, where forking is safe."""

    def __init__(self, root: Path, count: int, *, forked: bool) -> None:
        self._count, self._gpus, self._running = count, gpus(), []
        self._environment = worker_environment(root)
        self._context = multiprocessing.get_context("forkserver" if forked and sys.platform == "linux" else "spawn")
        if self.forked:
            self._context.set_forkserver_preload(list(SLOW))
            with _environment(self._environment):
                forkserver.ensure_running()  # it imports while the caller prepares

    @property
    def forked(self) -> bool:
        return self._context.get_start_method() == "forkserver"

    @property
    def free(self) -> bool:
        return len(self._running) < self._count

    def start(self, job: Job, log: Path) -> LocalWorker:
        taken = [worker.gpu for worker in self._running]
        gpu = min(self._gpus, key=taken.count, default="")
        process = self._context.Process(target=_work, args=(job, str(log), gpu, self.forked))
        with _environment(self._environment):
            process.start()
        worker = LocalWorker(process, gpu, self._running)
        self._running.append(worker)
        return worker

    def close(self) -> None:
        """End the fork server, which would keep its memory as long as this process lives."""
        for process in psutil.Process().children() if self.forked else ():
            with suppress(psutil.NoSuchProcess):
                if "multiprocessing.forkserver" in " ".join(process.cmdline()):
                    process.kill()


class LocalWorker:
    """A process of this machine, with its kernel."""

    def __init__(self, process: Any, gpu: str, running: list[LocalWorker]) -> None:
        self.process, self.gpu, self._running = process, gpu, running

    def poll(self) -> int | None:
        return self.process.exitcode

    def release(self) -> None:
        self._running.remove(self)

    def kill(self) -> None:
        """Its kernel sits in a session of its own, so the whole family is looked for."""
        with suppress(psutil.NoSuchProcess):
            end_family(psutil.Process(self.process.pid).children(recursive=True) if self.poll() is None else [],
                       first=self.process.kill)
        self.process.join()
        self.release()


def run_alone(root: Path, job: Job, log: Path) -> Outcome:
    """Run one job in a process of its own and wait for its end."""
    worker = Local(root, 1, forked=False).start(job, log)
    try:
        worker.process.join()
    finally:
        worker.kill()
    return read_outcome(job, worker.poll(), log)


def end_family(family: Sequence[psutil.Process], first: Any = lambda: None) -> None:
    """Kill ``first``, then ``family``, which was listed before, and wait for its end."""
    first()
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=5)


# -- in the worker --------------------------------------------------------------------------------------------------


def _work(job: Job, log: str, gpu: str, forked: bool) -> None:
    """What a worker process does: execute the notebook, and write its outcome."""
    parent = os.getppid()  # the fork server, where there is one
    gc.freeze()  # the collector then leaves the pages alone that a fork shares
    os.setsid()
    with open(log, "wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(job.root)
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    from common.sweep.kernel import KernelManager, SpareProcess

    KernelManager.spare = SpareProcess() if forked else None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    from common.sweep.notebook import run_job

    try:
        outcome = run_job(job)
        temporary = Path(job.outcome).with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
        os.replace(temporary, job.outcome)
    finally:
        if KernelManager.spare:
            KernelManager.spare.kill()


def _end_with(parent: int) -> None:
    """End this process when the sweep's or the one that it was forked from has ended."""
    while not connection.wait([multiprocessing.parent_process().sentinel], timeout=1.0) and os.getppid() == parent:
        pass
    os._exit(1)


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """``multiprocessing`` starts processes with the environment of this one."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def worker_environment(root: Path) -> dict[str, str]:
    """What workers and their kernels have in their environment: one thread each, this root, this Python's kernel."""
    return {**dict.fromkeys(THREAD_LIMITS, "1"), "LAB_ROOT": str(root), "PYTHONHASHSEED": "0",
            "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's, of widgets that nothing here needs
            "TOKENIZERS_PARALLELISM": "false", "JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def gpus() -> Sequence[str]:
    """The GPUs that workers may use, as CUDA_VISIBLE_DEVICES names them: those it names now, else all. torch, which would
    know too, is not imported here."""
    given, tool = os.environ.get("CUDA_VISIBLE_DEVICES"), shutil.which("nvidia-smi")
    if given is not None or tool is None:
        return [name.strip() for name in (given or "").split(",") if name.strip()]
    listed = subprocess.run([tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return listed.stdout.split() if listed.returncode == 0 else []
