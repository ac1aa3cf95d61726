"""One unit in one process: ``python -m common.sweep.worker``, started and watched by the executor.

Reads one line of JSON from standard input (:class:`Job`), executes the notebook by papermill and writes
the outcome as JSON. Standard input stays open as long as the parent lives; when it closes, the worker
ends at once and its kernel with it (ipykernel watches its parent), so a killed sweep leaves nothing behind.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
                 "VECLIB_MAXIMUM_THREADS")
"""Set to 1 for each worker: results do not depend on the number of cores, and workers share them fairly."""

STARTS = 3
STILLBORN = "Kernel died before replying"
"""Kernels that start at the same moment can pick the same port; the loser ends before a cell was run, and is started
again, ``STARTS`` times at most."""

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


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


def run_job(job: Job) -> Outcome:
    """Execute the notebook with cwd = root. Never raises for a failing notebook or a dying kernel."""
    from papermill.exceptions import PapermillExecutionError

    try:
        _execute(job)
        return Outcome(ok=True, notebook=job.executed)
    except PapermillExecutionError as error:
        # Papermill put its parameters into a cell of its own behind the tagged one; count as the source does.
        injected = 1 if job.parameters else 0
        tail, text = _ANSI.sub("", "\n".join(error.traceback)).splitlines(), f"{error.ename}: {error.evalue}"
        return Outcome(ok=False, notebook=_keep(job), cell=error.cell_index + 1 - injected,
                       error=_memory(job, text) or text, tail="\n".join(tail[-20:]))
    except Exception as error:  # a dead kernel, a full disk: one failed unit, not a failed sweep
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            text = (f"run store: the disk below {Path(job.executed).parent} is full but a unit needs room for its "
                    "notebook and models; free some space, then the same command goes on")
        text = _memory(job, text) or text
        lines = _ANSI.sub("", text).splitlines()
        return Outcome(ok=False, notebook=_keep(job), error=lines[0], tail="\n".join(lines[-20:]))


def _execute(job: Job) -> None:
    import papermill

    from common.sweep.kernel import KernelManager
    from common.sweep.notebook import write_ipynb

    for left in reversed(range(STARTS)):
        try:
            # A file, not a NotebookNode: papermill would store the whole node in the output as its "input_path".
            write_ipynb(Path(job.notebook), Path(job.executed))
            # The kernel is killed when its last cell is done: all it made is in files by then, and a kind end takes longer.
            papermill.execute_notebook(
                job.executed, job.executed, parameters=job.parameters, cwd=job.root, kernel_name="python3",
                progress_bar=False, kernel_manager_class=KernelManager, shutdown_kernel="immediate")
            return
        except RuntimeError as error:  # a failing cell is no RuntimeError here, whatever it raised
            if STILLBORN not in str(error) or not left:
                raise


def _memory(job: Job, error: str) -> str | None:
    from common.sweep.memory import out_of_memory
    from common.sweep.plan import read_json

    return out_of_memory(error, read_json(Path(job.executed).with_name("config.resolved.json")))


def _keep(job: Job) -> str:
    """Move the failed notebook to where no rerun overwrites it; "" when not even a first cell was written."""
    if not Path(job.executed).exists():
        return ""
    Path(job.failed).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(job.executed, job.failed)
    return job.failed


def _end_with_parent() -> None:
    # os.read, not sys.stdin: its buffer's lock would be held by this thread when the interpreter ends.
    while os.read(0, 1024):
        pass
    os._exit(1)


def main() -> None:
    job = Job(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    outcome = run_job(job)
    temporary = Path(job.outcome).with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    os.replace(temporary, job.outcome)


if __name__ == "__main__":
    main()
