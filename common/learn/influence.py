"""Credit for what is said, by what it does to those who hear it (Sarkar et al. 2025, arXiv:2502.06060, §4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def speaking_rewards(beliefs: torch.Tensor, speakers: Sequence[int | None]) -> torch.Tensor:
    """[K] mean change of the listeners' belief in the truth that each of K messages brought about, in [−1, 1].

    Args:
        beliefs: [L, K + 1] probability that each of L listeners gives to the truth, before the first message and
            after each message.
        speakers: for each message the listener that spoke it, whose own belief does not count; None where nobody
            among the listeners did.

    Raises:
        ValueError: when a speaker is the only listener, or the shapes disagree.
    """
    count, moments = beliefs.shape
    if moments != len(speakers) + 1:
        raise ValueError(f"speaking rewards: beliefs at {moments} moments of {len(speakers)} messages must be one more "
                         "than messages; give the belief before the first one too")
    changes, rewards = beliefs[:, 1:] - beliefs[:, :-1], []
    for k, speaker in enumerate(speakers):
        others = [i for i in range(count) if i != speaker]
        if not others:
            raise ValueError(f"speaking rewards: message {k} has no listener but its speaker; at least one is needed")
        rewards.append(changes[others, k].mean())
    return torch.stack(rewards) if rewards else beliefs.new_zeros(0)


def listening_weights(weight: float, questions: int) -> list[float]:
    """What each of ``questions`` questions about the truth weighs in a game's loss, so that the loss is ``weight``
    times the mean cross-entropy of the true answers. A credited turn with advantage w and β = 0 has the loss
    −w · log π(answer), which is that term."""
    return [weight / questions] * questions
