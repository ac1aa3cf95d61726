"""Worker processes of this machine: what they see of cores and GPUs, what they are forked from, how they are ended.

:class:`Local` is what the executor hands its jobs to; :class:`common.sweep.cluster.Cluster` has the same methods. Where many
units import torch, workers are forked by the fork server of ``multiprocessing``, which has imported what is slow to import. It
has one thread besides jemalloc's, which pyarrow brings and which looks after forks itself, so that forking is safe (a test
counts the threads); where it is not (macOS, Windows), and for a single unit, a worker imports for itself. A worker whose parent
or fork server is gone ends at once and its kernel with it, so that a killed sweep leaves nothing behind.

A unit needs two processes, papermill's and the notebook's kernel. A forked worker forks its kernel, at once, while it has a single
thread; ``multiprocessing`` cannot do this later, because a child of its fork server would start a server of its own.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any

import psutil
from jupyter_client import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

from common.sweep.ends import how_it_ended, oom_kills

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

TRIES = 5
"""To start a worker while the fork server comes and goes."""


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


def read_outcome(job: Job, code: int, log: Path, kills: int | None = None) -> Outcome:
    """What a worker that ended with ``code`` reported, or what is known when it left no report. ``kills``: the system's count of
    processes that it killed for want of memory, when the worker started."""
    with suppress(OSError, ValueError):
        return Outcome(**json.loads(Path(job.outcome).read_text(encoding="utf-8")))
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:] if log.exists() else []
    from common.sweep.notebook import told_memory  # here, because a worker imports this module before it forks its kernel

    error = f"the worker process {how_it_ended(code, kills, oom_kills())}"
    kept = job.executed if Path(job.executed).exists() else ""
    return Outcome(ok=False, notebook=kept, error=told_memory(job, error), tail="\n".join(tail))


class Local:
    """``count`` workers on this machine, each with one thread and, where there are GPUs, one of those that the fewest others
    have. With ``forked`` they are forks of one process that has imported, where forking is safe."""

    def __init__(self, root: Path, count: int, *, forked: bool) -> None:
        self._count, self._gpus, self._running = count, gpus(), []
        self._environment = worker_environment(root)
        self._context = multiprocessing.get_context("forkserver" if forked and sys.platform == "linux" else "spawn")
        if self.forked:
            self._context.set_forkserver_preload(list(SLOW))
            with _starting(self._environment):
                forkserver.ensure_running()  # it imports while the caller prepares

    @property
    def forked(self) -> bool:
        return self._context.get_start_method() == "forkserver"

    @property
    def free(self) -> bool:
        """Whether a job can start now."""
        return len(self._running) < self._count

    def start(self, job: Job, log: Path) -> LocalWorker:
        """Run ``job`` in a free place, what it prints in ``log``."""
        taken = [worker.gpu for worker in self._running]
        gpu = min(self._gpus, key=taken.count, default="")
        for left in reversed(range(TRIES)):
            process = self._context.Process(target=_work, args=(job, str(log), gpu, self.forked))
            try:
                with _starting(self._environment):
                    process.start()
                break
            except (EOFError, ConnectionError):  # somebody has just killed the fork server; multiprocessing starts another
                if not left:
                    raise
                time.sleep(0.2)
        worker = LocalWorker(process, gpu, self._running)
        self._running.append(worker)
        return worker

    def close(self) -> None:
        """End the fork server, which would keep its memory as long as this process lives."""
        for process in psutil.Process().children() if self.forked else ():
            with suppress(psutil.NoSuchProcess):
                if "multiprocessing.forkserver" in " ".join(process.cmdline()):
                    process.kill()
                    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # multiprocessing asks for its end too


class LocalWorker:
    """A process of this machine, with its kernel."""

    def __init__(self, process: Any, gpu: str, running: list[LocalWorker]) -> None:
        self.process, self.gpu, self._running, self.kills = process, gpu, running, oom_kills()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs. Never waits."""
        return self.process.exitcode

    def release(self) -> None:
        """Give back what an ended worker held."""
        self._running.remove(self)

    def kill(self) -> None:
        """End it and its kernel now. That one sits in a session of its own, so the whole family is looked for."""
        family: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True) if self.poll() is None else []
        self.process.kill()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=5)
        self.process.join()
        self.release()


def run_alone(root: Path, job: Job, log: Path) -> Outcome:
    """Run one job in a process of its own and wait for its end."""
    worker = Local(root, 1, forked=False).start(job, log)
    try:
        worker.process.join()
    finally:
        worker.kill()
    return read_outcome(job, worker.poll(), log, worker.kills)


@contextmanager
def _starting(environment: Mapping[str, str]) -> Iterator[None]:
    """``multiprocessing`` gives a new process the environment of this one, and lets it run this one's main file again, which is
    of no use to it: it may be another program's, pytest's or Ray's."""
    before = {name: os.environ.get(name) for name in environment}
    main = vars(sys.modules["__main__"])
    file = main.pop("__file__", None)
    os.environ.update(environment)
    try:
        yield
    finally:
        if file is not None:
            main["__file__"] = file
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


# -- its kernel -----------------------------------------------------------------------------------------------------


class SpareProcess:
    """A fork of this process that waits until it is to be a kernel; used by jupyter_client like a ``subprocess.Popen``."""

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=_wait_for_orders, args=(theirs, self._orders))
        self._process.start()
        theirs.close()
        self.pid, self.used = self._process.pid, False

    def become_kernel(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.used = True
        self._orders.send((arguments, environment))

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _wait_for_orders(orders: connection.Connection, other_end: connection.Connection) -> None:
    other_end.close()
    try:
        arguments, environment = orders.recv()
    except EOFError:  # the worker has ended
        return
    os.setsid()
    os.environ.update(environment)
    # Jupyter's own way is a variable, which ipykernel has read when it was imported. The kernel ends when that process does.
    sys.argv = [*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)


class _Provisioner(LocalProvisioner):
    async def poll(self) -> int | None:
        """Also notes the code with which the kernel ended: its process is forgotten before anybody asks."""
        code = await super().poll()
        if code is not None and KernelManager.code is None and self.has_process:
            KernelManager.code = code
        return code

    async def launch_kernel(self, cmd: list[str], **options: Any) -> dict[str, Any]:
        spare = self.parent.spare
        if spare is None or spare.used:
            return await super().launch_kernel(cmd, **options)
        spare.become_kernel(cmd[cmd.index("ipykernel_launcher"):], options["env"])
        self.process, self.pid = spare, spare.pid
        return self.connection_info


class KernelManager(AsyncKernelManager):
    """For ``kernel_manager_class`` of nbclient, which papermill passes on."""

    spare: SpareProcess | None = None
    """Becomes the first kernel; others are started as usual."""
    code: int | None = None
    """The exit code of the kernel that was the first to end by itself, negative for a signal."""

    async def _async_pre_start_kernel(self, **options: Any) -> tuple[list[str], dict[str, Any]]:
        if self.provisioner is None:
            self.kernel_id = self.kernel_id or "unit"
            self.provisioner = _Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**options)

    pre_start_kernel = _async_pre_start_kernel
