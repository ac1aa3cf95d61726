"""Suboptimal, on-policy data (Tajwar et al. 2024, arXiv:2404.14367): what preference fine-tuning gains, and from what.

Two switches: does the policy sample its own data while it learns (on-policy), and does the loss push some answers down (negative
gradient)? On a bandit of 100 arms π(a|s) starts as a copy of a reference π_ref that prefers low arms. Each round draws N arms for
each training context, from π or from π_ref, and learns from them in T updates:

    best of N      −log π(a*|s), a* the best of the N: maximum likelihood
    DPO            −log σ(β·[log π/π_ref(w) − log π/π_ref(l)]), for all pairs whose rewards differ: the worse is pushed down
    REINFORCE      −log π(a|s)·A, A the reward beyond the mean of the context's others
    PPO            the same with the ratio to the sampling policy, clipped

Variants draw as many arms, and all but those of more reuse make as many updates:

    bon_offline, dpo_offline         every round draws from the reference
    bon, dpo, pg, ppo                from the second round on, the policy draws
    bon_reuse, pg_reuse, ppo_reuse   the same with more updates in every round: more reuse of each sample

Returns are exact: the mean over contexts that were not trained on of Σ_a π(a|s)·r(a).

Differs from the paper:
 1. The bandit alone; its language models are not here. Contexts are 100 random bits, not 100 numbers; rewards depend on the arm alone in both.
 2. Offline variants draw new arms from the reference every round, where the paper has one batch of more contexts: all variants see as
    many arms in as many updates of the same size.
 3. DPO with β = 1: the best of four, IPO with margins of 10 (the released script's) and 2 nats, DPO with β = 0.1 and 1 (validation, seed 100).
 4. DPO leaves pairs of equal reward out; the released code calls the second one the winner.
 5. REINFORCE's and PPO's baseline is the mean of the context's other samples, not a running mean of all rewards.
 6. The reference's bins have the exact masses of the squashed Cauchy variable, not those of 10,000 samples of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from common.config import UnitParams
from common.lab import Lab, Measured, Trained, Variant
from common.rng import derive, generator
from common.types import Cost
from papers.suboptimal_on_policy import maths


@dataclass(frozen=True)
class Reference:
    """tanh of a Cauchy variable in equal bins, and how the policy learns to be it."""

    location: float
    scale: float
    updates: int
    lr: float


@dataclass(frozen=True)
class Learn:
    contexts: int
    samples: int
    """N, arms drawn for each context in a round."""
    rounds: int
    updates: int
    """T, in a round; ``reuse`` that of the variants ``…_reuse``."""
    reuse: int
    lr: float
    beta: float
    clip: float


@dataclass(frozen=True, kw_only=True)
class Params(UnitParams):
    reference: Reference
    learn: Learn


Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Of log π of the drawn arms, log π_ref, log π when they were drawn, and rewards, all [S, N]."""


@dataclass(frozen=True)
class Condition(Variant):
    """``updates`` in each round; no ``loss``: the start."""

    loss: Loss | None = None
    on_policy: bool = True
    updates: int = 0


def variants(p: Params) -> list[Condition]:
    losses: dict[str, Loss] = {
        "bon": lambda logp, reference, old, rewards: maths.best_of_n(logp, rewards),
        "dpo": lambda logp, reference, old, rewards: maths.dpo(logp, reference, rewards, beta=p.learn.beta),
        "pg": lambda logp, reference, old, rewards: maths.reinforce(logp, rewards),
        "ppo": lambda logp, reference, old, rewards: maths.clipped(logp, old, rewards, clip=p.learn.clip),
    }
    return [
        Condition("start"),
        *(Condition(f"{name}_offline", losses[name], False, p.learn.updates) for name in ("bon", "dpo")),
        *(Condition(name, loss, True, p.learn.updates) for name, loss in losses.items()),
        *(Condition(f"{name}_reuse", losses[name], True, p.learn.reuse) for name in ("bon", "pg", "ppo")),
    ]


