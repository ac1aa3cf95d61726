"""Steps, snapshots and restores of the environments, on one core."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure import Measure, alone
from common.envs import load_panel, make
from common.rng import generator


def measures(data: Path) -> list[Measure]:
    found = []
    for name in ("countdown-v1", "shop-v1"):
        env, tasks = make(name, data), load_panel(data, f"{name}/validation")[:50]

        def play() -> float:
            steps = 0
            for number, task in enumerate(tasks):
                rng = generator("benchmark play", number)
                env.reset(task)
                while True:
                    actions = env.actions()
                    steps += 1
                    if env.step(actions[int(rng.integers(len(actions)))]).done:
                        break
            return steps

        def copies() -> float:
            env.reset(tasks[0])
            for _ in range(20_000):
                env.restore(env.snapshot())
            return 20_000

        found.append(alone("environments", f"{name}: random play, actions listed at each step", "steps/s", play,
                           target=20_000))  # fmt: skip
        found.append(alone("environments", f"{name}: snapshot and restore", "s", copies, target=20e-6,
                           better="lower"))  # fmt: skip
    return found
