"""A complete small laboratory in a temporary folder: a paper without torch, its notebook, data and base model."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

METHOD = '''"""A paper that learns nothing: each step is a number derived from the seed."""

import time
from dataclasses import dataclass

from common.rng import derive
from common.rows import MetricRow, cost_of
from common.types import Cost


@dataclass(frozen=True)
class Params:
    steps: int
    pause: float
    fail_at: int


def train(unit):
    total = 0
    for step in range(unit.params.steps):
        def compute(step=step):
            time.sleep(unit.params.pause)
            if step == unit.params.fail_at:
                raise ValueError("the toy fell over")
            return {"value": derive(unit.seed, "toy", step) % 1000}

        total += unit.run.stage(f"step{step}", compute)["value"]
        unit.run.log("method", step, {"total": total})
    return total


def rows(unit, total):
    cost = cost_of(Cost(updates=unit.params.steps))
    return [MetricRow(paper=unit.paper, env=unit.env, profile=unit.profile, scale="nano", variant="method",
                      seed=unit.seed, panel=f"{unit.env}/test", metric="total", value=total, n=1, cost=cost)]


def run(unit):
    if not unit.run.finished:
        unit.run.write_rows(rows(unit, train(unit)))
        unit.run.finish()
    return unit.run.rows()
'''

NOTEBOOK = '''# %% [markdown]
# # A toy

# %% tags=["parameters"]
paper: str = "toy"  # the paper
env: str = "toy-v1"  # where
seed: int = 0  # training seed
profile: str = "cpu"  # scale
overrides: dict = {}  # parameters to change
train: bool = False  # computed here

# %%
from common.sweep.unit import open_unit

unit = open_unit(paper=paper, env=env, seed=seed, profile=profile, overrides=overrides)

# %%
from papers.toy import method

own = method.run(unit)

# %%
print(own)
'''

PARAMS = '''family: toy
notebook: notebooks/toy.py
method: papers/toy/method.py
envs: [toy-v1]
parameters:
  steps: {default: 4, range: ">= 1", source: "ours: few"}
  pause: {default: 0.0, range: ">= 0", source: "ours: no waiting"}
  fail_at: {default: -1, range: ">= -1", source: "ours: never"}
'''


def make_lab(root: Path) -> Path:
    """Write the small laboratory; ``common`` is a copy, so that code hashes are those of the real files."""
    shutil.copytree(REPOSITORY / "common", root / "common", ignore=shutil.ignore_patterns("__pycache__"))
    files = {
        "common/envs/versions/toy_v1.py": '"""toy-v1."""\n', "papers/__init__.py": "", "papers/toy/__init__.py": "", "papers/toy/method.py": METHOD,
        "papers/toy/params.yaml": PARAMS, "notebooks/toy.py": NOTEBOOK,
        "params.yaml": "profile: cpu  # the scale\npapers: [toy]\nseeds: [0, 1]\nworkers: 2\n",
        "requirements.lock": "numpy==1.0\ntoy==1.0\n", "models/toy-v1/weights.json": "{}\n",
        "data/toy-v1/manifest.json": json.dumps({"env": "toy-v1", "files": {}}),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def lab_environment(root: Path) -> dict[str, str]:
    """The environment of a command in the laboratory at ``root``, without what the caller's shell sets for MLflow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**kept, "LAB_ROOT": str(root), "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def run_lab(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``python -m common <arguments>`` in the laboratory; output and errors together in ``stdout``."""
    return subprocess.run([sys.executable, "-m", "common", *arguments], cwd=root, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          env={**lab_environment(root), **variables})


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow sqlite file with its tables: making one takes seconds, so each laboratory gets a copy."""
    root = tmp_path_factory.mktemp("store")
    code = "from pathlib import Path; from common.track.mlflow_log import Tracker; Tracker(Path(r'%s'))" % root
    subprocess.run([sys.executable, "-c", code], check=True, env=lab_environment(REPOSITORY), cwd=REPOSITORY)
    return root / "mlruns" / "mlflow.db"


@pytest.fixture(scope="session")
def new_lab(empty_store: Path):
    """``new_lab(folder)``: :func:`make_lab` with MLflow's tables in place."""
    def make(root: Path) -> Path:
        make_lab(root)
        (root / "mlruns").mkdir()
        shutil.copy(empty_store, root / "mlruns" / "mlflow.db")
        return root

    return make


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A laboratory for tests that stop before anything runs."""
    return make_lab(tmp_path / "lab")


@pytest.fixture(scope="session")
def run_in():
    return run_lab


@pytest.fixture(scope="session")
def start_in():
    """``start_in(root, …)``: the same command in the background, as the leader of a process group of its own."""
    def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-m", "common", *arguments], cwd=root, env=lab_environment(root),
                                text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                start_new_session=True)

    return start


@pytest.fixture(scope="session")
def statuses():
    """``statuses(root)``: the status of every MLflow run of a laboratory by kind, read from the sqlite file."""
    def read(root: Path) -> dict[str, list[str]]:
        query = ("SELECT tags.value, runs.status FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
                 "WHERE tags.key = 'lab.kind' ORDER BY runs.start_time")
        with sqlite3.connect(root / "mlruns" / "mlflow.db") as database:
            found: dict[str, list[str]] = {}
            for kind, status in database.execute(query):
                found.setdefault(kind, []).append(status)
        return found

    return read


@pytest.fixture(scope="session")
def environment_of():
    return lab_environment
