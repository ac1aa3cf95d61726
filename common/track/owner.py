"""The process that owns a run, identified so that a later process with the same number is another one."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil


def current_owner() -> dict[str, Any]:
    """Host name, boot of the machine, process id and the process' start, of this process."""
    return {"host": platform.node(), "boot": _boot(), "pid": os.getpid(), "start": _start(os.getpid())}


def alive(owner: Mapping[str, Any], *, local: bool) -> bool:
    """False when the owner is certainly gone: the machine has rebooted, or the process is not there any more.

    ``local``: the record is in a file of this machine, so a foreign host name means a container that ended.
    Otherwise the process of another host cannot be looked at and counts as alive.
    """
    if owner.get("host") != platform.node() and not local:
        return True
    if owner.get("boot") != _boot():
        return False
    pid = owner.get("pid")
    return isinstance(pid, int) and _start(pid) is not None and _start(pid) == owner.get("start")


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def _start(pid: int) -> str | None:
    """When the process started, as text; None when it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # state; start in clock ticks since boot
    except FileNotFoundError:
        pass
    except OSError:
        return None
    if Path("/proc/self/stat").exists():
        return None
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None
