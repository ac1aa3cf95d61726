"""Executing planned units in parallel worker processes, with MLflow runs owned by this process.

Each worker executes one notebook (:mod:`common.sweep.workers`) in a process group of its own. This process
tails the workers' event files into MLflow, reports progress, keeps failed notebooks, and goes on after a
failure. On SIGINT or SIGTERM it ends the workers, marks their MLflow runs KILLED and says how to resume;
after a SIGKILL the workers end by themselves and the next start closes the orphaned MLflow runs.
"""

from __future__ import annotations

import json
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from common.config import load_spec
from common.files import StoreError, storage, write_atomic
from common.sweep.board import Board, LiveTable, Progress, progress_of
from common.sweep.plan import Planned, read_json
from common.sweep.workers import Job, Local, LocalWorker, Outcome, read_outcome
from common.track.events import EventTail
from common.track.mlflow_log import Tracked, Tracker
from common.track.provenance import provenance
from common.track.store import is_finished, unit_path

if TYPE_CHECKING:
    from common.sweep.cluster import Cluster, RemoteWorker

POLL_SECONDS = 0.2
END_SECONDS = 0.05  # how late the end of a worker is noticed
TRACK_SECONDS = 2.0


@dataclass(frozen=True)
class UnitResult:
    """How one unit ended: state is "succeeded", "failed" or "skipped" (finished before)."""

    planned: Planned
    state: str
    minutes: float = 0.0
    message: str = ""


@dataclass
class _Running:
    planned: Planned
    worker: LocalWorker | RemoteWorker
    job: Job
    tail: EventTail
    log: Path
    tracked: Tracked = Tracked("", "", "")
    started: float = field(default_factory=time.monotonic)
    step: str = "starting"


def execute(
    root: Path, planned: Sequence[Planned], *, workers: int, tracker: Tracker, tags: Mapping[str, str],
    board: Board, more: Callable[[Sequence[UnitResult]], Sequence[Planned]] | None = None, ray: bool = False,
) -> list[UnitResult]:
    """Run the unfinished units and return one result per unit, in the order of the plan. ``board`` is empty and shows them as
    they come. MLflow gets a sweep of each paper. ``ray``: on the cluster that was joined, instead of on this machine.

    When all are done, ``more`` is given their results and adds units to the plan, until it adds none. Results do not depend
    on ``workers``. Raises KeyboardInterrupt after SIGINT, SIGTERM or SIGHUP, once the workers are gone and MLflow has the end.
    """
    if not planned:
        return []
    tracker.close_orphans()
    planned, results = [*planned], {}
    if all(one.finished for one in planned) and more is None:
        return [UnitResult(one, "skipped") for one in planned]
    papers = list(dict.fromkeys(one.paper for one in planned))
    several = sum(not one.finished for one in planned) > 1 or more is not None
    forked = several and any(_slow_to_import(root, one) for one in papers)
    places = _places(root, workers, forked, ray)  # imports while MLflow opens the runs
    source = provenance(root)
    sweeps = {paper: tracker.sweep_run(paper, source, tags) for paper in papers}

    def enqueue(first: int) -> list[int]:
        """Show the units from ``first`` on, and what of them is to be run, in that order."""
        board.add(planned[first:])
        for index in range(first, len(planned)):
            if planned[index].finished:
                results[index] = UnitResult(planned[index], "skipped")
                tracker.skip(sweeps[planned[index].paper], planned[index].unit)
        return [first + index for index in waiting(planned[first:])]

    queue = enqueue(0)
    running: dict[int, _Running] = {}
    progress = progress_of(board, len(queue), " of this round" if more else "")
    last_tracked = 0.0
    try:
        with _signals() as received:
            while True:
                if more and not queue and not running and (new := more([results[index] for index in range(len(planned))])):
                    first, planned = len(planned), [*planned, *new]
                    queue = enqueue(first)
                    progress.total += len(queue)
                    continue
                if not queue and not running:
                    break
                # Ended workers make room first, so that others work while MLflow takes their results.
                ended = [(index, one, code, _minutes(one)) for index, one in running.items()
                         if (code := one.worker.poll()) is not None]
                for index, one, _, _ in ended:
                    running.pop(index)
                    one.worker.release()
                while queue and places.free and not received:
                    index = queue.pop(0)
                    board.start(index)
                    one = running[index] = _start(root, planned[index], places)
                    one.tracked = tracker.unit_run(sweeps[planned[index].paper], planned[index].unit)
                for index, one, code, minutes in ended:
                    results[index] = _finish(root, one, code, minutes, tracker, progress)
                    board.end(index, "failed" if results[index].state == "failed" else "finished", results[index].message)
                _pause(running)
                if received:
                    raise KeyboardInterrupt(signal.Signals(received[0]).name)
                if time.monotonic() - last_tracked >= TRACK_SECONDS:
                    last_tracked = time.monotonic()
                    for one in running.values():
                        _forward(one, tracker)
                done = sum(result.state != "skipped" for result in results.values())
                progress.update(done, [one.step for one in running.values()], board.minutes_left(workers))
    except BaseException:
        for one in running.values():
            one.worker.kill()
            tracker.kill(one.tracked)
        board.stop()
        for sweep in sweeps.values():
            tracker.kill(sweep)
        raise
    finally:
        progress.close()
        places.close()
    for paper, sweep in sweeps.items():
        failed = [one for one in results.values() if one.state == "failed" and one.planned.paper == paper]
        tracker.finish_sweep(sweep, failed=len(failed))
    return [results[index] for index in range(len(planned))]


