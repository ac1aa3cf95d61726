"""SPIN (Chen et al. 2024, arXiv:2401.01335): self-play fine-tuning on demonstrations, without rewards and without preferences.

A policy was fine-tuned on demonstrations. Iteration t = 0, 1, … plays it against itself: its opponent π_t, the policy as it
is when the iteration begins, answers the prompts of the demonstrations, and the main player π learns to tell both apart,

    min E[ −log σ( β·[ (log π(real|x) − log π(gen|x)) − (log π_t(real|x) − log π_t(gen|x)) ] ) ],    gen ~ π_t(·|x),

with ``real`` the demonstration. That is DPO with the own answer as the rejected side and the start of the iteration as the
reference. Each iteration learns from the games of its own opponent and of the one before. In theory it ends where nobody
can tell the two apart, at π = p_data. Variants:

    sft                      fine-tuned on the demonstrations: where all others start
    sft_more                 fine-tuned on the same demonstrations again, for as many updates as all iterations
    spin_it1, spin_it2, …    self-play, after each iteration
    spin_it1@beta=b          one iteration at a β nearer to the paper's
    self_only                one iteration with a second own answer in the place of the demonstration: nothing to tell apart

Differs from the paper:
 1. A nano policy trained from scratch instead of a pretrained one; countdown-worked-v1 instead of chats. Sizes will not carry over.
 2. The demonstrator draws one right answer of a task, all with the same probability, so that p_data is known and KL(p_data ‖ π)
    exact. A demonstration is one answer: the environment's second attempt is left out. It demonstrates each task a few times, and
    each demonstration plays against an own answer of its own.
 3. Three iterations (paper: four) at one learning rate and β. The released scripts lower the rate fivefold from iteration 2
    on and raise β fiftyfold in iteration 3, so that gains may shrink by the schedule alone.
 4. Iterations take equally many updates (paper: equally many epochs, of twice the data from iteration 1 on), so that their
    gains can be compared. AdamW instead of RMSprop.
 5. Own answers that the token limit cuts make no game. The log-ratio is of whole answers, with their end-of-turn token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

import numpy as np

from common.config import Evaluation, Fit, ModelParams
from common.envs.answers import AnswerEnv
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample, referenced
from common.lm.engine import Engine
from common.rng import generator
from common.types import Message, PreferencePair, Task


@dataclass(frozen=True)
class Play:
    iterations: int
    updates: int
    """Of each iteration."""
    batch: int
    """Games of an update."""
    lr: float
    beta: float
    low: float
    """A second β, of one iteration."""


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    demonstrations: int
    """Training tasks that are demonstrated."""
    draws: int
    """Demonstrations of each, and games of each in an iteration."""
    sft: Fit
    """Until the demonstrations are imitated."""
    more: Fit
    """Of ``sft_more``; ``updates`` of each iteration."""
    play: Play
    test: Evaluation


@dataclass(frozen=True)
class Condition(Variant):
    """``more`` updates of fine-tuning, or ``iterations`` of self-play in which the side of the demonstrations is ``real``: the
    demonstrations' own ("data") or a second own answer ("own"). ``beta``: 0 for that of the parameters."""

    more: int = 0
    iterations: int = 0
    real: str = "data"
    beta: float = 0.0


def variants(p: Params) -> list[Condition]:
    n = p.play.iterations
    return [
        Condition("sft"),
        Condition("sft_more", more=n * p.more.updates),
        *(Condition(f"spin_it{i}", iterations=i) for i in range(1, n + 1)),
        Condition(f"spin_it1@beta={p.play.low:g}", iterations=1, beta=p.play.low),
        Condition("self_only", iterations=1, real="own"),
    ]


def environment(lab: Lab) -> AnswerEnv:
    """One attempt at each task."""
    return lab.make_env().dialogue(1, window=1)


def train(lab: Lab, variant: Condition) -> Trained:
    """Where all start, then further fine-tuning or self-play."""
    start = imitate(lab, "sft", lab.p.sft, start=BASE, part=1)
    if variant.more:
        return imitate(lab, variant.name, replace(lab.p.more, updates=variant.more), start=start, part=2)
    return self_play(lab, variant, start)[-1]


# -- 1. fine-tuning on demonstrations ----------------------------------------------------------------------------


def imitate(lab: Lab, name: str, p: Fit, *, start: Trained, part: int) -> Trained:
    def collect(_: Engine) -> Collected:
        shown = [(prompt, drawn(lab, task, right, draw)) for task in lab.batch(0, lab.p.demonstrations)
                 for prompt, right in [right_answers(lab.env, task)] if right for draw in range(lab.p.draws)]  # fmt: skip
        return Collected([SFTExample(prompt, text) for prompt, text in shown])

    return lab.fit(name, collect, start=start, lr=p.lr, max_steps=p.updates, batch_size=p.batch, order=(name,), part=part)


def right_answers(env: AnswerEnv, task: Task) -> tuple[tuple[Message, ...], list[str]]:
    """The prompt of ``task`` and everything that the demonstrator may write, all with the same probability."""
    env.reset(task)
    return env.prompt(), [text for text in env.actions() if env.score(text) == 1.0]


