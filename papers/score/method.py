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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from common.envs import load_panel, make
from common.evaluate.correction import Attempts, attempts_of, correction, records
from common.evaluate.rollouts import evaluate
from common.learn.batches import SFTExample
from common.learn.policy import sft
from common.learn.policy_gradient import (
    CreditedTurn, Dialogue, PolicyGradientSettings, leave_one_out, policy_gradient, turn_rewards,
)
from common.learn.settings import TrainSettings
from common.lm.adapters import adapted, load_adapters, merged, save_adapters
from common.lm.device import on_device
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.lm.policy import LMPolicy
from common.rng import derive, generator
from common.search.rollout import rollout
from common.track.lines import write_lines
from common.track.rows import MetricRow, cost_of
from common.types import Cost, Task, Trajectory


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


@dataclass(frozen=True)
class Test:
    tasks: int
    draws: int
    """Sampled dialogues of each task."""


@dataclass(frozen=True)
class Params:
    model: str
    """What everything starts from: "nano", the environment's own base model, or a pretrained one."""
    lora_rank: int
    """Rank of the adapters that are trained; 0 trains all weights."""
    four_bit: bool
    """Whether the weights that everything starts from are rounded to 4 bits; adapters are trained beside them."""
    answer_tokens: int
    """Most tokens of an answer."""
    critic: str
    """The question by which the base judges its own answer for ``self_refine``."""
    rl: Reinforce
    sft: Imitate
    test: Test
    panels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.four_bit and not self.lora_rank:
            raise ValueError("four_bit: true needs adapters, since 4-bit weights are not trained themselves, but lora_rank is 0; set "
                             "lora_rank, for instance to 32")  # fmt: skip


@dataclass(frozen=True)
class Phase:
    """A stretch of policy gradient: turns sampled, their reward weights and β, the bonus α, updates from–to."""

    turns: int
    weights: tuple[float, ...]
    bonus: float
    betas: tuple[float, ...]
    updates: range


@dataclass(frozen=True)
class Variant:
    """One training condition: policy-gradient ``phases`` one after the other, or SFT on ``traces``."""

    name: str
    phases: tuple[Phase, ...] = ()
    traces: str = ""


def variants(p: Params) -> list[Variant]:
    rl = p.rl
    whole, early, late = range(rl.updates), range(rl.stage1_updates), range(rl.stage1_updates, rl.updates)
    stage1 = Phase(2, (0.0, 1.0), 0.0, (rl.beta2, rl.beta1), early)

    def stage2(alpha: float, updates: range) -> Phase:
        return Phase(2, (1.0, 1.0), alpha, (rl.beta1, rl.beta1), updates)

    def phases(*given: Phase) -> tuple[Phase, ...]:
        return tuple(phase for phase in given if len(phase.updates))

    return [
        Variant("star", traces="star"),
        Variant("pair_sft", traces="pairs"),
        Variant("single_turn_rl", phases(Phase(1, (1.0,), 0.0, (rl.beta1,), whole))),
        Variant("stage2_only", phases(stage2(rl.alpha, whole))),
        Variant("no_bonus", phases(stage1, stage2(0.0, late))),
        Variant("score", phases(stage1, stage2(rl.alpha, late))),
    ]


WARMUP = 4
"""Updates of linear warm-up at the beginning of each phase, whose Adam starts anew (ours)."""


# -- 1. traces for the supervised baselines (paper §4) -------------------------------------------------------


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


# -- 2. dialogues for the policy gradient (paper §5) ----------------------------------------------------------


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


# -- 3. the unit: all variants, resumable phase by phase -------------------------------------------------------


