"""SPR (Schwarzer et al. 2021, arXiv:2007.05929): reinforcement learning that predicts its own future latents.

A Rainbow-like agent learns a game from few steps. Beside its Q-loss, its encoder is trained so that a transition
model foresees, from a latent and the actions taken, the projected latents of the next K states:

    L = L_C51 + λ/K · Σ_{k=1..K} mask_k · ‖ŷ_{t+k}/‖ŷ‖ − ỹ_{t+k}/‖ỹ‖‖²          (squared distance = 2 − 2·cosine)

ŷ: encoder → k transitions → projection (the Q-head's first layer) → predictor; ỹ: target encoder → projection, of
the state that did follow, without gradient. All see their own random shift. Variants share environment steps,
updates, initial weights, random numbers and everything of the Q-loss:

    spr            K = 5, shifts, targets from the online encoder itself: the paper's choice with augmentation
    rainbow        λ = 0: the same agent with the same shifts, nothing predicted
    spr@K=1        one step ahead, same total weight λ
    no_aug_ema     no shifts, and targets from a slowly following copy of the encoder: the paper's choice without them
    no_aug_rainbow no shifts, nothing predicted
    no_stop_grad   spr whose gradient flows into the targets too
    random, scripted    reference players: uniformly random; a rule that reads the planes

Differs from the paper:
 1. Catch, and two MinAtar games for who asks (10×10 boolean planes), and thousands of steps instead of 26 Atari games and
    100,000; raw scores.
 2. 0.2 M parameters; the dueling streams share the head's first layer, which is the projection.
 3. Shifts by one cell on a canvas with a margin: about what a ball moves in a step, so that they hide what is to be foreseen.
 4. ε-greedy exploration instead of noisy layers, uniform instead of prioritised replay, no intensity jitter.
 5. The Q-target comes from a slow copy, not from the online weights; variants with EMA targets use the same copy.
 6. The mean over k, as in the released code (λ = 5), not the sum (λ = 2), so that K = 1 and K = 5 weigh the same.
 7. No dropout in the encoder without augmentation, so that those variants differ in what is named only.
 8. Gradient norms are clipped for the transition model apart from the rest, as in the released code.
 9. λ = 25 on Catch: projections of all states share so much that the loss is soon small (cosines of .95 and more).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from common.config import UnitParams
from common.envs.pixels import PixelEnv
from common.envs.panels import version
from common.files import write_atomic
from common.lab import BASE, Lab, Measured, Trained, Variant
from common.rng import derive, generator
from common.types import Cost
from papers.spr.agent import Memory, PixelAgent, Windows, canvases, descend, q_loss
from papers.spr.maths import follow, spr_loss, within_episode
from papers.spr.playing import Stretches, experience, foresight, greedy, play, stretches, summary, trace


@dataclass(frozen=True)
class Network:
    channels: int
    hidden: int
    atoms: int
    limit: float


@dataclass(frozen=True)
class Learn:
    env_steps: int
    start: int
    """Random steps before the first update."""
    per_step: int
    """Updates after each environment step."""
    batch: int
    lr: float
    adam_epsilon: float
    gamma: float
    returns: int
    """n of the n-step return."""
    epsilon: float
    """Share of random steps, reached linearly from 1 at ``epsilon_steps``."""
    epsilon_steps: int
    slow: float
    """Share of new weights that the slow copy takes at each update."""
    clip: float


@dataclass(frozen=True)
class Predict:
    steps: int
    """K of all variants but ``spr@K=1`` and ``rainbow``."""
    weight: float
    """λ, of the mean over the K steps."""


@dataclass(frozen=True)
class Test:
    episodes: int
    epsilon: float
    checkpoints: int
    """Equally spaced, the last at the end; at each of them ``curve_episodes`` are played."""
    curve_episodes: int
    stretches: int


@dataclass(frozen=True, kw_only=True)
class Params(UnitParams):
    network: Network
    learn: Learn
    predict: Predict
    test: Test


@dataclass(frozen=True)
class Condition(Variant):
    """One training condition: ``ahead`` is K, 0 for none; the others are SPR's parts. Or a reference ``player``."""

    ahead: int = 0
    shifts: bool = True
    slow_targets: bool = False
    stop_gradient: bool = True
    player: str = ""


def variants(p: Params) -> list[Condition]:
    k = p.predict.steps
    return [
        Condition("random", player="random"),
        Condition("scripted", player="scripted"),
        Condition("rainbow"),
        Condition("no_aug_rainbow", shifts=False),
        Condition("spr@K=1", 1),
        Condition("spr", k),
        Condition("no_aug_ema", k, shifts=False, slow_targets=True),
        Condition("no_stop_grad", k, stop_gradient=False),
    ]


def train(lab: Lab, variant: Condition) -> Trained:
    """Learn to play; ``found`` is the learning curve, metrics@step by kind."""
    agent, test, curve = new_agent(lab), lab.p.test, {"return": {}, "rank": {}}

    def check(step: int, updates: int, losses: dict[str, float]) -> None:
        seeds = episode_seeds(lab, lab.p.panels[0], min(test.episodes, test.curve_episodes))
        played = summary(play(lab.make_env, seeds, greedy(agent), epsilon=test.epsilon))
        now = {"return": played["return"], "rank": foresight(agent, probe(lab))["rank"]}
        for name, value in now.items():
            curve[name][f"{name}@{step}"] = value
        lab.curve(variant.name)(updates, losses | now)

    def learn(folder: Path) -> tuple[Cost, dict[str, Any]]:
        updates = learn_to_play(lab.env, agent, lab.p, variant, lab.seed, check)
        agent.save(folder)
        return Cost(env_steps=lab.p.learn.env_steps, updates=updates, samples=updates * lab.p.learn.batch), curve

    return BASE if variant.player else lab.weights(variant.name, learn)


