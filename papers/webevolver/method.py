"""WebEvolver (arXiv:2504.21024): an agent and a world model that learn from the same trajectories.

A policy plays its training tasks, the trajectories that succeed are kept, and it is trained on them anew from the
base; a world model p(next page | page, action) is trained on the transitions of *all* trajectories. The world model
then serves twice: tasks that failed are played inside it, and what a judge of imagined pages accepts joins the
policy's training; and at test time it shows what each proposed action would lead to before one is taken.

    base → self_1 → self_2 → self_3        rejection sampling, three rounds, each retrained from the base
    webevolver                             self_3's data and trajectories dreamt inside the world model
    blind                                  the same, dreamt with a model that is not shown the page it is on
    world_1, world_2, world_3, world_blind the world models, judged by how well they foresee (fidelity by depth)
    webevolver+d1, +d2                     look-ahead of one and two steps among k = 3 actions; +k2, +k5: d = 2
    webevolver+blind                       +d2 with the blind model: the same judge, the same calls, no world
    webevolver+greedy, +votes              no look-ahead; votes: a majority of as many sampled tokens as +d2
    webevolver+real_d1, +real              +d1 and +d2 with the real shop instead of imagination
    webevolver+oracle                      the same proposals, the exact value function decides

Differs from the paper:
 1. Nano policies of 0.4 M parameters, warm-started on demonstrations of the shop, and as many for the world model,
    instead of 70 B models on live web sites. The world model is shown the lines an action is about and writes what is
    new on the next page (``common.envs.shop.shorthand``), without a rationale before it. Asked for whole pages it
    memorised: after 1,000 updates the products it was shown opened under another's title (4 % right).
 2. The base acts better than chance from demonstrations, and has never written a page; the paper's model
    could guess pages from pretraining. A world model that was not trained does not exist here. What stands for the
    paper's "synthetic trajectories without world model" is ``blind``: a model trained as long on the same
    transitions with the page hidden, so that it knows what pages look like and not what leads to them.
 3. Trajectories are accepted by the shop's score (the paper: a language model's judgement). Dreams and look-ahead are
    judged by a fixed reader of the imagined page (``common.envs.shop.judge``), which stands for the prompted
    judge of the paper with its scores 0, 0.5 and 1; it knows words (a pram is a stroller), not the shop's scoring.
 4. Dreams are added in the last round only, from the tasks that no round solved, by the policy of the round
    before; each of them is played ``dream.attempts`` times, at most ``dream.steps`` (7) steps.
 5. The world model of a round goes on from the one of the round before on all transitions so far; the policy is
    retrained from the base, as in the paper. Equal updates are those of the policy; the world model's come on top and
    are in the cost. Ends by the step limit, which no page announces, are no transitions of it.
 6. Look-ahead takes the first k distinct of ``look.draws`` samples, goes on greedily from the second imagined step,
    and the first proposal wins ties. Scores are of the last imagined state (the paper: of the trajectory).
 7. Policies act by sampling at temperature 1 unless said otherwise. ``+…`` variants are tested on the first
    ``test.planned`` tasks of the first panel, and their cost is that of acting alone: all have the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from common.envs import load_panel, make
from common.envs.shop.engine import INVALID
from common.envs.shop.judge import DONE, judge, meaning
from common.envs.shop.reading import follow, goal_of, page_of
from common.envs.shop.shorthand import Shorthand, View, question, short, touched, untouched
from common.evaluate.habits import habits
from common.evaluate.imagination import fidelity, imagine, walks_of
from common.evaluate.meaning import meanings
from common.evaluate.rollouts import evaluate, records, summarise
from common.learn.batches import SFTExample
from common.learn.policy import sft
from common.learn.settings import TrainSettings
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.lm.policy import LMPolicy
from common.rng import derive, generator
from common.search.experience import Moment, Tried, shown
from common.search.lookahead import Decide, Imagined, LookAhead, Real, Seen, Simulation, Votes, World, act, foresee
from common.search.policy import Policy, propose
from common.search.rollout import rollout
from common.track.lines import write_lines
from common.track.rows import MetricRow, cost_of
from common.types import Cost, Trajectory, Turn


@dataclass(frozen=True)
class Play:
    rounds: int
    tasks: int
    """Training tasks, all played in each round."""
    episodes: int
    """Of each task in a round."""


@dataclass(frozen=True)
class Learn:
    updates: int
    """Of every policy, each from the base."""
    batch: int
    lr: float


@dataclass(frozen=True)
class WorldModel:
    updates: int
    """In each round; the blind model takes those of all rounds at once."""
    batch: int
    lr: float


@dataclass(frozen=True)
class Dream:
    attempts: int
    """Dreams of each failed task."""
    steps: int
    """Longest dream."""


@dataclass(frozen=True)
class Look:
    draws: int
    """Actions sampled at each state."""
    k: int
    """Most of them, distinct, that are looked at."""


@dataclass(frozen=True)
class Test:
    tasks: int
    planned: int
    """Tasks on which policies also act with look-ahead."""
    walks: int
    """Episodes on which world models are measured."""
    depth: int


@dataclass(frozen=True)
class Params:
    play: Play
    learn: Learn
    world: WorldModel
    dream: Dream
    look: Look
    test: Test
    panels: tuple[str, ...]


ACTION_TOKENS = 24
PAGE_TOKENS = 72
"""Most tokens of an imagined page; real ones are shorter."""
DEPTH = 2
"""The paper's depth of look-ahead; +d1 stands beside it."""
TURN_TOKENS = 8.0
"""Tokens of a turn that the first votes count on."""
PLANS = ("greedy", "d1", "d2", "votes", "k2", "k5", "blind", "real_d1", "real", "oracle")
"""Ways of ``webevolver`` to decide, those that set a budget first."""


