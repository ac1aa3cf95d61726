"""Optima (Chen et al. 2024, arXiv:2410.08115): two agents that learn to say what is needed and no more.

Two agents with one set of weights each know half of the facts and talk until one declares the answer (facts-two-holders-v1). The base
model has been shown talk of many kinds, most of it wordy. A talk with c tokens and messages m_1, m_2, … is worth, among the talks of its task,

    R = R_task − λ_tok · c / max c + λ_loss / max_j NLL_base(m_j)

being right, short, and in messages that the base model finds likely. Training samples dialogues, learns from the better ones, and goes on:

    base
    isft            per iteration: the best talk of each task, if its R is above θ; fine-tunes the *base model* on them
    idpo            per iteration: a tree of talks of each task; pairs of the best and the worst message after the same words; DPO
    isft_dpo        an iteration of isft, one of idpo, and so on
    isft_no_tokens  isft with λ_tok = 0
    isft_no_nll     isft with λ_loss = 0
    rft             isft with both 0: any right talk, rejection sampling

All variants sample as many dialogues of the same tasks.

Differs from the paper (more in docs/discrepancies.md):
 1. Nano policies trained from scratch instead of Llama-3-8B, one kind of question instead of eight tasks, demonstrations for a pool of formats.
 2. A talk ends with the first declared answer; the paper's ends when both agree.
 3. NLL is read where a message stands, after the facts and what was said, so that an answer that does not follow is unlikely, too; the
    released code reads each message alone.
 4. There is no −1 for talks below 40 or above 2,000 tokens: a talk here has at most 150.
 5. Talks are sampled at temperature 1, not 0.7 and less. Imitation always starts at the base model again, in ``isft_dpo`` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from common.config import Evaluation, Fit, ModelParams
from common.envs.contract import Snapshot
from common.envs.versions.facts_two_holders_v1 import FLOOR, guessed
from common.evaluate.rollouts import records
from common.lab import BASE, KEPT_TASKS, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample, referenced
from common.lm.engine import Engine
from common.rng import derive, generator
from common.search.rollout import play_out
from common.types import Cost, Step, Task
from papers.optima.talks import Talk, Weights, best, judged, measured, pairs, selected

SFT, DPO = "sft", "dpo"


@dataclass(frozen=True)
class Collect:
    """Of each iteration: training ``tasks``, ``expansions`` of a tree, the root first, with ``rollouts`` dialogues each (without a tree
    ``expansions`` · ``rollouts`` from the start); the next node is drawn among the ``candidates`` of highest value."""

    iterations: int
    tasks: int
    expansions: int
    rollouts: int
    candidates: int


@dataclass(frozen=True)
class Reward:
    """λ_tok and λ_loss; θ of talks to imitate and of the chosen side of a pair; the least difference of a pair's values."""

    tokens: float
    likelihood: float
    above: float
    above_pairs: float
    gap: float


@dataclass(frozen=True)
class Prefer(Fit):
    """``lr_after``: the rate after an iteration of imitation; ``nll``: weight of the chosen side's negative log-likelihood."""

    lr_after: float
    beta: float
    nll: float


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    collect: Collect
    reward: Reward
    sft: Fit
    dpo: Prefer
    test: Evaluation


@dataclass(frozen=True)
class Condition(Variant):
    """What each iteration does in turn, ``SFT`` or ``DPO``, with which weights of R."""

    rounds: tuple[str, ...] = ()
    weights: Weights = Weights(0.0, 0.0)


def variants(p: Params) -> list[Condition]:
    r, n = p.reward, p.collect.iterations
    full = Weights(r.tokens, r.likelihood)
    return [
        Condition("base"),
        Condition("isft", (SFT,) * n, full),
        Condition("idpo", (DPO,) * n, full),
        Condition("isft_dpo", ((SFT, DPO) * n)[:n], full),
        Condition("isft_no_tokens", (SFT,) * n, Weights(0.0, r.likelihood)),
        Condition("isft_no_nll", (SFT,) * n, Weights(r.tokens, 0.0)),
        Condition("rft", (SFT,) * n),
    ]


# -- 1. iterations -----------------------------------------------------------------------------------------------------


def train(lab: Lab, variant: Condition) -> Trained:
    trained = BASE
    for number, kind in enumerate(variant.rounds, 1):
        name = "isft" if (variant.name, number) == ("isft_dpo", 1) else variant.name  # they begin alike
        trained = (imitate if kind == SFT else prefer)(lab, variant, f"{name}.{number}", number, trained)
    return trained


def imitate(lab: Lab, variant: Condition, name: str, number: int, before: Trained) -> Trained:
    """Fine-tune the base model on the best talks that ``before`` has about new tasks."""
    p = lab.p

    def collect(_: Engine) -> Collected:
        found, cost = lab.once(("talks", before.stage, number), lambda: sampled(lab, before, number))
        kept = [talk for talks in found if (talk := best(talks, variant.weights, p.reward.above))]
        rows = [SFTExample(step.prompt, step.turn.text) for talk in kept for step in talk.steps]
        return Collected(rows, before.cost + cost, seen(found) | {"kept": len(kept) / len(found)})

    return lab.fit(name, collect, order=("sft", number), part=number, lr=p.sft.lr, max_steps=p.sft.updates, batch_size=p.sft.batch)


