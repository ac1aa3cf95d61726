"""Units beyond one process of one machine: many units on a Ray cluster, or one unit by several processes.

``python -m common run --paper agent_q --executor ray --address HOST:PORT``: all machines must see this project's folder, its
``.venv`` and run store included, under the same path; the cluster is started beforehand (docs/sweeps.md). Each unit is a Ray task;
Ray's processes import once and fork a worker for each. This process alone speaks to MLflow and prints; files of a unit are read
where they lie. A worker whose machine is lost is a failed unit; the others go on, and the same command runs it again.

``accelerate launch … -m common run …`` divides the work of each unit over the processes that it starts. Notebooks are
executed by one kernel, so all processes first run the paper's method, up to the last stage of the unit; rank 0 alone then
goes on as without accelerate, and its notebook finds every stage finished. The weights after each update are those of one
process up to the rounding of sums (:mod:`common.ranks`), sampling and critiques of a policy are divided
(:func:`common.lm.policy.divided`), and everything else is done by all alike.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common.config import ConfigError
from common.files import StoreError, write_atomic
from common.rows import MetricRow
from common.sweep.plan import USER_ENVS, Planned
from common.sweep.unit import Unit, open_unit
from common.sweep.workers import Job, Local
from common.track.store import Run

LOST = 1
"""Exit code of a worker that ended with its machine, or with Ray's process there."""

PATIENCE = 60.0
"""Seconds for machines to say whether they see the folder."""


def connect(root: Path, address: str) -> int:
    """Join the Ray cluster at ``address``, HOST:PORT, as often as asked; returns its cores.

    ConfigError when Ray is not installed or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a worker without a GPU sees what its machine shows
    try:
        import ray
    except ImportError:
        raise ConfigError("--executor ray needs Ray, which is not installed; install it on all machines: "
                          "pip install -c requirements.lock -e '.[ray]'") from None
    if not ray.is_initialized():
        _check_answers(address)
        before = signal.getsignal(signal.SIGTERM)  # Ray's own would end this process without closing its MLflow runs
        shared = {name: os.environ[name] for name in USER_ENVS.values() if name in os.environ}
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace=f"lab-{uuid.uuid4()}",
                     runtime_env={"env_vars": {"PYTHONPATH": str(root), **shared}})
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise _no_cluster(address, error) from None
        finally:
            signal.signal(signal.SIGTERM, before)
    return int(ray.cluster_resources().get("CPU", 0))


def _check_answers(address: str) -> None:
    """Ray would try an address for minutes at which nothing listens."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f'--address is "{address}" but must be HOST:PORT; ray start --head prints it')
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> ConfigError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ConfigError(f'--address: no Ray cluster answers at "{address}" ({first}); start one with ray start --head and give '
                       "the address that it prints")


class Cluster:
    """``count`` jobs at a time on the connected cluster, each a Ray task with one core and, where there are GPUs, an equal share
    of one; used as :class:`common.sweep.workers.Local`. ConfigError when a machine does not see this folder."""

    def __init__(self, root: Path, count: int, *, forked: bool) -> None:
        import ray

        self.count, self.hosts = count, _check_machines(root)
        share = min(1.0, int(ray.cluster_resources().get("GPU", 0)) / count)
        if share < 1.0:  # several jobs on a GPU: Ray deals in ten-thousandths, so round down
            share = int(share * 10_000) / 10_000
        self._task = ray.remote(num_cpus=1, num_gpus=share, max_retries=0, max_calls=0, scheduling_strategy="SPREAD")(_run)
        self._root, self._forked, self._running = root, forked, []

    @property
    def free(self) -> bool:
        return len(self._running) < self.count

    def start(self, job: Job, log: Path) -> RemoteWorker:
        worker = RemoteWorker(self._task.remote(str(self._root), asdict(job), str(log), self._forked), log, self._running)
        self._running.append(worker)
        return worker

    def close(self) -> None:
        """Ray ends its processes, and so all that they started, when this one leaves the cluster."""


class RemoteWorker:
    """A worker that runs one job on the cluster."""

    kills: int | None = None
    """Another machine's count is not read."""

    def __init__(self, code: Any, log: Path, running: list[RemoteWorker]) -> None:
        self._code, self._log, self._running = code, log, running

    def poll(self) -> int | None:
        import ray

        if not ray.wait([self._code], timeout=0)[0]:
            return None
        try:
            return ray.get(self._code)
        except ray.exceptions.RayError as error:
            with suppress(OSError), open(self._log, "a", encoding="utf-8") as log:
                log.write(f"Ray lost this worker: {(str(error).strip() or type(error).__name__).splitlines()[0]}\n")
            return LOST

    def release(self) -> None:
        self._running.remove(self)

    def kill(self) -> None:
        """Ray's process ends there, and with it the worker and its kernel."""
        import ray

        ray.cancel(self._code, force=True)
        ray.wait([self._code], timeout=10)
        self.release()


