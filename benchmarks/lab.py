"""The lab itself: starting, planning, and how its cost grows with trees, simulations, lengths, seeds and papers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
