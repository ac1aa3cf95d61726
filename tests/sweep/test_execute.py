"""Executing units: tables, workers, failures, kills. One small paper without torch; kernels are real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from common.config import known_papers
from common.rng import derive
from common.sweep.execute import _slow_to_import


def expected_total(seed: int, steps: int = 4) -> float:
    return float(sum(derive(seed, "toy", step) % 1000 for step in range(steps)))


def totals(path: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["seed"]: row["value"] for row in rows}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, new_lab, run_in):
    """A laboratory after one complete run with two workers, and what that run printed."""
    root = new_lab(tmp_path_factory.mktemp("finished") / "lab")
    result = run_in(root, "run", "--paper", "toy")
    assert result.returncode == 0, result.stdout
    return root, result.stdout


def wait_for(condition, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def family_of(root: Path) -> list[psutil.Process]:
    """Processes whose environment names this laboratory: parent, workers, kernels."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LAB_ROOT") == str(root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_a_run_publishes_the_rows_of_all_its_units(finished, statuses):
    root, output = finished
    assert totals(root / "results/toy/metrics.jsonl") == {0: expected_total(0), 1: expected_total(1)}
    assert "2 succeeded, 0 failed, 0 skipped" in output
    timing = json.loads((root / "results/toy/timing.json").read_text())
    assert timing["cpu"]["toy-v1"]["units"] == 2
    assert statuses(root) == {"sweep": ["FINISHED"], "unit": ["FINISHED"] * 2, "variant": ["FINISHED"] * 2}


def test_the_executed_notebook_is_kept_with_the_values_it_was_given(finished):
    root, _ = finished
    notebooks = [nbformat.read(path, 4) for path in root.glob("runs/toy/*/notebook.ipynb")]
    given = sorted(notebook.metadata.papermill.parameters.seed for notebook in notebooks)
    assert given == [0, 1]
    assert all(isinstance(notebook.metadata.papermill.input_path, str) for notebook in notebooks)


def test_units_of_two_papers_share_the_workers(tmp_path, new_lab, run_in, statuses):
    """What `make repro` does: one pool, a sweep of each paper in MLflow; commands of one paper then find its units finished."""
    root = new_lab(tmp_path / "lab")
    for name in ("method.py", "params.yaml", "__init__.py"):
        target = root / "papers/twin" / name
        target.parent.mkdir(exist_ok=True)
        target.write_text((root / "papers/toy" / name).read_text().replace("papers/toy", "papers/twin"))
    notebook = (root / "notebooks/toy.py").read_text()
    (root / "notebooks/toy.py").write_text(notebook.replace(
        "from papers.toy import method", 'import importlib\n\nmethod = importlib.import_module(f"papers.{paper}.method")'))
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("[toy]", "[toy, twin]"))
    code = ("from pathlib import Path; from common.cli.commands import execute_plan; from common.sweep.plan import plan; "
            "root = Path('.').resolve(); "
            "execute_plan(root, [one for p in ('toy', 'twin') for one in plan(root, p, seeds=(0, 1), profile='cpu')], 2, 'make repro')")
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, text=True, stdin=subprocess.DEVNULL,
                           env={**os.environ, "LAB_ROOT": str(root), "PYTHONPATH": str(root)}, capture_output=True, check=True).stdout
    assert "4 succeeded, 0 failed, 0 skipped" in shown
    assert {"toy toy-v1 seed 1 cpu", "twin toy-v1 seed 0 cpu"} <= {line.split("min  ")[-1] for line in shown.splitlines()}
    assert statuses(root)["sweep"] == ["FINISHED"] * 2 and statuses(root)["unit"] == ["FINISHED"] * 4
    (board,) = root.glob("runs/sweeps/*/board.json")
    assert {unit["name"].split()[0] for unit in json.loads(board.read_text())["units"]} == {"toy", "twin"}
    assert "nothing to run" in run_in(root, "run", "--paper", "twin").stdout
    assert totals(root / "results/twin/metrics.jsonl") == {0: expected_total(0), 1: expected_total(1)}


