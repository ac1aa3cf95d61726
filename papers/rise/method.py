"""RISE (Qu et al. 2024, arXiv:2407.18219): recursive introspection, a policy taught to improve its own answer again.

One question becomes a Markov decision process of up to K turns: the state is the question with the last attempt,
the action an answer, the reward r ∈ {0, 1} its correctness. Iteration i takes the policy of iteration i − 1 and

    1. plays dialogues of k = i + 1 turns on new tasks: attempts y_1 … y_{k−1} are the policy's own, one sample each;
       the last turn is an improvement in the state that these led to: the best of N own samples (self-distilled)
       or an oracle's answer (distilled);
    2. imitates every turn in its state by reward-weighted regression, max Σ exp(r/τ) · log π(y | state).

At test it answers five times in a row; the last answer, or the majority over turns (m1@t5), is compared with the
majority of five independent first answers (maj@5), which costs as many samples. Variants, from one base model:

    base
    rise_self, rise_distil       two iterations; ``_it1`` is the policy after the first
    rise_filtered                rise_self with weights 0 and 1 instead of exp(r/τ)
    rise_once                    rise_self's two iterations in a single one of twice the tasks and updates
    rft                          fine-tuned on right first answers only, as many samples and updates as rise_self

and each at test with ``+turn1`` (one answer), ``+vote`` (m1@t5) and ``+parallel`` (maj@5).

Differs from the paper:
 1. Nano policies trained from scratch instead of Llama and Mistral 7B; Countdown and sums instead of GSM8K and
    MATH. Sizes will not carry over.
 2. The base was shown two turns in its demonstrations, since a nano policy could not write a second one otherwise.
    So RISE improves a habit of checking here, where the paper has to install it.
 3. A dialogue goes on after a right answer. The released code stops there, so that its later turns are taught
    after wrong attempts only, under a request that calls them wrong; our request never says so, nor does anything
    at test, and a policy that has never seen a right attempt unlearns to keep one. Makes confidence easier to keep.
 4. The oracle stands for the stronger teacher (gpt-3.5); it is never wrong.
 5. Each iteration trains the policy of the one before on its own new data alone, Adam anew; the text does not say
    whether data are pooled or training restarts from the base.
 6. Weights are exp(r/τ) divided by exp(1/τ). Only their ratio matters to Adam, but gradients are clipped: with
    weights of 12 nearly every update would be, those of ``rise_filtered`` never.
 7. Answers vote as texts. On Countdown two ways to write one expression are two candidates, and none is dropped for
    missing the target, which anybody could check: a vote is not allowed to use the reward. Ties count by their
    expectation instead of by the order of the answers.
 8. Tested as trained, at temperature 1; a greedy nano policy repeats nine answers of ten, and five equal answers
    leave nothing to vote on.
 9. A pretrained chat model (``model``) is prompted for its later turns, as in the paper, and answers in prose: right or
    wrong, and what is voted on, is what the environment says that a turn declares, while whole turns are imitated. The
    oracle's turn is the declaration alone: a right number or word without the solution that a teacher would write. All
    weights are trained, or adapters of ``lora_rank`` beside them: new ones in each iteration, then added to the weights;
    beside 4-bit weights (``four_bit``) the second iteration goes on with those of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from common.envs import load_panel, make
from common.envs.answers import AnswerEnv
from common.evaluate.correction import Attempts, attempts_of, correction, records
from common.evaluate.dialogues import dialogues
from common.evaluate.votes import parallel, stacked, votes
from common.learn.batches import SFTExample
from common.learn.policy import sft
from common.learn.settings import TrainSettings
from common.learn.weights import reward_weight
from common.lm.adapters import adapted, load_adapters, merged, save_adapters
from common.lm.device import on_device
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.lm.policy import LMPolicy
from common.rng import derive, generator
from common.search.rollout import rollout
from common.track.lines import write_lines
from common.track.rows import MetricRow, cost_of
from common.types import Cost, Message, Task, Turn


@dataclass(frozen=True)
class Collect:
    iterations: int
    tasks: int
    """New training tasks of each iteration."""
    samples: int
    """N, own samples at the last turn, of which the best is imitated."""


@dataclass(frozen=True)
class Imitate:
    tau: float
    updates: int
    """Of each iteration."""
    batch: int
    lr: float


@dataclass(frozen=True)
class Test:
    tasks: int
    turns: int
    """Turns in a row, and answers in parallel; also the sampled dialogues of each task."""


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


@dataclass(frozen=True)
class Variant:
    """One training condition. ``last``: what is imitated at the last turn, ``best`` of N or the ``oracle``'s;
    ``first`` has no later turns at all. ``filtered``: weights 0 and 1. ``scale``: times the tasks and updates."""

    name: str
    last: str
    iterations: int
    filtered: bool = False
    scale: int = 1


def variants(p: Params) -> list[Variant]:
    n = p.collect.iterations
    return [
        Variant("rise_self", "best", n),
        Variant("rise_filtered", "best", n, filtered=True),
        Variant("rise_distil", "oracle", n),
        Variant("rft", "first", n, filtered=True),
        Variant("rise_once", "best", 1, scale=n),
    ]


WINDOW = 1
"""Attempts that a prompt shows: the context of the base holds one beside the answer being written."""


# -- 1. collect (paper §4.2): dialogues of the policy's own, and an improvement at their last turn -------------


@dataclass(frozen=True)
class Improved:
    """One dialogue: the state and turn of each own attempt with its reward, and at its end the improvement."""

    attempts: tuple[tuple[tuple[Message, ...], Turn, float], ...]
    state: tuple[Message, ...]
    target: Turn
    reward: float


def best(turns: Sequence[Turn], rewards: Sequence[float]) -> int:
    """Index of the first finished turn of highest reward; 0 when none is finished."""
    return max(range(len(turns)), key=lambda i: (turns[i].finished, rewards[i], -i))


def improve(
    env: AnswerEnv, tasks: Sequence[Task], policy: LMPolicy, *, keys: Sequence[int], samples: int, oracle: bool
) -> list[Improved]:
    """Play all turns but the last of ``env`` once for each task, then improve on them there.

    With ``oracle`` its answer is the last turn, else the best of ``samples`` own ones.
    """
    before = env.max_steps - 1
    episodes = rollout(env, list(tasks), policy, keys=list(keys), max_steps=before)
    played = attempts_of(env, tasks, episodes).correct
    states, targets = [], []
    for task, episode in zip(tasks, episodes, strict=True):
        env.reset(task)
        for step in episode.steps:
            env.step(step.turn.text)
        states.append(env.prompt())
        targets.append([Turn(env.oracle(), 0.0, 0)])
    if not oracle:
        targets = policy.propose(states, [derive(key, "step", before) for key in keys], samples)
    found = []
    for task, episode, correct, state, options in zip(tasks, episodes, played, states, targets, strict=True):
        env.reset(task)
        rewards = [env.score(turn.text) for turn in options]
        chosen = best(options, rewards)
        own = tuple((step.prompt, step.turn, float(r)) for step, r in zip(episode.steps, correct, strict=True))
        found.append(Improved(own, state, options[chosen], rewards[chosen]))
    return found


# -- 2. reward-weighted imitation (paper §4.3) ------------------------------------------------------------------


def examples_of(found: Sequence[Improved], *, tau: float, filtered: bool) -> list[SFTExample]:
    """Every finished turn in its state, weighing exp((r − 1)/τ), or r alone when ``filtered``: a right answer weighs 1
    both ways. Context carries no loss."""
    turns = [turn for one in found for turn in (*one.attempts, (one.state, one.target, one.reward))]
    weighted = [(state, turn, r if filtered else reward_weight(r - 1, tau)) for state, turn, r in turns]
    return [SFTExample(state, turn.text, weight) for state, turn, weight in weighted if turn.finished and weight > 0]


def first_examples(
    env: AnswerEnv, tasks: Sequence[Task], policy: LMPolicy, *, keys: Sequence[int], samples: int
) -> list[SFTExample]:
    """Distinct right answers among ``samples`` first ones of each task (rejection fine-tuning)."""
    prompts = []
    for task in tasks:
        env.reset(task)
        prompts.append(env.prompt())
    examples = []
    for task, prompt, turns in zip(tasks, prompts, policy.propose(prompts, list(keys), samples), strict=True):
        env.reset(task)
        right = dict.fromkeys(turn.text for turn in turns if turn.finished and env.score(turn.text) == 1.0)
        examples += [SFTExample(prompt, text) for text in right]
    return examples


# -- 3. the unit: all variants, resumable iteration by iteration -------------------------------------------------


class Experiment:
    """One unit at work: environment, tasks, and stages that are computed once and then read back."""

    def __init__(self, unit) -> None:
        self.unit, self.run, self.p, self.seed = unit, unit.run, unit.params, unit.seed
        self.env: AnswerEnv = make(unit.env, unit.data)
        panel = load_panel(unit.data, f"{unit.env}/train")
        self.tasks = [panel[i] for i in generator(self.seed, "tasks").permutation(len(panel))]
        self.panels = {name: load_panel(unit.data, f"{unit.env}/{name}") for name in self.p.panels}
        self._shared: list[tuple[list[Improved], Cost]] = []

    def engine(self, stage: str | None = None) -> Engine:
        """The policy that ``stage`` saved; None is the base model."""
        if stage:
            return Engine(*on_device(*load_model(self.run.stage_path(stage))))
        return Engine(*on_device(*load_model(self.unit.base, four_bit=self.p.four_bit)))

    def learner(self, stage: str | None) -> Engine:
        """As :meth:`engine`, with adapters where they are what is trained: the same for each variant, as tasks are."""
        engine = self.engine(None if self.p.four_bit else stage)
        if self.p.lora_rank:
            adapted(engine.model, self.p.lora_rank, seed=derive(self.seed, "adapters"))
        if self.p.four_bit and stage:
            load_adapters(engine.model, self.run.stage_path(stage))
        return engine

    def policy(self, engine: Engine) -> LMPolicy:
        return LMPolicy(engine, max_new_tokens=self.p.answer_tokens)

    # training

    def train(self, variant: Variant, iteration: int) -> tuple[str, Cost]:
        """Iteration ``iteration`` (from 1) of ``variant``: its stage and what it alone cost."""
        stage = f"train.{variant.name}.it{iteration}"

        def compute() -> dict:
            engine = self.learner(f"train.{variant.name}.it{iteration - 1}" if iteration > 1 else None)
            examples, cost = self.collect(variant, iteration, engine)
            settings = TrainSettings(lr=self.p.sft.lr, max_steps=self.p.sft.updates * variant.scale, warmup=0.1,
                                     batch_size=self.p.sft.batch, max_length=engine.context)  # fmt: skip
            with self.run.stage_dir(stage) as folder:
                if examples:  # a policy that solves nothing leaves nothing to filter
                    seed = derive(self.seed, "sft", iteration) % 2**31
                    stats = sft(engine.model, engine.tokenizer, examples, settings, seed=seed, out_dir=self.run.artifacts,
                                log=self.sft_log(variant.name, iteration))  # fmt: skip
                    cost = replace(cost, updates=stats.updates)
                if self.p.four_bit:
                    save_adapters(engine.model, folder)
                save_model(merged(engine.model), engine.tokenizer, folder)
            return {"cost": cost_of(cost), "examples": len(examples)}

        return stage, Cost(**self.run.stage(stage, compute)["cost"])

    def collect(self, variant: Variant, iteration: int, engine: Engine) -> tuple[list[SFTExample], Cost]:
        """Examples of one iteration, and the cost of sampling them. Random numbers do not depend on the variant, so
        that variants which ask the same policy for the same answers get the same ones."""
        n, turns = self.p.collect.tasks * variant.scale, iteration + 1
        tasks = [self.tasks[i % len(self.tasks)] for i in range((iteration - 1) * n, iteration * n)]
        keys = [derive(self.seed, "collect", iteration, task.id) for task in tasks]
        answers = turns - 1 + self.p.collect.samples
        if variant.last == "first":
            examples = first_examples(self.env, tasks, self.policy(engine), keys=keys, samples=answers)
            self.run.log(variant.name, iteration, {"collect/examples": len(examples)})
            return examples, replace(engine.cost, env_steps=n * answers, samples=n * answers)
        answers -= self.p.collect.samples if variant.last == "oracle" else 0

        def play() -> tuple[list[Improved], Cost]:
            found = improve(self.env.dialogue(turns, window=WINDOW), tasks, self.policy(engine), keys=keys,
                            samples=self.p.collect.samples, oracle=variant.last == "oracle")  # fmt: skip
            return found, replace(engine.cost, env_steps=n * answers, samples=n * answers)

        shared = iteration == 1 and variant.last == "best" and variant.scale == 1  # all of these start at the base
        if shared and not self._shared:
            self._shared.append(play())
        found, cost = self._shared[0] if shared else play()
        own = [r for one in found for *_, r in one.attempts]
        seen = {"own_right": fmean(own), "improved_right": fmean(one.reward for one in found)}
        self.run.log(variant.name, iteration, {f"collect/{k}": v for k, v in seen.items()})
        return examples_of(found, tau=self.p.sft.tau, filtered=variant.filtered), cost

    def sft_log(self, name: str, iteration: int) -> Callable:
        keep = ("loss", "grad_norm", "logp")
        return lambda update, metrics: self.run.log(
            name, update, {f"r{iteration}/train/{k}": metrics[k] for k in keep}
        )

    # evaluation

    def evaluate(self, name: str, stage: str | None) -> dict[str, dict[str, dict[str, float]]]:
        """Panel → way of answering ("", "+turn1", "+vote", "+parallel") → metrics. ``turns`` dialogues of each task;
        their first answers are the independent ones that vote in parallel."""

        def compute() -> dict:
            engine, turns, result = self.engine(stage), self.p.test.turns, {}
            env = self.env.dialogue(turns, window=WINDOW)
            for panel, tasks in self.panels.items():
                tasks = tasks[: self.p.test.tasks]
                draws, episodes = dialogues(env, tasks, self.policy(engine), seed=self.seed, draws=turns)
                whole, side_by_side = stacked(draws), votes(parallel(draws))
                found, in_turn = correction(whole), votes(whole)
                found |= {"success": found[f"acc@{turns}"], "vote": in_turn["vote"], "any": in_turn["any"],
                          "parallel_vote": side_by_side["vote"], "parallel_any": side_by_side["any"]}  # fmt: skip
                result[panel] = {"": found, "+turn1": {"success": found["acc@1"]},
                                 "+vote": {"success": in_turn["vote"]},
                                 "+parallel": {"success": side_by_side["vote"]}}  # fmt: skip
                if panel == self.p.panels[0]:
                    said = tuple(tuple(step.turn.text for step in episode.steps) for episode in episodes)
                    kept = records(Attempts(draws[0].correct, said), tasks[:60], episodes[: len(tasks[:60])])
                    write_lines(self.run.artifacts / f"dialogues.{name}.jsonl", kept)
                self.run.log(name, 0, {f"{panel}/{k}".replace("@", "_"): v for k, v in found.items()})
            return result

        return self.run.stage(f"eval.{name}", compute)


def run(unit) -> list[MetricRow]:
    """Train and evaluate every variant of one unit; writes its metric rows and marks it finished."""
    if unit.run.finished:
        return unit.run.rows()
    torch.set_num_threads(1)  # bit-identical results whatever the number of workers
    work, rows = Experiment(unit), []

    def evaluate_all(name: str, stage: str | None, cost: Cost) -> None:
        for panel, ways in work.evaluate(name, stage).items():
            rows.extend(
                MetricRow(paper="rise", env=unit.env, profile=unit.profile, scale=work.p.model, variant=f"{name}{way}",
                          seed=unit.seed, panel=f"{unit.env}/{panel}", metric=metric, value=value,
                          n=min(work.p.test.tasks, len(work.panels[panel])), cost=cost_of(cost))  # fmt: skip
                for way, metrics in ways.items()
                for metric, value in metrics.items()
            )

    evaluate_all("base", None, Cost())
    for variant in variants(work.p):
        cost = Cost()
        for iteration in range(1, variant.iterations + 1):
            stage, spent = work.train(variant, iteration)
            cost = cost + spent
            if iteration < variant.iterations:
                evaluate_all(f"{variant.name}_it{iteration}", stage, cost)
        evaluate_all(variant.name, stage, cost)
    unit.run.write_rows(rows)
    unit.run.finish()
    return rows
