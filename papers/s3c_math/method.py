"""S³c-Math (Yan et al. 2024, arXiv:2409.01524): a model that takes back a wrong step in the middle of its answer.

Fine-tuning on right solutions teaches what to write, and nothing about what to do after an error. S³c-Math takes right solutions
step by step, samples other next steps, and where such a step is wrong writes an example

    right steps so far, wrong step, "no", the right step, the rest

with no loss on the wrong step, which is there to be recognised and not to be imitated. Here ``no`` takes back the step before it,

    14 - 5 = 9 , no , 14 + 5 = 19 , 19 - 3 = 16

and the steps that remain are the answer. A step is wrong when no right answer can follow it, which is computed. The examples are built from
the base model's own answers to training tasks: its right answers, and its wrong steps at the same places. Each variant learns from as many
right answers in as many updates; those with revisions learn from as many of these beside them:

    base              the base model, which has never taken a step back
    rft               rejection-sampling fine-tuning: right answers alone
    s3c               right answers, and the same with one wrong step taken back
    s3c_unmasked      as ``s3c``, but the wrong step is imitated too
    s3c_uniform       as ``s3c`` at the same places, but the wrong step is any that the rules allow, not one that the base model wrote
    whole             right answers, and the same after a whole wrong answer, of which all steps are taken back

Differs from the paper:
 1. Nano policies trained from scratch on Countdown with worked answers instead of language models on GSM8K and MATH.
 2. Whether a step is wrong is exact; the paper compares with a known solution and final answer.
 3. The reflection is the one word "no"; the paper's is a sentence by a large model that says what is wrong.
 4. What comes before the wrong step has no loss either: the same right steps are learned from in the right answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from common.config import Evaluation, ModelParams
from common.envs.countdown import descending
from common.envs.retracting import AND, NO, RetractingEnv, Written, written
from common.envs.versions.countdown_worked_v1 import worked
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.lm.engine import Engine
from common.rng import generator
from common.types import Task

DRAWS = 2
"""Answers of each test task whose steps are looked at."""


@dataclass(frozen=True)
class Collect:
    tasks: int
    """Training tasks."""
    samples: int
    """Answers of the base model to each."""
    kept: int
    """Most different right answers that a task gives."""


@dataclass(frozen=True)
class Fit:
    updates: int
    batch: int
    """Right answers of an update; variants with revisions learn from as many of these too."""
    lr: float


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    collect: Collect
    sft: Fit
    test: Evaluation


@dataclass(frozen=True)
class Condition(Variant):
    """What is learned from beside right answers: a wrong ``part`` ("step", "answer", "" for nothing) taken back."""

    part: str = ""
    uniform: bool = False
    masked: bool = True


def variants(p: Params) -> list[Condition]:  # noqa: ARG001 - the same for all parameters
    return [
        Condition("base"),
        Condition("rft"),
        Condition("s3c", "step"),
        Condition("s3c_unmasked", "step", masked=False),
        Condition("s3c_uniform", "step", uniform=True),
        Condition("whole", "answer"),
    ]


def environment(lab: Lab) -> RetractingEnv:  # noqa: ARG001 - tasks alone depend on the unit
    return RetractingEnv(turns=1, window=1)


# -- 1. what is learned from -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampled:
    """Of a task, the base model's different ``right`` answers and all its ``wrong`` ones, in the order of drawing."""

    task: Task
    right: list[str]
    wrong: list[str]


def sampled(lab: Lab) -> tuple[list[Sampled], Collected]:
    """Own answers to the training tasks, which all variants share, and what they cost."""
    p, engine = lab.p.collect, lab.engine()
    tasks, found = lab.batch(0, p.tasks), []
    episodes, judged = lab.attempts(lab.policy(engine), tasks, "collect", group=p.samples)
    for i, task in enumerate(tasks):
        mine = slice(i * p.samples, (i + 1) * p.samples)
        turns = [(episode.steps[0].turn, good) for episode, good in zip(episodes[mine], judged.correct[mine, 0], strict=True)]
        by_result = {wanted: [turn.text for turn, good in turns if turn.finished and good == wanted] for wanted in (True, False)}
        found.append(Sampled(task, list(dict.fromkeys(by_result[True]))[: p.kept], by_result[False]))
    return found, Collected([], spent(engine, p.samples * len(tasks)))


