"""Policy gradient on whole episodes of many turns: one reward at the end, credited to every turn."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from common.learn.policy_gradient import CreditedTurn, Dialogue, leave_one_out
from common.types import Trajectory


def within_budget(episodes: Sequence[Trajectory], *, group: int, env_steps: int) -> list[Trajectory]:
    """Whole groups of episodes, in order, until they hold ``env_steps`` or more, so that policies whose episodes differ
    in length learn from equally many steps. The group that reaches the number is kept."""
    kept: list[Trajectory] = []
    spent = 0
    for at in range(0, len(episodes), group):
        if spent >= env_steps:
            break
        kept += episodes[at : at + group]
        spent = sum(len(episode.steps) for episode in kept)
    return kept


def episode_dialogues(episodes: Sequence[Trajectory], *, group: int, beta: float) -> list[Dialogue]:
    """Every finished turn credited with its episode's reward beyond the mean of its task's other episodes.

    ``episodes``: ``group`` ≥ 2 of one task side by side. ``beta`` ≥ 0 is the weight of the KL at each turn. Turns that
    were cut are no part of what is learned from; the advantage of the others stays that of their episode.
    """
    rewards = torch.tensor([episode.reward for episode in episodes], dtype=torch.float64)
    advantages = leave_one_out(rewards.view(-1, group)).reshape(-1).tolist()
    return [
        tuple(CreditedTurn(s.prompt, s.turn.text, advantage, beta) for s in episode.steps if s.turn.finished)
        for episode, advantage in zip(episodes, advantages, strict=True)
    ]
