"""Playing episodes of a pixel game side by side, and stretches of play on which latents are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.envs.minatar import MinAtarEnv
from common.rng import generator

Act = Callable[[np.ndarray], Sequence[int]]
"""Observations [M, C, 10, 10] of M running episodes → an action for each."""


@dataclass(frozen=True)
class Episode:
    """``total`` is the undiscounted sum of the game's rewards; ``truncated``: cut by the limit, not lost."""

    seed: int
    total: float
    length: int
    truncated: bool


def play(make: Callable[[], MinAtarEnv], seeds: Sequence[int], act: Act, *, epsilon: float) -> list[Episode]:
    """One episode of each seed. With probability ``epsilon`` a step is random, by numbers of the episode's own
    seed, so that all agents meet the same ones."""
    envs = [make() for _ in seeds]
    rngs = [generator("evaluate", seed) for seed in seeds]
    shown = {i: env.reset(seed) for i, (env, seed) in enumerate(zip(envs, seeds, strict=True))}
    totals, ends = [0.0] * len(seeds), {}
    for length in range(1, envs[0].max_steps + 1):
        chosen = dict(zip(shown, act(np.stack(list(shown.values()))), strict=True))
        for i, action in chosen.items():
            if rngs[i].random() < epsilon:
                action = int(rngs[i].integers(len(envs[i].actions)))
            frame = envs[i].step(int(action))
            totals[i] += frame.reward
            shown[i] = frame.planes
            if frame.done:
                ends[i] = Episode(seeds[i], totals[i], length, frame.truncated)
                del shown[i]
        if not shown:
            break
    return [ends[i] for i in range(len(seeds))]


@dataclass(frozen=True)
class Stretches:
    """N stretches of K steps within an episode: ``frames`` [N, K + 1, C, 10, 10] bool, ``actions`` [N, K]."""

    frames: np.ndarray
    actions: np.ndarray


def stretches(
    env: MinAtarEnv, seeds: Sequence[int], rule: Callable[[np.ndarray], int], *, count: int, steps: int,
    epsilon: float, apart: int = 3,
) -> Stretches:
    """``count`` stretches of ``steps`` steps from episodes that ``rule`` plays, random with probability ``epsilon``.

    Beginnings are ``apart`` steps from each other. No agent has a part in them, so that all are measured on the
    same states. ValueError when the episodes are too few.
    """
    frames, actions = [], []
    for seed in seeds:
        rng, seen, done, over = generator("stretches", seed), [env.reset(seed)], [], False
        while not over:
            action = int(rng.integers(len(env.actions))) if rng.random() < epsilon else rule(seen[-1])
            frame = env.step(action)
            done.append(action)
            seen.append(frame.planes)
            over = frame.done
        for start in range(0, len(done) - steps, apart):  # the last state, in which nothing is done, is left out
            frames.append(np.stack(seen[start : start + steps + 1]))
            actions.append(done[start : start + steps])
            if len(frames) == count:
                return Stretches(np.stack(frames), np.array(actions, dtype=np.int64))
    raise ValueError(f"{count} stretches were asked for but {len(seeds)} episodes hold {len(frames)}; pass more seeds")
