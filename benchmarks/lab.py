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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
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


def planned(paper: str, *more: str) -> list[str]:
    """The command that plans a paper's units."""
    return [sys.executable, "-m", "common", "run", "--paper", paper, "--dry-run", *more]


def units_of(paper: str, env: str, profile: str, seeds: range, workers: int, results: Path) -> list[str]:
    """The command that runs units."""
    return [sys.executable, "-m", "common", "run", "--paper", paper, "--profile", profile, "--envs", env, "--seeds",
            f"{seeds[0]}-{seeds[-1]}", "--workers", str(workers), "--results", str(results)]  # fmt: skip


def commands(root: Path) -> list[Measure]:
    """Wall-clock time of whole commands, as a user sees it."""

    def timed(*command: str):  # noqa: ANN202
        def work() -> float:
            seconds(root, *command)
            return 1.0

        return work

    found = [alone("lab", "dry run of agent_q, 10 units", "s", timed(*planned("agent_q")), target=10.0, rounds=3, better="lower")]
    state = subprocess.run([sys.executable, "-m", "dvc", "status", "-q"], cwd=root, capture_output=True)
    if state.returncode == 0:
        found.append(alone("lab", "dvc repro with nothing to do", "s", timed(sys.executable, "-m", "dvc", "repro", "-q"),
                           target=10.0, rounds=3, better="lower"))  # fmt: skip
    else:
        print("lab: the pipeline is not up to date, so a repro with nothing to do was not timed; run: make repro")
    return found


SHORT = ("score", "countdown-answer-v1", "smoke")
LONG = ("confidence_critique", "arithmetic-v1", "cpu")
"""Paper, environment and profile of units of three and of 18 seconds."""


@dataclass(frozen=True)
class Ran:
    """Seconds from a unit's start to the next one's (of two workers: half of it), of these the method's cell, and the most
    bytes of memory that all processes held together (shared pages once)."""

    pace: float
    training: float
    memory: float


def units(root: Path) -> list[Measure]:
    """What a unit costs beyond its training, and what a second worker gains and needs: in a copy of the project, whose run
    store is empty."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Path(folder) / "lab"
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(root), str(lab)], check=True)
        for name in ("data", "models"):
            (lab / name).symlink_to(root / name)
        short, long = _run(lab, SHORT, range(10), 1), []
        if (root / "models" / LONG[1]).is_dir():
            long = [_run(lab, LONG, range(4), 1), _run(lab, LONG, range(4, 12), 2)]
        else:
            print(f"lab: models/{LONG[1]} does not exist, so two workers were not timed; run: make repro")

    def alone_of(name: str, unit: str, value: float, target: float | None, better: str, note: str = "") -> Measure:
        return Measure("lab", name, unit, value, None, "", None, (value, value), target, better, note)

    beyond = short.pace - short.training
    found = [alone_of("a unit beyond its training", "s", beyond, 2.0, "lower",
                      "SCoRe at the smoke profile, one worker, its five figures and the tracking included"),
             alone_of("the same, as a share of two minutes", "%", 100 * beyond / 120, 5.0, "lower")]  # fmt: skip
    if long:
        one, two = long
        note = (f"Confidence v. Critique on {LONG[1]} at the cpu profile, {one.pace:.0f} s a unit, from start to start; the cell "
                "tells what two cores, which may share one, give to the same work without the lab")
        found += [alone_of("units of two workers against one", "times as many", one.pace / two.pace, 1.9, "higher", note),
                  alone_of("the method's cell alone, two at once against one", "times as many",
                           2 * one.training / two.training, None, "higher", note),
                  alone_of("memory of one more worker, at most", "MB", (two.memory - one.memory) / 1e6, None,
                           "lower")]  # fmt: skip
    return found


def _run(lab: Path, what: tuple[str, str, str], seeds: range, workers: int) -> Ran:
    """Run so many units and read their notebooks."""
    paper = what[0]
    command = units_of(*what, seeds, workers, lab / "rows.jsonl")
    most = 0.0
    with open(lab / "log", "w") as log:
        process = subprocess.Popen(command, cwd=lab, env={**os.environ, "PYTHONPATH": str(lab)}, stdout=log, stderr=log)
        family = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):
                most = max(most, sum(one.memory_full_info().pss for one in [family, *family.children(recursive=True)]))
            with suppress(subprocess.TimeoutExpired):
                process.wait(10.0)  # not more often: a look takes 0.07 s of a core that the workers could use
    if process.returncode:
        raise RuntimeError((lab / "log").read_text())
    notebooks = [json.loads(path.read_text(encoding="utf-8")) for path in lab.glob(f"runs/{paper}/*/notebook.ipynb")]
    return Ran(*pace([timing(one) for one in notebooks if one["metadata"]["papermill"]["parameters"]["seed"] in seeds], workers),
               most)  # fmt: skip


METHOD = "story.run()"
"""What the cell of a notebook calls that runs the method."""


def timing(notebook: dict) -> tuple[float, float]:
    """Of an executed notebook: when it started, in unix seconds, and the seconds of the cell that calls the method."""
    [cell] = [one for one in notebook["cells"] if one["cell_type"] == "code" and METHOD in "".join(one["source"])]
    start = datetime.fromisoformat(notebook["metadata"]["papermill"]["start_time"]).timestamp()
    return start, cell["metadata"]["papermill"]["duration"]


def pace(timings: Sequence[tuple[float, float]], workers: int) -> tuple[float, float]:
    """Seconds a unit, and of its method's cell, without the last unit of each worker, which no start follows."""
    starts, cells = zip(*sorted(timings), strict=True)
    whole = statistics.mean(starts[-workers:]) - statistics.mean(starts[:workers])
    return whole / (len(starts) - workers), statistics.mean(cells[:-workers])


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
SEEDS = (1, 10, 100, 1000)


def pipeline(root: Path) -> dict[str, list[tuple[float, float]]]:
    """Seconds of ``dvc status`` for copies of the project with so many papers of ten seeds each: the first paper under other names.
    And of planning so many seeds of one paper."""
    status, seeds = [], []
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
            if count == 1:
                seeds = [(n, seconds(lab, *planned(names[0], "--seeds", f"0-{n - 1}"))) for n in SEEDS]
    return {"papers of ten seeds: dvc status": status, "seeds of a paper: planning all units": seeds}
