"""WebEvolver (arXiv:2504.21024): an agent and a world model that learn from the same trajectories.

A policy plays its training tasks and is trained anew from the base on the trajectories that succeed; a world model p(next page |
page, action) on the transitions of *all*. It serves twice: failed tasks are played inside it (*dreams*: imagined rollouts), and those
that a judge of imagined pages accepts join the policy's training; and at test time it shows what each proposed action would lead to.

    base → self_1 → self_2 → self_3        rejection sampling, three rounds, each retrained from the base
    webevolver                             self_3's data and trajectories imagined by the world model
    blind                                  the same, imagined by a model that is not shown the page it is on
    world_1, world_2, world_3, world_blind the world models, judged by how well they foresee (fidelity by depth)
    webevolver+d1, +d2                     look-ahead of one and two steps among k = 3 actions
    webevolver+blind                       +d2 with the blind model: the same judge, the same calls, no world
    webevolver+greedy, +votes              no look-ahead; votes: a majority of as many sampled tokens as +d2
    webevolver+real_d1, +real              +d1 and +d2 with the real environment instead of imagination
    webevolver+oracle                      the same proposals, the exact value function decides

Differs from the paper:
 1. Nano policies of 0.4 M parameters, warm-started on demonstrations, and as many for the world model, instead of 70 B models
    on live web sites. The world model writes what is new on the next page (:mod:`common.search.reader`).
 2. The base acts better than chance, and has never written a page. What stands for the paper's "synthetic trajectories
    without world model" is ``blind``, trained as long on the same transitions with the page hidden.
 3. Trajectories are accepted by the environment's reward (the paper: a language model's judgement). Dreams and look-ahead are
    judged by a fixed reader of pages (``judges.py``), which does not know the scoring.
 4. Dreams are added in the last round only, from the tasks that no round solved, by the policy of the round before.
 5. The world model of a round goes on from the one before on all transitions so far; its updates come on top of the policy's.
 6. Look-ahead takes the first k distinct of ``look.draws`` samples, goes on greedily from the second imagined step, and
    the first proposal wins ties. Scores are of the last imagined state (the paper: of the trajectory).
 7. Policies act by sampling at temperature 1 unless stated otherwise, and greedily (``greedy_*``). ``+…`` variants are tested on the first
    ``test.planned`` tasks of the first panel, and their cost is that of acting alone: all have the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from common.config import UnitParams
from common.evaluate import rollouts
from common.evaluate.foresight import fidelity, forecasts, imagine
from common.evaluate.habits import habits
from common.lab import BASE, Collected, Lab, Measured, Result, Trained, Variant
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.rng import derive
from common.rows import cost_of
from common.search.reader import Foreseer, reader_of
from common.search.rollout import rollout
from common.types import Cost, Trajectory
from papers.webevolver import maths
from papers.webevolver.judges import judge_of
from papers.webevolver.lookahead import Alone, Decide, Exact, LookAhead, Metered, Real, Simulation, Votes, World, act, imagined
from papers.webevolver.params import Dream, Learn, Look, Play, Test, WorldModel


@dataclass(frozen=True, kw_only=True)
class Params(UnitParams):
    answer_tokens: int
    page_tokens: int
    """Most tokens of an imagined page, in shorthand."""
    play: Play
    learn: Learn
    world: WorldModel
    dream: Dream
    look: Look
    test: Test


@dataclass(frozen=True)
class Condition(Variant):
    """A "policy" after ``rounds`` of self-improvement, one that also learned from "dreams", or a "world" model.
    ``blind``: the world model is not shown the page."""

    kind: str = "policy"
    rounds: int = 0
    blind: bool = False


def variants(p: Params) -> list[Condition]:
    rounds = range(1, p.play.rounds + 1)
    return [
        Condition("start"),
        *(Condition(f"self_{r}", "policy", r) for r in rounds),
        *(Condition(f"world_{r}", "world", r) for r in rounds), Condition("world_blind", "world", len(rounds), True),
        Condition("webevolver", "dreams"), Condition("blind", "dreams", blind=True),
    ]  # fmt: skip


def train(lab: Lab, variant: Condition) -> Trained:
    if variant.kind == "world":
        return model_world(lab, variant.rounds, blind=variant.blind)
    return dream(lab, blind=variant.blind) if variant.kind == "dreams" else improve(lab, variant.rounds)


# -- 1. co-evolution: rounds of a policy and its world model -----------------------------------------------------------


def improve(lab: Lab, r: int) -> Trained:
    """The policy after ``r`` rounds: the base, trained on all accepted episodes so far."""
    if r == 0:
        return BASE

    def collect(engine: Engine) -> Collected:
        episodes = until(lab, r)
        cost = replace(rollouts.sampling_cost(episodes, engine), updates=improve(lab, r - 1).cost.updates)
        return Collected(maths.accepted_rows(episodes), cost, {"accepted_real": sum(e.success for e in played(lab, r))})

    return fit(lab, f"self_{r}", collect, lab.p.learn)


def played(lab: Lab, r: int) -> list[Trajectory]:
    """The episodes of round ``r`` from 1, by the policy of the round before; the same for all variants."""

    def play() -> list[Trajectory]:
        tasks = [task for task in lab.tasks[: lab.p.play.tasks] for _ in range(lab.p.play.episodes)]
        keys = [derive(lab.seed, "play", r, i) for i in range(len(tasks))]
        return rollout(lab.env, tasks, lab.policy(lab.engine(improve(lab, r - 1))), keys=keys)

    return lab.once(("played", r), play)


def until(lab: Lab, r: int) -> list[Trajectory]:
    """The episodes of rounds 1 to ``r``."""
    return [episode for one in range(1, r + 1) for episode in played(lab, one)]


def model_world(lab: Lab, r: int, *, blind: bool = False) -> Trained:
    """The world model of round ``r``: that of the round before, trained on the transitions of all rounds so far. Blind:
    the base, trained as long as all of these at once, the page hidden."""
    p, before = lab.p.world, BASE if blind or r == 1 else model_world(lab, r - 1)

    def collect(engine: Engine) -> Collected:
        rows = maths.world_rows(until(lab, r), reader_of(lab.env, hidden=blind))
        unpaid = until(lab, r) if blind else played(lab, r)  # the round before paid for the others
        return Collected(rows, rollouts.sampling_cost(unpaid, engine), {"transitions": len(rows)})

    settings = replace(p, updates=p.updates * r) if blind else p
    return fit(lab, "world_blind" if blind else f"world_{r}", collect, settings, start=before)


def fit(
    lab: Lab, name: str, collect: Callable[[Engine], Collected], p: Learn | WorldModel, *, start: Trained = BASE
) -> Trained:
    order = ("fit", isinstance(p, WorldModel))
    return lab.fit(name, collect, start=start, order=order, lr=p.lr, max_steps=p.updates, batch_size=p.batch)


# -- 2. dreams of the failed tasks, in the last round ------------------------------------------------------------------


def dream(lab: Lab, *, blind: bool = False) -> Trained:
    """The last round, trained on imagined rollouts (dreams) beside the accepted episodes of all rounds."""
    name, p, r, judge = "blind" if blind else "webevolver", lab.p.dream, lab.p.play.rounds, judge_of(lab.env)
    world, before = model_world(lab, r, blind=blind), improve(lab, r - 1)

    def collect(_: Engine) -> Collected:
        dreamer, model, episodes = lab.engine(before), lab.engine(world), until(lab, r)
        starts = maths.unsolved(episodes)
        paths = maths.dreams(starts, lab.policy(dreamer), imagined(writer(lab, model), lab.env, blind=blind), attempts=p.attempts, steps=p.steps,
                             seed=lab.seed)  # fmt: skip
        lab.keep(f"dreams.{name}", [maths.dream_record(path, judge) for path in paths[:60]])
        rows, actions = maths.dreamt_rows(paths, judge), sum(len(path) - 1 for path in paths)
        cost = world.cost + dreamer.cost + model.cost + Cost(samples=actions, updates=before.cost.updates)
        found = {"failed_tasks": len(starts), "dreams": len(paths), "dreamt_rows": len(rows),
                 "accepted_dreams": sum(maths.accepted(path, judge) for path in paths)}  # fmt: skip
        return Collected([*maths.accepted_rows(episodes), *rows], cost, found)

    return fit(lab, name, collect, lab.p.learn)


def writer(lab: Lab, engine: Engine) -> LMPolicy:
    """A world model, which writes pages greedily."""
    return lab.policy(engine, 0.0, max_new_tokens=lab.p.page_tokens)


# -- 3. look-ahead at test time ----------------------------------------------------------------------------------------


PLANS = ("greedy", "d1", "d2", "votes", "blind", "real_d1", "real", "oracle")
"""Ways of ``webevolver`` to decide; ``d2`` sets the budget of ``votes``."""


def compare(lab: Lab, results: Sequence[Result]) -> list[Result]:  # noqa: ARG001
    """``webevolver`` looking ahead: the same weights, tasks and seeds, at the cost of acting alone."""
    acted = {f"webevolver+{how}": look_ahead(lab, how) for how in PLANS}
    return [Result(name, Cost(**one["cost"]), [Measured(lab.p.panels[0], one["metrics"], one["n"])])
            for name, one in acted.items()]  # fmt: skip


def look_ahead(lab: Lab, how: str) -> dict[str, Any]:
    """A stage, with the tokens sampled at each step, which are the budget of votes."""

    def compute() -> dict[str, Any]:
        name, tasks, real = f"webevolver+{how}", lab.panels[lab.p.panels[0]][: lab.p.test.planned], Real(lab.env)
        engine = lab.engine(dream(lab))
        model = lab.engine(model_world(lab, lab.p.play.rounds, blind=how == "blind"))
        world = real if how.startswith("real") else imagined(writer(lab, model), lab.env, blind=how == "blind")
        decide = Metered(decider(lab, how, engine, world), (engine, model))
        episodes = act(lab.env, tasks, decide, keys=[derive(lab.seed, "evaluate", task.id) for task in tasks])
        lab.keep(f"rollouts.{name}", rollouts.records(episodes[:40]))
        if isinstance(decide.decide, LookAhead):
            lab.keep(f"decisions.{name}", decide.decide.decisions[:300])
        steps = sum(len(episode.steps) for episode in episodes)
        cost = replace(engine.cost + model.cost, env_steps=steps + real.env_steps, samples=steps)
        metrics = maths.planned(episodes) | {"simulated_steps": real.env_steps / len(tasks)}
        lab.log(name, 0, metrics)
        return {"metrics": metrics, "n": len(tasks), "cost": cost_of(cost), "tokens_by_step": decide.tokens}

    return lab.stage(f"look_ahead.{how}", compute)


def decider(lab: Lab, how: str, engine: Engine, world: World) -> Decide:
    """How ``webevolver+<how>`` decides, looking ahead in ``world`` where it does."""
    policy, greedy, p = lab.policy(engine), lab.policy(engine, 0.0), lab.p.look
    if how == "greedy":
        return Alone(greedy)
    if how == "votes":
        return Votes(policy, look_ahead(lab, "d2")["tokens_by_step"])
    if how == "oracle":
        return LookAhead(policy, Exact(lab.env), p.k, p.draws)
    simulation = Simulation(world, greedy, judge_of(lab.env), depth=1 if how.endswith("d1") else 2)
    return LookAhead(policy, simulation, p.k, p.draws)


# -- 4. evaluation -----------------------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """Policies by success and habits on every panel, world models by how well they foresee."""
    first = lab.p.panels[0]
    if variant.kind == "world":
        return [foresight(lab, variant, trained)]
    engine, measured = lab.engine(trained), lab.evaluate(variant, trained)
    for panel, own in lab.episodes(variant.name, lambda: lab.policy(engine), kept=40).items():
        planned = maths.planned(own[: lab.p.test.planned]) if panel == first else {}
        measured.append(Measured(panel, habits(own, invalid=reader_of(lab.env).invalid) | planned, len(own)))
    numbers = {name: value for name, value in trained.found.items() if name != "rows"}
    return measured + ([Measured(first, numbers, len(lab.tasks[: lab.p.play.tasks]))] if numbers else [])


def foresight(lab: Lab, variant: Condition, trained: Trained) -> Measured:
    """Fidelity by depth of a world model, greedily, along the base's own episodes on test tasks."""
    first, reader = lab.p.panels[0], reader_of(lab.env)
    tasks = lab.panels[first][: lab.p.test.foresight_tasks]
    base = lab.once("base episodes", lambda: rollouts.evaluate(lab.env, tasks, lab.policy(lab.engine()), seed=lab.seed))
    found = [one for episode in base[1] for one in forecasts(maths.transitions(episode, reader), depth=lab.p.test.depth)]
    imagine(found, Foreseer(writer(lab, lab.engine(trained)), reader_of(lab.env, hidden=variant.blind)), reader.follow, seed=lab.seed)
    lab.keep(f"forecasts.{variant.name}", [one.record() for one in found[:60]])
    return Measured(first, fidelity(found) | maths.meanings(found, judge_of(lab.env).meaning), len(found))

