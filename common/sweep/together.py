"""Units by several processes: ``accelerate launch … -m common run …`` divides the work of each unit over them.

Notebooks are executed by one kernel, so all processes first run the paper's method, up to the last stage of the unit;
rank 0 alone then goes on as without accelerate, and its notebook finds every stage finished. The weights after each
update are those of one process up to the rounding of sums (:mod:`common.ranks`), sampling and critiques of a policy
are divided (:func:`common.lm.policy.divided`), and everything else is done by all alike.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.config import ConfigError
from common.files import StoreError, write_atomic
from common.rows import MetricRow
from common.sweep.plan import Planned
from common.sweep.unit import Unit, open_unit
from common.track.store import Run


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
        self.told = list(rows)

    def rows(self) -> list[MetricRow]:
        return self.told

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
