"""Where a run comes from: source commit and diff, environment lock, versions, hardware.

Nothing here imports torch or fails because a tool is absent.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from common.config.strict import ConfigError
from common.track.processor import model

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "mlflow", "dvc", "papermill", "vllm")
"""Packages whose versions are recorded; the lock holds all the others."""


NUMERIC = ("accelerate", "bm25s", "datasets", "Jinja2", "MinAtar", "numpy", "peft", "RapidFuzz", "safetensors", "scipy",
           "tokenizers", "torch", "transformers", "trl")  # fmt: skip
"""Packages whose versions are part of every unit's key: those that code of a unit imports and that can move a number, and what
these compute with. Jinja2 writes the prompts of chat templates. Not among them are what reads parameters (PyYAML; the values
are in the key), draws (matplotlib) or measures memory (psutil). A test holds the list against the imports."""


@dataclass(frozen=True)
class Provenance:
    """``commit`` is "" outside git; ``diff`` the uncommitted changes as text, "" when clean.

    ``lock`` is the hash of ``requirements.lock``. ``hardware`` has cpu, cores, memory_gb and gpu ("none").
    """

    commit: str
    diff: str
    lock: str
    versions: dict[str, str]
    hardware: dict[str, str]

    @property
    def dirty(self) -> bool:
        return bool(self.diff)


def provenance(root: Path) -> Provenance:
    """Source, environment and machine at the time of the call; takes some 0.1 s."""
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD").strip()
    return Provenance(commit=commit, diff=_diff(root) if commit else "", lock=lock_hash(root), versions=_versions(),
                      hardware=_hardware())


def lock_hash(root: Path) -> str:
    """SHA-256 of the pins of ``requirements.lock`` (its lines but comments), in hex. ConfigError when it is missing."""
    return hashlib.sha256(b"".join(_pins(root))).hexdigest()


def pins_hash(root: Path) -> str:
    """SHA-256 of the pins of the :data:`NUMERIC` packages alone, in hex."""
    names = {name.lower().encode() for name in NUMERIC}
    return hashlib.sha256(b"".join(line for line in _pins(root) if line.partition(b"==")[0].lower() in names)).hexdigest()


def _pins(root: Path) -> list[bytes]:
    try:
        lines = (root / "requirements.lock").read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ConfigError(f"requirements.lock cannot be read ({error.strerror}) but every run depends on it; "
                          "restore it from git") from None
    return [line for line in lines if not line.startswith(b"#")]


def _diff(root: Path) -> str:
    """Changes against HEAD, then the names of untracked files that git does not ignore."""
    changed = _output("git", "-C", str(root), "diff", "--no-color", "--no-ext-diff", "HEAD", "--", ".")
    untracked = _output("git", "-C", str(root), "ls-files", "--others", "--exclude-standard").splitlines()
    return changed + "".join(f"untracked: {name}\n" for name in untracked)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    compiler = _output(os.environ.get("CC", "cc"), "--version").partition("\n")[0]
    # What runs language models: common/lm/engine.py and native.py
    return versions | {"cc": compiler or "none", "backend": os.environ.get("LAB_BACKEND") or "the fastest"}


def _hardware() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").strip().splitlines()
    return {"cpu": model(), "cores": str(cores), "memory_gb": f"{memory:.1f}", "gpu": ", ".join(names) or "none"}


def _output(*command: str) -> str:
    """What the command prints; "" when it is absent, fails or takes longer than 20 s."""
    if shutil.which(command[0]) is None:
        return ""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # never wait for, or disturb, a user's git command
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", errors="replace") if done.returncode == 0 else ""