def _check_machines(root: Path) -> list[str]:
    """The names of the cluster's machines. ConfigError when one does not see ``root``."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = root / "runs" / f".cluster-{uuid.uuid4().hex}"
    token.parent.mkdir(exist_ok=True)
    token.touch()
    answers = []
    try:
        there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
        asked = [ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=one)(_sees).remote(str(token)) for one in there]
        for one in ray.wait(asked, num_returns=len(asked), timeout=PATIENCE)[0]:
            with suppress(ray.exceptions.RayError):  # a machine that is lost, which Ray does not know yet
                answers.append(ray.get(one))
    finally:
        token.unlink(missing_ok=True)
    if blind := sorted({host for host, sees in answers if not sees}):
        raise ConfigError(f"--executor ray: {', '.join(blind)} does not see {root}, but all machines must have this folder, its "
                          ".venv and runs/ included, under the same path; mount it there, or start Ray on other machines")
    if not answers:
        raise ConfigError(f"--executor ray: no machine of the cluster answered within {PATIENCE:.0f} s; look at ray status")
    return sorted({host for host, _ in answers})


def _sees(token: str) -> tuple[str, bool]:
    """On a machine of the cluster: its name, and whether it sees the file."""
    return socket.gethostname(), Path(token).is_file()


def _run(root: str, job: dict[str, Any], log: str, forked: bool) -> int:
    """On a machine of the cluster: the exit code of the job's worker. Ray keeps its process for the next job, and with it the
    fork server."""
    worker = Local(Path(root), 1, forked=forked).start(Job(**job), Path(log))
    worker.process.join()
    return worker.poll()


# -- one unit by several processes ------------------------------------------------------------------------------------


def launched() -> int:
    """How many processes a launcher such as accelerate's started for this command, 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class SharedRun(Run):
    """A unit's run folder in the hands of one of several processes: all compute, rank 0 writes, all read what it wrote.

    Metric rows are kept in memory only: who executes the notebook writes them.
    """

    def __init__(self, run: Run, scratch: Path) -> None:
        """``scratch``: an empty folder for what the other ranks would write."""
        from common import ranks

        super().__init__(run.path, run.unit)
        self.ranks, self.scratch, self.writes = ranks, scratch, ranks.rank() == 0

    @property
    def artifacts(self) -> Path:
        return super().artifacts if self.writes else self.scratch

    def stage(self, name: str, compute: Callable[[], Any], *, load: Callable[[Any], Any] | None = None) -> Any:
        # Rank 0's view decides for all: another rank may look after the file is there.
        if not self.ranks.all_gather(self.has_stage(name))[0]:
            if self.writes:
                super().stage(name, compute)
            else:
                compute()
            self.ranks.barrier()
        return super().stage(name, compute, load=load)

    @contextmanager
    def stage_dir(self, name: str) -> Iterator[Path]:
        if self.writes:
            with super().stage_dir(name) as folder:
                yield folder
        else:
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                yield Path(folder)

    def log(self, variant: str, step: int, metrics: Mapping[str, float]) -> None:
        if self.writes:
            super().log(variant, step, metrics)

    def write_rows(self, rows: Iterable[MetricRow]) -> None:
        self._rows = list(rows)

    def rows(self) -> list[MetricRow]:
        return self._rows

    def finish(self) -> None:
        """Nothing is marked: the notebook is still to be executed."""

    def _require_open(self, action: str) -> None:
        if self.writes:
            super()._require_open(action)


def compute_stages(unit: Unit) -> None:
    """All stages of ``unit``, whose ``run`` rank 0 has opened, by all ranks: :func:`common.lab.run` up to its rows."""
    from common import lab

    with tempfile.TemporaryDirectory() as scratch:
        shared = SharedRun(unit.run, Path(scratch))
        if shared.writes:
            write_atomic(unit.run.path / "ranks.json", json.dumps({"ranks": shared.ranks.world_size()}) + "\n")
        lab.run(replace(unit, run=shared))
        shared.ranks.barrier()


def compute_together(root: Path, planned: Sequence[Planned]) -> bool:
    """The stages of all unfinished units of ``planned``, one unit after the other, by all processes that were launched.

    Returns whether this is rank 0, which goes on by itself. ConfigError on all ranks when a unit cannot be opened.
    """
    from common import ranks

    ranks.join()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for one in planned:
        if one.finished:
            continue
        unit, problem = None, ""
        if ranks.rank() == 0:
            try:
                unit = open_unit(**one.names, root=root)
            except (ConfigError, StoreError) as error:
                problem = str(error)
        unit, problem = ranks.all_gather((unit, problem))[0]
        if problem:
            raise ConfigError(problem)
        print(f"{one.name}: {ranks.world_size()} processes compute its stages", flush=True)
        compute_stages(unit)
        if ranks.rank() == 0:
            unit.run.close()
    first = ranks.rank() == 0
    ranks.leave()
    return first
