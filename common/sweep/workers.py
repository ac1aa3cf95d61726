"""Worker processes of this machine: what they see of cores and GPUs, what they are forked from, how they are ended.

:class:`Local` and :class:`common.sweep.cluster.Cluster` are what the executor hands its jobs to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from common.sweep.forkserver import ForkServer, fork_is_safe
from common.sweep.worker import THREAD_LIMITS, Job


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
    have. With ``forked`` they are forks of one process that has imported; ``say`` is told when that cannot be."""

    def __init__(self, root: Path, count: int, *, forked: bool, say: Callable[[str], None]) -> None:
        self._root, self._count, self._gpus = root, count, gpus()
        self._running: list[LocalWorker] = []
        self._server = fork_server(root, say) if forked else None

    @property
    def free(self) -> bool:
        return len(self._running) < self._count

    def start(self, job: Job, log: Path) -> LocalWorker:
        taken = [worker.gpu for worker in self._running]
        gpu = min(self._gpus, key=taken.count, default="")
        worker = LocalWorker(start_worker(self._root, job, log, self._server, gpu), gpu, self._running.remove)
        self._running.append(worker)
        return worker

    def close(self) -> None:
        if self._server:
            self._server.close()


class LocalWorker:
    """A process group of this machine."""

    def __init__(self, process: subprocess.Popen[str], gpu: str, ended: Callable[[LocalWorker], None]) -> None:
        self.gpu, self._process, self._ended = gpu, process, ended

    def poll(self) -> int | None:
        return self._process.poll()

    def release(self) -> None:
        self._process.stdin.close()
        self._ended(self)

    def kill(self) -> None:
        """Its kernel sits in a session of its own, so the whole family is looked for."""
        import psutil

        if self._process.poll() is None:
            family = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
            psutil.wait_procs(family, timeout=5)
        self.release()


def fork_server(root: Path, say: Callable[[str], None]) -> ForkServer | None:
    """A process to fork workers from, None where that is not safe or cannot be."""
    if not fork_is_safe():
        return None
    try:
        return ForkServer(root, worker_environment(root))
    except OSError as error:
        say(f"each unit imports for itself, because nothing can be forked here ({error})")
        return None


def start_worker(
    root: Path, job: Job, log: Path, server: ForkServer | None = None, gpu: str = ""
) -> subprocess.Popen[str]:
    """Start a worker in a session of its own, forked from ``server`` if there is one; it ends when its standard input is
    closed or this process dies. It sees the one ``gpu``, if that is named."""
    module = "common.sweep.worker"
    command = server.command(module) if server else [sys.executable, "-m", module]
    environment = server.environment if server else worker_environment(root)
    if gpu:
        environment = {**environment, "CUDA_VISIBLE_DEVICES": gpu}
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=root, env=environment, text=True, stdin=subprocess.PIPE, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    process.stdin.write(json.dumps(asdict(job)) + "\n")
    process.stdin.flush()
    return process


def worker_environment(root: Path) -> dict[str, str]:
    """The environment of workers and their kernels: one thread each, this root, this Python's kernel."""
    return {**os.environ, **dict.fromkeys(THREAD_LIMITS, "1"), "LAB_ROOT": str(root), "PYTHONHASHSEED": "0",
            "TOKENIZERS_PARALLELISM": "false", "JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def gpus() -> Sequence[str]:
    """The GPUs that workers may use, as CUDA_VISIBLE_DEVICES names them: those it names now, else all. torch, which would
    know too, is not imported here."""
    given, tool = os.environ.get("CUDA_VISIBLE_DEVICES"), shutil.which("nvidia-smi")
    if given is not None or tool is None:
        return [name.strip() for name in (given or "").split(",") if name.strip()]
    listed = subprocess.run([tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return listed.stdout.split() if listed.returncode == 0 else []