def test_each_worker_gets_a_gpu_of_its_own(tmp_path, new_lab, run_in):
    """Two GPUs by name, two workers: their kernels see one each. Nothing here needs a GPU: only its name is handed on."""
    root = new_lab(tmp_path / "lab")
    with open(root / "notebooks/toy.py", "a", encoding="utf-8") as notebook:
        notebook.write('\n# %%\nimport os\n\nprint("gpu", os.environ.get("CUDA_VISIBLE_DEVICES"))\n')
    params = (root / "papers/toy/params.yaml").read_text()
    (root / "papers/toy/params.yaml").write_text(params.replace("pause: {default: 0.0", "pause: {default: 0.5"))
    result = run_in(root, "run", "--paper", "toy", CUDA_VISIBLE_DEVICES="3, 5")
    assert result.returncode == 0, result.stdout
    printed = "".join(path.read_text() for path in root.glob("runs/toy/*/notebook.ipynb"))
    assert sorted(re.findall(r'"gpu (\w+)', printed)) == ["3", "5"]


def test_running_again_starts_nothing_and_says_so(finished, run_in):
    root, _ = finished
    before = {path: path.stat().st_mtime_ns for path in root.glob("runs/toy/*/notebook.ipynb")}
    result = run_in(root, "run", "--paper", "toy")
    assert result.returncode == 0 and "all finished: nothing to run" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in root.glob("runs/toy/*/notebook.ipynb")}


def test_adding_a_seed_runs_that_seed_only_and_estimates_from_the_others(finished, run_in):
    root, _ = finished
    result = run_in(root, "run", "--paper", "toy", "--seeds", "0-2", "--dry-run")
    states = [line.split()[:1] for line in result.stdout.splitlines()[:3]]
    assert states == [["finished"], ["finished"], ["to"]]
    assert "3 units, 2 finished, 1 to run: about 0." in result.stdout


def test_narrowed_runs_leave_results_alone(finished, run_in):
    root, _ = finished
    before = (root / "results/toy/metrics.jsonl").read_bytes()
    result = run_in(root, "run", "--paper", "toy", "--seeds", "1")
    assert result.returncode == 0 and "results/ stays as it is" in result.stdout
    assert (root / "results/toy/metrics.jsonl").read_bytes() == before


def test_one_worker_gives_the_same_bytes_as_two(finished, tmp_path, new_lab, run_in):
    other = new_lab(tmp_path / "lab")
    result = run_in(other, "run", "--paper", "toy", "--workers", "1")
    assert result.returncode == 0, result.stdout
    table = "results/toy/metrics.jsonl"
    assert (other / table).read_bytes() == (finished[0] / table).read_bytes()


def test_a_failing_unit_is_kept_and_reported_and_the_sweep_goes_on(tmp_path, new_lab, run_in, statuses):
    root = new_lab(tmp_path / "lab")
    result = run_in(root, "sweep", "--paper", "toy", "--grid", "fail_at=2,-1", "--workers", "1")
    assert result.returncode == 1
    kept = list(root.glob("runs/failed/toy/*.ipynb"))
    assert len(kept) == 1 and str(kept[0].relative_to(root)) in result.stdout
    assert "in cell 4: ValueError: the toy fell over" in result.stdout, result.stdout
    assert "  | ValueError: the toy fell over" in result.stdout
    assert "1 succeeded, 1 failed, 0 skipped" in result.stdout
    assert f"{expected_total(0):.4f}" in result.stdout  # the table of what succeeded
    assert sorted(statuses(root)["unit"]) == ["FAILED", "FINISHED"] and statuses(root)["sweep"] == ["FAILED"]
    assert not (root / "results").exists()
    stages = [path.name for path in root.glob("runs/toy/*/stages/step1.json")]
    assert len(stages) == 2  # the failed unit keeps what it finished


def test_units_of_every_paper_of_this_project_are_forked():
    """The harness imports torch for all of them, which takes seconds a unit that is started from nothing."""
    root = Path(__file__).parents[2]
    assert [paper for paper in known_papers(root) if not _slow_to_import(root, paper)] == []


