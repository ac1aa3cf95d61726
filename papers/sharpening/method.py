"""Sharpening (Huang et al. 2024, arXiv:2412.01951): self-improvement without any outside judgement, and why it can work.

A model may be better at telling which of its answers is good than at writing it. The simplest judge is its own likelihood,

    r_self(y|x) = log π_base(y|x),        y*(x) = arg max_y r_self(y|x)

and a policy is *sharpened* when it puts most of its probability on y*. At test time best of N does it: sample N answers, give the one of
largest r_self. Training takes the cost of that off:

    base                the base model; base+bonN: best of N at test time
    sharpen             fine-tuned on the best of 8 own answers by r_self (SFT-sharpening); sharpen@N=2, sharpen@N=32
    random              the same with one of the 8 at random: nothing is sharpened, all the rest is the same
    rl                  RLHF-sharpening: policy gradient on r_self, held to π_base by β·KL, whose optimum is π_base^{1+1/β}

No variant ever sees whether an answer is right. Greedy decoding is the control that costs nothing: it gives y* up to search errors.

Differs from the paper:
 1. Nano policies trained from scratch on Countdown with worked answers, instead of language models on MATH, GSM8K, ProntoQA and others.
 2. ``rl`` samples from the policy itself and takes the gradient of the objective, with the mean of a task's other answers as
    baseline; the paper regresses on pairs (DPO), with a bonus for exploration (XPO).
 3. The KL's gradient is taken at the contexts that are met, not through how likely they are (:mod:`common.learn.policy_gradient`), so that
    the fixed point of ``rl`` is near π_base^{1+1/β} and not exactly there.
 4. Best of N counts answers with their end of turn; one that the token limit cut is never chosen.
 5. ``mode`` approximates y* by the best of 32 answers of the base model drawn apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from common.config import Evaluation, ModelParams
from common.envs.answers import AnswerEnv
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.learn.policy_gradient import CreditedTurn, PolicyGradientSettings, adam, leave_one_out, policy_gradient_step
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.rng import generator
from common.types import Cost, Message, Task, Turn

MODE_OF = 32
AT_TEST = (2, 8, 32)
WARMUP = 4  # updates of linear warm-up at the beginning of reinforcement learning (ours)


@dataclass(frozen=True)
class Collect:
    tasks: int
    """Training tasks."""
    samples: int
    """N of all variants but those named by it."""


@dataclass(frozen=True)
class Fit:
    updates: int
    batch: int
    lr: float


@dataclass(frozen=True)
class Reinforce:
    updates: int
    tasks: int
    """Of an update."""
    group: int
    """Answers of each."""
    lr: float
    beta: float


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    collect: Collect
    sft: Fit
    rl: Reinforce
    test: Evaluation


@dataclass(frozen=True)
class Condition(Variant):
    """Fine-tuned on the answer that ``pick`` ("best", "random") takes of ``n``; 0 for the base and for ``rl``."""

    n: int = 0
    pick: str = "best"


def variants(p: Params) -> list[Condition]:
    n = p.collect.samples
    return [
        Condition("base"),
        Condition("random", n, "random"),
        *(Condition(f"sharpen@N={other}", other) for other in (2, 32)),
        Condition("sharpen", n),
        Condition("rl", pick="rl"),
    ]


def environment(lab: Lab) -> AnswerEnv:
    """One attempt at each task."""
    return lab.make_env().dialogue(1, window=1)


# -- 1. own answers, judged by their own likelihood ------------------------------------------------------------------


def likeliest(turns: Sequence[Turn]) -> Turn | None:
    """The finished turn of largest log-probability, the first of several; None where all were cut."""
    return max((turn for turn in turns if turn.finished), key=lambda turn: turn.logprob, default=None)


@dataclass
class BestOfN:
    """A policy that samples ``n`` answers for each one it gives, and gives the one it finds likeliest; a cut one if all were cut."""

    policy: LMPolicy
    n: int

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        drawn = self.policy.propose(prompts, keys, n * self.n)
        groups = [[turns[k : k + self.n] for k in range(0, len(turns), self.n)] for turns in drawn]
        return [[likeliest(group) or group[0] for group in of_prompt] for of_prompt in groups]


def prompts_of(lab: Lab, tasks: Sequence[Task]) -> list[tuple[Message, ...]]:
    found = []
    for task in tasks:
        lab.env.reset(task)
        found.append(lab.env.prompt())
    return found


# -- 2. training on them (paper §3) ------------------------------------------------------------------------------------


def train(lab: Lab, variant: Condition) -> Trained:
    p = lab.p.sft
    if variant.pick == "rl":
        return reinforced(lab)
    if not variant.n:
        return BASE
    return lab.fit(variant.name, lambda engine: collected(lab, engine, variant), order=("sft",), lr=p.lr, max_steps=p.updates,
                   batch_size=p.batch)  # fmt: skip


def collected(lab: Lab, engine: Engine, variant: Condition) -> Collected:
    """An own answer to each training task; the same draws for all variants of one N."""
    tasks = lab.batch(0, lab.p.collect.tasks)
    prompts = prompts_of(lab, tasks)
    answers = lab.policy(engine).propose(prompts, lab.keys(tasks, "collect", variant.n), variant.n)
    rows = []
    for task, prompt, turns in zip(tasks, prompts, answers, strict=True):
        done = [turn for turn in turns if turn.finished]
        if done:
            other = done[generator(lab.seed, "random", task.id).integers(len(done))]
            rows.append(SFTExample(prompt, (likeliest(done) if variant.pick == "best" else other).text))
    return Collected(rows, spent(engine, variant.n * len(tasks)))


def reinforced(lab: Lab) -> Trained:
    """max E[log π_base(y|x)] − β·KL(π ‖ π_base), by its gradient on answers of the policy. Answers that were cut count in the
    others' baseline, and nothing is learned from them."""
    p, base = lab.p.rl, lab.once("base", lab.engine)
    settings = PolicyGradientSettings(lr=p.lr, updates=p.updates, max_length=base.context, warmup=WARMUP)

    def learn(engine: Engine) -> tuple[Cost, dict]:
        optimiser, curve, own = adam(engine.model, settings), lab.curve("rl"), lab.policy(engine)
        for update in range(1, p.updates + 1):
            tasks = lab.batch(update - 1, p.tasks)
            prompts = prompts_of(lab, tasks)
            answers = own.propose(prompts, lab.keys(tasks, "rl", update), p.group)
            rewards = torch.tensor(base.score(prompts, [[turn.text for turn in turns] for turns in answers]))
            lessons = [
                (CreditedTurn(prompt, turn.text, advantage, p.beta),)
                for prompt, turns, of_task in zip(prompts, answers, leave_one_out(rewards).tolist(), strict=True)
                for turn, advantage in zip(turns, of_task, strict=True) if turn.finished
            ]  # fmt: skip
            done = policy_gradient_step(engine.model, base.model, engine.tokenizer, lessons, optimiser, settings, update,
                                        out_dir=lab.run.artifacts)  # fmt: skip
            curve(update, done.metrics | {"reward": float(rewards.mean())})
        return replace(spent(engine, p.updates * p.tasks * p.group) + spent(base, 0), updates=p.updates), {}

    return lab.training("rl", learn)


