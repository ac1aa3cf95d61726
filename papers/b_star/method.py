"""B-STaR (Zeng et al. 2024, arXiv:2412.17256): self-training that watches whether it still explores.

Online rejection fine-tuning samples answers to training questions, keeps the right ones, fine-tunes on them and goes on from there. As
it gets better it also gets narrower, and what it can learn from runs out. B-STaR measures that, and before each iteration takes the
configuration of sampling that is worth most. Of n different answers kept of a question n′ are right, and n* are wanted:

    bs = min(n′/n*, 1) · n′/n        its mean over some training questions, for every configuration of a grid

The first factor asks for enough different right answers (exploration), the second for few wrong ones (exploitation). Rewards here are exact, so that nothing wrong is
kept, n = n′, and what is left to choose is the temperature; a task of countdown-worked-v1 has at most three right answers, so that n* is never reached. ``fixed``, ``bstar`` and ``restart`` sample as many answers, and their last weights have
taken as many updates:

    base
    fixed                the same temperature, 1, in all iterations;  fixed_half: after half of them
    bstar                the temperature of largest bs, chosen anew before each iteration;  bstar_half
    restart              as bstar, but iteration i fine-tunes the base model, in i times the updates, on answers of the last policy
    one@T=t              one iteration at temperature t: what a configuration is really worth
    by_bs, by_chance     not trained: the one that bs prefers, and the mean of all

Differs from the paper:
 1. Nano policies trained from scratch on Countdown with worked answers instead of Mistral-7B on MATH; right is exact, without a process reward
    model, so that its second part, a threshold on rewards, has nothing to choose.
 2. Six iterations instead of nine; Adam starts anew in each, weights go on.
 3. ``fixed`` spends on more answers what choosing costs ``bstar``.
 4. No reference solutions among the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from scipy.stats import spearmanr

from common.config import Evaluation, ModelParams
from common.envs.answers import AnswerEnv
from common.lab import BASE, Collected, Lab, Measured, Result, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.lm.engine import Engine
from common.types import Cost, Task

DRAWS = 16
"""Answers of each test question among which different right ones are counted."""


@dataclass(frozen=True)
class Collect:
    iterations: int
    """An even number."""
    tasks: int
    """Training questions, the same in every iteration."""
    samples: int
    """Answers of each."""
    temperatures: tuple[float, ...]
    queries: int
    """Questions by which a temperature is chosen."""
    wanted: int
    """n*, and the most answers kept of a question."""


@dataclass(frozen=True)
class Fit:
    updates: int
    """Of an iteration."""
    batch: int
    lr: float


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    collect: Collect
    sft: Fit
    test: Evaluation


@dataclass(frozen=True)
class Condition(Variant):
    """``kind`` names the run that its iterations belong to; ``temperature`` None is chosen anew in each."""

    kind: str = ""
    iterations: int = 0
    temperature: float | None = None
    restart: bool = False
    extra: bool = False
    """Samples as much more as choosing would cost."""


BY_SCORE, BY_CHANCE = "by_bs", "by_chance"


def variants(p: Params) -> list[Condition]:
    n = p.collect.iterations
    return [
        Condition("base"),
        Condition("fixed_half", "fixed", n // 2, 1.0, extra=True),
        Condition("fixed", "fixed", n, 1.0, extra=True),
        Condition("bstar_half", "bstar", n // 2),
        Condition("bstar", "bstar", n),
        Condition("restart", "restart", n, restart=True),
        *(Condition(f"one@T={t:g}", f"one.{t:g}", 1, t) for t in p.collect.temperatures),
    ]


def environment(lab: Lab) -> AnswerEnv:
    """One attempt at each task."""
    return lab.make_env().dialogue(1, window=1)


# -- 1. different right answers, and what they are worth ---------------------------------------------------------------


def right_answers(lab: Lab, engine: Engine, temperature: float, tasks: Sequence[Task], *use: str | int, group: int) -> list[list[str]]:
    """The different right ones of ``group`` answers to each task, in the order of drawing."""
    episodes, attempts = lab.attempts(lab.policy(engine, temperature), tasks, *use, group=group)
    found: list[dict[str, None]] = [{} for _ in tasks]
    for i, (episode, right) in enumerate(zip(episodes, attempts.correct[:, 0], strict=True)):
        if right:
            found[i // group][episode.steps[0].turn.text] = None
    return [list(one) for one in found]


def balance(right: int, kept: int, wanted: int) -> float:
    """bs of a question: ``kept`` different answers, ``right`` of them right; 0 where none is kept."""
    return min(right / wanted, 1.0) * right / kept if kept else 0.0


def scores(lab: Lab, engine: Engine, tasks: Sequence[Task], iteration: int) -> dict[float, float]:
    """Temperature → mean bs over ``tasks``. All that is kept is right."""
    p = lab.p.collect
    found = {}
    for t in p.temperatures:
        answers = right_answers(lab, engine, t, tasks, "choose", iteration, group=p.samples)
        found[t] = fmean(balance(len(one), len(one), p.wanted) for one in answers)
    return found


# -- 2. iterations -----------------------------------------------------------------------------------------------------


def train(lab: Lab, variant: Condition) -> Trained:
    trained = BASE
    for iteration in range(1, variant.iterations + 1):
        trained = iterated(lab, variant, iteration, trained)
    return trained


def iterated(lab: Lab, variant: Condition, iteration: int, before: Trained) -> Trained:
    """Fine-tune ``before``, or with ``restart`` the base model, on right answers of ``before``."""
    p = lab.p.sft

    def collect(engine: Engine) -> Collected:
        if not variant.restart:
            return collected(lab, engine, variant, iteration)
        data = collected(lab, lab.engine(before), variant, iteration)
        return replace(data, cost=before.cost + data.cost)

    return lab.fit(f"{variant.kind}.{iteration}", collect, order=("sft", iteration), start=BASE if variant.restart else before,
                   part=iteration, lr=p.lr, max_steps=p.updates * (iteration if variant.restart else 1), batch_size=p.batch)  # fmt: skip


def collected(lab: Lab, engine: Engine, variant: Condition, iteration: int) -> Collected:
    """At most ``wanted`` different right answers to each question; ``found`` names the temperature and every bs."""
    p, temperature, found = lab.p.collect, variant.temperature, {}
    tasks, chosen = lab.batch(0, p.tasks), 0
    if temperature is None:
        by_temperature = scores(lab, engine, tasks[: p.queries], iteration)
        temperature = max(by_temperature, key=by_temperature.get)
        found, chosen = {f"bs@T={t:g}": score for t, score in by_temperature.items()}, len(by_temperature) * p.queries * p.samples
    group = p.samples + choosing(p) * variant.extra
    answers = right_answers(lab, engine, temperature, tasks, "collect", iteration, group=group)
    rows = []
    for task, kept in zip(tasks, answers, strict=True):
        lab.env.reset(task)
        rows += [SFTExample(lab.env.prompt(), text) for text in kept[: p.wanted]]
    found |= {"temperature": temperature, "distinct": fmean(map(len, answers)), "solved": fmean(map(bool, answers))}
    return Collected(rows, spent(engine, chosen + group * len(tasks)), found)


def choosing(p: Collect) -> int:
    """How many more answers to each question cost what choosing a temperature does."""
    return len(p.temperatures) * p.queries * p.samples // p.tasks


# -- 3. measuring ------------------------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """The standard evaluation, and how many different right answers 16 draws hold."""
    engine, found = lab.engine(trained), []
    for one in lab.evaluate(variant, trained):
        tasks = lab.panel(one.panel)[: lab.p.test.tasks]
        answers = right_answers(lab, engine, 1.0, tasks, "distinct", group=DRAWS)
        found.append(replace(one, metrics=one.metrics | {"distinct": fmean(map(len, answers))}))
    return found


def compare(lab: Lab, results: Sequence[Result]) -> list[Result]:
    """What bs is worth: the iteration at the temperature that it prefers for the base model, against the mean of all; and over
    temperatures the rank correlation (Spearman) of bs with what was reached, where both differ. Nothing where not all were run."""
    by_name = {one.name: one for one in results}
    singles = {t: by_name.get(f"one@T={t:g}") for t in lab.p.collect.temperatures}
    if None in singles.values() or "bstar" not in by_name:
        return []
    first = train(lab, Condition("bstar", "bstar", 1)).found
    told = [first[f"bs@T={t:g}"] for t in singles]
    found: dict[str, list[Measured]] = {BY_SCORE: [], BY_CHANCE: []}
    for i, panel in enumerate(by_name["bstar"].measured):
        reached = [one.measured[i].metrics["success"] for one in singles.values()]
        metrics = {"success": reached[int(np.argmax(told))]}
        if len(set(told)) > 1 < len(set(reached)):
            metrics["rank_correlation"] = float(spearmanr(told, reached).statistic)
        found[BY_SCORE].append(replace(panel, metrics=metrics))
        found[BY_CHANCE].append(replace(panel, metrics={"success": fmean(reached)}))
    return [Result(name, Cost(), measured) for name, measured in found.items()]
