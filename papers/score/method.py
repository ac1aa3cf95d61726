"""SCoRe (Kumar et al. 2024, arXiv:2409.12917): self-correction by two-stage on-policy reinforcement learning.

A policy answers, is asked to check and write the answer again (nothing is said about whether it was right),
and answers a second time. Correctness r_k ∈ {0, 1} is checked by the environment. Two stages:

    I    max E[ r_2 − β₂·KL_1 − β₁·KL_2 ]                      turn 2 learns while turn 1 is pinned to the base
    II   max E[ r_1 + r_2 + α·(r_2 − r_1) − β₁·(KL_1 + KL_2) ]  both learn, corrections are paid extra

by REINFORCE with a baseline, each turn credited with its own reward (γ = 0). What it is compared with starts
from the same base model and sees as many sampled answers in as many updates:

    base          the warm-started policy, asked twice
    self_refine   no training: the base judges its first answer by the critic's question it was warm-started
                  with ("good?") and writes a second one only where "no" is the likelier answer. A nano policy
                  reads no instructions; this question is all the prompting there is (Madaan et al. 2023)
    star          SFT on the base's own two-turn traces that end right (the paper's D⁺_STaR)
    pair_sft      SFT on the base's wrong first answers, each paired with a right one of the same task
    single_turn_rl, stage2_only, no_bonus (both stages, α = 0), score
    repeat        single_turn_rl's first answers written again: Δ = 0 and copy = 1 by definition

Differs from the paper:
 1. Nano policies trained from scratch instead of Gemini 1.5; countdown-answer-v1 (finding is harder than
    checking) and arithmetic-v1 (it is not) instead of MATH and HumanEval. Sizes will not carry over.
 2. The second turn exists in the base's demonstrations (a right answer kept, a wrong one replaced), since a
    nano policy could not write one otherwise; the wrong ones are not its own mistakes.
 3. The paper does not state its KL estimator. Ours is exact at every token of the policy's own sample.
 4. The baseline is the mean reward of the other samples of the same task, by turn (the paper: a baseline).
 5. With γ = 0 the part −α·r₁ of the bonus is a constant of the state in which turn 2 is written, so in
    expectation the bonus is turn 2's reward times 1 + α (tested); what is left of it is variance. Our α is
    smaller than the paper's 10, see params.yaml.
 6. Stages I and II each take half of the updates; the last weights are taken, not the best on training reward;
    no offline first attempts are mixed in. The KL reference is the base model in both stages.
 7. One round of STaR. Only right answers of its traces carry loss: a wrong first attempt is context.
 8. Policies are evaluated as they are trained, sampling at temperature 1 (``test.draws`` dialogues a task);
    the paper's greedy decoding is reported beside it (``greedy_*``). Greedily, the nano base already repeats
    nine answers of ten, so that hardly anything between two turns is left to be seen.
 9. A pretrained chat model (``model``) is prompted for its second turn, as in the paper, and answers in prose: right
    or wrong is the number that a solution declares last, ``copy`` compares these numbers, and what is imitated are
    whole solutions. All its weights are trained, or adapters of ``lora_rank`` beside them: new ones in each phase, which are
    then added to the weights (the paper does not say what it trains). Beside 4-bit weights (``four_bit``) stage II goes on
    with stage I's adapters instead, and policies are evaluated with what they trained, multiplied out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common.config import Evaluation, ModelParams
from common.evaluate.correction import Attempts, attempts_of, correction
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.learn.policy_gradient import CreditedTurn, Dialogue, leave_one_out, turn_rewards
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.types import Cost, Message, Trajectory, Turn

WARMUP = 4
"""Updates of linear warm-up at the beginning of each phase, whose Adam starts anew (ours)."""


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
    p = lab.p.rl
    tasks = lab.batch(update, p.tasks * 2 // turns)
    asked, episodes = lab.sample(lab.policy(engine), tasks, "rl", update, group=p.group, turns=turns)
    return episodes, attempts_of(lab.env, asked, episodes)


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
        chosen = star_examples(attempts, episodes) if variant.traces == "star" else pair_examples(
            attempts, episodes, most=lab.p.sft.pairs_per_task)  # fmt: skip
        return Collected(chosen, cost)

    return lab.fit(variant.name, collect, lr=lab.p.sft.lr, max_steps=lab.p.rl.updates, batch_size=lab.p.sft.batch,
                   order=("sft", variant.traces))  # fmt: skip


def traces(lab: Lab) -> tuple[list[Trajectory], Attempts, Cost]:
    """The base's two-turn dialogues on the tasks of all updates."""
    engine = lab.engine()
    drawn = [sample(lab, engine, update, turns=2) for update in range(lab.p.rl.updates)]
    correct = np.concatenate([attempts.correct for _, attempts in drawn])
    attempts = Attempts(correct, tuple(said for _, attempts in drawn for said in attempts.answers))
    return [episode for episodes, _ in drawn for episode in episodes], attempts, spent(engine, correct.size)


def star_examples(attempts: Attempts, episodes: Sequence[Trajectory]) -> list[SFTExample]:
    """Every right answer of the traces that end right: first ones that were kept or replaced by another right
    one, and second ones."""
    return [
        SFTExample(step.prompt, step.turn.text)
        for right, episode in zip(attempts.correct, episodes, strict=True)
        if right[-1]
        for good, step in zip(right, episode.steps, strict=True)
        if good and step.turn.finished
    ]


def pair_examples(attempts: Attempts, episodes: Sequence[Trajectory], *, most: int) -> list[SFTExample]:
    """Second turns after a wrong first answer, completed by a right first answer to the same task.

    At most ``most`` per task; distinct wrong answers in the order sampled, right ones in turn.
    """
    wrong: dict[str, dict[str, Trajectory]] = {}
    right: dict[str, list[str]] = {}  # as they were written
    for said, good, episode in zip(attempts.answers, attempts.correct[:, 0], episodes, strict=True):
        if not good:
            wrong.setdefault(episode.task_id, {}).setdefault(said[0], episode)
        elif (text := episode.steps[0].turn.text) not in right.setdefault(episode.task_id, []):
            right[episode.task_id].append(text)
    return [
        SFTExample(episode.steps[1].prompt, answers[i % len(answers)])
        for task, answers in right.items()
        for i, episode in enumerate(list(wrong.get(task, {}).values())[:most])
    ]


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
    """The standard evaluation, by the variant's way to answer."""
    ways = {"": lambda policy: policy, "repeat": Repeating, "refine": lambda policy: Repeating(policy, lab.p.critic)}
    return lab.evaluate(variant, trained, acting=ways[variant.acting])
