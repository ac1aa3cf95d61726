"""Confidence v.s. Critique (Yang et al. 2024, arXiv:2412.19513): what self-correction consists of.

A policy answers, is asked again, and answers a second time. With p_a(q) the chance that the first answer to question
q is right, p_b(q) that the second one is after a right first one, and p_c(q) after a wrong first one,

    CL = Σ p_a·p_b / Σ p_a      CS = Σ (1 − p_a)·p_c / Σ (1 − p_a)      RSS = (Acc_2 − Acc_1²) / (2·Acc_1·(1 − Acc_1))

in two modes: *sampling* (shares over ten dialogues of each question) and *probability* (the policy's own probability
of every answer that can be listed; ``prob_…``). Then the policy is fine-tuned to improve them. From its own first
answers on training tasks, equally many examples for each in equally many updates:

    base
    sft           question → right answer, no second turn: plain fine-tuning
    confidence    a right first answer → the same again
    critique      a wrong first answer → a right one
    mixture       half of each (the paper's CCT)

Differs from the paper:
 1. Nano policies trained from scratch instead of instruction-tuned models of 7B and more; Countdown with worked answers.
 2. The second request is the environment's; the paper asks the question again. The base's demonstrations have such second turns: a word
    keeps the answer, another one begins a new answer.
 3. The right answers are the environment's oracle's, as the paper's are its data set's, but for ``confidence``, which
    repeats what the policy wrote: on Countdown several expressions are right, and another one is not a repetition.
 4. The paper's probability mode takes questions of a few options and the model's choice among them. Ours is exact on
    sums, where every number is an answer: p_a is the probability of one, p_c is summed over all wrong ones. On
    Countdown an answer stands for every text of equal meaning, and only one way of writing each expression is listed:
    there Acc_1 and Acc_2 are lower bounds, by at most ``prob_missing``; CS is not. Probabilities are not renormalised.
 5. CL and CS are averages over those questions that are right or wrong at first. A policy that answers better at first
    leaves harder questions to critique, so that CS can fall without any answer being treated differently.
 6. A pretrained chat model (``model``) answers in prose: right or wrong is the answer that the environment reads in a
    turn. ``confidence`` repeats a whole turn; the oracle's turn is the answer alone, so that only tasks are used whose
    answers are short anyway, not GSM8K's. It has no probability mode, since its answers cannot be listed. All weights
    are trained, or adapters of ``lora_rank``, then added to the weights, which may have 4 bits (``four_bit``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.config import Evaluation, ModelParams
from common.envs.answers import AnswerEnv
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.lm.engine import Engine
from common.rng import derive, generator
from common.types import Cost, Task, Turn
from papers.confidence_critique.maths import exact_levels


@dataclass(frozen=True)
class Collect:
    tasks: int
    """Training tasks."""
    samples: int
    """First answers to each."""


@dataclass(frozen=True)
class Imitate:
    examples: int
    """Of each variant at most; all get as many as the one that finds fewest."""
    updates: int
    batch: int
    lr: float


@dataclass(frozen=True)
class Test(Evaluation):
    exact_tasks: int
    """Tasks of the probability mode; 0 leaves it out, where answers are free text and cannot be listed."""
    floor: float
    """First answers below this probability are not followed in it."""


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    collect: Collect
    sft: Imitate
    test: Test


@dataclass(frozen=True)
class Tuned(Variant):
    """Fine-tuned on the ``examples`` of that name; "" is the base."""

    examples: str = ""


def variants(p: Params) -> list[Tuned]:
    return [Tuned("base"), *(Tuned(name, name) for name in ("sft", "confidence", "critique", "mixture"))]


def train(lab: Lab, variant: Tuned) -> Trained:
    """Fine-tune the base on the variant's examples, which come from its own first answers."""
    if not variant.examples:
        return BASE

    def collect(_: Engine) -> Collected:
        chosen, cost = lab.once("examples", lambda: examples(lab))
        return Collected(chosen[variant.examples], Cost() if variant.examples == "sft" else cost)

    p = lab.p.sft
    return lab.fit(variant.name, collect, order=("sft",), lr=p.lr, max_steps=p.updates, batch_size=p.batch)


# -- data (paper §5): what a first answer is followed by ----------------------------------------------------------


def examples(lab: Lab) -> tuple[dict[str, list[SFTExample]], Cost]:
    """The examples of every variant, equally many, and the cost of the first answers that they come from."""
    p, engine, prompts = lab.p.collect, lab.engine(), []
    tasks = lab.tasks[: p.tasks]
    for task in tasks:
        lab.env.reset(task)
        prompts.append(lab.env.prompt())
    keys = [derive(lab.seed, "collect", task.id) for task in tasks]
    found = pools(lab.env, tasks, lab.policy(engine).propose(prompts, keys, p.samples))
    lab.log("base", 0, {f"collect/{name}": len(pool) for name, pool in found.items()})
    return drawn(found, most=lab.p.sft.examples, seed=lab.seed), spent(engine, len(tasks) * p.samples)


def pools(env: AnswerEnv, tasks: Sequence[Task], answers: Sequence[Sequence[Turn]]) -> dict[str, list[SFTExample]]:
    """Examples of each pure variant from sampled first answers, distinct ones of each task in the order sampled."""
    found: dict[str, list[SFTExample]] = {"sft": [], "confidence": [], "critique": []}
    for task, turns in zip(tasks, answers, strict=True):
        env.reset(task)
        right = env.oracle()
        found["sft"].append(SFTExample(env.prompt(), right))
        for text in dict.fromkeys(turn.text for turn in turns if turn.finished):
            env.reset(task)
            kept = env.score(text) == 1.0
            env.step(text)
            found["confidence" if kept else "critique"].append(SFTExample(env.prompt(), env.turn(text if kept else right, text)))
    return found


def drawn(found: dict[str, list[SFTExample]], *, most: int, seed: int) -> dict[str, list[SFTExample]]:
    """Equally many examples of every variant: the fewest that any pool has, at most ``most``, an even number.

    Chosen at random without repetition; the mixture is the first half of confidence's and of critique's.
    """
    size = min(most, *map(len, found.values())) // 2 * 2
    chosen = {
        name: [pool[i] for i in generator(seed, "drawn", name).permutation(len(pool))[:size]]
        for name, pool in found.items()
    }
    return chosen | {"mixture": chosen["confidence"][: size // 2] + chosen["critique"][: size // 2]}


# -- measuring (paper §3): sampling mode and probability mode -----------------------------------------------------


def evaluate(lab: Lab, variant: Tuned, trained: Trained) -> list[Measured]:
    """The report on sampled dialogues of every panel and, as ``prob_…``, on exact probabilities of its first tasks."""
    engine, test, found = lab.engine(trained), lab.p.test, []
    for panel, tasks in lab.panels_for(trained).items():
        tasks = tasks[: test.tasks]
        sampled, kept = lab.report(tasks, lab.policy(engine), test.draws)
        greedy, _ = lab.report(tasks, lab.policy(engine, 0.0), 1)
        found.append(Measured(panel, sampled | {f"greedy_{k}": v for k, v in greedy.items()}, len(tasks)))
        if panel == lab.p.panels[0]:
            lab.keep(f"dialogues.{variant.name}", kept)
        if listed := tasks[: test.exact_tasks]:
            levels, missing = exact_levels(lab.env, listed, engine, floor=test.floor)
            found.append(Measured(panel, levels.report("prob_") | {"prob_missing": missing}, len(listed)))
    return found
