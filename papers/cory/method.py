"""CORY (Ma et al. 2024, arXiv:2410.06101): two copies of a policy, fine-tuned together by reinforcement learning.

A pioneer answers the question s, a₁ ~ π_p(·|s); an observer sees the question and that answer and answers too,
a₂ ~ π_o(·|s, a₁). Correctness r ∈ {0, 1} is checked by the environment. Both get the same reward,

    r(a₁) + r(a₂)   for pioneer and observer alike, each minus η·KL(π ‖ π₀) of its own answer

and learn from it separately, each by its own policy gradient. They start as copies of π₀ and have weights of their
own; every T updates they exchange roles. What is judged is one agent alone, answering once: the one that ends as
pioneer. All variants start from the same base model and see as many sampled answers:

    single            policy-gradient RL of one agent on its first answers
    cory              pioneer and observer, roles exchanged, each agent's Adam state kept with its weights
    cory_reset        as the released code: both Adam states are thrown away at every exchange
    cory_no_exchange  the pioneer stays pioneer
    cory_blind        the observer does not see a₁: it answers the question
    …@eta=…           single and cory at other weights η, for their frontiers of reward against KL
    single_frontier, cory_frontier    what common/evaluate/frontier.py makes of these

CORY samples two answers for every question. Single-agent RL gets equally many by twice as many updates of the same
size, not by larger ones: optimiser steps are then equal as well (CORY's are those of both agents), and more updates
taught a nano policy more than larger ones did.

Differs from the paper:
 1. Nano policies trained from scratch instead of GPT-2 and Llama-2; countdown-answer-v1 and arithmetic-v1 instead of
    IMDB sentiment and GSM8K. Sizes will not carry over.
 2. The observer is asked by the environment's second turn ("check the answer and write it again"), which the base was
    shown in its demonstrations (a right answer kept, a wrong one replaced): a nano policy reads no instructions. So
    a₁ and a₂ hang together from the start, which may make r(a₂) noisier credit for the pioneer or better credit.
 3. REINFORCE instead of PPO with a learned value. The baseline is what such a value could know without learning: the
    mean over the other samples of the question, and for an observer that sees a₁ also r(a₁), which is fixed before it
    answers. That leaves the expected gradient as it is (tested by enumeration). One gradient step for each batch.
 4. The KL is a term of the loss, exact at every token, at a constant weight; the paper's is part of the reward, the
    released code's weight is adaptive. No scaling or normalisation of rewards.
 5. A summed reward is on twice the scale of a single one, so that one and the same η holds CORY less. It is
    compared with single-agent RL on their frontiers, never at equal η.
 6. ``cory_reset`` rebuilds Adam only. The released code also starts its adaptive KL weight anew, which does not exist
    here. All variants warm up once, at the beginning.
 7. The last weights are taken; answers are sampled at temperature 1, as KL is a property of the sampling policy.
 8. ``cory_blind``'s observer is not asked to check either: it gets the pioneer's own question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import torch

from common.envs import load_panel, make
from common.envs.contract import Env
from common.evaluate.correction import attempts_of, correction
from common.evaluate.frontier import Point, compare, excess, frontier
from common.learn.policy_gradient import (
    CreditedTurn, Dialogue, PolicyGradientSettings, adam, answer_kls, leave_one_out, policy_gradient,
    policy_gradient_step,
)
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.lm.policy import LMPolicy
from common.lm.team import TeamPolicy
from common.rng import derive, generator
from common.search.rollout import rollout
from common.track.lines import write_lines
from common.track.rows import MetricRow, cost_of
from common.types import Cost, Message, Task, Trajectory, Turn

ROLES = PIONEER, OBSERVER = ("pioneer", "observer")


@dataclass(frozen=True)
class Cooperate:
    updates: int
    """Of each agent of a pair; single-agent RL has twice as many."""
    exchange_every: int
    """T, in updates."""
    tasks: int
    """Questions per update."""
    group: int
    """Dialogues of each."""
    lr: float
    eta: float
    """Weight of the KL to the base in all variants but the frontiers' others."""
    other_etas: tuple[float, ...]


@dataclass(frozen=True)
class Test:
    tasks: int
    draws: int
    """Sampled answers of each task."""