def test_a_sweep_of_a_file_says_which_setting_is_highest_and_draws_it(tmp_path, new_lab, run_in):
    root = new_lab(tmp_path / "lab")
    (tmp_path / "steps.yaml").write_text("paper: toy\nranges: {steps: {from: 2, to: 5}}\npoints: 2\nmetric: total\n")
    result = run_in(root, "sweep", "--file", str(tmp_path / "steps.yaml"), "--variant", "method")
    assert result.returncode == 0, result.stdout
    found = {int(steps): float(mean) for steps, mean in re.findall(r"^steps=(\d).* total +(\d+\.\d+)", result.stdout, re.M)}
    steps, mean = max(found.items(), key=lambda pair: pair[1])
    assert len(found) == 2 and min(found) in (2, 3) and max(found) in (4, 5)  # a Latin hypercube: one in each half
    assert f"highest total of method on toy-v1/test: {mean:.4f} at steps={steps}" in result.stdout, result.stdout
    assert len(list(root.glob("runs/sweeps/toy-*/parallel.toy-v1.test.png"))) == 1
    tied = run_in(root, "sweep", "--paper", "toy", "--grid", f"steps={steps}", "pause=0,0.01", "--metric", "total", "--variant", "method")
    assert re.search(rf"^highest total of method on toy-v1/test: \S+ at steps={steps} pause=\S+, and at 1 other$", tied.stdout, re.M)
    assert f"\nin all: steps={steps}\n" in tied.stdout and re.search(r"^pause=0.01 +toy-v1 .* total ", tied.stdout, re.M)
    both = run_in(root, "sweep", "--file", str(tmp_path / "steps.yaml"), "--paper", "toy")
    assert both.returncode == 2 and "--paper is given beside --file but the file describes the sweep" in both.stdout


@pytest.mark.parametrize("imports", ["", "import torch\n"], ids=["each unit from nothing", "units forked"])
def test_kill_nine_of_the_whole_group_then_the_same_command(
    imports, finished, tmp_path, new_lab, run_in, start_in, statuses
):
    root = new_lab(tmp_path / "lab")
    method = root / "papers/toy/method.py"
    method.write_text(method.read_text().replace("import time\n", f"import time\n{imports}", 1))
    slow = (root / "papers/toy/params.yaml").read_text().replace("pause: {default: 0.0", "pause: {default: 0.7")
    (root / "papers/toy/params.yaml").write_text(slow)
    process = start_in(root, "run", "--paper", "toy")
    wait_for(lambda: len(list(root.glob("runs/toy/*/stages/step0.json"))) == 2, "two units to finish a stage")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "RUNNING" in statuses(root)["unit"]
    assert not (root / "results").exists()
    first = {path: path.stat().st_mtime_ns for path in root.glob("runs/toy/*/stages/step0.json")}

    result = run_in(root, "run", "--paper", "toy")  # at once: it waits for the dying kernels' locks
    assert result.returncode == 0, result.stdout
    assert (root / "results/toy/metrics.jsonl").read_bytes() == (finished[0] / "results/toy/metrics.jsonl").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in first} == first  # resumed, not recomputed
    everything = [status for kind in statuses(root).values() for status in kind]
    assert "RUNNING" not in everything and "KILLED" in everything
    wait_for(lambda: not family_of(root), "all processes to be gone", 15)


def test_an_interruption_ends_the_workers_and_says_how_to_resume(tmp_path, new_lab, start_in, statuses):
    root = new_lab(tmp_path / "lab")
    params = root / "papers/toy/params.yaml"
    params.write_text(params.read_text().replace("pause: {default: 0.0", "pause: {default: 1.0"))
    process = start_in(root, "run", "--paper", "toy", "--profile", "cpu", "--seeds", "3", "--results", "rows.jsonl")
    wait_for(lambda: list(root.glob("runs/toy/*/stages/step0.json")), "a stage")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "to resume: python -m common run --paper toy --seeds 3 --profile cpu --results rows.jsonl" in output
    wait_for(lambda: not family_of(root), "all processes to be gone", 5)
    found = statuses(root)
    assert found["unit"] == ["KILLED"] and found["sweep"] == ["KILLED"]
    assert "RUNNING" not in found.get("variant", [])


def test_a_notebook_that_forgets_to_finish_fails(tmp_path, new_lab, run_in):
    root = new_lab(tmp_path / "lab")
    source = (root / "notebooks/toy.py").read_text().replace("method.run(unit)", "method.rows(unit, method.train(unit))")
    (root / "notebooks/toy.py").write_text(source)
    result = run_in(root, "run", "--paper", "toy", "--seeds", "0", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert result.returncode == 1
    assert "must call unit.run.write_rows" in result.stdout
    assert "MLflow at http://127.0.0.1:9 does not answer; going on with the local store" in result.stdout
