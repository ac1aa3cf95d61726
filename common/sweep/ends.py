"""How a process ended that left no word: by which signal, and whether the system killed it for want of memory.

Linux counts such kills: for the control group of the process (``memory.events``, or ``memory.oom_control`` of version 1), or for the
whole machine (``/proc/vmstat``). A process that SIGKILL ended while the count rose is taken for one of them; one that another signal
ended is not, whatever memory it had.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

CRASHES = ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL")
"""What compiled code ends with that did something forbidden."""

WANT_OF_MEMORY = "was killed by the system for want of memory"


def oom_kills(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many processes the system has killed for want of memory, in this process's control group where it says so, else on this
    machine. None where nobody counts."""
    try:
        own = (proc / "self/cgroup").read_text()
    except OSError:
        own = ""
    files = []
    if found := re.search(r"^0::/(.*)$", own, re.M):
        files += [groups / found[1] / "memory.events", groups / "memory.events"]
    if found := re.search(r"^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:/(.*)$", own, re.M):
        files += [groups / "memory" / found[1] / "memory.oom_control", groups / "memory/memory.oom_control"]
    for file in (*files, proc / "vmstat"):
        try:
            count = re.search(r"^oom_kill (\d+)$", file.read_text(), re.M)
        except OSError:
            continue
        if count:
            return int(count[1])
    return None


def how_it_ended(code: int | None, before: int | None, after: int | None) -> str:
    """What follows "the process" in a sentence on its end: ``code`` is negative for a signal, None where it is not known; ``before``
    and ``after`` are :func:`oom_kills` at its start and now."""
    again = "run the same command again, which goes on after the last finished stage"
    if code is None:
        return f"died; {again}"
    if code >= 0:
        return f"ended by itself with exit code {code}; {again}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL" and before is not None and after is not None:
        if after > before:
            return f"{WANT_OF_MEMORY} (SIGKILL)"
        return f"was ended from outside by SIGKILL, not for want of memory; {again}"
    if name == "SIGKILL":
        return f"was ended from outside by SIGKILL, perhaps for want of memory; make room, or {again}"
    if name in CRASHES:
        return (f"crashed with {name}, a fault in compiled code and no lack of memory; {again}, and if it crashes again with "
                "LAB_BACKEND=torch before it, which leaves this project's own C code out")
    return f"was ended by {name}; {again}"
