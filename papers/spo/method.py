"""SPO (Swamy et al. 2024, arXiv:2401.04056): reinforcement learning from a preference by self-play, without a reward model.

Preferences need not come from any reward: they may be cyclic. What is always there is a *minimax winner*, a policy that none beats
in the mean, and because the game P(π ≻ π′) is symmetric, one policy that learns against itself finds it. Each round draws groups of k
arms and compares the members pairwise; an arm's reward is how often it won,

    r(a_i) = 1/(k−1) · Σ_{j ≠ i} y_ij,    y_ij ~ P(a_i ≻ a_j)

and a no-regret step follows it (here exponentiated gradient). The mean of all rounds' policies is returned. The usual way fits a
Bradley–Terry reward model to comparisons first, P(i ≻ j) = σ(r_i − r_j), and follows that: the same rounds and steps, with the
model's probabilities in the place of labels. All variants see as many comparisons:

    start                the policy before training: one of the three modes is its favourite
    spo                  k = 4;  spo@k=2, spo@k=8: more and smaller groups, fewer and larger ones
    rm                   a reward model of the starting policy's arms, fitted once
    rm_iterated          a reward model of all arms compared so far, fitted further in every round
    …_noise              labels are flipped with probability ``learn.noise``

Differs from the paper:
 1. Exact dueling bandits of 30 arms instead of control tasks; exploitability is exact. Trajectories and non-Markovian preferences
    (a further experiment of the paper) are not here.
 2. Exponentiated gradient on a table of logits, as in the paper's analysis, instead of SAC and PPO.
 3. Groups of fresh arms; the paper compares with a queue of recent trajectories.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from common.config import UnitParams
from common.envs.duels import favouring, practice, preferences
from common.lab import BASE, Lab, Measured, Trained, Variant
from common.learn.preferences import arms_of, bradley_terry, exploitability, sigmoid, softmax, standing, win_rates
from common.rng import generator
from common.types import Cost

SPO, FITTED_ONCE, REFITTED = "spo", "rm", "rm_iterated"
CHECKPOINTS = 10


@dataclass(frozen=True)
class Learn:
    rounds: int
    comparisons: int
    """In a round, by whole groups."""
    group: int
    """k of all variants but those named by it."""
    lr: float
    floor: float
    noise: float


@dataclass(frozen=True)
class RewardModel:
    steps: int
    """Of the reward model that is fitted once."""
    refit: int
    """In every round, of the one that is fitted further."""
    lr: float
    ridge: float


@dataclass(frozen=True, kw_only=True)
class Params(UnitParams):
    favour: float
    """Logit by which the starting policy favours the first mode's arms."""
    learn: Learn
    reward: RewardModel


@dataclass(frozen=True)
class Condition(Variant):
    kind: str = ""
    k: int = 0
    noise: float = 0.0


def variants(p: Params) -> list[Condition]:
    kinds = (SPO, FITTED_ONCE, REFITTED)
    return [
        Condition("start"),
        *(Condition(kind, kind, p.learn.group) for kind in kinds),
        *(Condition(f"spo@k={k}", SPO, k) for k in (2, 8)),
        *(Condition(f"{kind}_noise", kind, p.learn.group, p.learn.noise) for kind in kinds),
    ]


def train(lab: Lab, variant: Condition) -> Trained:
    """Round after round: draw groups, compare, step. ``mean`` is the policy that is returned, ``last`` that of the last round."""
    if not variant.kind:
        return BASE
    p, truth = lab.p, practice(lab.env, lab.seed)
    groups, (first, second) = groups_of(p, variant.k), np.triu_indices(variant.k, 1)

    def drawn(policy: np.ndarray, *use: Any) -> np.ndarray:
        """[G, k] arms; the same random numbers in all variants of one k."""
        return arms_of(policy, generator(lab.seed, "arms", *use).random((groups, variant.k)))

    def labels(arms: np.ndarray, *use: Any) -> np.ndarray:
        """[G, pairs] of 0 and 1: who was preferred, flipped with probability ``noise``."""
        rng = generator(lab.seed, "labels", *use)
        won = rng.random((groups, len(first))) < truth[arms[:, first], arms[:, second]]
        return (won ^ (rng.random(won.shape) < variant.noise)).astype(float)

    def fitted(rewards: np.ndarray, seen: list[tuple[np.ndarray, np.ndarray]], steps: int) -> np.ndarray:
        arms, won = (np.concatenate(parts) for parts in zip(*seen, strict=True))
        return bradley_terry(rewards, arms[:, first].ravel(), arms[:, second].ravel(), won.ravel(), steps=steps, lr=p.reward.lr,
                             ridge=p.reward.ridge)  # fmt: skip

    def learn(folder: Path) -> tuple[Cost, dict[str, Any]]:
        logits, total, curve = favouring(lab.p.favour), 0.0, lab.curve(variant.name)
        rewards, seen = np.zeros(len(logits)), []
        if variant.kind == FITTED_ONCE:
            for round in range(1, p.learn.rounds + 1):
                arms = drawn(softmax(logits), "reference", round)
                seen.append((arms, labels(arms, round)))
            rewards = fitted(rewards, seen, p.reward.steps)
        for round in range(1, p.learn.rounds + 1):
            policy = softmax(logits)
            total = total + policy
            arms = drawn(policy, round)
            if variant.kind == SPO:
                won = labels(arms, round)
            else:
                if variant.kind == REFITTED:
                    seen.append((arms, labels(arms, round)))
                    rewards = fitted(rewards, seen, p.reward.refit)
                won = sigmoid(rewards[arms[:, first]] - rewards[arms[:, second]])
            logits = hedge(logits, arms, win_rates(won, variant.k) - 0.5, lr=p.learn.lr, floor=p.learn.floor)
            if round * CHECKPOINTS % p.learn.rounds < CHECKPOINTS:
                curve(round, {"exploitability": exploitability(truth, total / round), "last": exploitability(truth, softmax(logits))})
        save_file({"mean": total / p.learn.rounds, "last": softmax(logits)}, folder / "policy.safetensors")
        return Cost(env_steps=p.learn.rounds * groups * len(first), samples=p.learn.rounds * arms.size, updates=p.learn.rounds), {}

    return lab.weights(variant.name, learn)


def groups_of(p: Params, k: int) -> int:
    """Groups of k in a round, so that all variants compare as much."""
    return p.learn.comparisons // (k * (k - 1) // 2)


def hedge(logits: np.ndarray, arms: np.ndarray, advantages: np.ndarray, *, lr: float, floor: float) -> np.ndarray:
    """Logits after one step of exponentiated gradient on the mean advantage of each arm. ``arms`` and ``advantages`` are of one
    shape; an arm's mean is its sum over all draws divided by the draws and by its probability, at least ``floor`` (importance
    weights are clipped, so that what is drawn once in a while does not explode)."""
    total = np.bincount(arms.ravel(), advantages.ravel(), len(logits)) / arms.size
    return logits + lr * total / np.maximum(softmax(logits), floor)


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """On every panel, exactly: exploitability of the mean policy and of the last one, and how often the mean beats the start."""
    start = softmax(favouring(lab.p.favour))
    saved = load_file(lab.folder(trained) / "policy.safetensors") if variant.kind else {"mean": start, "last": start}
    lab.keep(f"policies.{variant.name}", [{name: [round(float(one), 6) for one in policy] for name, policy in saved.items()}])
    found = []
    for panel in lab.p.panels:
        truth = preferences(lab.env, [task.data["seed"] for task in lab.panel(panel)])  # one against every arm
        found.append(Measured(panel, standing(truth, saved["mean"], saved["last"], start), len(truth)))
    return found