def wrong_steps(task: Task, answers: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
    """Right steps so far → the first wrong steps that ``answers`` go on with."""
    found: dict[tuple[str, ...], list[str]] = {}
    for text in answers:
        first = next((step for step in written(text, task.data["numbers"], task.data["target"]) if not step.right), None)
        if first:
            found.setdefault(first.before, []).append(first.step)
    return found


def revisions(lab: Lab, one: Sampled, variant: Condition) -> Iterator[tuple[str, str]]:
    """(what is wrong and what stands before it, how the turn goes on) for each right answer of a task, where the base model wrote something
    wrong. All variants draw the same places, which is where it errs."""
    rng, own = generator(lab.seed, "revise", one.task.id), wrong_steps(one.task, one.wrong)
    allowed = wrong_steps(one.task, [answer for answer, _ in worked(descending(one.task.data["numbers"]))]) if variant.uniform else own
    for answer in one.right:
        right = tuple(answer.split(AND))
        if variant.part == "answer":
            if one.wrong:
                wrong = one.wrong[rng.integers(len(one.wrong))]
                yield wrong, AND + AND.join([*[NO] * len(wrong.split(AND)), answer])
        elif places := [k for k in range(len(right)) if right[:k] in own and right[:k] in allowed]:
            k = places[rng.integers(len(places))]
            steps = sorted(set(allowed[right[:k]])) if variant.uniform else own[right[:k]]
            yield AND.join([*right[:k], steps[rng.integers(len(steps))]]), AND + AND.join([NO, *right[k:]])


def examples(lab: Lab, found: Sequence[Sampled], variant: Condition) -> list[SFTExample]:
    rows = []
    for one in found:
        lab.env.reset(one.task)
        prompt = lab.env.prompt()
        rows += [SFTExample(prompt, answer) for answer in one.right]
        for given, rest in revisions(lab, one, variant) if variant.part else ():
            rows.append(SFTExample(prompt, rest, given=given) if variant.masked else SFTExample(prompt, given + rest))
    return rows


def train(lab: Lab, variant: Condition) -> Trained:
    p = lab.p.sft
    if variant.name == "base":
        return BASE

    def collect(_: Engine) -> Collected:
        found, paid = lab.once("sampled", lambda: sampled(lab))
        rows = examples(lab, found, variant)
        return Collected(rows, paid.cost, {"right_answers": sum(len(one.right) for one in found), "examples": len(rows)})

    return lab.fit(variant.name, collect, order=("sft",), lr=p.lr, max_steps=p.updates, batch_size=p.batch * (2 if variant.part else 1))


# -- 2. which errors are taken back ------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """The standard evaluation, and what happens to right and to wrong steps."""
    engine, found = lab.engine(trained), []
    for one in lab.evaluate(variant, trained):
        tasks = lab.panel(one.panel)[: lab.p.test.tasks]
        asked, episodes = lab.sample(lab.policy(engine), tasks, "steps", group=DRAWS)
        turns = [episode.steps[0].turn for episode in episodes]
        steps = [written(turn.text, task.data["numbers"], task.data["target"]) for task, turn in zip(asked, turns, strict=True)]
        found.append(replace(one, metrics=one.metrics | step_metrics(steps) | {"tokens": fmean(turn.n_tokens for turn in turns)}))
    return found


def step_metrics(answers: Sequence[Sequence[Written]]) -> dict[str, float]:
    """``caught`` and ``false_alarm``, the shares of wrong and of right steps that are taken back, and their difference ``told_apart``: of
    all steps, of first ones and of those that end an answer (``_last``). ``first_right``: of what answers begin with, what is right."""
    steps = [step for answer in answers for step in answer]
    found = {"first_right": fmean(answer[0].right for answer in answers if answer)} if steps else {}
    for suffix, some in (("", steps), ("_first", [step for step in steps if not step.before]), ("_last", [step for step in steps if step.last])):
        wrong, right = ([step.retracted for step in some if step.right == wanted] for wanted in (False, True))
        if wrong and right:
            caught, alarmed = fmean(wrong), fmean(right)
            found |= {f"caught{suffix}": caught, f"false_alarm{suffix}": alarmed, f"told_apart{suffix}": caught - alarmed}
    return found