class Experiment:
    """One unit at work: environment, tasks, and stages that are computed once and then read back."""

    def __init__(self, unit) -> None:
        self.unit, self.run, self.p, self.seed = unit, unit.run, unit.params, unit.seed
        self.env = make(unit.env, unit.data)
        panel = load_panel(unit.data, f"{unit.env}/train")
        self.tasks = [panel[i] for i in generator(self.seed, "tasks").permutation(len(panel))]
        self.panels = {name: load_panel(unit.data, f"{unit.env}/{name}") for name in self.p.panels}

    def engine(self, stage: str | None = None) -> Engine:
        """The policy that ``stage`` saved; None is the base model."""
        if stage:
            return Engine(*on_device(*load_model(self.run.stage_path(stage))))
        return Engine(*on_device(*load_model(self.unit.base, four_bit=self.p.four_bit)))

    def learner(self, stage: str | None = None) -> Engine:
        """As :meth:`engine`, with adapters where they are what is trained: the same for each variant, as tasks are."""
        engine = self.engine(None if self.p.four_bit else stage)
        if self.p.lora_rank:
            adapted(engine.model, self.p.lora_rank, seed=derive(self.seed, "adapters"))
        if self.p.four_bit and stage:
            load_adapters(engine.model, self.run.stage_path(stage))
        return engine

    def policy(self, engine: Engine, temperature: float = 1.0) -> LMPolicy:
        return LMPolicy(engine, temperature=temperature, max_new_tokens=self.p.answer_tokens)

    def sample(self, engine: Engine, update: int, *, turns: int) -> tuple[list[Task], list[Trajectory]]:
        """The episodes of one update (from 0), ``group`` samples of a task side by side. Seeds do not depend on
        the variant, so variants meet the same random numbers."""
        n = self.p.rl.tasks * 2 // turns
        chosen = [self.tasks[i % len(self.tasks)] for i in range(update * n, (update + 1) * n)]
        tasks = [task for task in chosen for _ in range(self.p.rl.group)]
        keys = [derive(self.seed, "rl", update, i, task.id) for i, task in enumerate(tasks)]
        return tasks, rollout(self.env, tasks, self.policy(engine), keys=keys, max_steps=turns)

    # training

    def train(self, variant: Variant) -> tuple[str, Cost]:
        """Train ``variant``; the stage that holds its weights and what it cost altogether."""
        if variant.traces:
            return self.imitate(variant)
        stage, cost = None, Cost()
        for number, phase in enumerate(variant.phases, start=1):
            stage, spent = self.reinforce(variant, number, phase, stage)
            cost = cost + spent
        return stage, cost

    def reinforce(self, variant: Variant, number: int, phase: Phase, before: str | None) -> tuple[str, Cost]:
        """One phase, going on from the stage ``before``. Stage I is the same for all who have it: trained once."""
        shared = number == 1 and len(variant.phases) > 1
        stage = "train.stage1" if shared else f"train.{variant.name}"
        name = "stage1" if shared else variant.name
        keep = ("loss", "grad_norm", "kl_1", "kl_2")

        def compute() -> dict:
            engine, reference = self.learner(before), self.engine().model
            answers, seen = 0, {}

            def collect(update: int) -> list[Dialogue]:
                nonlocal answers
                tasks, episodes = self.sample(engine, phase.updates[update - 1], turns=phase.turns)
                attempts = attempts_of(self.env, tasks, episodes)
                answers += attempts.correct.size
                seen.update(correction(attempts))
                return dialogues_of(episodes, attempts.correct, phase, group=self.p.rl.group)

            def log(update: int, metrics: dict) -> None:
                shown = {k: metrics[k] for k in keep if k in metrics}
                shown |= {k.replace("@", "_"): v for k, v in seen.items()}
                self.run.log(name, update, {f"r{number}/train/{k}": v for k, v in shown.items()})

            settings = PolicyGradientSettings(
                lr=self.p.rl.lr, updates=len(phase.updates), max_length=engine.context, warmup=WARMUP
            )
            with self.run.stage_dir(stage) as folder:
                stats = policy_gradient(
                    engine.model, reference, engine.tokenizer, collect, settings, out_dir=self.run.artifacts, log=log
                )
                if self.p.four_bit:
                    save_adapters(engine.model, folder)
                save_model(merged(engine.model), engine.tokenizer, folder)
            cost = replace(engine.cost, env_steps=answers, samples=answers, updates=stats.updates)
            return {"cost": cost_of(cost)}

        return stage, Cost(**self.run.stage(stage, compute)["cost"])

    def imitate(self, variant: Variant) -> tuple[str, Cost]:
        """SFT on traces that the base sampled on the tasks of all updates; both variants pay for the sampling."""
        stage = f"train.{variant.name}"

        def compute() -> dict:
            engine = self.learner()
            attempts, episodes, cost = self._traces
            if variant.traces == "star":
                examples = star_examples(attempts, episodes)
            else:
                examples = pair_examples(attempts, episodes, most=self.p.sft.pairs_per_task)
            settings = TrainSettings(lr=self.p.sft.lr, max_steps=self.p.rl.updates, batch_size=self.p.sft.batch,
                                     max_length=engine.context, warmup=0.1)  # fmt: skip
            with self.run.stage_dir(stage) as folder:
                if examples:  # a policy that solves nothing leaves nothing to imitate
                    seed = derive(self.seed, "sft", variant.traces) % 2**31
                    stats = sft(engine.model, engine.tokenizer, examples, settings, seed=seed,
                                out_dir=self.run.artifacts, log=self.sft_log(variant.name))  # fmt: skip
                    cost = replace(cost, updates=stats.updates)
                save_model(merged(engine.model), engine.tokenizer, folder)
            return {"cost": cost_of(cost), "examples": len(examples)}

        return stage, Cost(**self.run.stage(stage, compute)["cost"])

    @cached_property
    def _traces(self) -> tuple[Attempts, list[Trajectory], Cost]:
        engine, tasks, episodes = self.engine(), [], []
        for update in range(self.p.rl.updates):
            asked, told = self.sample(engine, update, turns=2)
            tasks, episodes = tasks + asked, episodes + told
        attempts = attempts_of(self.env, tasks, episodes)
        return attempts, episodes, replace(engine.cost, env_steps=attempts.correct.size, samples=attempts.correct.size)

    def sft_log(self, name: str) -> Callable:
        keep = ("loss", "grad_norm", "logp")
        return lambda update, metrics: self.run.log(name, update, {f"r1/train/{k}": metrics[k] for k in keep})

    # evaluation

    def evaluate(self, name: str, load: Callable[[], Engine]) -> dict:
        """The report on every panel, sampled and greedy; some dialogues of the first panel are kept to be read."""

        def compute() -> dict:
            engine, result = load(), {}
            for panel, tasks in self.panels.items():
                tasks = tasks[: self.p.test.tasks]
                result[panel] = {"n": len(tasks)}
                for prefix, temperature, draws in (("", 1.0, self.p.test.draws), ("greedy_", 0.0, 1)):
                    policy, asked, episodes = self.policy(engine, temperature), tasks * draws, []
                    for draw in range(draws):
                        episodes += evaluate(self.env, tasks, policy, seed=derive(self.seed, draw))[1]
                    if name == "self_refine":
                        episodes = [refined(episode, engine, self.p.critic) for episode in episodes]
                    attempts = attempts_of(self.env, asked, episodes)
                    if name == "repeat":
                        attempts = repeated(attempts)
                    found = correction(attempts)
                    result[panel] |= {f"{prefix}{k}": v for k, v in (found | {"success": found["acc@2"]}).items()}
                    if panel == self.p.panels[0] and not prefix and name != "repeat":
                        said = tuple(tuple(step.turn.text for step in one.steps) for one in episodes)
                        kept = records(Attempts(attempts.correct, said), tasks[:60], episodes[: len(tasks[:60])])
                        write_lines(self.run.artifacts / f"dialogues.{name}.jsonl", kept)
            flat = {f"{panel}/{k}": v for panel, found in result.items() for k, v in found.items()}
            self.run.log(name, 0, {k.replace("@", "_"): v for k, v in flat.items()})
            return result

        return self.run.stage(f"eval.{name}", compute)


