"""VPT (Baker et al. 2022, arXiv:2206.11795): learning to act from play whose actions nobody wrote down.

Video shows what happened, not which keys were pressed. An inverse dynamics model (IDM) says which action lies between frames, from
those before *and after* it: p(a_t | o_{t−1}, o_t, o_{t+1}). That is far easier than acting, which has to know what the player wants:
p(a_t | o_{t−1}, o_t). So few labelled episodes teach the IDM, it labels all the rest, and a policy imitates those:

    idm@labels=n, causal@labels=n    the non-causal and the causal model from n labelled episodes
    bc_labelled, bc_pseudo           players: causal@labels of the middle n; imitating all play as labelled by the IDM of that n
    bc_true                          the same with the true actions
    rl_scratch, rl_entropy, rl_kl    policy gradient from random weights; from bc_pseudo with an entropy bonus; from bc_pseudo with a
                                     KL to it whose weight falls: the paper's fine-tuning
    random, scripted                 reference players

The task is a streak of five balls (catch-streak-v1): nothing is earned before the last one.

Differs from the paper:
 1. Catch instead of Minecraft, bits instead of video; small networks without memory that see two or three frames.
 2. The demonstrator is a rule that slips: in 30 % of the steps its action is random. The paper's players are people.
 3. REINFORCE with the mean of the other episodes of the same start as baseline instead of PPG with a value network.
 4. All actions are kept; the paper filters the null action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from common.config import UnitParams
from common.lab import BASE, Lab, Measured, Trained, Variant
from common.learn.policy_gradient import leave_one_out
from common.rng import derive, generator
from common.types import Cost
from papers.vpt.playing import Choose, Play, acting, both_sides, causal, played, slipping


@dataclass(frozen=True)
class Shown:
    episodes: int
    labels: tuple[int, ...]
    """Of how many episodes of play, the first ones, the actions are known."""
    slips: float


@dataclass(frozen=True)
class Fit:
    updates: int
    batch: int
    lr: float


@dataclass(frozen=True)
class Reinforce:
    env_steps: int
    starts: int
    """Episodes' beginnings of an update."""
    group: int
    """Episodes of each."""
    lr: float
    kl: float
    decay: float
    """What the KL's weight is multiplied with after each update."""
    entropy: float


@dataclass(frozen=True, kw_only=True)
class Params(UnitParams):
    hidden: int
    shown: Shown
    fit: Fit
    rl: Reinforce


@dataclass(frozen=True)
class Condition(Variant):
    """``kind``: idm, causal, pseudo, true, rl, or a reference player; ``labels`` episodes; ``pull``: kl, entropy or ""."""

    kind: str = ""
    labels: int = 0
    pull: str = ""


def variants(p: Params) -> list[Condition]:
    middle = p.shown.labels[len(p.shown.labels) // 2]
    return [
        Condition("random", "random"),
        Condition("scripted", "scripted"),
        *(Condition(f"{kind}@labels={n}", kind, n) for kind in ("causal", "idm") for n in p.shown.labels),
        Condition("bc_labelled", "causal", middle),
        Condition("bc_pseudo", "pseudo", middle),
        Condition("bc_true", "true"),
        Condition("rl_scratch", "rl", 0, "entropy"),
        Condition("rl_entropy", "rl", middle, "entropy"),
        Condition("rl_kl", "rl", middle, "kl"),
    ]


def train(lab: Lab, variant: Condition) -> Trained:
    p = lab.p.shown
    if variant.kind in ("random", "scripted"):
        return BASE
    if variant.kind == "rl":
        return reinforced(lab, variant)
    if variant.kind == "true":
        return fitted(lab, "bc_true", p.episodes, lambda: (causal(shown(lab)), shown(lab).actions))
    if variant.kind == "pseudo":
        idm = train(lab, Condition("", "idm", variant.labels))
        return fitted(lab, "bc_pseudo", p.episodes, lambda: (causal(shown(lab)), predicted(lab, idm, both_sides(shown(lab)))))
    see = {"idm": both_sides, "causal": causal}[variant.kind]
    return fitted(lab, variant.kind, variant.labels, lambda: (see(own := shown(lab).first(variant.labels)), own.actions))


# -- 1. models of actions (paper §2, §4.1) ---------------------------------------------------------------------------


def network(inputs: int, actions: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, actions))


def new(lab: Lab, frames: int) -> nn.Sequential:
    """Random weights, the same for all models of a unit that see as many frames."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(lab.seed, "weights", frames) % 2**63)
        return network(frames * int(np.prod(lab.env.shape)), len(lab.env.actions), lab.p.hidden)


def load(lab: Lab, trained: Trained) -> nn.Sequential:
    weights = load_file(lab.folder(trained) / "model.safetensors")
    model = network(weights["0.weight"].shape[1], len(lab.env.actions), lab.p.hidden)
    model.load_state_dict(weights)
    return model


def shown(lab: Lab) -> Play:
    """The demonstrator's play, of this run's own episodes."""
    seeds = [derive(lab.seed, "shown", k) % 2**32 for k in range(lab.p.shown.episodes)]
    return lab.once("shown", lambda: played(lab.make_env, seeds, ruled(lab, lab.p.shown.slips, lab.seed)))


def ruled(lab: Lab, slips: float, *name: Any) -> Choose:
    """The game's expert, with a random action in a share ``slips`` of the steps."""
    return slipping(len(lab.env.actions), slips, *name)