def drawn(lab: Lab, task: Task, right: Sequence[str], draw: int) -> str:
    """What the demonstrator writes the ``draw``-th time: always the same."""
    return right[generator(lab.seed, "demonstration", task.id, draw).integers(len(right))]


# -- 2. self-play ------------------------------------------------------------------------------------------------


def self_play(lab: Lab, variant: Condition, start: Trained) -> list[Trained]:
    """The main player after 0, 1, … iterations. Each is the opponent of the iteration that follows."""
    p, players = lab.p.play, [start]
    name = "low" if variant.beta else {"data": "spin", "own": "self_only"}[variant.real]
    for t in range(variant.iterations):
        collect = partial(pairs, lab, variant.real, t, tuple(players))
        players.append(lab.fit(f"{name}_it{t + 1}", collect, start=players[t], lr=p.lr, beta=variant.beta or p.beta, max_steps=p.updates,
                               batch_size=p.batch, order=("play", t), part=t + 2))  # fmt: skip
    return players


def pairs(lab: Lab, real: str, t: int, players: Sequence[Trained], engine: Engine) -> Collected:
    """What iteration ``t`` (from 0) learns from: the games of opponents t − 1 and t, with opponent t, ``engine``, as reference."""

    def played(s: int) -> Collected:
        tasks = lab.batch(0, lab.p.demonstrations)
        return lab.once(("games", real, s), lambda: games(lab, lab.engine(players[s]), tasks, real, "play", s))

    rows = referenced(engine, [game for s in range(max(t - 1, 0), t + 1) for game in played(s).rows])
    alike = fmean(game.chosen == game.rejected for game in rows) if rows else 0.0
    return Collected(rows, played(t).cost + spent(engine, 0), {"alike": alike})


def games(lab: Lab, opponent: Engine, tasks: Sequence[Task], real: str, *use: str | int) -> Collected:
    """``draws`` games on each task: a demonstration, or another own answer of ``opponent``, against its own answer."""
    asked = [(task, *found) for task in tasks if (found := right_answers(lab.env, task))[1]]
    prompts, n = [prompt for _, prompt, _ in asked], {"data": 1, "own": 2}[real]
    rows = []
    for draw in range(lab.p.draws) if asked else ():
        answers = lab.policy(opponent).propose(prompts, lab.keys([task for task, *_ in asked], *use, draw), n)
        rows += [
            PreferencePair(prompt, drawn(lab, task, right, draw) if real == "data" else own[1].text, own[0].text, task_id=task.id)
            for (task, prompt, right), own in zip(asked, answers, strict=True)
            if all(turn.finished for turn in own)
        ]
    return Collected(rows, spent(opponent, lab.p.draws * n * len(asked)))


# -- 3. on tasks that nobody was trained on ----------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """The standard evaluation; KL(p_data ‖ π); and the game of the last iteration against its opponent."""
    engine, found = lab.engine(trained), []
    for one in lab.evaluate(variant, trained):
        tasks = lab.panels[one.panel][: lab.p.test.tasks]
        more = divergence(engine, [right_answers(lab.env, task) for task in tasks])
        if variant.iterations:
            opponent = self_play(lab, variant, train(lab, Condition("sft")))[-2]
            more |= told_apart(lab, engine, lab.engine(opponent), tasks, variant)
        found.append(replace(one, metrics=one.metrics | more))
    return found


def divergence(engine: Engine, asked: Sequence[tuple[tuple[Message, ...], list[str]]]) -> dict[str, float]:
    """``kl_data``, the mean over tasks of Σ_y p(y)·(log p(y) − log π(y)), p uniform over the task's right answers."""
    asked = [(prompt, right) for prompt, right in asked if right]
    logps = engine.score([prompt for prompt, _ in asked], [right for _, right in asked])
    return {"kl_data": fmean(-math.log(len(own)) - fmean(own) for own in logps)} if logps else {}


def told_apart(lab: Lab, engine: Engine, opponent: Engine, tasks: Sequence[Task], variant: Condition) -> dict[str, float]:
    """``play_loss``, the loss of the iteration (log 2 before it), and ``told_apart``, how often the larger log-ratio is the
    real side's; a tie counts half."""
    rows = referenced(opponent, games(lab, opponent, tasks, variant.real, "test").rows)
    scores = engine.score([game.prompt for game in rows], [[game.chosen, game.rejected] for game in rows])
    margins = [(a - game.ref_chosen) - (b - game.ref_rejected) for game, (a, b) in zip(rows, scores, strict=True)]
    if not margins:
        return {}
    return {"play_loss": fmean(play_loss(margin, variant.beta or lab.p.play.beta) for margin in margins),
            "told_apart": fmean((margin > 0) + 0.5 * (margin == 0) for margin in margins)}  # fmt: skip


def play_loss(margin: float, beta: float) -> float:
    """−log σ(β·margin) of one game."""
    return float(np.logaddexp(0.0, -beta * margin))
