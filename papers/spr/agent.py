"""A small convolutional Q-learning agent with a latent transition model, and its replay memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from common.envs.pixels import Frame
from papers.spr.maths import cross_entropy, double_target, dueling, n_step, placed, renormalise

MARGIN = 1
"""Cells around a frame within which it is shifted."""


class PixelAgent(nn.Module):
    """Encoder, dueling C51 head and transition model (SPR, section 2 and appendix).

    Frames [N, C, H, W] of even sides come on canvases with ``MARGIN`` empty cells around. A latent is spatial,
    [N, channels, H/2, W/2], renormalised to [0, 1]. ``hidden`` is the head's first layer and SPR's projection. Values
    lie on the atoms ``support`` [Z], from −``limit`` to ``limit``.
    """

    def __init__(
        self, shape: tuple[int, int, int], actions: int, *, channels: int, hidden: int, atoms: int, limit: float
    ) -> None:
        super().__init__()
        self.support = torch.linspace(-limit, limit, atoms)
        planes, height, width = shape
        self.actions, self.atoms, cells = actions, atoms, (height // 2) * (width // 2)
        self.encoder = nn.Sequential(
            nn.Conv2d(planes, 16, 3), nn.ReLU(), nn.Conv2d(16, channels, 3, stride=2, padding=1), nn.ReLU()
        )
        self.hidden = nn.Linear(channels * cells, hidden)
        self.value = nn.Linear(hidden, atoms)
        self.advantages = nn.Linear(hidden, actions * atoms)
        self.transition = nn.Sequential(
            nn.Conv2d(channels + actions, channels, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.predictor = nn.Linear(hidden, hidden)

    def stem(self) -> list[nn.Parameter]:
        """All weights but the transition model's."""
        return [weight for name, weight in self.named_parameters() if not name.startswith("transition.")]

    def save(self, folder: Path) -> None:
        save_file(self.state_dict(), folder / "agent.safetensors")

    def load(self, folder: Path) -> None:
        self.load_state_dict(load_file(folder / "agent.safetensors"))

    def latents(self, canvases: torch.Tensor) -> torch.Tensor:
        return renormalise(self.encoder(canvases))

    def project(self, latents: torch.Tensor) -> torch.Tensor:
        """[.., channels, h, w] → [.., hidden]: the head's first layer before its nonlinearity."""
        return self.hidden(latents.flatten(-3))

    def logits(self, latents: torch.Tensor) -> torch.Tensor:
        """[N, A, Z]."""
        shown = F.relu(self.project(latents))
        return dueling(self.value(shown), self.advantages(shown).view(-1, self.actions, self.atoms))

    def ahead(self, latents: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Latents [N, K, channels, h, w] that the transition model foresees from ``latents`` [N, channels, h, w],
        one after the other, when ``actions`` [N, K] are taken; an action is a one-hot plane."""
        found, (height, width) = [], latents.shape[-2:]
        for action in actions.T:
            planes = F.one_hot(action, self.actions).float()[:, :, None, None].expand(-1, -1, height, width)
            latents = renormalise(self.transition(torch.cat([latents, planes], dim=1)))
            found.append(latents)
        return torch.stack(found, dim=1)


@dataclass(frozen=True)
class Windows:
    """B stretches of experience, as stored, across ends of episodes.

    ``frames`` [B, K + 2, C, H, W] bool: the states 0..K, and the one by which the return goes on: n steps ahead, or the
    last state of an episode that was truncated before. ``actions`` [B, K] long, ``taken`` [B] the first of them;
    ``rewards``, ``terminated`` and ``truncated`` [B, n] of the steps 0..n − 1.
    """

    frames: torch.Tensor
    actions: torch.Tensor
    taken: torch.Tensor
    rewards: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor

    @property
    def ended(self) -> torch.Tensor:
        """[B, n], True for an episode's last step: what is stored behind it is another episode."""
        return self.terminated | self.truncated


class Memory:
    """Replay memory: every step of an agent in order; windows are drawn uniformly."""

    def __init__(self, capacity: int, shape: tuple[int, int, int]) -> None:
        self.frames = np.zeros((capacity, *shape), dtype=bool)
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.terminated = np.zeros(capacity, dtype=bool)
        self.truncated = np.zeros(capacity, dtype=bool)
        self.cut: dict[int, np.ndarray] = {}
        """Number of a truncated step → the state that it led to, in which nothing was done any more."""
        self.size = 0

    def add(self, frame: np.ndarray, action: int, after: Frame) -> None:
        """The state, what was done in it, and what came of it. IndexError when the memory is full."""
        i = self.size
        self.frames[i], self.actions[i], self.rewards[i] = frame, action, after.reward
        self.terminated[i], self.truncated[i] = after.terminated, after.truncated
        if after.truncated:
            self.cut[i] = after.planes
        self.size += 1

    def windows(self, rng: np.random.Generator, batch: int, *, ahead: int, steps: int) -> Windows:
        """``batch`` windows for predictions ``ahead`` (K) and returns of ``steps`` (n), K ≤ n. ValueError while
        fewer than n + 1 steps are stored. The starts drawn depend on size, batch and n only."""
        if not ahead <= steps < self.size:
            raise ValueError(f"windows of {steps} steps were asked for, {ahead} of them predicted, but {self.size} are "
                             "stored and no more can be predicted than returned; store more or ask for fewer")
        start = rng.integers(self.size - steps, size=batch)[:, None]
        returned = start + np.arange(steps)
        frames = self.frames[np.concatenate([start + np.arange(ahead + 1), start + steps], axis=1)]
        terminated, truncated = self.terminated[returned], self.truncated[returned]
        first_end = np.where(terminated | truncated, returned, self.size).min(1)
        for row, step in enumerate(first_end.tolist()):
            if step in self.cut:
                frames[row, -1] = self.cut[step]
        return Windows(
            frames=torch.from_numpy(frames),
            actions=torch.from_numpy(self.actions[returned[:, :ahead]]),
            taken=torch.from_numpy(self.actions[start[:, 0]]),
            rewards=torch.from_numpy(self.rewards[returned]),
            terminated=torch.from_numpy(terminated),
            truncated=torch.from_numpy(truncated),
        )


def canvases(frames: torch.Tensor, rng: np.random.Generator | None) -> torch.Tensor:
    """``frames`` [.., C, H, W] on their canvases, each shifted at random by ``rng``, all in the middle without it."""
    flat = frames.flatten(0, -4)
    drawn = np.full((len(flat), 2), MARGIN) if rng is None else rng.integers(2 * MARGIN + 1, size=(len(flat), 2))
    made = placed(flat, torch.from_numpy(drawn), MARGIN)
    return made.view(*frames.shape[:-3], *made.shape[1:])


def q_loss(
    agent: PixelAgent, slow: PixelAgent, latents: torch.Tensor, later: torch.Tensor, seen: Windows, gamma: float
) -> torch.Tensor:
    """C51 with n-step double targets, [B]. ``latents`` are of the first states, ``later`` canvases of the last
    (:class:`Windows`)."""
    with torch.no_grad():
        returns, discounts = n_step(seen.rewards, seen.terminated, seen.truncated, gamma)
        online, target = agent.logits(agent.latents(later)), slow.logits(slow.latents(later))
        wanted = double_target(online, target, returns, discounts, agent.support)
    return cross_entropy(agent.logits(latents), seen.taken, wanted)


def descend(agent: PixelAgent, loss: torch.Tensor, optimiser: torch.optim.Optimizer, *, clip: float) -> float:
    """One step of ``optimiser`` on ``loss``; returns the gradient's norm. Norms are clipped to ``clip``, that of the
    transition model apart from the rest (released code). FloatingPointError when the loss is not finite."""
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"the loss is {loss.item()}, and training stops at the first value that is not "
                                 "finite; lower learn.lr")  # fmt: skip
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(agent.stem(), clip).item()
    torch.nn.utils.clip_grad_norm_(list(agent.transition.parameters()), clip)
    optimiser.step()
    return norm