def train(lab: Lab, variant: Condition) -> Trained:
    """Round after round: draw, read rewards, learn. ``found`` are the returns after each round."""
    start = lab.weights("start", partial(imitate, lab))
    if variant.loss is None:
        return start
    p, seen = lab.p.learn, lab.once("seen", lambda: training_contexts(lab))

    def learn(folder: Path) -> tuple[Cost, dict[str, Any]]:
        policy = load(lab, start)
        adam, curve, returns = torch.optim.Adam(policy.parameters(), lr=p.lr), lab.curve(variant.name), []
        reference = reference_of(lab).expand(p.contexts, -1)
        for round in range(1, p.rounds + 1):
            with torch.no_grad():
                now = torch.log_softmax(policy(seen.bits), 1)
            source = now.exp() if variant.on_policy and round > 1 else reference
            arms = maths.drawn(source, generator(lab.seed, "arms", round).random((p.contexts, p.samples)))
            taken = [logs.gather(1, arms) for logs in (reference.log(), now)]
            for _ in range(variant.updates):
                logp = torch.log_softmax(policy(seen.bits), 1).gather(1, arms)
                loss = variant.loss(logp, *taken, seen.rewards.gather(1, arms))
                adam.zero_grad()
                loss.backward()
                adam.step()
            returns.append(expected(policy, test_contexts(lab, lab.p.panels[0])))
            curve(round * variant.updates, {"loss": loss.item(), "return": returns[-1]})
        save_file(policy.state_dict(), folder / "policy.safetensors")
        drawn = p.rounds * p.contexts * p.samples
        return Cost(env_steps=drawn, samples=drawn, updates=p.rounds * variant.updates), {"returns": returns}

    return lab.weights(variant.name, learn, start=start)


def imitate(lab: Lab, folder: Path) -> tuple[Cost, dict[str, Any]]:
    """The policy all variants start from: KL(π ‖ π_ref) minimised on the training contexts. Costs nothing: all have it."""
    p, bits, wanted = lab.p.reference, training_contexts(lab).bits, reference_of(lab).log()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(lab.seed, "weights") % 2**63)
        policy = network(bits.shape[1], len(wanted))
    adam = torch.optim.Adam(policy.parameters(), lr=p.lr)
    for _ in range(p.updates):
        logs = torch.log_softmax(policy(bits), 1)
        adam.zero_grad()
        (logs.exp() * (logs - wanted)).sum(1).mean().backward()
        adam.step()
    save_file(policy.state_dict(), folder / "policy.safetensors")
    return Cost(), {}


def network(bits: int, arms: int) -> nn.Sequential:
    """The released code's categorical policy: contexts [S, bits] → logits [S, arms]."""
    return nn.Sequential(nn.Linear(bits, 50), nn.LayerNorm(50), nn.ReLU(), nn.Linear(50, 256), nn.ReLU(),
                         nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, arms))  # fmt: skip


def load(lab: Lab, trained: Trained) -> nn.Sequential:
    policy = network(int(np.prod(lab.env.shape)), len(lab.env.actions))
    policy.load_state_dict(load_file(lab.folder(trained) / "policy.safetensors"))
    return policy


def reference_of(lab: Lab) -> torch.Tensor:
    """π_ref [A], the same for every context."""
    return maths.squashed_cauchy(len(lab.env.actions), location=lab.p.reference.location, scale=lab.p.reference.scale)


class Contexts(NamedTuple):
    """``bits`` [S, 100] of 0 and 1; ``rewards`` [S, A] of every arm."""

    bits: torch.Tensor
    rewards: torch.Tensor


def contexts(lab: Lab, seeds: list[int]) -> Contexts:
    """The contexts named by ``seeds``, every arm of each pulled once: what a variant is charged for is what it draws."""
    env, arms = lab.make_env(), range(len(lab.env.actions))
    bits = torch.from_numpy(np.stack([env.reset(seed).ravel() for seed in seeds])).float()
    return Contexts(bits, torch.tensor([[(env.reset(seed), env.step(arm))[1].reward for arm in arms] for seed in seeds]))


def training_contexts(lab: Lab) -> Contexts:
    return contexts(lab, [derive(lab.seed, "context", k) % 2**32 for k in range(lab.p.learn.contexts)])


def test_contexts(lab: Lab, panel: str) -> Contexts:
    return lab.once(("contexts", panel), lambda: contexts(lab, [task.data["seed"] for task in lab.panel(panel)]))


def expected(policy: nn.Module, seen: Contexts) -> float:
    """The exact mean reward of one pull by ``policy`` in each context."""
    with torch.no_grad():
        return float((torch.softmax(policy(seen.bits), 1).double() * seen.rewards.double()).sum(1).mean())


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """On every panel the exact return and distance to the reference; on the first the learning curve's mean, and a policy to
    look at."""
    policy, reference, found = load(lab, trained), reference_of(lab).log(), []
    for panel in lab.p.panels:
        with torch.no_grad():
            logs = torch.log_softmax(policy((seen := test_contexts(lab, panel)).bits), 1)
        metrics = {"return": expected(policy, seen), "kl_reference": float((logs.exp() * (logs - reference)).sum(1).double().mean())}
        if panel == lab.p.panels[0]:
            lab.keep(f"policies.{variant.name}", [{"arms": [round(one, 6) for one in logs.exp().mean(0).tolist()]}])
            metrics |= {"return_auc": fmean(trained.found["returns"])} if trained.found else {}
        found.append(Measured(panel, metrics, len(seen.bits)))
    return found