def prefer(lab: Lab, variant: Condition, name: str, number: int, before: Trained) -> Trained:
    """DPO of ``before`` on pairs from trees of its own talks about new tasks."""
    p = lab.p

    def collect(engine: Engine) -> Collected:
        trees, cost = grown(lab, engine, number, variant.weights)
        found = [pair for task, talks in zip(lab.batch(number - 1, p.collect.tasks), trees, strict=True)
                 for pair in pairs(talks, variant.weights, p.reward.above_pairs, p.reward.gap, task.id)]  # fmt: skip
        return Collected(referenced(engine, found), cost + spent(engine, 0), seen(trees) | {"pairs": len(found)})

    return lab.fit(name, collect, order=("dpo", number), start=before, part=number, lr=p.dpo.lr_after if SFT in variant.rounds else p.dpo.lr,
                   max_steps=p.dpo.updates, batch_size=p.dpo.batch, beta=p.dpo.beta, nll=p.dpo.nll)  # fmt: skip


def seen(found: Sequence[Sequence[Talk]]) -> dict[str, float]:
    talks = [talk for of_task in found for talk in of_task]
    return {"right": fmean(talk.right for talk in talks), "tokens": fmean(talk.tokens for talk in talks), "nll": fmean(talk.nll for talk in talks)}


# -- 2. dialogues and trees of them ------------------------------------------------------------------------------------


def sampled(lab: Lab, trained: Trained, number: int) -> tuple[list[list[Talk]], Cost]:
    """The talks of each task of an iteration, and what they cost."""
    p, engine, base = lab.p.collect, lab.engine(trained), lab.engine()
    n = p.expansions * p.rollouts
    _, episodes = lab.sample(lab.policy(engine), lab.batch(number - 1, p.tasks), "talks", number, group=n)
    talks = judged(base, [episode.steps for episode in episodes])
    return [talks[i : i + n] for i in range(0, len(talks), n)], paid(engine, base, sum(len(talk.steps) for talk in talks), len(talks))


def grown(lab: Lab, engine: Engine, number: int, weights: Weights) -> tuple[list[list[Talk]], Cost]:
    """The same in trees: of each task a node is selected, dialogues are sampled from it to their ends, and values are taken anew."""
    p, base, policy, turns = lab.p.collect, lab.engine(), lab.policy(engine), 0
    tasks = lab.batch(number - 1, p.tasks)
    trees: list[list[Talk]] = [[] for _ in tasks]
    for k in range(p.expansions):
        begun = [selected(talks, weights, p.candidates, generator(lab.seed, "select", number, k, i)) for i, talks in enumerate(trees)]
        states = [at(lab, task, steps) for task, steps in zip(tasks, begun, strict=True)]
        asked = [(i, j) for i in range(len(tasks)) for j in range(p.rollouts)]
        found = play_out(lab.env, [states[i] for i, _ in asked], policy, keys=[derive(lab.seed, "tree", number, k, i, j) for i, j in asked],
                         limits=[lab.env.max_steps - len(begun[i]) for i, _ in asked])  # fmt: skip
        talks = judged(base, [(*begun[i], *steps) for (i, _), steps in zip(asked, found, strict=True)])
        for (i, _), talk in zip(asked, talks, strict=True):
            trees[i].append(talk)
        turns += sum(map(len, found))
    return trees, paid(engine, base, turns, len(tasks) * p.expansions * p.rollouts)


def at(lab: Lab, task: Task, steps: Sequence[Step]) -> Snapshot:
    """The state of the environment after the messages of ``steps``."""
    lab.env.reset(task)
    for step in steps:
        lab.env.step(step.turn.text)
    return lab.env.snapshot()


def paid(engine: Engine, base: Engine, turns: int, dialogues: int) -> Cost:
    return replace(spent(engine, 0) + spent(base, 0), env_steps=turns, samples=dialogues)


# -- 3. measuring ------------------------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """Dialogues of two copies of the policy at temperature 1, and greedy ones. ``saving`` is the share of the base model's tokens, on the
    same tasks with the same random numbers, that is not spent."""
    engine, found = lab.engine(trained), []
    before = {one.panel: one.metrics for one in lab.results["base"].measured} if "base" in lab.results else {}
    for panel, tasks in lab.panels_for(trained).items():
        tasks, metrics = tasks[: lab.p.test.tasks], {}
        for prefix, temperature, draws in (("", 1.0, lab.p.test.draws), ("greedy_", 0.0, 1)):
            asked, episodes = lab.sample(lab.policy(engine, temperature), tasks, "test", group=draws)
            blind = [guessed(lab.env, task, [step.turn.text for step in one.steps]) for task, one in zip(asked, episodes, strict=True)]
            metrics |= {prefix + name: value for name, value in measured(episodes, FLOOR, blind).items()}
            base = metrics if variant.name == "base" else before.get(panel)
            if base:
                metrics[f"{prefix}saving"] = 1 - metrics[f"{prefix}tokens"] / base[f"{prefix}tokens"]
            if panel == lab.p.panels[0] and not prefix:
                lab.keep(f"rollouts.{variant.name}", records(episodes[::draws][:KEPT_TASKS]))
        found.append(Measured(panel, metrics, len(tasks)))
    return found