# -- 1. rows of training, from trajectories ------------------------------------------------------------------


def accepted_rows(episodes: Sequence[Trajectory]) -> list[SFTExample]:
    """p(a_t | o_t) of the episodes that succeed, cut turns left out."""
    return [SFTExample(s.prompt, s.turn.text) for e in episodes if e.success for s in e.steps if s.turn.finished]


def world_rows(episodes: Sequence[Trajectory], view: View) -> list[SFTExample]:
    """p(o_{t+1} | o_t, a_t) of all episodes, each distinct transition once; the step limit's ends are left out."""
    told = {(s.prompt[-1]["content"], s.turn.text): shown(s.observation) for e in episodes for s in e.steps
            if s.turn.finished and not s.observation.truncated}  # fmt: skip
    return [SFTExample(question(prompt, action, view), short(page_of(prompt), action, after))
            for (prompt, action), after in told.items()]  # fmt: skip


def unsolved(episodes: Sequence[Trajectory]) -> list[Seen]:
    """The first state of every task that none of ``episodes`` solved, in the order of their first episode."""
    solved = {episode.task_id for episode in episodes if episode.success}
    firsts = {episode.task_id: episode.steps[0].prompt for episode in reversed(episodes)}
    order = dict.fromkeys(episode.task_id for episode in episodes)
    return [Seen(firsts[task]) for task in order if task not in solved]


# -- 2. dreams: trajectories inside a world model ----------------------------------------------------------------


def dreams(
    starts: Sequence[Seen], policy: Policy, world: World, *, attempts: int, steps: int, seed: int
) -> list[list[Seen]]:
    """``attempts`` episodes from each start, of at most ``steps`` actions. ``world`` is all that is asked."""
    starts = [start for start in starts for _ in range(attempts)]
    keys = [derive(seed, "dream", goal_of(start.prompt[-1]["content"]), i) for i, start in enumerate(starts)]
    turns = [turn for [turn] in propose(policy, [start.prompt for start in starts], keys, 1)]
    able = [i for i, turn in enumerate(turns) if turn.finished]
    return foresee(world, policy, [starts[i] for i in able], [turns[i].text for i in able], [keys[i] for i in able],
                   depth=steps)  # fmt: skip


