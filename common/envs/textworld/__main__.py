"""Measures the games on validation tasks and prints the table of :mod:`common.envs.textworld`: python -m common.envs.textworld."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import fmean
from typing import Any

from common.envs import load_panel, make
from common.envs.panels import version
from common.envs.textworld.game import TextWorldEnv
from common.envs.textworld.panels import layout_of
from common.rng import generator
from common.types import Task

ENVS = ("textworld-coin-v1", "textworld-cooking-v1", "textworld-map-v1")
TASKS, SEEDS = 100, 200


def played(env: TextWorldEnv, tasks: list[Task], act: Callable[[str], str]) -> list[float]:
    """Rewards of one episode of each task; ``act`` chooses by the task's id."""
    rewards = []
    for task in tasks:
        seen = env.reset(task)
        while not seen.done:
            seen = env.step(act(task.id))
        rewards.append(seen.reward)
    return rewards


def walked(env: TextWorldEnv, tasks: list[Task]) -> tuple[float, float, list[Any], list[str]]:
    """Random episodes: seconds a step, success, the states met, the prompts."""
    states, prompts, rewards = [], [], []
    seconds = 0.0
    for task in tasks:
        rng, before = generator("random", task.id), time.perf_counter()
        seen = env.reset(task)
        while not seen.done:
            states.append(env.snapshot())
            listed = env.actions()
            seen = env.step(listed[int(rng.integers(len(listed)))])
        seconds += time.perf_counter() - before
        rewards.append(seen.reward)
    for state in states:
        env.restore(state)
        prompts.append(env.prompt()[0]["content"])
    return seconds / len(states), fmean(rewards), states, prompts


def layouts(env: TextWorldEnv) -> tuple[int, int]:
    """Layouts that the package makes of the first seeds, and how many of them are different."""
    found = []
    for seed in range(SEEDS):
        try:
            env.reset(Task("", env.id, "", {"seed": seed, "fold": "train"}))
        except ValueError:
            continue
        found.append(layout_of(env))
    return len(found), len(set(found))


def row(env_id: str) -> dict[str, str]:
    """What is measured of one game."""
    tasks = load_panel("data", f"{env_id}/validation")[:TASKS]
    env: TextWorldEnv = make(env_id, "data")
    cold, random, states, prompts = walked(env, tasks)
    warm = walked(env, tasks)[0]
    before = time.perf_counter()
    for state in states:
        env.restore(state)
        env.snapshot()
    restore = (time.perf_counter() - before) / len(states)
    before, least = time.perf_counter(), []
    for task in tasks:
        env.reset(task)
        least.append(env.steps_left(env.snapshot()))
    search = (time.perf_counter() - before) / len(tasks)
    patient = TextWorldEnv(env_id, version(env_id).GAME._replace(max_steps=100))
    gold = [len(patient.gold(task)) for task in tasks]
    rngs = {task.id: generator("expert", task.id) for task in tasks}
    made, different = layouts(env)
    return {
        "layouts of seeds 0–199, different ones": f"{made}, {different}",
        "shortest way: mean (range)": f"{fmean(least):.1f} ({min(least)}–{max(least)})",
        "the package's way: mean (range)": f"{fmean(gold):.1f} ({min(gold)}–{max(gold)})",
        "limit of steps": str(env.max_steps),
        "solved at random": f"{random:.2f}",
        "solved by the oracle": f"{fmean(played(env, tasks, lambda _: env.oracle())):.2f}",
        "solved by the demonstrator": f"{fmean(played(env, tasks, lambda name: env.expert(rngs[name])[1])):.2f}",
        "random steps a second, first time": f"{1 / cold:,.0f}",
        "the same steps again": f"{1 / warm:,.0f}",
        "save and restore": f"{restore * 1e6:.1f} µs",
        "exact values of a layout": f"{search * 1e3:.0f} ms",
        "characters of a prompt: mean (most)": f"{fmean(map(len, prompts)):.0f} ({max(map(len, prompts))})",
    }


def main() -> None:
    rows = {env_id: row(env_id) for env_id in ENVS}
    print("| " + " | ".join(["", *rows]) + " |\n|" + "---|" * (len(rows) + 1))
    for name in rows[ENVS[0]]:
        print("| " + " | ".join([name, *(cells[name] for cells in rows.values())]) + " |")


if __name__ == "__main__":
    main()
