"""SCoRe (Kumar et al. 2024, arXiv:2409.12917): self-correction by two-stage on-policy reinforcement learning.

A policy answers, is asked to check and write the answer again (with no hint whether it was right), and answers a
second time. The environment checks correctness r_k ∈ {0, 1}. Two stages of REINFORCE, each turn credited with its own reward:

    I    max E[ r_2 − β₂·KL_1 − β₁·KL_2 ]                      turn 2 learns while turn 1 is held near the base
    II   max E[ r_1 + r_2 + α·(r_2 − r_1) − β₁·(KL_1 + KL_2) ]  both learn, corrections are paid extra

All variants start from one base model and see as many sampled answers in as many updates:

    base, self_refine     asked twice; self_refine rewrites only what its own critic calls wrong (Madaan et al. 2023)
    star, pair_sft        SFT on own two-turn traces that end right; on own wrong first answers completed by right ones
    single_turn_rl, stage2_only, no_bonus (both stages, α = 0), score
    repeat                single_turn_rl's first answers written again: Δ = 0 and copy = 1 by definition

Differs from the paper:
 1. Nano policies trained from scratch instead of Gemini 1.5; countdown-worked-v1 (an answer is found by trying and checked by
    reading) and arithmetic-v1 (checking is calculating again) instead of MATH and HumanEval. Sizes will not carry over.
 2. The base's demonstrations hold second turns that keep an answer by a word, or replace it, hardly more often the wrong ones: a nano
    policy could not write any otherwise, and could not copy its answer letter by letter.
 3. The KL is exact at every token of the policy's own sample (the paper does not state its estimator).
 4. The baseline is the mean reward of the other samples of the same task, by turn.
 5. With credit by turn −α·r₁ is a constant of the state in which turn 2 is written: in expectation the bonus multiplies turn
    2's reward by 1 + α (tested). Our α is smaller than the paper's 10.
 6. Stage I takes two updates of three; the last weights are taken; no offline first attempts are mixed in.
 7. One round of STaR. Only right answers of its traces carry loss.
 8. Evaluated sampling at temperature 1, as trained, and greedily (``greedy_*``).
 9. A pretrained chat model (``model``) answers in prose: right or wrong, and ``copy``, is the number that a solution
    declares last; whole solutions are imitated. Adapters (``lora_rank``) are new in each phase, then added to the weights;
    beside 4-bit weights stage II goes on with stage I's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common.config import Evaluation, ModelParams
from common.evaluate.correction import Attempts, correction
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.policy_gradient import CreditedTurn, Dialogue, leave_one_out, turn_rewards
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.types import Cost, Message, Task, Trajectory, Turn
from papers.score.maths import pair_examples, star_examples

WARMUP = 4
"""Updates of linear warm-up in each phase, whose Adam starts anew (ours)."""


@dataclass(frozen=True)
class Reinforce:
    updates: int
    """Of every trained variant."""
    stage1_updates: int
    """Of these, in stage I."""
    tasks: int
    """Two-turn tasks per update; single-turn RL takes twice as many, for as many answers."""
    group: int
    """Samples of each task."""
    lr: float
    alpha: float
    beta1: float
    beta2: float


@dataclass(frozen=True)
class Imitate:
    lr: float
    batch: int
    pairs_per_task: int


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    critic: str
    """The question by which the base judges its own answer for ``self_refine``."""
    rl: Reinforce
    sft: Imitate
    test: Evaluation


@dataclass(frozen=True)
class Phase:
    """A stretch of policy gradient: turns sampled, their reward weights and β, the bonus α, updates from–to."""

    turns: int
    weights: tuple[float, ...]
    bonus: float
    betas: tuple[float, ...]
    updates: range


@dataclass(frozen=True)
class Condition(Variant):
    """Policy-gradient ``phases`` one after the other, or SFT on ``traces``, or neither: the base.

    ``acting`` is how the weights answer, ``weights`` the variant whose weights they are, "" for its own.
    """

    phases: tuple[Phase, ...] = ()
    traces: str = ""
    acting: str = ""
    weights: str = ""


def variants(p: Params) -> list[Condition]:
    rl = p.rl
    whole, early, late = range(rl.updates), range(rl.stage1_updates), range(rl.stage1_updates, rl.updates)
    stage1 = Phase(2, (0.0, 1.0), 0.0, (rl.beta2, rl.beta1), early)
    single = (Phase(1, (1.0,), 0.0, (rl.beta1,), whole),)

    def stage2(alpha: float, updates: range) -> Phase:
        return Phase(2, (1.0, 1.0), alpha, (rl.beta1, rl.beta1), updates)

    def phases(*given: Phase) -> tuple[Phase, ...]:
        return tuple(phase for phase in given if len(phase.updates))

    return [
        Condition("base"),
        Condition("self_refine", acting="refine"),
        Condition("star", traces="star"),
        Condition("pair_sft", traces="pairs"),
        Condition("single_turn_rl", single),
        Condition("repeat", single, acting="repeat", weights="single_turn_rl"),
        Condition("stage2_only", phases(stage2(rl.alpha, whole))),
        Condition("no_bonus", phases(stage1, stage2(0.0, late))),
        Condition("score", phases(stage1, stage2(rl.alpha, late))),
    ]


def train(lab: Lab, variant: Condition) -> Trained:
    """All phases of ``variant``, each going on from the one before."""
    if variant.traces:
        return imitate(lab, variant)
    trained, name = BASE, variant.weights or variant.name
    for number, phase in enumerate(variant.phases, start=1):
        first_of_two = number == 1 and len(variant.phases) > 1  # stage I is the same for all who have it
        trained = reinforce(lab, "stage1" if first_of_two else name, phase, start=trained, part=number)
    return trained


# -- 1. policy gradient on dialogues (paper §5) ----------------------------------------------------------------


def reinforce(lab: Lab, name: str, phase: Phase, *, start: Trained, part: int) -> Trained:
    p = lab.p.rl

    def collect(engine: Engine, update: int) -> Collected:
        episodes, attempts = sample(lab, engine, phase.updates[update - 1], turns=phase.turns)
        rows = dialogues_of(episodes, attempts.correct, phase, group=p.group)
        return Collected(rows, spent(engine, attempts.correct.size), correction(attempts))

    return lab.reinforce(name, collect, lr=p.lr, updates=len(phase.updates), warmup=WARMUP, start=start, part=part)


def sample(lab: Lab, engine: Engine, update: int, *, turns: int) -> tuple[list[Trajectory], Attempts]:
    """Episodes of one update (from 0), ``group`` of a task side by side, and their correctness [P · group, turns]."""
    tasks = lab.batch(update, lab.p.rl.tasks * 2 // turns)
    return lab.attempts(lab.policy(engine), tasks, "rl", update, group=lab.p.rl.group, turns=turns)


def dialogues_of(episodes: Sequence[Trajectory], correct: np.ndarray, phase: Phase, *, group: int) -> list[Dialogue]:
    """Each turn with the advantage of its own reward over the other ``group`` − 1 samples of its task.

    ``correct`` [P · group, turns], samples of a task side by side. Cut turns are not learned from.
    """
    rewards = turn_rewards(torch.from_numpy(correct), weights=phase.weights, bonus=phase.bonus)
    advantages = leave_one_out(rewards.view(-1, group, phase.turns)).reshape(-1, phase.turns).tolist()
    return [
        tuple(
            CreditedTurn(step.prompt, step.turn.text, advantage, beta)
            for step, advantage, beta in zip(episode.steps, own, phase.betas, strict=True)
            if step.turn.finished
        )
        for episode, own in zip(episodes, advantages, strict=True)
    ]


# -- 2. supervised baselines on the base's own traces (paper §4) -----------------------------------------------


def imitate(lab: Lab, variant: Condition) -> Trained:
    """SFT on dialogues that the base sampled on the tasks of all updates; both variants pay for the sampling."""

    def collect(_: Engine) -> Collected:
        episodes, attempts, cost = lab.once("traces", lambda: traces(lab))
        if variant.traces == "star":
            return Collected(star_examples(attempts, episodes), cost)
        return Collected(pair_examples(attempts, episodes, most=lab.p.sft.pairs_per_task, turn=lab.env.turn), cost)

    return lab.fit(variant.name, collect, lr=lab.p.sft.lr, max_steps=lab.p.rl.updates, batch_size=lab.p.sft.batch,
                   order=("sft", variant.traces))  # fmt: skip


def traces(lab: Lab) -> tuple[list[Trajectory], Attempts, Cost]:
    """The base's two-turn dialogues on the tasks of all updates."""
    engine = lab.engine()
    drawn = [sample(lab, engine, update, turns=2) for update in range(lab.p.rl.updates)]
    correct = np.concatenate([attempts.correct for _, attempts in drawn])
    attempts = Attempts(correct, tuple(said for _, attempts in drawn for said in attempts.answers))
    return [episode for episodes, _ in drawn for episode in episodes], attempts, spent(engine, correct.size)