def waiting(planned: Sequence[Planned]) -> list[int]:
    """Indices of the unfinished units, longest first, so that no worker is left alone with a long one at the
    end; equal or unknown lengths keep the order of the plan."""
    todo = [index for index in range(len(planned)) if not planned[index].finished]
    return sorted(todo, key=lambda index: -(planned[index].minutes or 0.0))


def check_writable(root: Path) -> None:
    """Raise StoreError now rather than after minutes of work when the run store cannot take files."""
    with storage(root / "runs"):
        (root / "runs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root / "runs") as file:
            file.write(b"\0" * 4096)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect stop signals in a list instead of dying from them; the old handlers return at the end."""
    received: list[int] = []
    stop_signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        stop_signals.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda got, _: received.append(got)) for number in stop_signals}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _places(root: Path, workers: int, forked: bool, ray: bool) -> Local | Cluster:
    if not ray:
        return Local(root, workers, forked=forked)
    from common.sweep.cluster import Cluster

    places = Cluster(root, workers, forked=forked)
    print(f"{places.count} workers on {', '.join(places.hosts)}", flush=True)
    return places


def _start(root: Path, planned: Planned, places: Local | Cluster) -> _Running:
    folder = unit_path(root, planned.unit)
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "outcome.json").unlink(missing_ok=True)
        log = folder / "worker.log"
        kept = f"{planned.env}-seed{planned.seed}-{planned.profile}-{planned.unit.key}.ipynb"
        job = Job(root=str(root), notebook=str(planned.notebook), parameters=planned.parameters,
                  executed=str(folder / "notebook.ipynb"), outcome=str(folder / "outcome.json"),
                  failed=str(root / "runs" / "failed" / planned.paper / kept))
        worker = places.start(job, log)
    return _Running(planned, worker, job, EventTail(folder / "events.jsonl"), log)


def _slow_to_import(root: Path, paper: str) -> bool:
    """Whether the paper's method needs torch, which the harness brings, so that starting from a fork pays."""
    text = (root / load_spec(root, paper).method).read_text(encoding="utf-8")
    return re.search(r"^(?:import|from) (?:torch|transformers|common\.lab)\b", text, re.M) is not None


def _forward(one: _Running, tracker: Tracker) -> None:
    events = one.tail.read()
    if events:
        last = events[-1]
        one.step = f"{one.planned.name}: {last['variant']} step {last['step']}"
        tracker.forward(one.tracked, events)


def _finish(
    root: Path, one: _Running, code: int, minutes: float, tracker: Tracker, progress: Progress | LiveTable
) -> UnitResult:
    """The result of a unit whose worker ended with ``code`` after ``minutes``; its MLflow run is closed."""
    _forward(one, tracker)
    planned, folder = one.planned, unit_path(root, one.planned.unit)
    _add_timing(folder, 60 * minutes)
    outcome = read_outcome(one.job, code, one.log, one.worker.kills)
    if outcome.ok and is_finished(root, planned.unit):
        tracker.finish(one.tracked, folder)
        return UnitResult(planned, "succeeded", minutes)
    if outcome.ok:
        outcome = Outcome(ok=False, notebook=outcome.notebook, error="the notebook ended without marking its unit "
                          "finished; its last cell must call unit.run.write_rows(…) and unit.run.finish()")
    kept = Path(outcome.notebook) if outcome.notebook else None
    tracker.fail(one.tracked, kept, f"{outcome.error}\n{outcome.tail}".strip())
    where = f"cell {outcome.cell}" if outcome.cell else "outside any cell"
    shown = kept.relative_to(root) if kept and kept.is_relative_to(root) else kept or one.log.relative_to(root)
    progress.say(f"FAILED {planned.name} in {where}: {outcome.error}\n  notebook kept: {shown}\n"
                 + "\n".join(f"  | {line}" for line in outcome.tail.splitlines()[-20:]))
    return UnitResult(planned, "failed", minutes, f"{where}: {outcome.error}; see {shown}")


def _add_timing(folder: Path, seconds: float) -> None:
    """Add this attempt to the unit's time; a resumed unit cost all its attempts."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    before = read_json(folder / "timing.json").get("seconds", 0.0)
    with suppress(StoreError):  # only an estimate is lost; the unit's own failure is reported by its outcome
        write_atomic(folder / "timing.json", json.dumps({"seconds": round(before + seconds, 1), "bytes": size}) + "\n")


def _pause(running: Mapping[int, _Running]) -> None:
    """``POLL_SECONDS``, less where a worker ends."""
    for _ in range(round(POLL_SECONDS / END_SECONDS)):
        time.sleep(END_SECONDS)
        if any(one.worker.poll() is not None for one in running.values()):
            break


def _minutes(one: _Running) -> float:
    return (time.monotonic() - one.started) / 60


def summary(results: Sequence[UnitResult]) -> str:
    """The final table: one line per unit that ran, then the counts."""
    lines = []
    for result in results:
        if result.state != "skipped":
            lines.append(f"{result.state:<10} {result.minutes:6.1f} min  {result.planned.name}"
                         + (f"  {result.message}" if result.message else ""))
    count = {state: sum(result.state == state for result in results) for state in ("succeeded", "failed", "skipped")}
    lines.append(f"{count['succeeded']} succeeded, {count['failed']} failed, "
                 f"{count['skipped']} skipped (finished before)")
    return "\n".join(lines)
