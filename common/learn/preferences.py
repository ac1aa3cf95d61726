"""Learning from preferences over finitely many arms: policies, win rates in a group, Bradley–Terry rewards, exact exploitability.

A arms; a policy is a distribution over them, softmax of ``logits`` [A]. ``preference`` [A, A] holds P(row ≻ column). A group is k
arms drawn independently and compared pairwise: ``labels`` [G, k·(k−1)/2] say of each pair i < j (in the order of
``np.triu_indices``) whether i was preferred, as 0, 1, or a probability.
"""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max())
    return shifted / shifted.sum()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def arms_of(policy: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Arms drawn from ``policy`` by ``numbers`` from [0, 1), of the same shape."""
    return np.minimum(np.searchsorted(policy.cumsum(), numbers, side="right"), len(policy) - 1)


def win_rates(labels: np.ndarray, k: int) -> np.ndarray:
    """[G, k]: of each arm, the share of its comparisons with the k − 1 others that it won. Their mean is ½."""
    first, second = np.triu_indices(k, 1)
    won = np.zeros((len(labels), k, k))
    won[:, first, second], won[:, second, first] = labels, 1.0 - labels
    return won.sum(2) / (k - 1)


def bradley_terry(
    rewards: np.ndarray, first: np.ndarray, second: np.ndarray, labels: np.ndarray, *, steps: int, lr: float, ridge: float,
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Rewards [A] after ``steps`` of Adam from ``rewards`` on −mean log-likelihood of P(i ≻ j) = σ(r_i − r_j) + ridge/2 · Σ r².
    Comparison n, of arms ``first[n]`` and ``second[n]``, counts as often as ``counts`` says, once without it."""
    mean, square = np.zeros_like(rewards), np.zeros_like(rewards)
    counts = np.ones(len(labels)) if counts is None else counts
    for step in range(1, steps + 1):
        missed = (labels - sigmoid(rewards[first] - rewards[second])) * counts / counts.sum()
        slope = np.bincount(second, missed, len(rewards)) - np.bincount(first, missed, len(rewards)) + ridge * rewards
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        rewards = rewards - lr * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return rewards


def exploitability(preference: np.ndarray, policy: np.ndarray) -> float:
    """How often the best reply to ``policy`` is preferred to it, beyond ½; 0 for a minimax winner (von Neumann winner)."""
    return float((preference @ policy).max() - 0.5)


def standing(preference: np.ndarray, mean: np.ndarray, last: np.ndarray, start: np.ndarray) -> dict[str, float]:
    """Exact metrics of a run's ``mean`` policy and of its ``last`` one; ``return`` is how often the mean beats ``start``."""
    return {"exploitability": exploitability(preference, mean), "exploitability_last": exploitability(preference, last),
            "return": float(mean @ preference @ start)}  # fmt: skip