def refined(episode: Trajectory, engine: Engine, question: str) -> Trajectory:
    """The episode as the policy's own critic lets it stand: a first answer it calls good is written again."""
    first, second = episode.steps
    [[good]] = engine.judge([first.prompt], [[first.turn.text]], question=question)
    return replace(episode, steps=(first, replace(second, turn=first.turn))) if good >= 0.5 else episode


def repeated(attempts: Attempts) -> Attempts:
    """The same first answers, written twice."""
    return Attempts(attempts.correct[:, [0, 0]], tuple((said[0], said[0]) for said in attempts.answers))


def run(unit) -> list[MetricRow]:
    """Train and evaluate every variant of one unit; writes its metric rows and marks it finished."""
    if unit.run.finished:
        return unit.run.rows()
    torch.set_num_threads(1)  # bit-identical results whatever the number of workers
    work, rows = Experiment(unit), []

    def evaluate_all(name: str, stage: str | None, cost: Cost) -> None:
        for panel, metrics in work.evaluate(name, lambda: work.engine(stage)).items():
            n = metrics.pop("n")
            rows.extend(
                MetricRow(paper="score", env=unit.env, profile=unit.profile, scale=work.p.model, variant=name, seed=unit.seed,
                          panel=f"{unit.env}/{panel}", metric=metric, value=value, n=n, cost=cost_of(cost))  # fmt: skip
                for metric, value in metrics.items()
            )

    for name in ("base", "self_refine"):
        evaluate_all(name, None, Cost())
    for variant in variants(work.p):
        stage, cost = work.train(variant)
        evaluate_all(variant.name, stage, cost)
        if variant.name == "single_turn_rl":
            evaluate_all("repeat", stage, cost)
    unit.run.write_rows(rows)
    unit.run.finish()
    return rows
