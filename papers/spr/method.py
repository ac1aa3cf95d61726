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
    ema            spr with targets from a slowly following copy of the encoder
    no_aug, no_aug_ema     no shifts, targets from the online encoder or its slow copy
    no_aug_rainbow         no shifts, nothing predicted
    no_mask        spr that also predicts what is stored behind an episode's end (another episode's beginning)
    no_stop_grad   spr whose gradient flows into the targets too
    random, scripted       reference players: uniformly random; a rule that reads the planes

Differs from the paper:
 1. Two MinAtar games (10×10 boolean planes, sticky actions, one frame instead of four) instead of 26 Atari games,
    and thousands of steps instead of 100,000. Scores are of the game, not human-normalised.
 2. A network of 0.2 M parameters: two convolutions to a latent of 5×5 cells, 128 hidden units; the dueling streams
    share the head's first layer, which is the projection (the paper has one for each stream and joins them).
 3. Shifts move the frame by a cell on a canvas with an empty margin, so that no row is lost: MinAtar's paddle is in
    the outermost one. No intensity jitter: planes are 0 or 1, brightness means nothing. A cell is a tenth of the
    frame (the paper: four of 84) and what a ball moves in a step: each frame shifted on its own, the targets hide
    just what is to be foreseen. With shifts SPR must be expected to gain less than in the paper.
 4. ε-greedy exploration instead of noisy layers, and uniform instead of prioritised replay. Both simplify; the
    absolute level may suffer, equally for all variants.
 5. The Q-target comes from a slow copy (a share of new weights at each update), not from the online weights. The
    variants with EMA targets use the same copy, so that they differ from the others in nothing else.
 6. The paper sums over k with λ = 2, the released code takes the mean with λ = 5; the mean here, so that K = 1 and
    K = 5 weigh the same. λ and rates were chosen on the validation panel.
 7. Without augmentation the paper adds dropout to the encoder; not here, so that the four variants of augmentation
    and target differ in these two only. This may make the ones without augmentation worse.
 8. Gradient norms are clipped for the transition model apart from the rest, as in the released code.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from common.envs import load_panel, make
from common.envs.panels import version
from common.evaluate.latents import cosines, effective_rank, recognised
from common.evaluate.pixels import Act, Episode, Stretches, play, stretches
from common.learn.distributional import cross_entropy, double_target, n_step, q_values
from common.learn.pixels import MARGIN, Memory, PixelAgent, Windows
from common.learn.self_prediction import follow, placed, spr_loss, within_episode
from common.rng import derive, generator
from common.track.files import write_atomic
from common.track.rows import MetricRow, cost_of
from common.types import Cost


@dataclass(frozen=True)
class Network:
    channels: int
    hidden: int
    atoms: int
    limit: float
    """Values lie in [−limit, limit]."""


@dataclass(frozen=True)
class Learn:
    env_steps: int
    start: int
    """Steps before the first update; all of them random."""
    every: int
    """Environment steps between updates."""
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
    """Equally spaced along the environment steps, the last at the end."""
    curve_episodes: int
    """At each checkpoint, the first of the panel."""
    stretches: int
    """On which latents are compared."""


@dataclass(frozen=True)
class Params:
    network: Network
    learn: Learn
    predict: Predict
    test: Test
    panel: str


@dataclass(frozen=True)
class Variant:
    """One training condition. ``ahead`` is K, 0 for none; the others are SPR's parts."""

    name: str
    ahead: int
    shifts: bool = True
    slow_targets: bool = False
    mask: bool = True
    stop_gradient: bool = True


def variants(p: Params) -> list[Variant]:
    k = p.predict.steps
    return [
        Variant("rainbow", 0),
        Variant("no_aug_rainbow", 0, shifts=False),
        Variant("spr@K=1", 1),
        Variant("spr", k),
        Variant("ema", k, slow_targets=True),
        Variant("no_aug", k, shifts=False),
        Variant("no_aug_ema", k, shifts=False, slow_targets=True),
        Variant("no_mask", k, mask=False),
        Variant("no_stop_grad", k, stop_gradient=False),
    ]


# -- 1. views (paper §2.2) -------------------------------------------------------------------------------------


def canvases(frames: torch.Tensor, rng: np.random.Generator | None) -> torch.Tensor:
    """``frames`` [.., C, H, W] on their canvases, each shifted at random by ``rng``, all in the middle without it."""
    flat = frames.flatten(0, -4)
    drawn = np.full((len(flat), 2), MARGIN) if rng is None else rng.integers(2 * MARGIN + 1, size=(len(flat), 2))
    made = placed(flat, torch.from_numpy(drawn), MARGIN)
    return made.view(*frames.shape[:-3], *made.shape[1:])