def fitted(lab: Lab, name: str, labels: int, examples: Callable[[], tuple[torch.Tensor, np.ndarray]]) -> Trained:
    """Maximum likelihood of actions, in as many updates whatever there is to learn from."""

    def learn(folder: Path) -> tuple[Cost, dict[str, Any]]:
        p, curve = lab.p.fit, lab.curve(f"{name}.{labels}")
        inputs, actions = examples()
        wanted, rng = torch.from_numpy(np.asarray(actions)).long(), generator(lab.seed, "batches", name, labels)
        model = new(lab, inputs.shape[1] // int(np.prod(lab.env.shape)))
        adam = torch.optim.Adam(model.parameters(), lr=p.lr)
        for update in range(1, p.updates + 1):
            rows = torch.from_numpy(rng.integers(len(wanted), size=p.batch))
            loss = F.cross_entropy(model(inputs[rows]), wanted[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()
            if update == 1 or update % 50 == 0:
                curve(update, {"loss": loss.item()})
        save_file(model.state_dict(), folder / "model.safetensors")
        return Cost(samples=len(wanted), updates=p.updates), {}

    return lab.weights(f"{name}.{labels}", learn)


def predicted(lab: Lab, model: Trained, inputs: torch.Tensor) -> np.ndarray:
    """The likeliest action of every step."""
    with torch.no_grad():
        return load(lab, model)(inputs).argmax(1).numpy()


# -- 2. reinforcement learning from the prior (paper §4.4) -------------------------------------------------------------


def reinforced(lab: Lab, variant: Condition) -> Trained:
    """Until ``env_steps`` are played. ``pull`` "kl": −ρ·KL(π ‖ prior) in the objective, ρ falling; "entropy": a bonus on it."""
    p = lab.p.rl
    prior = train(lab, Condition("bc_pseudo", "pseudo", variant.labels)) if variant.labels else BASE

    def learn(folder: Path) -> tuple[Cost, dict[str, Any]]:
        policy = load(lab, prior) if variant.labels else new(lab, 2)
        frozen = load(lab, prior) if variant.labels else None
        adam, curve, steps, update = torch.optim.Adam(policy.parameters(), lr=p.lr), lab.curve(variant.name), 0, 0
        while steps < p.env_steps:
            update += 1
            starts = [derive(lab.seed, "rl", update, k) % 2**32 for k in range(p.starts)]
            seeds = [seed for seed in starts for _ in range(p.group)]
            play = played(lab.make_env, seeds, acting(policy, generator(lab.seed, "acting", update)), p.env_steps - steps)
            returns = np.bincount(play.episode, play.rewards, len(seeds)).reshape(-1, p.group)
            advantages = leave_one_out(torch.from_numpy(returns)).reshape(-1)[torch.from_numpy(play.episode)]
            loss, found = objective(policy, frozen, play, advantages.float(), variant.pull, p, update)
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            adam.step()
            steps += len(play.actions)
            if steps < p.env_steps:  # the budget cuts the last batch, whose returns say nothing
                curve(update, found | {"return": float(returns.mean())})
        save_file(policy.state_dict(), folder / "model.safetensors")
        return Cost(env_steps=steps, samples=steps, updates=update), {}

    return lab.weights(variant.name, learn, start=prior)


def objective(
    policy: nn.Module, prior: nn.Module | None, play: Play, advantages: torch.Tensor, pull: str, p: Reinforce, update: int
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of one update, a mean over steps: −A·log π(a) + ρ·KL(π ‖ prior), or − ε·H(π)."""
    logs = torch.log_softmax(policy(causal(play)), 1)
    taken = logs.gather(1, torch.from_numpy(play.actions)[:, None])[:, 0]
    loss, entropy = -(advantages * taken).mean(), -(logs.exp() * logs).sum(1).mean()
    found = {"entropy": entropy.item()}
    if pull == "kl":
        with torch.no_grad():
            held = torch.log_softmax(prior(causal(play)), 1)
        kl = (logs.exp() * (logs - held)).sum(1).mean()
        return loss + p.kl * p.decay ** (update - 1) * kl, found | {"kl": kl.item()}
    return loss - p.entropy * entropy, found


# -- 3. how well actions are known, how well is played ------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """Of models of actions their accuracy on the demonstrator's play of the panel's episodes; of players their return."""
    found = []
    for panel in lab.p.panels:
        seeds = [task.data["seed"] for task in lab.panel(panel)]
        if "@" in variant.name:
            play = lab.once(("held out", panel), lambda: played(lab.make_env, seeds, ruled(lab, lab.p.shown.slips, "panel")))  # noqa: B023
            told = predicted(lab, trained, both_sides(play) if variant.kind == "idm" else causal(play))
            metrics = {"accuracy": float((told == play.actions).mean())}
        else:
            metrics, reference = {}, variant.kind in ("random", "scripted")
            for name, rng in {"return": generator("evaluate"), "greedy_return": None}.items():
                choose = ruled(lab, float(variant.kind == "random"), "player") if reference else acting(load(lab, trained), rng)
                metrics[name] = float(played(lab.make_env, seeds, choose).rewards.sum() / len(seeds))
        found.append(Measured(panel, metrics, len(seeds)))
    return found
