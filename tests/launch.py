"""Starting two processes as a user would, by accelerate and configs/accelerate/cpu2.yaml; they sum by gloo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 240
"""Seconds for both processes together, imports included: ranks that wait for each other forever must fail."""


def launch(module: str, *arguments: str, folder: Path = ROOT, **variables: str) -> str:
    """The output of ``python -m module arguments`` in two processes; fails with it when they fail or do not end in time."""
    config = ROOT / "configs" / "accelerate" / "cpu2.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), "-m", module, *arguments]
    process = subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               stdin=subprocess.DEVNULL, start_new_session=True,
                               env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables})  # fmt: skip
    try:
        output, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"two processes did not end in {LIMIT} s:\n{process.communicate()[0][-3000:]}")
    assert process.returncode == 0, output[-5000:]
    return output