# -- 3. ways to answer without training ------------------------------------------------------------------------


@dataclass
class Repeating:
    """``policy``, which writes its first answer again at the second turn: always, or where its own critic calls it good
    (``question``, Madaan et al. 2023)."""

    policy: LMPolicy
    question: str = ""

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        turns = self.policy.propose(prompts, keys, n)
        return [[Turn(prompt[1]["content"], 0.0, 0)] * n if len(prompt) > 1 and self.keeps(prompt) else own
                for prompt, own in zip(prompts, turns, strict=True)]  # fmt: skip

    def keeps(self, prompt: tuple[Message, ...]) -> bool:
        if not self.question:
            return True
        [[good]] = self.policy.engine.judge([prompt[:1]], [[prompt[1]["content"]]], question=self.question)
        return good >= 0.5


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """The standard evaluation, by the variant's way to answer; of the base also how well its critic tells answers apart."""
    ways = {"": lambda policy: policy, "repeat": Repeating, "refine": lambda policy: Repeating(policy, lab.p.critic)}
    found = lab.evaluate(variant, trained, acting=ways[variant.acting])
    if not variant.phases and not variant.traces and not variant.acting:
        found += [Measured(panel, checks(lab, tasks[: lab.p.test.tasks]), len(tasks)) for panel, tasks in lab.panels.items()]
    return found


def checks(lab: Lab, tasks: Sequence[Task]) -> dict[str, float]:
    """``checks``: balanced accuracy of the base's critic on one of its own first answers to each task; {} where all are right, or
    none is."""
    engine = lab.engine()
    episodes, attempts = lab.attempts(lab.policy(engine), tasks, "checks", turns=1)
    asked = [episode.steps[0] for episode in episodes]
    good = np.array(engine.judge([step.prompt for step in asked], [[step.turn.text] for step in asked], question=lab.p.critic))[:, 0] >= 0.5
    right = attempts.correct[:, 0]
    return {"checks": float((good[right].mean() + (~good[~right]).mean()) / 2)} if right.any() and not right.all() else {}
