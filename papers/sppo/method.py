"""SPPO (Wu et al. 2024, arXiv:2405.00675): self-play by regression on win rates.

A preference P(y ≻ y′) is a symmetric game, and exponential weights against itself finds its winner in the mean of the iterations:
π_{t+1}(y) ∝ π_t(y)·exp(η·P(y ≻ π_t)). SPPO fits that by regression. Each iteration draws K arms a group, estimates by the oracle how
often each beats the others, P̂_i = (½ + Σ_{j ≠ i} P(i ≻ j))/K, and fits both the best arm w and the worst one l of each group:

    ½·[log π/π_t(w) − η(P̂_w − ½)]² + ½·[log π/π_t(l) − η(P̂_l − ½)]²

Where DPO asks for a margin between the two, and does not mind if both become rare, this says where each shall go. All variants draw
as many groups and compare as often:

    start               the policy before training: one of the three modes is its favourite
    sppo                the method;  sppo@third=1, @third=2: after a third, and two thirds, of its iterations
    sppo_all            all K arms of a group are fitted, as in the paper's derivation, not the two ends alone
    dpo, ipo            iterated on the same kind of pairs (w, l), each iteration against its own start π_t
    dpo_strong          DPO with a small β, which asks for large margins
    sppo_bt, dpo_bt     the oracle is a Bradley–Terry model of all comparisons so far: the released code's oracle is σ(s_i − s_j) of
                        scores s, which knows no cycle

Differs from the paper:
 1. Exact dueling bandits of 30 arms instead of language models on UltraFeedback; the oracle is exact, so is exploitability.
 2. Adam on a table of logits, from π_t in each iteration, instead of RMSprop on 7B weights.
 3. More iterations than three, with a smaller η: in the paper η = 1000 on log-probabilities of whole texts.
 4. Duels have no prompts, so that iterations do not differ in them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
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

THIRDS = (1, 2, 3)
EPSILON = 1e-3
"""Adam's ε (ours). SPPO's slopes do not add up to 0 within a group, as DPO's do, so that arms that were not drawn have slopes of a few
hundred-thousandths; with the usual 1e-8 Adam makes whole steps of those, and drags such arms further than the drawn ones."""


@dataclass(frozen=True)
class Learn:
    rounds: int
    """Iterations, in thirds."""
    groups: int
    k: int
    steps: int
    """Of Adam in an iteration."""
    lr: float
    eta: float
    """SPPO's η: by how much log π moves where an arm always wins."""
    beta: float
    """DPO's β."""
    beta_strong: float
    tau: float
    """IPO's τ: its margin is 1/(2τ)."""


@dataclass(frozen=True)
class RewardModel:
    steps: int
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
    """``loss``: sppo, dpo or ipo; ``ends``: of each group the best and the worst arm alone; ``fitted``: a Bradley–Terry oracle;
    ``beta``: of DPO."""

    loss: str = ""
    ends: bool = True
    fitted: bool = False
    third: int = 3
    beta: float = 0.0

    @property
    def trained(self) -> str:
        return self.name.split("@")[0]


def variants(p: Params) -> list[Condition]:
    return [
        Condition("start"),
        *(Condition(f"sppo@third={third}", "sppo", third=third) for third in THIRDS[:2]),
        Condition("sppo", "sppo"),
        Condition("sppo_all", "sppo", ends=False),
        Condition("ipo", "ipo"),
        Condition("dpo", "dpo", beta=p.learn.beta),
        Condition("dpo_strong", "dpo", beta=p.learn.beta_strong),
        Condition("sppo_bt", "sppo", fitted=True),
        Condition("dpo_bt", "dpo", beta=p.learn.beta, fitted=True),
    ]


def pulls(variant: Condition, gains: np.ndarray, wins: np.ndarray, p: Learn) -> np.ndarray:
    """[G, M] ∂(loss of a group)/∂(log π) of its M arms.

    Args:
        gains: [G, M] log π − log π_t of the arms; for dpo and ipo M = 2, the preferred one first.
        wins: [G, M] P̂, which SPPO alone looks at.
    """
    if variant.loss == "sppo":
        return gains - p.eta * (wins - 0.5)
    margin = gains[:, 0] - gains[:, 1]
    slope = -variant.beta * sigmoid(-variant.beta * margin) if variant.loss == "dpo" else 2 * (margin - 1 / (2 * p.tau))
    return np.stack([slope, -slope], 1)