# -- 3. is it sharp, and is it right? --------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """The standard evaluation; ``mode``, the probability of the base's likeliest answer; and best of N of the base model."""
    engine = lab.engine(trained)
    found = [replace(one, metrics=one.metrics | mode_of(lab, engine, lab.panel(one.panel.rpartition("/")[2])))
             for one in lab.evaluate(variant, trained)]  # fmt: skip
    for panel, tasks in lab.panels.items() if variant.name == "base" else ():
        for n in AT_TEST:
            reported, _ = lab.report(tasks[: lab.p.test.tasks], BestOfN(lab.policy(engine), n), 2)  # two draws: n times the price
            found.append(Measured(panel, {"success": reported["success"]}, len(tasks[: lab.p.test.tasks]), acting=f"bon{n}"))
    return found


def mode_of(lab: Lab, engine: Engine, tasks: Sequence[Task]) -> dict[str, float]:
    """``mode``: the mean over tasks of π(y*), y* the base's likeliest of many answers."""
    tasks = tasks[: lab.p.test.tasks]
    chosen = lab.once(("modes", tasks[0].id), lambda: modes(lab, tasks))
    prompts = prompts_of(lab, tasks)
    known = [(prompt, turn.text) for prompt, turn in zip(prompts, chosen, strict=True) if turn]
    scores = engine.score([prompt for prompt, _ in known], [[text] for _, text in known])
    return {"mode": fmean(math.exp(score) for [score] in scores)} if scores else {}


def modes(lab: Lab, tasks: Sequence[Task]) -> list[Turn | None]:
    drawn = lab.policy(lab.engine()).propose(prompts_of(lab, tasks), lab.keys(tasks, "modes"), MODE_OF)
    return [likeliest(turns) for turns in drawn]
