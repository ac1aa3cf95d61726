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
 1. Nano policies trained from scratch instead of instruction-tuned models of 7B and more; Countdown and sums.
 2. The second request is the environment's "check the answer and write it again"; the paper asks the question again.
    The base was shown such second turns in its demonstrations.
 3. The right answers are the environment's oracle's, as the paper's are its data set's, but for ``confidence``, which
    repeats what the policy wrote: on Countdown several expressions are right, and another one is not a repetition.
 4. The paper's probability mode takes questions of a few options and the model's choice among them. Ours is exact on
    sums, where every number is an answer: p_a is the probability of one, p_c is summed over all wrong ones. On
    Countdown an answer stands for every text of equal meaning, and only one way of writing each expression is listed:
    there Acc_1 and Acc_2 are lower bounds, by at most ``prob_missing``; CS is not. Probabilities are not renormalised.
 5. CL and CS are averages over those questions that are right or wrong at first. A policy that answers better at first
    leaves harder questions to critique, so that CS can fall without any answer being treated differently.
 6. A pretrained chat model (``model``) is prompted for its second turn and answers in prose: right or wrong is what the
    environment says that a turn declares. What ``confidence`` repeats is a whole turn; the oracle's is the declaration
    alone, so that only tasks whose answers are bare anyway are asked, not GSM8K's. There is no probability mode for it,
    whose answers cannot be listed. All weights are trained, or adapters of ``lora_rank``, then added to the weights, which
    may have 4 bits (``four_bit``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from common.envs import load_panel, make
from common.envs.answers import AnswerEnv
from common.evaluate.correction import Attempts, correction, records
from common.evaluate.decompose import exact_levels
from common.evaluate.dialogues import dialogues
from common.evaluate.votes import stacked
from common.learn.batches import SFTExample
from common.learn.policy import sft
from common.learn.settings import TrainSettings
from common.lm.adapters import adapted, merged
from common.lm.device import on_device
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.lm.policy import LMPolicy
from common.rng import derive, generator
from common.track.lines import write_lines
from common.track.rows import MetricRow, cost_of
from common.types import Cost, Task, Turn


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
class Test:
    tasks: int
    draws: int
    """Sampled dialogues of each task."""
    exact_tasks: int
    """Tasks of the probability mode; 0 leaves it out, where answers are free text and cannot be listed."""
    floor: float
    """First answers below this probability are not followed in it."""


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
    collect: Collect
    sft: Imitate
    test: Test
    panels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.four_bit and not self.lora_rank:
            raise ValueError("four_bit: true needs adapters, since 4-bit weights are not trained themselves, but lora_rank is 0; set "
                             "lora_rank, for instance to 32")  # fmt: skip


VARIANTS = ("sft", "confidence", "critique", "mixture")


# -- 1. data (paper §5): what a first answer is followed by ------------------------------------------------------


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
            found["confidence" if kept else "critique"].append(SFTExample(env.prompt(), text if kept else right))
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


# -- 2. the unit: all variants, resumable one by one ---------------------------------------------------------------


class Experiment:
    """One unit at work: environment, tasks, and stages that are computed once and then read back."""

    def __init__(self, unit) -> None:
        self.unit, self.run, self.p, self.seed = unit, unit.run, unit.params, unit.seed
        self.env: AnswerEnv = make(unit.env, unit.data)
        panel = load_panel(unit.data, f"{unit.env}/train")
        self.tasks = [panel[i] for i in generator(self.seed, "tasks").permutation(len(panel))][: self.p.collect.tasks]
        self.panels = {name: load_panel(unit.data, f"{unit.env}/{name}") for name in self.p.panels}

    def engine(self, stage: str | None = None) -> Engine:
        """The policy that ``stage`` saved; None is the base model."""
        if stage:
            return Engine(*on_device(*load_model(self.run.stage_path(stage))))
        return Engine(*on_device(*load_model(self.unit.base, four_bit=self.p.four_bit)))

    def learner(self) -> Engine:
        """The base model, with adapters where they are what is trained: the same for each variant."""
        engine = self.engine()
        if self.p.lora_rank:
            adapted(engine.model, self.p.lora_rank, seed=derive(self.seed, "adapters"))
        return engine

    def policy(self, engine: Engine) -> LMPolicy:
        return LMPolicy(engine, max_new_tokens=self.p.answer_tokens)

    @cached_property
    def data(self) -> tuple[dict[str, list[SFTExample]], Cost]:
        """Examples of every variant from the base's first answers, and the cost of sampling them."""
        engine, prompts = self.engine(), []
        for task in self.tasks:
            self.env.reset(task)
            prompts.append(self.env.prompt())
        keys = [derive(self.seed, "collect", task.id) for task in self.tasks]
        answers = self.policy(engine).propose(prompts, keys, self.p.collect.samples)
        found = pools(self.env, self.tasks, answers)
        self.run.log("base", 0, {f"collect/{name}": len(pool) for name, pool in found.items()})
        count = len(self.tasks) * self.p.collect.samples
        chosen = drawn(found, most=self.p.sft.examples, seed=self.seed)
        return chosen, replace(engine.cost, env_steps=count, samples=count)

    def train(self, name: str) -> tuple[str, Cost]:
        """Fine-tune the base on the examples of variant ``name``: its stage and what it cost."""
        stage = f"train.{name}"

        def compute() -> dict:
            engine, (chosen, sampling) = self.learner(), self.data
            cost = Cost() if name == "sft" else sampling
            settings = TrainSettings(lr=self.p.sft.lr, max_steps=self.p.sft.updates, batch_size=self.p.sft.batch,
                                     max_length=engine.context, warmup=0.1)  # fmt: skip
            with self.run.stage_dir(stage) as folder:
                if chosen[name]:  # a policy that solves nothing has no right answer to keep
                    seed = derive(self.seed, "sft") % 2**31
                    stats = sft(engine.model, engine.tokenizer, chosen[name], settings, seed=seed, out_dir=self.run.artifacts,
                                log=self.sft_log(name))  # fmt: skip
                    cost = replace(cost, updates=stats.updates)
                save_model(merged(engine.model), engine.tokenizer, folder)
            return {"cost": cost_of(cost), "examples": len(chosen[name])}

        return stage, Cost(**self.run.stage(stage, compute)["cost"])

    def sft_log(self, name: str) -> Callable:
        keep = ("loss", "grad_norm", "logp")
        return lambda update, metrics: self.run.log(name, update, {f"r1/train/{k}": metrics[k] for k in keep})

    def evaluate(self, name: str, stage: str | None) -> dict[str, dict[str, tuple[float, int]]]:
        """Panel → metric → (value, tasks), in sampling mode and, ``prob_…``, in probability mode."""

        def compute() -> dict:
            engine, result, test = self.engine(stage), {}, self.p.test
            for panel, tasks in self.panels.items():
                tasks = tasks[: test.tasks]
                draws, episodes = dialogues(self.env, tasks, self.policy(engine), seed=self.seed, draws=test.draws)
                sampled = correction(stacked(draws))
                sampled["success"] = sampled["acc@2"]
                some = tasks[: test.exact_tasks]
                result[panel] = {k: (v, len(tasks)) for k, v in sampled.items()}
                if some:
                    exact, missing = exact_levels(self.env, some, engine, floor=test.floor)
                    result[panel] |= {k: (v, len(some)) for k, v in exact.report("prob_").items()}
                    result[panel]["prob_missing"] = (missing, len(some))
                if panel == self.p.panels[0]:
                    said = tuple(tuple(step.turn.text for step in episode.steps) for episode in episodes)
                    kept = records(Attempts(draws[0].correct, said), tasks[:60], episodes[: len(tasks[:60])])
                    write_lines(self.run.artifacts / f"dialogues.{name}.jsonl", kept)
                self.run.log(name, 0, {f"{panel}/{k}".replace("@", "_"): v for k, (v, _) in result[panel].items()})
            return result

        return self.run.stage(f"eval.{name}", compute)


def run(unit) -> list[MetricRow]:
    """Train and evaluate every variant of one unit; writes its metric rows and marks it finished."""
    if unit.run.finished:
        return unit.run.rows()
    torch.set_num_threads(1)  # bit-identical results whatever the number of workers
    work, rows = Experiment(unit), []
    for name in ("base", *VARIANTS):
        stage, cost = work.train(name) if name != "base" else (None, Cost())
        for panel, metrics in work.evaluate(name, stage).items():
            rows.extend(
                MetricRow(paper="confidence_critique", env=unit.env, profile=unit.profile, scale=work.p.model, variant=name,
                          seed=unit.seed, panel=f"{unit.env}/{panel}", metric=metric, value=value, n=n,
                          cost=cost_of(cost))  # fmt: skip
                for metric, (value, n) in metrics.items()
            )
    unit.run.write_rows(rows)
    unit.run.finish()
    return rows
