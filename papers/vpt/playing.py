"""Play of a pixel game: by a demonstrator who slips, by policies side by side, and what a model is shown of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from common.envs.pixels import PixelEnv
from common.rng import generator


@dataclass(frozen=True)
class Play:
    """Episodes one after the other: what was seen before, at and after each step [N, C, rows, columns], the action taken [N], the
    reward [N] and the episode's number [N]."""

    before: np.ndarray
    now: np.ndarray
    after: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    episode: np.ndarray

    def first(self, episodes: int) -> Play:
        """The first ``episodes`` of them."""
        kept = self.episode < episodes
        return Play(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))


def bits(*frames: np.ndarray) -> torch.Tensor:
    """[N, planes · cells] of frames that are shown together."""
    return torch.from_numpy(np.concatenate([one.reshape(len(one), -1) for one in frames], axis=1)).float()


def causal(play: Play) -> torch.Tensor:
    """What a player sees: the last frame and this one."""
    return bits(play.before, play.now)


def both_sides(play: Play) -> torch.Tensor:
    """What an inverse dynamics model sees: the frame that followed as well."""
    return bits(play.before, play.now, play.after)


Choose = Callable[[np.ndarray, np.ndarray, Sequence[PixelEnv]], Sequence[int]]
"""Frames before and now, [M, C, rows, columns] each, of M running episodes, and their environments, whose expert may be asked → an
action for each."""


def played(make: Callable[[], PixelEnv], seeds: Sequence[int], choose: Choose, limit: int | None = None) -> Play:
    """One episode of each seed, side by side, in the order of ``seeds``; with ``limit`` none goes on beyond that many steps in
    all. Of an episode's first step the frame before is the first frame itself."""
    envs = [make() for _ in seeds]
    now = {i: env.reset(seed) for i, (env, seed) in enumerate(zip(envs, seeds, strict=True))}
    before, steps, total = dict(now), [[] for _ in seeds], 0
    while now and (limit is None or total < limit):
        running = list(now)
        chosen = choose(np.stack([before[i] for i in running]), np.stack([now[i] for i in running]), [envs[i] for i in running])
        for i, action in zip(running, chosen, strict=True):
            frame = envs[i].step(int(action))
            steps[i].append((before[i], now[i], frame.planes, int(action), frame.reward, i))
            before[i], now[i] = now[i], frame.planes
            total += 1
            if frame.done:
                del now[i]
    columns = zip(*(step for own in steps for step in own), strict=True)
    return Play(*(np.stack(column) if isinstance(column[0], np.ndarray) else np.array(column) for column in columns))


def slipping(actions: int, share: float, *name: Any) -> Choose:
    """The environment's expert, and a random one of ``actions`` in ``share`` of the steps."""
    rng = generator("slips", *name)

    def choose(_: np.ndarray, now: np.ndarray, envs: Sequence[PixelEnv]) -> list[int]:
        slips, other = rng.random(len(now)) < share, rng.integers(actions, size=len(now))
        return [int(o) if slip else env.expert() for env, slip, o in zip(envs, slips, other, strict=True)]

    return choose


def acting(policy: nn.Module, rng: np.random.Generator | None) -> Choose:
    """``policy`` on the last two frames: sampled by ``rng``, greedily without one."""

    def choose(before: np.ndarray, now: np.ndarray, _: Sequence[PixelEnv]) -> list[int]:
        with torch.no_grad():
            chances = torch.softmax(policy(bits(before, now)), 1).double().numpy()
        if rng is None:
            return chances.argmax(1).tolist()
        below = chances.cumsum(1)
        return (rng.random((len(chances), 1)) * below[:, -1:] < below).argmax(1).tolist()

    return choose