def dreamt_rows(paths: Sequence[Sequence[Seen]]) -> list[SFTExample]:
    """p(a_t | o_t) of the dreams that end in a purchase the judge accepts; pages are imagined, actions are its own."""
    kept = [path for path in paths if path[-1].over and judge(path) == DONE]
    return [SFTExample(state.prompt, after.action) for path in kept for state, after in zip(path, path[1:])]


# -- 3. the unit: all variants, resumable one by one ---------------------------------------------------------------


class Experiment:
    """One unit at work: environment, tasks, and stages that are computed once and then read back."""

    def __init__(self, unit) -> None:
        self.unit, self.run, self.p, self.seed = unit, unit.run, unit.params, unit.seed
        self.env = make(unit.env, unit.data)
        panel = load_panel(unit.data, f"{unit.env}/train")
        order = generator(self.seed, "tasks").permutation(len(panel))
        self.tasks = [panel[i] for i in order[: self.p.play.tasks]]
        self.panels = {name: load_panel(unit.data, f"{unit.env}/{name}") for name in self.p.panels}
        self._played: dict[int, list[Trajectory]] = {}

    def engine(self, stage: str) -> Engine:
        """The model that ``stage`` saved; ``start`` is the base."""
        return Engine(*load_model(self.unit.base if stage == "start" else self.run.stage_path(stage)))

    def policy(self, engine: Engine, temperature: float = 1.0) -> LMPolicy:
        return LMPolicy(engine, temperature=temperature, max_new_tokens=ACTION_TOKENS)

    def foreseer(self, engine: Engine, view: View) -> Shorthand:
        """A world model as something to be asked, greedily; ``view`` is what it is shown of a prompt."""
        return Shorthand(LMPolicy(engine, temperature=0.0, max_new_tokens=PAGE_TOKENS), view)

    def imagined(self, engine: Engine, view: View) -> Imagined:
        return Imagined(self.foreseer(engine, view), follow)

    # rounds

    def played(self, r: int) -> list[Trajectory]:
        """The episodes of round ``r`` from 1, by the policy of the round before; the same for all variants."""
        if r not in self._played:
            tasks = [task for task in self.tasks for _ in range(self.p.play.episodes)]
            keys = [derive(self.seed, "play", r, i) for i in range(len(tasks))]
            engine = self.engine("start" if r == 1 else f"train.self_{r - 1}")
            self._played[r] = rollout(self.env, tasks, self.policy(engine), keys=keys)
        return self._played[r]

    def until(self, r: int) -> list[Trajectory]:
        """The episodes of rounds 1 to ``r``."""
        return [episode for one in range(1, r + 1) for episode in self.played(one)]

    def playing_cost(self, r: int, engine: Engine) -> Cost:
        steps = [step for episode in self.until(r) for step in episode.steps]
        return Cost(env_steps=len(steps), lm_calls=len(steps), samples=len(steps),
                    prompt_tokens=sum(len(engine.prompt_ids(step.prompt)) for step in steps),
                    sampled_tokens=sum(step.turn.n_tokens for step in steps))  # fmt: skip

    def updates_before(self, r: int) -> int:
        """Updates of the policies that played up to round ``r``."""
        return self.run.stage(f"train.self_{r - 1}", _absent)["cost"]["updates"] if r > 1 else 0

    def improve(self, r: int) -> Cost:
        """Round ``r`` of self-improvement: the base, trained on all accepted episodes so far."""

        def compute() -> dict:
            episodes = self.until(r)
            engine = self.engine("start")
            updates = self.fit(f"self_{r}", engine, accepted_rows(episodes), self.p.learn)
            cost = replace(self.playing_cost(r, engine), updates=self.updates_before(r) + updates)
            return {"cost": cost_of(cost), "found": {"accepted_real": sum(e.success for e in self.played(r))}}

        return self.trained(f"self_{r}", compute)

    def model_world(self, name: str) -> Cost:
        """``world_<r>``: going on from ``world_<r-1>`` on the transitions of all rounds so far. ``world_blind``: as
        many updates as all of these, on the transitions of all rounds, the page hidden."""

        def compute() -> dict:
            blind, rounds = name == "world_blind", self.p.play.rounds
            r = rounds if blind else int(name.removeprefix("world_"))
            engine = self.engine("start" if blind or r == 1 else f"train.world_{r - 1}")
            rows = world_rows(self.until(r), untouched if blind else touched)
            settings = replace(self.p.world, updates=self.p.world.updates * (rounds if blind else 1))
            updates = self.fit(name, engine, rows, settings)
            cost = replace(self.playing_cost(r, engine), updates=updates * (1 if blind else r))
            return {"cost": cost_of(cost), "found": {"transitions": len(rows)}}

        return self.trained(name, compute)

    def dream(self, name: str, world: str, view: View) -> Cost:
        """The last round with dreams inside the stage ``world`` beside the accepted episodes of all rounds."""

        def compute() -> dict:
            rounds, p = self.p.play.rounds, self.p.dream
            episodes = self.until(rounds)
            dreamer, model = self.engine(f"train.self_{rounds - 1}" if rounds > 1 else "start"), self.engine(world)
            starts = unsolved(episodes)
            paths = dreams(starts, self.policy(dreamer), self.imagined(model, view), attempts=p.attempts, steps=p.steps,
                           seed=self.seed)  # fmt: skip
            rows = dreamt_rows(paths)
            write_lines(self.run.artifacts / f"dreams.{name}.jsonl", [dream_record(path) for path in paths[:60]])
            engine = self.engine("start")
            updates = self.fit(name, engine, [*accepted_rows(episodes), *rows], self.p.learn)
            before = Cost(**self.run.stage(world, _absent)["cost"])
            own = replace(dreamer.cost + model.cost, samples=sum(len(path) - 1 for path in paths), seconds=0.0)
            cost = before + own + Cost(updates=self.updates_before(rounds) + updates)
            found = {"failed_tasks": len(starts), "dreams": len(paths), "dreamt_rows": len(rows),
                     "accepted_dreams": sum(path[-1].over and judge(path) == DONE for path in paths)}  # fmt: skip
            return {"cost": cost_of(cost), "found": found}

        return self.trained(name, compute)

    def trained(self, name: str, compute: Callable[[], dict]) -> Cost:
        return Cost(**self.run.stage(f"train.{name}", compute)["cost"])

    def fit(self, name: str, engine: Engine, rows: Sequence[SFTExample], p: Learn | WorldModel) -> int:
        """Train the engine's model on ``rows`` and save it as the stage of ``name``; the number of updates."""
        settings = TrainSettings(lr=p.lr, max_steps=p.updates, batch_size=p.batch, max_length=engine.context,
                                 warmup=0.1)  # fmt: skip
        keep = ("loss", "grad_norm", "logp")

        def log(update: int, found: dict) -> None:
            self.run.log(name, update, {f"r1/train/{k}": found[k] for k in keep})

        with self.run.stage_dir(f"train.{name}") as folder:
            if rows:  # a policy that solves nothing leaves nothing to learn from
                seed = derive(self.seed, "fit", isinstance(p, WorldModel)) % 2**31
                sft(engine.model, engine.tokenizer, rows, settings, seed=seed, out_dir=self.run.artifacts, log=log)
            save_model(engine.model, engine.tokenizer, folder)
        return p.updates if rows else 0

    # evaluation

    def evaluate(self, name: str, stage: str) -> dict:
        """Success and habits on every panel, and on the tasks on which policies also look ahead."""

        def compute() -> dict:
            engine, result = self.engine(stage), {}
            for panel, tasks in self.panels.items():
                metrics, episodes = evaluate(self.env, tasks[: self.p.test.tasks], self.policy(engine), seed=self.seed)
                result[panel] = metrics | habits(episodes, invalid=INVALID) | {"n": len(episodes)}
                if panel == self.p.panels[0]:
                    write_lines(self.run.artifacts / f"rollouts.{name}.jsonl", records(episodes[:40]))
                    result[panel] |= planned_metrics(episodes[: self.p.test.planned])
            self.log(name, {f"{panel}/{k}": v for panel, found in result.items() for k, v in found.items()})
            return result

        return self.run.stage(f"eval.{name}", compute)

    @cached_property
    def walks(self) -> list[list[Moment]]:
        """What the base does on test tasks, to be foreseen by every world model; each state with what came of it."""
        tasks = self.panels[self.p.panels[0]][: self.p.test.walks]
        _, episodes = evaluate(self.env, tasks, self.policy(self.engine("start")), seed=self.seed)
        return [[Moment(e.task_id, s.prompt, Tried(s.turn.text, shown(s.observation))) for s in e.steps
                 if not s.observation.truncated] for e in episodes]  # fmt: skip

    def foresight(self, name: str, view: View) -> dict:
        """Fidelity by depth of a world model, greedily, along the base's own episodes on test tasks."""

        def compute() -> dict:
            found = [walk for made in self.walks for walk in walks_of(made, depth=self.p.test.depth)]
            imagine(found, self.foreseer(self.engine(f"train.{name}"), view), follow, seed=self.seed)
            write_lines(self.run.artifacts / f"walks.{name}.jsonl", [walk.record() for walk in found[:60]])
            metrics = fidelity(found) | meanings(found, meaning)
            self.log(name, metrics)
            return metrics | {"n": len(found)}

        return self.run.stage(f"foresight.{name}", compute)

    # acting with look-ahead

    def decider(self, how: str, engine: Engine, world: World | None) -> Decide:
        """How ``webevolver+<how>`` decides; ``world`` is where it looks ahead."""
        policy, greedy, p = self.policy(engine), self.policy(engine, 0.0), self.p.look

        def most_likely(states: list[Seen], keys: list[int], step: int) -> list[Turn]:
            return [turn for [turn] in propose(greedy, [state.prompt for state in states], keys, 1)]

        def worth(states: list[Seen], actions: list[str], keys: list[int]) -> list[tuple[float, list[Seen]]]:
            return [(self.env.q(state.hidden, action), []) for state, action in zip(states, actions, strict=True)]

        if how == "greedy":
            return most_likely
        if how == "votes":
            return Votes(policy, self.run.stage("plan.d2", _absent)["tokens_by_step"], turn_tokens=TURN_TOKENS)
        if how == "oracle":
            return LookAhead(policy, worth, p.k, p.draws)
        depth, k = (1 if how.endswith("d1") else DEPTH), (int(how[1:]) if how.startswith("k") else p.k)
        return LookAhead(policy, Simulation(world, greedy, judge, depth), k, p.draws)

    def plan(self, how: str) -> dict:
        """``webevolver+<how>``: the same weights, tasks and seeds, another way to decide."""

        def compute() -> dict:
            tasks = self.panels[self.p.panels[0]][: self.p.test.planned]
            engine, real, spent = self.engine("train.webevolver"), Real(self.env), []
            blind = how == "blind"
            model = self.engine("train.world_blind" if blind else f"train.world_{self.p.play.rounds}")
            looks_at = real if how.startswith("real") else self.imagined(model, untouched if blind else touched)
            decide = self.decider(how, engine, looks_at)

            def metered(states: list[Seen], keys: list[int], step: int) -> list[Turn]:
                before = engine.cost.sampled_tokens + model.cost.sampled_tokens
                turns = decide(states, keys, step)
                spent.append(engine.cost.sampled_tokens + model.cost.sampled_tokens - before)
                return turns

            episodes = act(self.env, tasks, metered, keys=[derive(self.seed, "evaluate", task.id) for task in tasks])
            write_lines(self.run.artifacts / f"rollouts.webevolver+{how}.jsonl", records(episodes[:40]))
            if isinstance(decide, LookAhead):
                write_lines(self.run.artifacts / f"decisions.webevolver+{how}.jsonl", decide.decisions[:300])
            metrics = planned_metrics(episodes) | {"simulated_steps": real.env_steps / len(tasks)}
            self.log(f"webevolver+{how}", metrics)
            steps = sum(len(episode.steps) for episode in episodes)
            cost = replace(engine.cost + model.cost, env_steps=steps + real.env_steps, samples=steps, seconds=0.0)
            return {"metrics": metrics, "n": len(tasks), "cost": cost_of(cost), "tokens_by_step": spent}

        return self.run.stage(f"plan.{how}", compute)

    def log(self, name: str, metrics: dict) -> None:
        self.run.log(name, 0, {k.replace("@", "_"): v for k, v in metrics.items()})