@dataclass(frozen=True)
class Params:
    rl: Cooperate
    test: Test
    panels: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One training condition. ``method`` is its name without its η."""

    method: str
    eta: float
    name: str
    agents: int = 2
    exchange: bool = True
    reset: bool = False
    """Adam anew at every exchange."""
    blind: bool = False


FRONTIERS = ("single", "cory")


def variants(p: Params) -> list[Variant]:
    eta = p.rl.eta

    def every_eta(method: str, agents: int) -> list[Variant]:
        others = [Variant(method, other, f"{method}@eta={other:g}", agents) for other in p.rl.other_etas]
        return [Variant(method, eta, method, agents), *others]

    return [
        *every_eta("single", 1),
        *every_eta("cory", 2),
        Variant("cory_reset", eta, "cory_reset", reset=True),
        Variant("cory_no_exchange", eta, "cory_no_exchange", exchange=False),
        Variant("cory_blind", eta, "cory_blind", blind=True),
    ]


WARMUP = 4
"""Updates of linear warm-up at the beginning (ours)."""


# -- 1. knowledge transfer: one after the other ------------------------------------------------------------------


@dataclass
class Agent:
    """Weights and the Adam state that belongs to them, whatever role they play."""

    engine: Engine
    optimiser: torch.optim.Adam


Pair = tuple[Agent, Agent]
"""Pioneer, observer."""


@dataclass
class Blind:
    """An observer that is shown the question alone."""

    policy: LMPolicy

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        return self.policy.propose([prompt[:1] for prompt in prompts], keys, n)


def role_of(prompt: tuple[Message, ...]) -> str:
    return OBSERVER if any(message["role"] == "assistant" for message in prompt) else PIONEER


def talk(
    env: Env, tasks: list[Task], pioneer: Engine, observer: Engine, keys: list[int], *, blind: bool
) -> list[Trajectory]:
    """The pioneer's answer to every task, then the observer's; prompts are what each of them saw."""
    second = LMPolicy(observer)
    team = TeamPolicy({PIONEER: LMPolicy(pioneer), OBSERVER: Blind(second) if blind else second}, role_of)
    told = rollout(env, tasks, team, keys=keys, max_steps=2)
    if blind:
        told = [replace(one, steps=tuple(replace(step, prompt=step.prompt[:1]) for step in one.steps)) for one in told]
    return told


# -- 2. cooperation: one reward for both ------------------------------------------------------------------------


def credited(
    episodes: Sequence[Trajectory], correct: np.ndarray, *, group: int, eta: float, blind: bool = False
) -> tuple[list[Dialogue], ...]:
    """What each of K agents learns from: its own turn of every episode, credited with the sum of all turns' rewards.

    ``correct`` [P · group, K], samples of a task side by side. An agent's baseline is what it answers to already
    tells of the sum (the rewards of the turns before, unless ``blind``) plus the mean of the rest over the other
    ``group`` − 1 samples of the task. Neither depends on its own answer. Cut turns are not learned from.
    """
    rewards = torch.from_numpy(correct).double()
    lessons = []
    for k in range(correct.shape[1]):
        unknown = rewards.sum(1) if blind else rewards[:, k:].sum(1)
        advantages = leave_one_out(unknown.view(-1, group)).reshape(-1).tolist()
        lessons.append([
            (CreditedTurn(step.prompt, step.turn.text, advantage, eta),) if step.turn.finished else ()
            for step, advantage in zip((one.steps[k] for one in episodes), advantages, strict=True)
        ])  # fmt: skip
    return tuple(lessons)


# -- 3. exchange of roles ---------------------------------------------------------------------------------------


def exchange_due(update: int, every: int) -> bool:
    """Before ``update`` (from 1): after every ``every`` updates."""
    return update > 1 and (update - 1) % every == 0


def exchanged(pair: Pair, settings: PolicyGradientSettings, *, reset: bool) -> Pair:
    """The observer as pioneer and the pioneer as observer, with their weights and, without ``reset``, Adam's state."""
    observer, pioneer = pair
    if not reset:
        return pioneer, observer
    return tuple(Agent(agent.engine, adam(agent.engine.model, settings)) for agent in (pioneer, observer))


# -- 4. the unit: all variants, resumable one by one -------------------------------------------------------------