# -- 2. the two losses (paper §2.1) -----------------------------------------------------------------------------


def q_loss(
    agent: PixelAgent, slow: PixelAgent, latents: torch.Tensor, later: torch.Tensor, seen: Windows, learn: Learn,
    support: torch.Tensor,
) -> torch.Tensor:
    """C51 with n-step double targets, [B]. ``latents`` are of the first states, ``later`` canvases n steps on."""
    with torch.no_grad():
        returns, discounts = n_step(seen.rewards, seen.ended, learn.gamma)
        online, target = agent.logits(agent.latents(later)), slow.logits(slow.latents(later))
        wanted = double_target(online, target, returns, discounts, support)
    return cross_entropy(agent.logits(latents), seen.taken, wanted)


def prediction_loss(
    agent: PixelAgent, slow: PixelAgent, latents: torch.Tensor, future: torch.Tensor, seen: Windows, variant: Variant
) -> torch.Tensor:
    """SPR's loss as a mean over its K steps, [B]. ``future`` [B, K, C, H, W] are canvases of the states that came."""
    batch, ahead = future.shape[:2]
    predicted = agent.predictor(agent.project(agent.ahead(latents, seen.actions)))
    teacher = slow if variant.slow_targets else agent
    with torch.set_grad_enabled(not variant.stop_gradient):
        targets = teacher.project(teacher.latents(future.flatten(0, 1))).view(batch, ahead, -1)
    mask = within_episode(seen.ended[:, :ahead]) if variant.mask else torch.ones(batch, ahead)
    return spr_loss(predicted, targets, mask) / ahead


# -- 3. learning while acting (paper §2.3, algorithm 1) -----------------------------------------------------------


class Learner:
    """An agent, its slow copy and its optimiser; ``update`` is one step on both losses."""

    def __init__(self, agent: PixelAgent, p: Params, variant: Variant, seed: int) -> None:
        self.agent, self.slow, self.p, self.variant = agent, copy.deepcopy(agent).requires_grad_(False), p, variant
        self.support = torch.linspace(-p.network.limit, p.network.limit, p.network.atoms)
        self.optimiser = torch.optim.Adam(agent.parameters(), lr=p.learn.lr, eps=p.learn.adam_epsilon,
                                          fused=True)  # fmt: skip
        self.model = list(agent.transition.parameters())
        own = {id(weight) for weight in self.model}
        self.stem = [weight for weight in agent.parameters() if id(weight) not in own]
        self.replay, self.shift, self.later = (generator(seed, name) for name in ("replay", "shift", "later"))

    def update(self, memory: Memory) -> dict[str, float]:
        learn, variant = self.p.learn, self.variant
        seen = memory.windows(self.replay, learn.batch, ahead=variant.ahead, steps=learn.returns)
        first, last = canvases(seen.frames[:, [0, -1]], self.shift if variant.shifts else None).unbind(1)
        latents = self.agent.latents(first)
        loss = q = q_loss(self.agent, self.slow, latents, last, seen, learn, self.support).mean()
        found = {"q_loss": q.item()}
        if variant.ahead:
            # numbers of its own, so that the Q-loss meets the same shifts whether anything is predicted or not
            future = canvases(seen.frames[:, 1:-1], self.later if variant.shifts else None)
            foretold = prediction_loss(self.agent, self.slow, latents, future, seen, variant).mean()
            loss, found["spr_loss"] = q + self.p.predict.weight * foretold, foretold.item()
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"{variant.name}: the loss is {loss.item()} with lr {learn.lr}, and training "
                                     "stops at the first value that is not finite; lower learn.lr")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        found["grad_norm"] = torch.nn.utils.clip_grad_norm_(self.stem, learn.clip).item()
        torch.nn.utils.clip_grad_norm_(self.model, learn.clip)
        self.optimiser.step()
        follow(self.slow, self.agent, learn.slow)
        return found


def greedy(agent: PixelAgent, support: torch.Tensor) -> Act:
    """Actions of largest expected value, frames in the middle of their canvases."""

    def act(frames: np.ndarray) -> list[int]:
        with torch.no_grad():
            logits = agent.logits(agent.latents(canvases(torch.from_numpy(frames), None)))
        return q_values(logits, support).argmax(1).tolist()

    return act


