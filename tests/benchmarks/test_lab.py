"""What the lab itself costs, read from executed notebooks: by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.lab import LONG, METHOD, SHORT, pace, planned, timing, units_of
from common.__main__ import _parser


def test_a_notebook_tells_its_start_and_the_seconds_of_the_method_s_cell():
    other = {"cell_type": "code", "source": ["print(1)"], "metadata": {"papermill": {"duration": 5.0}}}
    cell = {"cell_type": "code", "source": ["story", ".run()"], "metadata": {"papermill": {"duration": 2.5}}}
    note = {"cell_type": "markdown", "source": ["calls story.run()"], "metadata": {}}
    notebook = {"cells": [other, note, cell], "metadata": {"papermill": {"start_time": "1970-01-01T00:01:40.5+00:00"}}}
    assert timing(notebook) == (100.5, 2.5)


@pytest.mark.parametrize(("workers", "timings", "found"), [
    (1, [(10, 4), (0, 3), (30, 99)], (15, 3.5)),  # in no order; the last one is not followed by another
    (2, [(0, 6), (1, 8), (10, 8), (12, 6), (20, 99), (23, 99)], (21 / 4, 7)),  # pairs from 0.5 to 21.5
])  # fmt: skip
def test_seconds_a_unit_are_those_between_starts(workers, timings, found):
    assert pace(timings, workers) == pytest.approx(found)


def test_the_commands_that_are_timed_are_commands_of_the_laboratory():
    for command in (planned("agent_q", "--seeds", "0-9"), *(units_of(*one, range(4), 2, Path("rows.jsonl")) for one in (SHORT, LONG))):
        asked = _parser().parse_args(command[3:])
        assert asked.command == "run" and asked.paper in (SHORT[0], LONG[0], "agent_q") and asked.seeds.startswith("0-")


@pytest.mark.parametrize("notebook", sorted((Path(__file__).parents[2] / "notebooks").glob("[a-z]*.ipynb")), ids=lambda path: path.stem)
def test_one_cell_of_a_family_s_notebook_runs_the_method(notebook):
    cells = ["".join(one["source"]) for one in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if one["cell_type"] == "code"]
    if any("open_story" in one for one in cells):
        assert sum(METHOD in one for one in cells) == 1