def new_agent(lab: Lab) -> PixelAgent:
    """The same random weights for every variant of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(lab.seed, "weights") % 2**63)
        return PixelAgent(lab.env.shape, len(lab.env.actions), **asdict(lab.p.network))


def episode_seeds(lab: Lab, panel: str, most: int | None = None) -> list[int]:
    return [task.data["seed"] for task in lab.panel(panel)[:most]]


def probe(lab: Lab) -> Stretches:
    """States on which latents of all agents are compared, in an environment of its own: training may be going on."""
    return lab.once("probe", lambda: stretches(
        lab.make_env(), episode_seeds(lab, "validation"), version(lab.unit.env).scripted, count=lab.p.test.stretches,
        steps=lab.p.predict.steps, epsilon=0.3))  # fmt: skip


# -- 1. the prediction loss (paper §2.1) -------------------------------------------------------------------------


def prediction_loss(
    agent: PixelAgent, slow: PixelAgent, latents: torch.Tensor, future: torch.Tensor, seen: Windows, variant: Condition
) -> torch.Tensor:
    """SPR's loss as a mean over its K steps, [B]. ``future`` [B, K, C, H, W] are canvases of the states that came."""
    batch, ahead = future.shape[:2]
    predicted = agent.predictor(agent.project(agent.ahead(latents, seen.actions)))
    teacher = slow if variant.slow_targets else agent
    with torch.set_grad_enabled(not variant.stop_gradient):
        targets = teacher.project(teacher.latents(future.flatten(0, 1))).view(batch, ahead, -1)
    return spr_loss(predicted, targets, within_episode(seen.ended[:, :ahead])) / ahead


# -- 2. learning while acting (paper §2.3, algorithm 1) ----------------------------------------------------------


def learn_to_play(
    env: PixelEnv, agent: PixelAgent, p: Params, variant: Condition, seed: int, check: Callable[[int, int, dict], Any]
) -> int:
    """Train ``agent`` in place; returns the updates done. ``check(environment steps, updates, mean losses since the
    last)`` is called at every checkpoint. Episodes, exploration and replay follow ``seed`` alone, not the variant."""
    learn, slow = p.learn, copy.deepcopy(agent).requires_grad_(False)
    optimiser = torch.optim.Adam(agent.parameters(), lr=learn.lr, eps=learn.adam_epsilon, fused=True)
    replay, shift, later = (generator(seed, name) for name in ("replay", "shift", "later"))
    memory = Memory(learn.env_steps, env.shape)

    def update() -> dict[str, float]:
        seen = memory.windows(replay, learn.batch, ahead=variant.ahead, steps=learn.returns)
        first, last = canvases(seen.frames[:, [0, -1]], shift if variant.shifts else None).unbind(1)
        latents = agent.latents(first)
        loss = q = q_loss(agent, slow, latents, last, seen, learn.gamma).mean()
        found = {"q_loss": q.item()}
        if variant.ahead:  # shifts by numbers of its own, so that the Q-loss meets the same ones in all variants
            future = canvases(seen.frames[:, 1:-1], later if variant.shifts else None)
            foreseen = prediction_loss(agent, slow, latents, future, seen, variant).mean()
            loss, found["spr_loss"] = q + p.predict.weight * foreseen, foreseen.item()
        found["grad_norm"] = descend(agent, loss, optimiser, clip=learn.clip)
        follow(slow, agent, learn.slow)
        return found

    updates, since = 0, []
    marks = {learn.env_steps * k // p.test.checkpoints for k in range(1, p.test.checkpoints + 1)}
    for step in experience(env, greedy(agent), memory, seed, learn.start, (learn.epsilon_steps, learn.epsilon)):
        if step > learn.start:
            since += [update() for _ in range(learn.per_step)]
        if step in marks:
            check(step, updates + len(since), {name: fmean(one[name] for one in since) for name in (since[0] if since else ())})
            updates, since = updates + len(since), []
    return updates


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """Episodes of the panels; of an agent its foresight and learning curve, and three episodes to be looked at."""
    test, rule, agent = lab.p.test, version(lab.unit.env).scripted, new_agent(lab)
    seeds = {panel: episode_seeds(lab, panel, test.episodes) for panel in lab.p.panels}
    act, epsilon = greedy(agent), 1.0 if variant.player == "random" else test.epsilon
    if variant.player:
        act = lambda frames: [rule(one) for one in frames]  # noqa: E731
    else:
        agent.load(lab.folder(trained))
    played = {panel: summary(play(lab.make_env, own, act, epsilon=epsilon)) for panel, own in seeds.items()}
    found, first = [Measured(panel, metrics, len(seeds[panel])) for panel, metrics in played.items()], lab.p.panels[0]
    if variant.player:
        return found
    kept = [trace(lab.env, seed, agent) for seed in seeds[first][:3]]
    write_atomic(lab.run.artifacts / f"episodes.{variant.name}.json", json.dumps(kept) + "\n")
    return [*found, Measured(first, foresight(agent, probe(lab)) | trained.found["rank"], test.stretches),
            Measured(first, trained.found["return"] | {"return_auc": fmean(trained.found["return"].values())},
                     test.curve_episodes)]  # fmt: skip
