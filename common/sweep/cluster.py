"""Units beyond one process of one machine: many units on a Ray cluster, or one unit by several processes.

``python -m common run --paper agent_q --executor ray --address HOST:PORT``: all machines must see this project's folder, its
``.venv`` and run store included, under the same path; the cluster is started beforehand (docs/sweeps.md). Each place is a Ray actor
that holds one core, and its share of a GPU where the cluster has some, as long as the sweep lasts; it imports once and forks a
worker for each unit. This process alone speaks to MLflow and prints; files of a unit are read where they lie. A worker whose machine
is lost is a failed unit; the others go on, and the same command runs it again.

``accelerate launch … -m common run …`` divides the work of each unit over the processes that it starts. Notebooks are executed by one
kernel, so all processes first run the paper's method, up to the last stage of the unit; rank 0 alone then goes on as without
accelerate, and its notebook finds every stage finished. The weights after each update are those of one process up to the rounding of
sums (:mod:`common.ranks`), sampling and critiques of a policy are divided (:func:`common.lm.policy.divided`), and everything else is
done by all alike.
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

import psutil

from common.config import ConfigError
from common.files import StoreError, write_atomic
from common.rows import MetricRow
from common.sweep.plan import USER_ENVS, Planned
from common.sweep.unit import Unit, open_unit
from common.sweep.workers import Job, Local, end_family
from common.track.store import Run

LOST = 1
"""Exit code of a worker that ended with its machine, or with Ray's process there."""

PATIENCE = 60.0
"""Seconds for actors to start; those that did not are left out."""


def connect(root: Path, address: str) -> int:
    """Join the Ray cluster at ``address``, HOST:PORT, as often as asked; returns its cores.

    ConfigError when Ray is not installed or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a place without a GPU sees what its machine shows
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
    """``count`` places on the connected cluster, fewer where it has fewer cores free. ConfigError when a machine does not
    see this folder, or when none has a free core."""

    def __init__(self, root: Path, count: int, *, forked: bool) -> None:
        import ray

        cards = ray.cluster_resources().get("GPU", 0)
        share = min(1.0, int(cards) / count)
        if share < 1.0:  # several places on a GPU: Ray deals in ten-thousandths, so round down
            share = int(share * 10_000) / 10_000
        actor = ray.remote(num_cpus=1, num_gpus=share, max_concurrency=2, scheduling_strategy="SPREAD")(Place)
        token = root / "runs" / f".cluster-{uuid.uuid4().hex}"
        token.parent.mkdir(exist_ok=True)
        token.touch()
        places = [actor.remote(str(root), forked) for _ in range(count)]
        try:
            asked = {place.where.remote(str(token)): place for place in places}
            ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE)
            answers = [(place, _answer(question)) for question, place in asked.items()]
        finally:
            token.unlink(missing_ok=True)
        for place, answer in answers:
            if answer is None:
                ray.kill(place)
        found = [answer for _, answer in answers if answer is not None]
        self._idle = [place for place, answer in answers if answer is not None]
        blind = sorted({host for host, sees in found if not sees})
        if blind or not found:
            self.close()
            raise ConfigError(
                f"--executor ray: {', '.join(blind)} does not see {root}, but all machines must have this folder, its .venv "
                "and runs/ included, under the same path; mount it there, or start Ray on other machines" if blind else
                f"--executor ray: no core of the cluster became free within {PATIENCE:.0f} s; wait for its other work or "
                "add machines")
        self._used: list[RemoteWorker] = []
        self.count, self.hosts = len(found), sorted({host for host, _ in found})

    @property
    def free(self) -> bool:
        """ConfigError when every place was lost."""
        if not self._idle and not self._used:
            raise ConfigError("--executor ray: all machines of the cluster were lost; finished units are kept, and the same "
                              "command goes on when the cluster is back")
        return bool(self._idle)

    def start(self, job: Job, log: Path) -> RemoteWorker:
        worker = RemoteWorker(self._idle.pop(0), job, log, self._ended)
        self._used.append(worker)
        return worker

    def _ended(self, worker: RemoteWorker) -> None:
        self._used.remove(worker)
        if not worker.lost:
            self._idle.append(worker.place)

    def close(self) -> None:
        import ray

        for place in self._idle:
            with suppress(Exception):  # it is gone
                ray.get(place.close.remote(), timeout=10)
            ray.kill(place)


def _answer(question: Any) -> tuple[str, bool] | None:
    """What a place answered; None where it did not in time, or was started on a machine that Ray does not know is lost."""
    import ray

    try:
        return ray.get(question, timeout=0)
    except ray.exceptions.RayError:  # GetTimeoutError too
        return None


class RemoteWorker:
    """A job in a place of the cluster."""

    def __init__(self, place: Any, job: Job, log: Path, ended: Any) -> None:
        self.place, self.lost, self._ended, self._log = place, False, ended, log
        self._code = place.run.remote(asdict(job), str(log))

    def poll(self) -> int | None:
        import ray

        if not ray.wait([self._code], timeout=0)[0]:
            return None
        try:
            return ray.get(self._code)
        except ray.exceptions.RayError as error:
            self.lost = True
            with suppress(OSError), open(self._log, "a", encoding="utf-8") as log:
                log.write(f"Ray lost this worker: {(str(error).strip() or type(error).__name__).splitlines()[0]}\n")
            return LOST

    def release(self) -> None:
        self._ended(self)

    def kill(self) -> None:
        """The place ends, and with it all that it started: a worker whose standard input closes takes its kernel along."""
        import ray

        with suppress(Exception):  # it is gone already
            ray.get(self.place.close.remote(), timeout=10)
        ray.kill(self.place)
        self.lost = True
        self.release()


class Place:
    """The actor: one job at a time, in a process forked from one that has imported. ``where`` and ``close`` are answered
    while a job runs."""

    def __init__(self, root: str, forked: bool) -> None:
        main = sys.modules["__main__"]
        if hasattr(main, "__file__"):
            del main.__file__  # multiprocessing would run it again in each worker, and here it is Ray's own
        self._workers = Local(Path(root), 1, forked=forked) if Path(root).is_dir() else None

    def where(self, token: str) -> tuple[str, bool]:
        """This machine's name, and whether it sees the file."""
        return socket.gethostname(), Path(token).is_file()

    def run(self, job: dict[str, Any], log: str) -> int:
        """The worker's exit code."""
        worker = self._workers.start(Job(**job), Path(log))
        worker.process.join()
        worker.release()
        return worker.poll()

    def close(self) -> None:
        """Kill the worker and its kernel, and the process they were forked from."""
        end_family(psutil.Process().children(recursive=True))


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
        if not self.ranks.gather(self.has_stage(name))[0]:
            if self.writes:
                super().stage(name, compute)
            else:
                compute()
            self.ranks.wait()
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
            write_atomic(unit.run.path / "ranks.json", json.dumps({"ranks": shared.ranks.count()}) + "\n")
        lab.run(replace(unit, run=shared))
        shared.ranks.wait()


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
        unit, problem = ranks.gather((unit, problem))[0]
        if problem:
            raise ConfigError(problem)
        print(f"{one.name}: {ranks.count()} processes compute its stages", flush=True)
        compute_stages(unit)
        if ranks.rank() == 0:
            unit.run.close()
    first = ranks.rank() == 0
    ranks.leave()
    return first