def learn_to_play(
    env, agent: PixelAgent, p: Params, variant: Variant, seed: int, check: Callable[[int, int, dict[str, float]], None]
) -> int:
    """Train ``agent`` in place; returns the updates done. ``check(environment steps, updates, means of the losses since
    the last)`` is called at every checkpoint. Seeds of episodes, and random numbers of exploration and replay, follow
    ``seed`` alone, whatever the variant."""
    learn, learner = p.learn, Learner(agent, p, variant, seed)
    memory, explore = Memory(learn.env_steps, env.shape), generator(seed, "explore")
    act = greedy(agent, learner.support)
    frame, episodes, updates, since = env.reset(derive(seed, "train", 0)), 0, 0, []
    marks = {learn.env_steps * k // p.test.checkpoints for k in range(1, p.test.checkpoints + 1)}
    for step in range(1, learn.env_steps + 1):
        epsilon = max(learn.epsilon, 1.0 - (1.0 - learn.epsilon) * step / learn.epsilon_steps)
        drawn, other = explore.random(), int(explore.integers(len(env.actions)))
        action = other if step <= learn.start or drawn < epsilon else act(frame[None])[0]
        after = env.step(action)
        memory.add(frame, action, after.reward, after.done)  # a cut at the step limit counts as an end: it is rare
        frame = after.planes
        if after.done:
            episodes += 1
            frame = env.reset(derive(seed, "train", episodes))
        if step > learn.start and step % learn.every == 0:
            since.append(learner.update(memory))
            updates += 1
        if step in marks:
            check(step, updates, {name: fmean(one[name] for one in since) for name in (since[0] if since else ())})
            since = []
    return updates


# -- 4. what the latents are worth -------------------------------------------------------------------------------


def foresight(agent: PixelAgent, seen: Stretches) -> dict[str, float]:
    """Effective rank of latents and projections, and for each step k the mean cosine of foreseen and true
    projections (``cosine@k``), and the share foreseen that are nearest to their own future (``match@k``)."""
    frames, actions = torch.from_numpy(seen.frames), torch.from_numpy(seen.actions)
    agent.eval()
    with torch.no_grad():
        latents = agent.latents(canvases(frames.flatten(0, 1), None)).unflatten(0, frames.shape[:2])
        true = agent.project(latents).numpy()
        told = agent.predictor(agent.project(agent.ahead(latents[:, 0], actions))).numpy()
    agent.train()
    found = {"rank": effective_rank(latents[:, 0].flatten(1).numpy()), "rank_projected": effective_rank(true[:, 0])}
    for k in range(1, actions.shape[1] + 1):
        similarity = cosines(told[:, k - 1], true[:, k])
        found |= {f"cosine@{k}": float(np.diag(similarity).mean()), f"match@{k}": recognised(similarity)}
    return found


def summary(episodes: list[Episode]) -> dict[str, float]:
    return {"return": fmean(one.total for one in episodes), "length": fmean(one.length for one in episodes),
            "truncated": fmean(one.truncated for one in episodes)}  # fmt: skip


# -- 5. the unit: all variants, resumable one by one ---------------------------------------------------------------


class Experiment:
    """One unit at work: the game, its episodes, and stages that are computed once and then read back."""

    def __init__(self, unit) -> None:
        self.unit, self.run, self.p, self.seed = unit, unit.run, unit.params, unit.seed
        self.env, self.rule = make(unit.env, unit.data), version(unit.env).scripted
        test = self.p.test
        tasks = load_panel(unit.data, f"{unit.env}/{self.p.panel}")[: test.episodes]
        self.seeds = [task.data["seed"] for task in tasks]
        others = [task.data["seed"] for task in load_panel(unit.data, f"{unit.env}/validation")]
        self.probe = stretches(self.env, others, self.rule, count=test.stretches, steps=self.p.predict.steps,
                               epsilon=0.3)  # fmt: skip
        self.support = torch.linspace(-self.p.network.limit, self.p.network.limit, self.p.network.atoms)

    def new_agent(self) -> PixelAgent:
        """The same random weights for every variant of a seed."""
        net = self.p.network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "weights") % 2**63)
            return PixelAgent(self.env.shape, len(self.env.actions), channels=net.channels, hidden=net.hidden,
                              atoms=net.atoms)  # fmt: skip

    def agent(self, name: str) -> PixelAgent:
        """The one that variant ``name`` trained."""
        agent = self.new_agent()
        agent.load_state_dict(load_file(self.run.stage_path(f"train.{name}") / "agent.safetensors"))
        return agent

    def play(self, act: Act, episodes: int, epsilon: float) -> list[Episode]:
        return play(lambda: make(self.unit.env, self.unit.data), self.seeds[:episodes], act, epsilon=epsilon)

    def train(self, variant: Variant) -> tuple[dict[str, float], Cost]:
        """Train ``variant``: its learning curve (``return@step``, ``rank@step``) and what it cost."""
        stage, test = f"train.{variant.name}", self.p.test

        def compute() -> dict:
            agent, curve = self.new_agent(), {}

            def check(step: int, updates: int, losses: dict[str, float]) -> None:
                episodes = self.play(greedy(agent, self.support), test.curve_episodes, test.epsilon)
                now = {"return": summary(episodes)["return"], "rank": foresight(agent, self.probe)["rank"]}
                curve.update({f"{name}@{step}": value for name, value in now.items()})
                self.run.log(variant.name, updates, {f"r1/train/{k}": v for k, v in (losses | now).items()})

            with self.run.stage_dir(stage) as folder:
                updates = learn_to_play(self.env, agent, self.p, variant, self.seed, check)
                save_file(agent.state_dict(), folder / "agent.safetensors")
            cost = Cost(env_steps=self.p.learn.env_steps, updates=updates, samples=updates * self.p.learn.batch)
            return {"cost": cost_of(cost), "curve": curve}

        done = self.run.stage(stage, compute)
        return done["curve"], Cost(**done["cost"])

    def evaluate(self, variant: Variant) -> dict[str, float]:
        """All episodes of the panel, and the foresight; three episodes are kept to be looked at."""

        def compute() -> dict:
            agent = self.agent(variant.name)
            episodes = self.play(greedy(agent, self.support), self.p.test.episodes, self.p.test.epsilon)
            kept = [trace(self.env, seed, agent, self.support) for seed in self.seeds[:3]]
            write_atomic(self.run.artifacts / f"episodes.{variant.name}.json", json.dumps(kept) + "\n")
            return summary(episodes) | foresight(agent, self.probe)

        return self.run.stage(f"eval.{variant.name}", compute)

    def reference(self, name: str) -> dict[str, float]:
        """``random`` or ``scripted``."""

        def compute() -> dict:
            lazy = name == "random"
            rule = (lambda frames: [0] * len(frames)) if lazy else (lambda frames: [self.rule(one) for one in frames])
            return summary(self.play(rule, self.p.test.episodes, 1.0 if lazy else self.p.test.epsilon))

        return self.run.stage(f"eval.{name}", compute)