def fit(logits: np.ndarray, arms: np.ndarray, wins: np.ndarray, variant: Condition, p: Learn) -> np.ndarray:
    """Logits [A] after ``steps`` of Adam from ``logits`` on the mean loss over groups; ``arms``, ``wins`` [G, M]."""
    start, mean, square = np.log(softmax(logits)), np.zeros_like(logits), np.zeros_like(logits)
    for step in range(1, p.steps + 1):
        policy = softmax(logits)
        pull = pulls(variant, (np.log(policy) - start)[arms], wins, p).ravel() / len(arms)
        slope = np.bincount(arms.ravel(), pull, len(logits)) - pull.sum() * policy  # ∂ log π(y)/∂ logits = e_y − π
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        logits = logits - p.lr * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + EPSILON)
    return logits


def ends(arms: np.ndarray, wins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([G, 2] arms, [G, 2] win rates) of each group's best and worst, the first of equal ones."""
    chosen = np.stack([wins.argmax(1), wins.argmin(1)], 1)
    return np.take_along_axis(arms, chosen, 1), np.take_along_axis(wins, chosen, 1)


def train(lab: Lab, variant: Condition) -> Trained:
    """Iteration after iteration; saved are the mean policy and the last one after each third."""
    if not variant.loss:
        return BASE
    p, truth, name = lab.p.learn, practice(lab.env, lab.seed), variant.trained
    first, second = np.triu_indices(p.k, 1)

    def learn(folder: Path) -> tuple[Cost, dict[str, Any]]:
        logits, total, curve = favouring(lab.p.favour), 0.0, lab.curve(name)
        rewards, counts, saved, moved = np.zeros(len(logits)), np.zeros_like(truth), {}, []
        asked = drawn = 0
        for round in range(1, p.rounds + 1):
            before = softmax(logits)
            arms = arms_of(before, generator(lab.seed, "arms", round).random((p.groups, p.k)))
            a, b = arms[:, first], arms[:, second]
            won = truth[a, b]
            asked, drawn = asked + won.size, drawn + arms.size
            if variant.fitted:
                np.add.at(counts, (a, b), 1)
                known = np.nonzero(counts)
                rewards = bradley_terry(rewards, *known, truth[known], counts=counts[known], **asdict(lab.p.reward))
                won = sigmoid(rewards[a] - rewards[b])
            wins = (win_rates(won, p.k) * (p.k - 1) + 0.5) / p.k
            pair, of_pair = ends(arms, wins)
            logits = fit(logits, *((pair, of_pair) if variant.ends else (arms, wins)), variant, p)
            total = total + softmax(logits)
            gain = (np.log(softmax(logits)) - np.log(before))[pair].mean(0)
            moved.append(gain)
            curve(round, {"exploitability": exploitability(truth, total / round), "last": exploitability(truth, softmax(logits)),
                          "chosen": gain[0], "rejected": gain[1]})  # fmt: skip
            if round * 3 % p.rounds == 0:
                third = round * 3 // p.rounds
                saved |= {f"mean{third}": total / round, f"last{third}": softmax(logits), f"moved{third}": np.mean(moved, axis=0)}
        save_file(saved, folder / "policy.safetensors")
        return Cost(env_steps=asked, samples=drawn, updates=p.rounds * p.steps), {}

    return lab.weights(name, learn)


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """On every panel, exactly: exploitability of the mean policy and of the last one, and how often the mean beats the start;
    and by how much an iteration raised the log-probability of chosen and rejected arms."""
    start = softmax(favouring(lab.p.favour))
    saved = load_file(lab.folder(trained) / "policy.safetensors") if variant.loss else {}
    mean, last = (saved.get(f"{name}{variant.third}", start) for name in ("mean", "last"))
    lab.keep(f"policies.{variant.name}", [{name: [round(float(one), 6) for one in policy] for name, policy in (("mean", mean), ("last", last))}])
    moved = dict(zip(("chosen", "rejected"), map(float, saved[f"moved{variant.third}"]))) if saved else {}
    found = []
    for panel in lab.p.panels:
        truth = preferences(lab.env, [task.data["seed"] for task in lab.panel(panel)])  # one against every arm
        found.append(Measured(panel, standing(truth, mean, last, start) | moved, len(truth)))
    return found
