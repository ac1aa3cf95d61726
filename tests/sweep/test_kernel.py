"""A unit's kernel: what it wrote is kept, and it does not outlive its notebook."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from common.sweep.notebook import run_job
from common.sweep.workers import Job

NOTEBOOK = """# %% tags=["parameters"]
seed: int = 0

# %%
import atexit, os, pathlib, signal, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
atexit.register(time.sleep, 600)
atexit.register(pathlib.Path("asked").touch)
print(os.getpid(), *range(2000))
"""


@pytest.mark.parametrize("fails", [False, True])
def test_a_kernel_that_would_not_end_is_gone_with_its_notebook_kept(tmp_path, fails):
    (tmp_path / "toy.py").write_text(NOTEBOOK + "raise ValueError('toy')\n" * fails)
    job = Job(root=str(tmp_path), notebook=str(tmp_path / "toy.py"), parameters={"seed": 1},
              executed=str(tmp_path / "toy.ipynb"), outcome="", failed=str(tmp_path / "failed.ipynb"))  # fmt: skip
    found = run_job(job)
    assert found.ok is not fails and (found.error == "ValueError: toy") is fails
    cells = json.loads(Path(found.notebook).read_text(encoding="utf-8"))["cells"]
    words = "".join(cells[-1]["outputs"][0]["text"]).split()
    assert words[1:] == [str(i) for i in range(2000)] and not psutil.pid_exists(int(words[0]))
    assert not (tmp_path / "asked").exists()  # to end: it is killed at once
