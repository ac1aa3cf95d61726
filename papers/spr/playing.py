"""Episodes of a pixel game for training and test, and fixed sequences of states on which latents are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch

from common.envs.pixels import PixelEnv
from common.rng import derive, generator
from papers.spr.agent import Memory, PixelAgent, canvases
from papers.spr.maths import cosines, effective_rank, q_values, recognised

Act = Callable[[np.ndarray], Sequence[int]]
"""Observations [M, C, 10, 10] of M running episodes → an action for each."""


def experience(
    env: PixelEnv, act: Act, memory: Memory, seed: int, start: int, fall: tuple[int, float]
) -> Iterator[int]:
    """Play episode after episode until ``memory`` is full; yields the number of each step (from 1) once it is stored.

    The first ``start`` steps are random, then a share of them that falls linearly from 1; ``fall`` is the step from
    which on it stays, and where.
    """
    (last, epsilon), rng, episodes = fall, generator(seed, "explore"), 0
    frame = env.reset(derive(seed, "train", episodes))
    for step in range(1, len(memory.actions) + 1):
        share = max(epsilon, 1.0 - (1.0 - epsilon) * step / last)
        drawn, other = rng.random(), int(rng.integers(len(env.actions)))
        action = other if step <= start or drawn < share else act(frame[None])[0]
        after = env.step(action)
        memory.add(frame, action, after)
        frame = after.planes
        if after.done:
            episodes += 1
            frame = env.reset(derive(seed, "train", episodes))
        yield step


@dataclass(frozen=True)
class Episode:
    """``total`` is the undiscounted sum of the game's rewards; ``truncated``: cut by the limit, not lost."""

    seed: int
    total: float
    length: int
    truncated: bool


def play(make: Callable[[], PixelEnv], seeds: Sequence[int], act: Act, *, epsilon: float) -> list[Episode]:
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
    env: PixelEnv, seeds: Sequence[int], rule: Callable[[np.ndarray], int], *, count: int, steps: int,
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


def greedy(agent: PixelAgent) -> Act:
    """Actions of largest expected value, frames in the middle of their canvases."""

    def act(frames: np.ndarray) -> list[int]:
        with torch.no_grad():
            logits = agent.logits(agent.latents(canvases(torch.from_numpy(frames), None)))
        return q_values(logits, agent.support).argmax(1).tolist()

    return act


def trace(env: PixelEnv, seed: int, agent: PixelAgent, most: int = 120) -> list[dict[str, Any]]:
    """The greedy episode ``seed`` step by step: cells set as [plane, row, column], Q-values, action, reward."""
    frame, steps, over = env.reset(seed), [], False
    while not over and len(steps) < most:
        with torch.no_grad():
            logits = agent.logits(agent.latents(canvases(torch.from_numpy(frame[None]), None)))
        values = q_values(logits, agent.support)[0]
        action = int(values.argmax())
        after = env.step(action)
        steps.append({"cells": np.argwhere(frame).tolist(), "q": [round(v, 4) for v in values.tolist()],
                      "action": action, "reward": after.reward, "over": after.done})  # fmt: skip
        frame, over = after.planes, after.done
    return steps


def foresight(agent: PixelAgent, seen: Stretches) -> dict[str, float]:
    """Effective rank of latents and projections, and for each step k the mean cosine of foreseen and true
    projections (``cosine@k``), and the share foreseen that are nearest to their own future (``match@k``)."""
    frames, actions = torch.from_numpy(seen.frames), torch.from_numpy(seen.actions)
    agent.eval()
    with torch.no_grad():
        latents = agent.latents(canvases(frames.flatten(0, 1), None)).unflatten(0, frames.shape[:2])
        true = agent.project(latents).numpy()
        foreseen = agent.predictor(agent.project(agent.ahead(latents[:, 0], actions))).numpy()
    agent.train()
    found = {"rank": effective_rank(latents[:, 0].flatten(1).numpy()), "rank_projected": effective_rank(true[:, 0])}
    for k in range(1, actions.shape[1] + 1):
        similarity = cosines(foreseen[:, k - 1], true[:, k])
        found |= {f"cosine@{k}": float(np.diag(similarity).mean()), f"match@{k}": recognised(similarity)}
    return found


def summary(episodes: list[Episode]) -> dict[str, float]:
    return {"return": fmean(one.total for one in episodes), "length": fmean(one.length for one in episodes),
            "truncated": fmean(one.truncated for one in episodes)}  # fmt: skip