class Experiment:
    """One unit at work: environment, tasks, and stages that are computed once and then read back."""

    def __init__(self, unit) -> None:
        self.unit, self.run, self.p, self.seed = unit, unit.run, unit.params, unit.seed
        self.env = make(unit.env, unit.data)
        panel = load_panel(unit.data, f"{unit.env}/train")
        self.tasks = [panel[i] for i in generator(self.seed, "tasks").permutation(len(panel))]
        self.panels = {name: load_panel(unit.data, f"{unit.env}/{name}")[: self.p.test.tasks] for name in self.p.panels}
        self.reference = self.engine(None)

    def engine(self, stage: str | None, role: str = PIONEER) -> Engine:
        """The agent that ended stage ``stage`` in ``role``; None is the base model."""
        return Engine(*load_model(self.run.stage_path(stage) / role if stage else self.unit.base))

    def questions(self, update: int) -> tuple[list[Task], list[int]]:
        """Tasks of one update (from 1), ``group`` copies side by side, and their keys; the same for all variants."""
        n = self.p.rl.tasks
        chosen = [self.tasks[i % len(self.tasks)] for i in range((update - 1) * n, update * n)]
        tasks = [task for task in chosen for _ in range(self.p.rl.group)]
        return tasks, [derive(self.seed, "rl", update, i, task.id) for i, task in enumerate(tasks)]

    def settings(self, engine: Engine, updates: int) -> PolicyGradientSettings:
        return PolicyGradientSettings(lr=self.p.rl.lr, updates=updates, max_length=engine.context, warmup=WARMUP)

    # training

    def train(self, variant: Variant) -> tuple[str, Cost]:
        """Train ``variant``; the stage that holds its agents, and what they cost together."""
        stage = f"train.{variant.name}"
        compute = self.alone if variant.agents == 1 else self.together
        return stage, Cost(**self.run.stage(stage, lambda: {"cost": cost_of(compute(variant, stage))})["cost"])

    def alone(self, variant: Variant, stage: str) -> Cost:
        """Single-agent RL on first answers: twice the updates, for as many answers as a pair."""
        engine, answers, seen = self.engine(None), 0, {}

        def collect(update: int) -> list[Dialogue]:
            nonlocal answers
            tasks, keys = self.questions(update)
            episodes = rollout(self.env, tasks, LMPolicy(engine), keys=keys, max_steps=1)
            correct = attempts_of(self.env, tasks, episodes).correct
            answers += correct.size
            seen["acc_1"] = float(correct.mean())
            return credited(episodes, correct, group=self.p.rl.group, eta=variant.eta)[0]

        def log(update: int, metrics: dict) -> None:
            self.log(variant, update, seen | {k: metrics[k] for k in ("kl_1", "grad_norm") if k in metrics})

        settings = self.settings(engine, 2 * self.p.rl.updates)
        with self.run.stage_dir(stage) as folder:
            policy_gradient(engine.model, self.reference.model, engine.tokenizer, collect, settings, out_dir=self.run.artifacts,
                            log=log)  # fmt: skip
            save_model(engine.model, engine.tokenizer, folder / PIONEER)
        return replace(engine.cost, env_steps=answers, samples=answers, updates=settings.updates)

    def together(self, variant: Variant, stage: str) -> Cost:
        """Pioneer and observer: each update samples dialogues of both and moves each by its own gradient."""
        engines = [self.engine(None) for _ in ROLES]
        settings = self.settings(engines[0], self.p.rl.updates)
        pair: Pair = tuple(Agent(engine, adam(engine.model, settings)) for engine in engines)
        answers = 0
        with self.run.stage_dir(stage) as folder:
            for update in range(1, settings.updates + 1):
                if variant.exchange and exchange_due(update, self.p.rl.exchange_every):
                    pair = exchanged(pair, settings, reset=variant.reset)
                tasks, keys = self.questions(update)
                told = talk(self.env, tasks, pair[0].engine, pair[1].engine, keys, blind=variant.blind)
                correct = attempts_of(self.env, tasks, told).correct
                answers += correct.size
                seen = {"acc_1": float(correct[:, 0].mean()), "acc_2": float(correct[:, 1].mean())}
                lessons = credited(told, correct, group=self.p.rl.group, eta=variant.eta, blind=variant.blind)
                for k, (agent, dialogues) in enumerate(zip(pair, lessons, strict=True), start=1):
                    model, tokenizer = agent.engine.model, agent.engine.tokenizer
                    done = policy_gradient_step(model, self.reference.model, tokenizer, dialogues, agent.optimiser,
                                                settings, update, out_dir=self.run.artifacts)  # fmt: skip
                    turn = 1 if variant.blind else k  # the blind observer's prompt is that of a first turn
                    seen |= {f"kl_{k}": done.metrics.get(f"kl_{turn}", 0.0)} | (
                        {"grad_norm": done.metrics["grad_norm"]} if k == 1 else {})  # fmt: skip
                self.log(variant, update, seen)
            for role, agent in zip(ROLES, pair, strict=True):
                save_model(agent.engine.model, agent.engine.tokenizer, folder / role)
        spent = engines[0].cost + engines[1].cost
        return replace(spent, env_steps=answers, samples=answers, updates=2 * settings.updates)

    def log(self, variant: Variant, update: int, metrics: dict) -> None:
        self.run.log(variant.name, update, {f"r1/train/{k}": v for k, v in metrics.items()})

    # evaluation

    def evaluate(self, name: str, stage: str | None, *, agents: int, blind: bool = False) -> dict:
        """On every panel: one agent alone on first answers, and of a pair also the other one alone and the dialogue."""

        def compute() -> dict:
            engines = [self.engine(stage, role) for role in ROLES[:agents]]
            result = {}
            for panel, tasks in self.panels.items():
                asked = [task for task in tasks for _ in range(self.p.test.draws)]
                keys = [derive(self.seed, "evaluate", i, task.id) for i, task in enumerate(asked)]
                if agents == 1:
                    result[panel] = self.first_answers(engines[0], asked, keys)
                    continue
                told = talk(self.env, asked, *engines, keys, blind=blind)
                result[panel] = correction(attempts_of(self.env, asked, told))
                result[panel] |= {"success": result[panel]["acc@1"], "kl": self.kl(engines[0], told)}
                other = self.first_answers(engines[1], asked, keys)
                result[panel] |= {f"{OBSERVER}_{k}": v for k, v in other.items()}
                if panel == self.p.panels[0]:
                    kept = slice(0, 60 * self.p.test.draws, self.p.test.draws)
                    lines = spoken(self.env, asked[kept], told[kept])
                    write_lines(self.run.artifacts / f"dialogues.{name}.jsonl", lines)
            flat = {f"{panel}/{k.replace('@', '_')}": v for panel, found in result.items() for k, v in found.items()}
            self.run.log(name, 0, flat)
            return result

        return self.run.stage(f"eval.{name}", compute)

    def first_answers(self, engine: Engine, tasks: list[Task], keys: list[int]) -> dict[str, float]:
        told = rollout(self.env, tasks, LMPolicy(engine), keys=keys, max_steps=1)
        return {"success": float(attempts_of(self.env, tasks, told).correct.mean()), "kl": self.kl(engine, told)}

    def kl(self, engine: Engine, told: Sequence[Trajectory]) -> float:
        """Mean KL to the base of the episodes' first answers, in nats; ``engine`` sampled them."""
        asked = [(one.steps[0].prompt, one.steps[0].turn) for one in told]
        found = answer_kls(engine.model, self.reference.model, engine.tokenizer, asked)
        return max(0.0, fmean(found.double().tolist()))  # rounding can put the base's own a little below 0