def planned_metrics(episodes: Sequence[Trajectory]) -> dict[str, float]:
    return {f"planned_{name}": value for name, value in summarise(episodes).items()}


def dream_record(path: Sequence[Seen]) -> dict:
    """JSON-able, to be read by people."""
    return {"prompt": path[0].prompt[-1]["content"], "actions": [state.action for state in path[1:]],
            "pages": [state.text for state in path[1:]], "score": judge(path), "over": path[-1].over}  # fmt: skip


def _absent() -> dict:
    raise RuntimeError("a stage that sets another one's budget was not run before it: keep the order of run()")


def run(unit) -> list[MetricRow]:
    """Train and evaluate every variant of one unit; writes its metric rows and marks it finished."""
    if unit.run.finished:
        return unit.run.rows()
    torch.set_num_threads(1)  # bit-identical results whatever the number of workers
    work, rows = Experiment(unit), []
    first, rounds = work.p.panels[0], work.p.play.rounds

    def add(name: str, panel: str, metrics: dict[str, float], n: int, cost: dict[str, int]) -> None:
        rows.extend(
            MetricRow(paper="webevolver", env=unit.env, profile=unit.profile, scale="nano", variant=name,
                      seed=unit.seed, panel=f"{unit.env}/{panel}", metric=metric, value=value, n=n, cost=cost)
            for metric, value in metrics.items()
        )  # fmt: skip

    def tested(name: str, stage: str, cost: Cost) -> None:
        for panel, metrics in work.evaluate(name, stage).items():
            n = metrics.pop("n")
            add(name, panel, metrics, n, cost_of(cost))
        if stage != "start":
            add(name, first, unit.run.stage(stage, _absent)["found"], len(work.tasks), cost_of(cost))

    def measured(name: str, view: View) -> None:
        cost, metrics = work.model_world(name), work.foresight(name, view)
        n = metrics.pop("n")
        add(name, first, metrics, n, cost_of(cost))

    tested("start", "start", Cost())
    for r in range(1, rounds + 1):
        tested(f"self_{r}", f"train.self_{r}", work.improve(r))
        measured(f"world_{r}", touched)
    measured("world_blind", untouched)
    for name, world, view in (("webevolver", f"world_{rounds}", touched), ("blind", "world_blind", untouched)):
        tested(name, f"train.{name}", work.dream(name, f"train.{world}", view))
    for how in PLANS:
        told = work.plan(how)
        add(f"webevolver+{how}", first, told["metrics"], told["n"], told["cost"])
    unit.run.write_rows(rows)
    unit.run.finish()
    return rows
