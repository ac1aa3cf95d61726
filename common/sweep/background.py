"""A sweep that outlives whoever started it: a notebook's kernel, a closed browser, a terminal.

    started = start_in_background("--paper agent_q --grid search.alpha=0,0.5,1 --seeds 0-1")
    sweep_view(started)                # common.report.sweeps; also later, from another kernel, as sweep_view()
    started.stop()                     # like Ctrl-C: what is finished is kept, the same words go on with the rest
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from common.files import storage
from common.sweep.unit import project_root

_DETACH = """
import subprocess, sys
log, *command = sys.argv[1:]
with open(log, "w") as output:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
print(process.pid)
"""
"""Ends at once, so that the sweep is nobody's child: Jupyter ends all descendants of a kernel with it."""


@dataclass(frozen=True)
class Background:
    """A sweep that was started: its process, and the file with what it prints."""

    root: Path
    pid: int
    log: Path

    @property
    def running(self) -> bool:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        return False

    def stop(self) -> None:
        """As Ctrl-C does in a terminal; nothing when it is over."""
        if self.running:
            os.kill(self.pid, signal.SIGINT)

    def __repr__(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        state = "running" if self.running else "over"
        where = self.log.relative_to(self.root)
        return "\n".join([f"a sweep in the background, process {self.pid}, {state}; it prints to {where}", *lines])


def start_in_background(words: str, *, root: Path | None = None) -> Background:
    """Start ``python -m common sweep <words>`` as a process of its own. Mistakes in ``words`` are in the log, which is shown
    with the result."""
    root = project_root() if root is None else root
    folder = root / "runs" / "sweeps" / "logs"
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    command = [sys.executable, "-u", "-m", "common", "sweep", *shlex.split(words)]
    environment = {**os.environ, "LAB_ROOT": str(root)}
    started = subprocess.run([sys.executable, "-c", _DETACH, str(log), *command], cwd=root, env=environment,
                             stdout=subprocess.PIPE, text=True, check=True)
    return Background(root, int(started.stdout), log)
