"""Peak speed of the machine: matrix products and memory, with the threads that the races use."""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Measure, alone
from common.lm import native

LIBRARIES = ("torch", "transformers", "trl", "datasets", "peft", "dvc", "mlflow")


def described() -> dict[str, str | int]:
    """Processor, cores, threads of the races and library versions; nothing that names a place."""
    cpu = "unknown"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    facts = {"cpu": cpu, "instructions": native.instructions(), "cores": os.cpu_count() or 0, "threads": torch.get_num_threads()}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    facts |= {"gpu": gpu, "python": platform.python_version()}
    return facts | {name: version(name) for name in LIBRARIES}


def _products(seconds: float) -> int:
    """How many products of a nano model's shape one thread finishes."""
    torch.set_num_threads(1)
    a, w, count, end = torch.randn(4096, 96), torch.randn(96, 288), 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        a @ w
        count += 1
    return count


def together(seconds: float = 3.0, rounds: int = 3) -> Measure:
    """Work of two processes at once against one alone: no two workers can do better on this machine."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_products, [0.5, 0.5]))
        found = []
        for _ in range(rounds):
            both = sum(pool.map(_products, [seconds, seconds]))
            found.append(both / pool.submit(_products, seconds).result())
    return Measure("roofline", "float32 products of two processes against one", "times as many", statistics.median(found),
                   None, "", None, (min(found), max(found)), None, "higher")  # fmt: skip


def square() -> float:
    """Operations of large float32 products, in 10⁹."""
    big = torch.ones(1024, 1024)
    for _ in range(8):
        big @ big
    return 8 * 2 * 1024**3 / 1e9


def roofline() -> list[Measure]:
    """Large float32 products, products of a nano model's shape, a copy that fits no cache, and two processes at once."""
    a, w = torch.randn(4096, 96), torch.randn(96, 288)
    source = np.ones(2**25)
    target = np.empty_like(source)

    def nano() -> float:
        for _ in range(100):
            a @ w
        return 100 * 2 * 4096 * 96 * 288 / 1e9

    def copy() -> float:
        np.copyto(target, source)
        return 2 * source.nbytes / 1e9

    return [
        alone("roofline", "float32 product, 1024 x 1024 x 1024", "GFLOP/s", square, target=None),
        alone("roofline", "float32 product, 4096 x 96 x 288", "GFLOP/s", nano, target=None),
        alone("roofline", "memory copy, 256 MiB, read and write", "GB/s", copy, target=None),
        together(),
    ]
