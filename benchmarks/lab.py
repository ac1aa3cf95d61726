"""The lab itself: starting, planning, and how its cost grows with trees, simulations, lengths, seeds and papers."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

from benchmarks.measure import Measure, alone
from benchmarks.models import nano, prompts
from common.lm.engine import Engine


def seconds(root: Path, *command: str, check: bool = True) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=root, check=check, capture_output=True, env={**os.environ, "PYTHONPATH": str(root)})
    return time.perf_counter() - start


def commands(root: Path) -> list[Measure]:
    """Whole commands, as a user waits for them."""

    def timed(*command: str):  # noqa: ANN202
        def work() -> float:
            seconds(root, *command)
            return 1.0

        return work

    found = [alone("lab", "dry run of agent_q, 10 units", "s", timed(sys.executable, "-m", "common", "run", "--paper",
                   "agent_q", "--dry-run"), target=10.0, rounds=3, better="lower")]  # fmt: skip
    state = subprocess.run([sys.executable, "-m", "dvc", "status", "-q"], cwd=root, capture_output=True)
    if state.returncode == 0:
        found.append(alone("lab", "dvc repro with nothing to do", "s", timed(sys.executable, "-m", "common", "repro"),
                           target=10.0, rounds=3, better="lower"))  # fmt: skip
    else:
        print("lab: the pipeline is not up to date, so a repro with nothing to do was not timed; run: make repro")
    return found


UNITS = (2, 10)
"""Of how many units two runs are timed: their difference is what a unit costs, without the start of the run."""


def units(root: Path) -> list[Measure]:
    """What a unit costs beyond its training, a second worker gains, and a worker needs in memory: SCoRe at the smoke profile in
    a copy of the project, whose run store is empty."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Path(folder) / "lab"
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(root), str(lab)], check=True)
        (lab / "data").symlink_to(root / "data")
        seconds(lab, sys.executable, "-m", "common", "base", "--env", "countdown-answer-v1", "--profile", "smoke")
        spent, memory, first = {}, {}, 0
        for workers in (1, 2):
            times = []
            for count in UNITS:
                took, most = _run(lab, f"{first}-{first + count - 1}", workers)
                times.append(took)
                first += count
            spent[workers], memory[workers] = (times[1] - times[0]) / (UNITS[1] - UNITS[0]), most
        training = statistics.median(_training(path) for path in lab.glob("runs/score/*/notebook.ipynb"))
    beyond = spent[1] - training
    note = "SCoRe at the smoke profile, one worker, its five figures and the tracking included"

    def alone_of(name: str, unit: str, value: float, target: float | None, better: str, note: str = "") -> Measure:
        return Measure("lab", name, unit, value, None, "", None, (value, value), target, better, note)

    return [alone_of("a unit beyond its training", "s", beyond, 2.0, "lower", note),
            alone_of("the same, as a share of two minutes", "%", 100 * beyond / 120, 5.0, "lower"),
            alone_of("units of two workers against one", "times as many", spent[1] / spent[2], 1.9, "higher",
                     "three seconds each; two cores that may share one"),
            alone_of("memory of one more worker, at most", "MB", (memory[2] - memory[1]) / 1e6, None, "lower")]  # fmt: skip


def _run(lab: Path, seeds: str, workers: int) -> tuple[float, float]:
    """Seconds, and the most bytes of memory that all its processes held together (shared pages once)."""
    command = [sys.executable, "-m", "common", "run", "--paper", "score", "--profile", "smoke", "--envs", "countdown-answer-v1",
               "--seeds", seeds, "--workers", str(workers), "--results", str(lab / "rows.jsonl")]  # fmt: skip
    start, most = time.perf_counter(), 0.0
    with open(lab / "log", "w") as log:
        process = subprocess.Popen(command, cwd=lab, env={**os.environ, "PYTHONPATH": str(lab)}, stdout=log, stderr=log)
        family = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):
                most = max(most, sum(one.memory_full_info().pss for one in [family, *family.children(recursive=True)]))
            time.sleep(1.0)
    if process.returncode:
        raise RuntimeError((lab / "log").read_text())
    return time.perf_counter() - start, most


def _training(notebook: Path) -> float:
    """Seconds of the cell that calls the method."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    [cell] = [cell for cell in cells if cell["cell_type"] == "code" and ".run(unit)" in "".join(cell["source"])]
    return cell["metadata"]["papermill"]["duration"]


def growth() -> dict[str, list[tuple[float, float]]]:
    """Seconds against size: sampling by batch, by prompt length, and by answers to one prompt."""
    model, tokenizer = nano(context=600)

    def best(chats, n: int = 1) -> float:  # noqa: ANN001
        engine, times = Engine(model, tokenizer, batch=256), []
        for _ in range(3):
            engine.forget()
            start = time.perf_counter()
            engine.sample(chats, list(range(len(chats))), n=n, max_new_tokens=16)
            times.append(time.perf_counter() - start)
        return min(times)

    return {
        "batch (prompts of 32 tokens)": [(n, best(prompts(n, 14))) for n in (1, 4, 16, 64, 256)],
        "prompt length (batch 16)": [(2 * n, best(prompts(16, n))) for n in (16, 32, 64, 128, 256)],
        "answers to one prompt of 130 tokens": [(n, best(prompts(1, 60), n)) for n in (1, 4, 16, 64, 256)],
    }


PAPERS = (1, 10, 100)


def pipeline(root: Path) -> dict[str, list[tuple[float, float]]]:
    """Seconds of ``dvc status`` and of planning all units, for copies of the project with so many papers of ten
    seeds each: the first paper under other names."""
    status, planning = [], []
    for count in PAPERS:
        with tempfile.TemporaryDirectory() as folder:
            lab = Path(folder) / "lab"
            subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(root), str(lab)], check=True)
            for name in ("data", "models"):
                (lab / name).symlink_to(root / name)
            first = yaml.safe_load((lab / "params.yaml").read_text(encoding="utf-8"))["papers"][0]
            names = [f"copy_{number}" for number in range(count)]
            for name in names:
                shutil.copytree(lab / "papers" / first, lab / "papers" / name)
                params = lab / "papers" / name / "params.yaml"
                text = params.read_text(encoding="utf-8").replace(f"papers/{first}/", f"papers/{name}/")
                params.write_text(text, encoding="utf-8")
            chosen = yaml.safe_load((lab / "params.yaml").read_text(encoding="utf-8"))
            chosen |= {"papers": names, "seeds": list(range(10))}
            (lab / "params.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
            status.append((count, seconds(lab, sys.executable, "-m", "dvc", "status", "-q", check=False)))
            planning.append((count, seconds(lab, sys.executable, "-m", "common", "estimate", "repro")))
    return {"papers of ten seeds: dvc status": status, "papers of ten seeds: planning all units": planning}
