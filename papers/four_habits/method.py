"""Four Habits (Gandhi et al. 2025, arXiv:2503.01307): reinforcement learning improves models that already behave in ways worth improving.

Two models that solve as little as each other gain very differently by the same reinforcement learning. The paper explains that by habits
that one of them has before, above all *backtracking*, and shows it by priming: fine-tuning on a thousand traces with a habit, and on controls
that have its length or its answers and not the habit. Here an answer is steps of Countdown, and ``no`` takes back the step before it:

    14 - 5 = 9 , 9 + 3 = 12 , no , no , 14 + 5 = 19 , 19 - 3 = 16

    base, rl                       the base model; reinforcement learning from it
    backtrack, rl_backtrack        primed with traces that try answers, take back what fails, and end right; the same reinforcement learning then
    dots, rl_dots                  the tries replaced by as many dots, the right answer then: its knowledge and its length, not the habit
    wrong, rl_wrong                traces with the habit that end wrong: what the model primed with ``backtrack`` writes where it fails
    more                           primed as ``backtrack``, and on further traces for as many updates as reinforcement learning takes

Differs from the paper:
 1. Nano policies trained from scratch on three numbers with + and −; the paper takes three or four, all operators, and 3B models.
 2. Of the habits backtracking alone, whose presence is read off an answer exactly. Traces are written by an exact solver, so that
    those that end wrong have to come from elsewhere: from the primed model. In the paper a large model writes all, right or wrong.
 3. REINFORCE with the mean of a task's other answers as baseline instead of PPO; no reward for the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

import numpy as np

from common.config import Evaluation, ModelParams
from common.envs.countdown import descending
from common.envs.retracting import AND, NO, RetractingEnv, written
from common.envs.versions.countdown_worked_v1 import worked
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.learn.policy_gradient import CreditedTurn, leave_one_out
from common.lm.engine import Engine
from common.rng import generator
from common.types import Task

import torch

DOT = "."
WARMUP = 4  # updates of linear warm-up at the beginning of reinforcement learning (ours)
DRAWS = 2


@dataclass(frozen=True)
class Prime:
    tasks: int
    traces: int
    """Of each task."""
    tries: int
    """Most failed tries of a trace."""
    updates: int
    batch: int
    lr: float


@dataclass(frozen=True)
class Reinforce:
    updates: int
    tasks: int
    group: int
    lr: float
    beta: float


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    prime: Prime
    rl: Reinforce
    test: Evaluation


@dataclass(frozen=True)
class Condition(Variant):
    habit: str = ""
    rl: bool = False
    more: bool = False


HABITS = ("backtrack", "dots", "wrong")


def variants(p: Params) -> list[Condition]:  # noqa: ARG001
    primed = [one for habit in HABITS for one in (Condition(habit, habit), Condition(f"rl_{habit}", habit, rl=True))]
    return [Condition("base"), Condition("rl", rl=True), *primed, Condition("more", "backtrack", more=True)]


# -- 1. the environment ------------------------------------------------------------------------------------------------


def thought_of(text: str) -> str:
    """``text`` after the dots that it may begin with."""
    return text.lstrip(f"{DOT} ")


class DottedEnv(RetractingEnv):
    """Answers in which steps are taken back, after any number of dots."""

    def attempt(self, text: str, before: Sequence[str]) -> str:
        return super().attempt(thought_of(text), before)


def environment(lab: Lab) -> DottedEnv:  # noqa: ARG001 - tasks alone depend on the unit
    return DottedEnv(turns=1, window=1)


# -- 2. traces ---------------------------------------------------------------------------------------------------------


def trace(task: Task, habit: str, tries: int, rng: np.random.Generator) -> str:
    """Up to ``tries`` failed answers, each taken back as far as the next one differs, and a right one. With ``dots``, dots for what failed."""
    listed = [(answer.split(AND), result == task.data["target"]) for answer, result in worked(descending(task.data["numbers"]))]
    failed, right = ([answer for answer, good in listed if good == wanted] for wanted in (False, True))
    n, last = int(rng.integers(tries + 1)), right[rng.integers(len(right))]
    told = [*[failed[i] for i in rng.permutation(len(failed))[:n]], last]
    said = list(told[0])
    for before, after in pairwise(told):
        same = 0
        while same < len(after) - 1 and before[same] == after[same]:
            same += 1
        said += [NO] * (len(before) - same) + after[same:]
    if habit == "dots" and len(told) > 1:
        words = len(AND.join(said).split()) - len(AND.join(last).split())
        return f"{DOT * words} {AND.join(last)}"  # a dot of its own is one token, with a blank before it two
    return AND.join(said)


def written_traces(lab: Lab, habit: str, use: str) -> list[SFTExample]:
    """Traces by a solver; ``use`` names the random numbers."""
    rows = []
    for task in lab.batch(0, lab.p.prime.tasks):
        lab.env.reset(task)
        prompt, rng = lab.env.prompt(), generator(lab.seed, use, task.id)
        rows += [SFTExample(prompt, trace(task, habit, lab.p.prime.tries, rng)) for _ in range(lab.p.prime.traces)]
    return rows


def failed_traces(lab: Lab) -> Collected:
    """Of as many answers of the model primed with ``backtrack``, those that end wrong."""
    engine = lab.engine(primed(lab, "backtrack"))
    episodes, judged = lab.attempts(lab.policy(engine), lab.batch(0, lab.p.prime.tasks), "failed", group=lab.p.prime.traces)
    rows = [SFTExample(one.steps[0].prompt, one.steps[0].turn.text) for one, right in zip(episodes, judged.correct[:, 0], strict=True)
            if one.steps[0].turn.finished and not right]  # fmt: skip
    return Collected(rows, spent(engine, len(episodes)))


# -- 3. priming and reinforcement learning -----------------------------------------------------------------------------


def train(lab: Lab, variant: Condition) -> Trained:
    start = primed(lab, variant.habit) if variant.habit else BASE
    if variant.more:
        return fitted(lab, variant.name, variant.habit, lab.p.rl.updates, start)
    return reinforced(lab, variant, start) if variant.rl else start


def primed(lab: Lab, habit: str) -> Trained:
    return fitted(lab, habit, habit, lab.p.prime.updates, BASE)


def fitted(lab: Lab, name: str, habit: str, updates: int, start: Trained) -> Trained:
    p = lab.p.prime
    use = "further traces" if name == "more" else "traces"
    return lab.fit(name, lambda _: failed_traces(lab) if habit == "wrong" else Collected(written_traces(lab, habit, use)), order=("prime", name == "more"), start=start, lr=p.lr, max_steps=updates, batch_size=p.batch)


def reinforced(lab: Lab, variant: Condition, start: Trained) -> Trained:
    p = lab.p.rl

    def collect(engine: Engine, update: int) -> Collected:
        tasks = lab.batch(update - 1, p.tasks)
        episodes, judged = lab.attempts(lab.policy(engine), tasks, "rl", update, group=p.group)
        rewards = torch.from_numpy(judged.correct[:, 0]).double()
        credit = leave_one_out(rewards.view(-1, p.group)).reshape(-1).tolist()
        turns = [one.steps[0].turn for one in episodes]
        # A search that goes on until it is cut fails: that is learned from too.
        cut = [turn.n_tokens == lab.p.answer_tokens and not turn.finished for turn in turns]
        rows = [(CreditedTurn(one.steps[0].prompt, turn.text, advantage, p.beta, not over),)
                for one, turn, over, advantage in zip(episodes, turns, cut, credit, strict=True) if turn.finished or over]
        found = {"acc_1": float(rewards.mean()), "tokens": fmean(turn.n_tokens for turn in turns), "cut": fmean(cut)}
        return Collected(rows, spent(engine, len(episodes)), found)

    return lab.reinforce(variant.name, collect, lr=p.lr, updates=p.updates, warmup=WARMUP, start=start, reference=start)


# -- 4. measuring ------------------------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """The standard evaluation, and what an answer is made of."""
    engine, found = lab.engine(trained), []
    for one in lab.evaluate(variant, trained):
        tasks, episodes = lab.sample(lab.policy(engine), lab.panel(one.panel)[: lab.p.test.tasks], "look", group=DRAWS)
        turns = [(task, episode.steps[0].turn) for task, episode in zip(tasks, episodes, strict=True)]
        tokens = {"tokens": fmean(turn.n_tokens for _, turn in turns)}
        found.append(replace(one, metrics=one.metrics | tokens | habits([(task, turn.text) for task, turn in turns])))
    return found


def habits(answers: Sequence[tuple[Task, str]]) -> dict[str, float]:
    """``tries``: whole answers that are tried. ``first_try``: how often the first of them is right. ``told_apart``: the share of wrong ones
    that are taken back, minus that of right ones, where there are both."""
    tried = [[step for step in written(thought_of(text), task.data["numbers"], task.data["target"]) if step.last] for task, text in answers]
    found = {"tries": fmean(map(len, tried)), "first_try": fmean(bool(one and one[0].right) for one in tried)}
    wrong, right = ([step.retracted for one in tried for step in one if step.right == wanted] for wanted in (False, True))
    return found | ({"told_apart": fmean(wrong) - fmean(right)} if wrong and right else {})
