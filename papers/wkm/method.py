"""WKM, Agent Planning with World Knowledge Model (Qiao et al. 2024, arXiv:2405.14205): knowledge from one's own failures and an expert's steps.

An agent learned from an expert's trajectories; on the same tasks it is tried, and mostly fails. Both together give knowledge:

    task knowledge    what the expert did first that the failed run did not; at test time a world knowledge model (WKM) writes it from the
                      task's first page, and it stands in the agent's prompt
    state knowledge   the state in a few words, written by the WKM at each step. It does not stand in the prompt: with the previous action it
                      finds what experts did next in such states, P_know, and the agent acts by P = γ·P_agent + (1 − γ)·P_know

The WKM (``world``) is the base model trained to write both. All agents learn from the same demonstrations:

    base, sft       the start of all; the demonstrations alone, and the agent whose failures are learned from
    sft_long        the same, for as many updates as sft, world and task together; the stronger agent of D4.12
    task            the demonstrations with task knowledge in the prompt
    explicit        with task and state knowledge in the prompt
    task_shuffled   with the task knowledge of other tasks
    X+gamma=g       X acting with state knowledge; γ = 1 is X itself, γ = 0 acts by knowledge where there is any
    task+shuffled   the same at ``state.gamma`` with the next actions of all retrieved states shuffled

Differs from the paper:
 1. Nano policies, a shop of ours and a text game. The paper's knowledge is free text of its agent's; ours has one form (``knowledge.py``),
    one deed, and the state as a rule reads it off the page. The rule is a player's, but knows what matters: ``explicit`` is told the same.
 2. States are retrieved by equality, with the previous action where that is frequent; the paper takes the nearest 3,000 of an embedding.
 3. The mixture is over whole actions, but for those that other tasks do not share (:class:`~papers.wkm.knowledge.Mixed`); the released
    code mixes the first words of actions, and its agent completes the chosen one.
 4. The paper takes the most probable action, as ``greedy_*`` do here; the others sample. A run that succeeded teaches "nothing".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from common.config import Evaluation, ModelParams
from common.evaluate.habits import habits
from common.evaluate.rollouts import evaluate as play, records, summarise
from common.lab import BASE, KEPT_TASKS, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.policy import Policy
from common.rng import derive, generator
from common.rows import Label
from common.types import Cost, Task
from papers.wkm.knowledge import (INVALID, NOTHING, OWN, STATE, TASK, Mixed, Pairs, Prompt, Stated, Told, WorldModel, asked, reader_of, retrieve,
                                  task_knowledge, told, triples)  # fmt: skip


@dataclass(frozen=True)
class Expert:
    tasks: int
    """Training tasks, each tried once."""
    walks: int
    """Demonstrations of each."""


@dataclass(frozen=True)
class Learn:
    updates: int
    batch: int
    lr: float


@dataclass(frozen=True)
class State:
    gamma: float
    """γ of all variants that use state knowledge once."""
    gammas: tuple[float, ...]
    """γs of ``task``."""
    least: int
    """Times that a state and the previous action were seen together, or the state alone decides."""


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    knowledge_tokens: int
    """Most tokens of what the world knowledge model writes."""
    expert: Expert
    sft: Learn
    world: Learn
    state: State
    test: Evaluation


@dataclass(frozen=True)
class Condition(Variant):
    """Learns demonstrations with these kinds of knowledge in the prompt, ``shuffled``: those of other tasks; ``long``: for as many updates
    as task knowledge takes in all. It also acts at these γs below 1."""

    shows: tuple[str, ...] = ()
    shuffled: bool = False
    long: bool = False
    gammas: tuple[float, ...] = ()


def variants(p: Params) -> list[Condition]:
    return [
        Condition("base"), Condition("sft", gammas=(p.state.gamma,)), Condition("sft_long", gammas=(p.state.gamma,), long=True), Condition("world"),
        Condition("task", (TASK,), gammas=tuple(dict.fromkeys([*p.state.gammas, p.state.gamma]))),
        Condition("explicit", (TASK, STATE)), Condition("task_shuffled", (TASK,), shuffled=True),
    ]  # fmt: skip


# -- 1. what there is to learn from ------------------------------------------------------------------------------------


def walk(lab: Lab, task: Task, *use: str | int) -> list[SFTExample]:
    """A demonstration: prompts, and what the expert shows there. It slips, and shows how to go on."""
    rng, rows, seen = generator(*use, task.id), [], lab.env.reset(task)
    while not seen.done:
        action, taken = lab.env.expert(rng)
        rows.append(SFTExample(lab.env.prompt(), action))
        seen = lab.env.step(taken)
    return rows


def demonstrated(lab: Lab) -> dict[str, list[SFTExample]]:
    """Task id → the steps of its demonstrations."""
    p = lab.p.expert
    return lab.once("demonstrated", lambda: {task.id: [row for k in range(p.walks) for row in walk(lab, task, lab.seed, "expert", k)]
                                             for task in lab.batch(0, p.tasks)})  # fmt: skip


def tried(lab: Lab) -> tuple[dict[str, str], Cost]:
    """Task id → its task knowledge, from one run of ``sft`` on each demonstrated task; what that and the runs cost."""
    trained = fit_agent(lab, Condition("sft"))

    def compute() -> tuple[dict[str, str], Cost]:
        engine, shown, reader = lab.engine(trained), demonstrated(lab), reader_of(lab.env)
        tasks, runs = lab.sample(lab.policy(engine), lab.batch(0, lab.p.expert.tasks), "tried")
        known = {task.id: NOTHING if run.success else task_knowledge(reader, shown[task.id], run) for task, run in zip(tasks, runs, strict=True)}
        return known, trained.cost + spent(engine, sum(len(run.steps) for run in runs))

    return lab.once("tried", compute)


def pairs(lab: Lab, *, shuffled: bool = False) -> Pairs:
    """State knowledge of all demonstrations; with next actions in a random order."""
    found = triples(reader_of(lab.env), [row for rows in demonstrated(lab).values() for row in rows])
    order = generator(lab.seed, "shuffled").permutation(len(found)) if shuffled else range(len(found))
    return Pairs([(state, did, found[i][2]) for (state, did, _), i in zip(found, order, strict=True)], lab.p.state.least)


# -- 2. the world knowledge model, and agents --------------------------------------------------------------------------


def train(lab: Lab, variant: Condition) -> Trained:
    if variant.name == "base":
        return BASE
    return fit_world(lab) if variant.name == "world" else fit_agent(lab, variant)


def fit_world(lab: Lab) -> Trained:
    """The WKM: the base, trained to write what is known of demonstrated tasks and states."""
    p, reader = lab.p.world, reader_of(lab.env)

    def collect(_: Engine) -> Collected:
        (known, cost), shown = tried(lab), demonstrated(lab)
        found = [SFTExample(asked(rows[0].prompt, TASK), known[name]) for name, rows in shown.items()]
        found += [SFTExample(asked(row.prompt, STATE), reader.state(row.prompt[-1]["content"])) for rows in shown.values() for row in rows]
        return Collected(found, cost, {"nothing": fmean(text == NOTHING for text in known.values())})

    return lab.fit("world", collect, order=("world",), lr=p.lr, max_steps=p.updates, batch_size=p.batch)


def fit_agent(lab: Lab, variant: Condition) -> Trained:
    """The base, or for ``long`` the agent ``sft``, trained on the demonstrations with the knowledge that ``variant`` shows."""
    p, start = lab.p.sft, fit_agent(lab, Condition("sft")) if variant.long else BASE

    def collect(_: Engine) -> Collected:
        known, cost = (tried(lab)[0], fit_world(lab).cost) if variant.shows else ({}, Cost())
        if variant.shuffled:
            order = generator(lab.seed, "others").permutation(len(known))
            known = dict(zip(known, [list(known.values())[i] for i in order], strict=True))
        return Collected([SFTExample(shown(row.prompt, known.get(name)), row.completion) for name, rows in demonstrated(lab).items() for row in rows], cost)

    def shown(prompt: Prompt, knowledge: str | None) -> Prompt:
        state = reader_of(lab.env).state(prompt[-1]["content"])
        prompt = told(prompt, TASK, knowledge) if TASK in variant.shows else prompt
        return told(prompt, STATE, state) if STATE in variant.shows else prompt

    return lab.fit(variant.name, collect, order=("agent", variant.long), start=start, part=1 + variant.long, lr=p.lr, batch_size=p.batch,
                   max_steps=p.updates + lab.p.world.updates * variant.long)  # fmt: skip


# -- 3. acting with knowledge, and how well the WKM knows --------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    if variant.name == "base":
        return acting(lab, variant, trained, "", lambda agent: agent)
    if variant.name == "world":
        return [described(lab)]
    world, reader = writer(lab), reader_of(lab.env)
    found = acting(lab, variant, trained, "", lambda agent: Stated(agent, world) if STATE in variant.shows else agent)
    mixtures = {f"gamma={gamma:g}": (gamma, pairs(lab)) for gamma in variant.gammas}
    if variant.name == "task":
        mixtures["shuffled"] = lab.p.state.gamma, pairs(lab, shuffled=True)
    for way, (gamma, known) in mixtures.items():
        found += acting(lab, variant, trained, way, lambda agent: Mixed(agent, world, reader, known, gamma))  # noqa: B023
    return found


def acting(lab: Lab, variant: Condition, trained: Trained, way: str, wrap: Callable[[LMPolicy], Policy]) -> list[Measured]:
    """Success and habits of episodes, sampled and greedy, on every panel."""
    engine, found = lab.engine(trained), []
    for panel, tasks in lab.panels_for(trained).items():
        tasks, metrics = tasks[: lab.p.test.tasks], {}
        env = Told(lab.env, expected(lab, panel, tasks, others=variant.shuffled)) if TASK in variant.shows else lab.env
        for prefix, temperature, draws in (("", 1.0, lab.p.test.draws), ("greedy_", 0.0, 1)):
            policy = wrap(lab.policy(engine, temperature))
            drawn = [episode for draw in range(draws) for episode in play(env, tasks, policy, seed=derive(lab.seed, draw))[1]]
            metrics |= {f"{prefix}{name}": value for name, value in (summarise(drawn) | habits(drawn, invalid=INVALID)).items()}
        found.append(Measured(panel, metrics, len(tasks), acting=way))
        if panel == lab.p.panels[0]:
            lab.keep(f"rollouts.{Label(variant.name, acting=way)}", records(drawn[:KEPT_TASKS]))
    return found


def writer(lab: Lab) -> WorldModel:
    return WorldModel(lab.policy(lab.engine(fit_world(lab)), 0.0, max_new_tokens=lab.p.knowledge_tokens))


def expected(lab: Lab, panel: str, tasks: Sequence[Task], *, others: bool) -> dict[str, str]:
    """Task id → what the WKM writes of the task; ``others``: what is known of some demonstrated task."""

    def written() -> dict[str, str]:
        known, prompts = list(tried(lab)[0].values()), []
        for task in tasks:
            lab.env.reset(task)
            prompts.append(lab.env.prompt())
        texts = [known[i] for i in generator(lab.seed, "others", panel).integers(len(known), size=len(tasks))] if others else writer(lab).write(prompts, TASK)
        return dict(zip([task.id for task in tasks], texts, strict=True))

    return lab.once(("expected", panel, others), written)


def described(lab: Lab) -> Measured:
    """How well the WKM and the pairs know a demonstrator's way through the first panel; the metrics are explained in README.md."""
    reader, kept, panel = reader_of(lab.env), pairs(lab), lab.p.panels[0]
    rows = [row for task in lab.panel(panel)[: lab.p.test.tasks] for row in walk(lab, task, "walk")]
    seen = []
    for row, state in zip(rows, writer(lab).write([row.prompt for row in rows], STATE), strict=True):
        page = row.prompt[-1]["content"]
        known, shown = retrieve(reader, kept, state, page), OWN if reader.general(page, row.completion) == OWN else row.completion
        seen.append({"page": page, "state": state, "rule": reader.state(page), "expert": shown, "known": known})
    lab.keep("states", seen[:60])
    return Measured(panel, {"state_right": fmean(one["state"] == one["rule"] for one in seen), "retrieved": fmean(bool(one["known"]) for one in seen),
                            "expert_p": fmean(one["known"].get(one["expert"], 0.0) for one in seen)}, len(rows))  # fmt: skip