def trace(env, seed: int, agent: PixelAgent, support: torch.Tensor, most: int = 120) -> list[dict]:
    """The greedy episode ``seed`` step by step: cells set as [plane, row, column], Q-values, action, reward."""
    frame, steps, over = env.reset(seed), [], False
    while not over and len(steps) < most:
        with torch.no_grad():
            values = q_values(agent.logits(agent.latents(canvases(torch.from_numpy(frame[None]), None))), support)[0]
        action = int(values.argmax())
        after = env.step(action)
        steps.append({"cells": np.argwhere(frame).tolist(), "q": [round(v, 4) for v in values.tolist()],
                      "action": action, "reward": after.reward, "over": after.done})  # fmt: skip
        frame, over = after.planes, after.done
    return steps


def run(unit) -> list[MetricRow]:
    """Train and evaluate every variant of one unit; writes its metric rows and marks it finished."""
    if unit.run.finished:
        return unit.run.rows()
    torch.set_num_threads(1)  # bit-identical results whatever the number of workers
    work, rows = Experiment(unit), []

    def keep(name: str, metrics: dict[str, float], cost: Cost) -> None:
        n = {"cosine": work.p.test.stretches, "match": work.p.test.stretches, "rank": work.p.test.stretches,
             "return@": work.p.test.curve_episodes}  # fmt: skip
        for metric, value in metrics.items():
            count = next((found for start, found in n.items() if metric.startswith(start)), len(work.seeds))
            rows.append(MetricRow(paper="spr", env=unit.env, profile=unit.profile, scale="nano", variant=name,
                                  seed=unit.seed, panel=f"{unit.env}/{work.p.panel}", metric=metric, value=value,
                                  n=count, cost=cost_of(cost)))  # fmt: skip

    for name in ("random", "scripted"):
        keep(name, work.reference(name), Cost())
    for variant in variants(work.p):
        curve, cost = work.train(variant)
        keep(variant.name, curve | work.evaluate(variant), cost)
    unit.run.write_rows(rows)
    unit.run.finish()
    return rows