def spoken(env: Env, tasks: Sequence[Task], told: Sequence[Trajectory]) -> list[dict]:
    """JSON-able rows, one a turn, to be read by people: who said what, and whether it is right."""
    right = attempts_of(env, tasks, told).correct
    return [
        {"task": one.task_id, "turn": k + 1, "role": role, "prompt": one.steps[0].prompt[0]["content"],
         "text": step.turn.text, "right": bool(right[i, k])}
        for i, one in enumerate(told)
        for k, (role, step) in enumerate(zip(ROLES, one.steps, strict=True))
    ]  # fmt: skip


def compared(found: dict[Variant, dict[str, float]], base: float) -> tuple[dict[str, dict], dict[str, float]]:
    """The frontiers' metrics by method, with KL and success of the highest corner; and by variant its reward beyond
    single-agent RL's frontier at its own KL."""
    points = {variant: Point(metrics["kl"], metrics["success"]) for variant, metrics in found.items()}
    curves = {method: [at for v, at in points.items() if v.method == method] for method in FRONTIERS}
    frontiers = compare(curves, base)
    for method, curve in curves.items():
        frontiers[method] |= dict(zip(("kl", "success"), frontier(curve, base)[-1], strict=True))
    return frontiers, {v.name: excess(at, curves["single"], base) for v, at in points.items()}


def run(unit) -> list[MetricRow]:
    """Train and evaluate every variant of one unit; writes its metric rows and marks it finished."""
    if unit.run.finished:
        return unit.run.rows()
    torch.set_num_threads(1)  # bit-identical results whatever the number of workers
    work, rows = Experiment(unit), []

    def add(variant: str, panel: str, metrics: dict, cost: Cost) -> None:
        rows.extend(
            MetricRow(paper="cory", env=unit.env, profile=unit.profile, scale="nano", variant=variant, seed=unit.seed,
                      panel=f"{unit.env}/{panel}", metric=metric, value=value, n=len(work.panels[panel]),
                      cost=cost_of(cost))  # fmt: skip
            for metric, value in metrics.items()
        )

    base = work.evaluate("base", None, agents=2)
    trained = {variant: work.train(variant) for variant in variants(work.p)}
    reports = {v: work.evaluate(v.name, stage, agents=v.agents, blind=v.blind) for v, (stage, _) in trained.items()}
    for panel in work.panels:
        alone = {k: v for k, v in base[panel].items() if not k.startswith(OBSERVER)}
        add("base", panel, alone, Cost())
        frontiers, beyond = compared({v: report[panel] for v, report in reports.items()}, base[panel]["success"])
        for variant, report in reports.items():
            add(variant.name, panel, report[panel] | {"excess": beyond[variant.name]}, trained[variant][1])
        for method, metrics in frontiers.items():
            add(f"{method}_frontier", panel, metrics, sum((c for v, (_, c) in trained.items() if v.method == method),
                                                          Cost()))  # fmt: skip
    unit.run.write_rows(rows)
    unit.run.finish()
    return rows
