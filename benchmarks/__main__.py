"""``python -m benchmarks``: run the suite (or the groups named), print its table, write results and the page."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: races are of one core each
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import argparse
import time
from pathlib import Path

import torch

from benchmarks import environments, lab, machine, page, sampling, searching, training

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    groups = {
        "roofline": lambda: machine.roofline(),
        "sampling": lambda: sampling.measures(),
        "search": lambda: searching.measures(),
        "training": lambda: training.measures(),
        "environments": lambda: environments.measures(ROOT / "data"),
        "lab": lambda: lab.commands(ROOT) + lab.units(ROOT),
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(groups)}; all, with growth and the page, if none")
    chosen = parser.parse_args().groups
    unknown = [name for name in chosen if name not in groups]
    if unknown:
        parser.error(f"no group {unknown[0]}; choose from {', '.join(groups)}")
    torch.set_num_threads(1)
    start, found = time.monotonic(), []
    for name in chosen or groups:
        for one in groups[name]():
            found.append(one)
            print(page.row(one), flush=True)
    if chosen:
        print("nothing written: benchmarks/results/ and docs/performance.md hold whole suites only")
        return
    growth = searching.growth() | lab.growth() | lab.pipeline(ROOT)
    skipped = [] if torch.cuda.is_available() else ["No GPU here: the suite ran on the CPU alone."]
    skipped += searching.skipped() + sampling.skipped()
    minutes = (time.monotonic() - start) / 60
    page.write(ROOT, machine.described(), found, growth, skipped, minutes)
    print(f"{len(found)} measures in {minutes:.1f} min: benchmarks/results/, docs/performance.md")


if __name__ == "__main__":
    main()
