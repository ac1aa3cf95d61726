"""One unit by two processes: the stages of one, written once; and the command that a user types."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from common import lab
from common.config import ConfigError
from common.cli.commands import execute_plan
from tests.launch import launch
from tests.papers.sums import ENV, build
from tests.papers.units import open_unit


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("sums"))


def test_two_processes_compute_the_stages_of_one(world, tmp_path, monkeypatch):
    alone = open_unit(world, "score", ENV, tmp_path / "one")
    expected = lab.run(alone)
    launch("tests.sweep.two_units", str(world), str(tmp_path / "two"))
    shared = open_unit(world, "score", ENV, tmp_path / "two")
    assert not shared.run.finished and json.loads((shared.run.path / "ranks.json").read_text()) == {"ranks": 2}

    def files(folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    for part in ("stages", "artifacts"):
        assert files(shared.run.path / part) == files(alone.run.path / part) != []
    logged = [[json.loads(line) for line in (unit.run.path / "events.jsonl").read_text().splitlines()]
              for unit in (alone, shared)]  # fmt: skip
    assert [(e["variant"], e["step"]) for e in logged[0]] == [(e["variant"], e["step"]) for e in logged[1]]

    monkeypatch.setattr(lab, "sft", None)  # whoever executes the notebook finds all of it done
    monkeypatch.setattr(lab, "policy_gradient", None)
    found = lab.run(shared)
    assert len(found) == len(expected) > 50
    for row, other in zip(found, expected, strict=True):
        assert (row.variant, row.panel, row.metric, row.n) == (other.variant, other.panel, other.metric, other.n)
        assert row.cost == other.cost
        assert row.value == pytest.approx(other.value, rel=1e-3, abs=1e-3, nan_ok=True)


def test_the_command_runs_a_unit_on_two_processes_and_says_it_once(new_lab, environment_of, tmp_path):
    root = new_lab(tmp_path / "lab")
    output = launch("common", "run", "--paper", "toy", "--seeds", "0", folder=root,
                    **{**environment_of(root), "PATH": os.environ["PATH"]})  # fmt: skip
    assert output.count("toy toy-v1 seed 0 cpu: 2 processes compute its stages") == 1
    assert output.count("1 units, 0 finished, 1 to run") == 1 and "1 succeeded" in output
    (done,) = (root / "runs" / "toy").glob("*/DONE")
    assert (done.parent / "notebook.ipynb").exists() and len(list((done.parent / "stages").glob("*.json"))) == 4
    assert len((done.parent / "events.jsonl").read_text().splitlines()) == 8  # once by all ranks, once by the notebook


def test_a_search_is_not_divided(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were launched but a search or a Ray cluster divides its units"):
        execute_plan(tmp_path, [], 1, "again", more=lambda _: [])
