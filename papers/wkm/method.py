"""WKM, Agent Planning with World Knowledge Model (Qiao et al. 2024, arXiv:2405.14205): knowledge from one's own failures and an expert's steps.

An agent that learned from an expert (here the base model) is tried on demonstrated tasks, and mostly fails. Both together give knowledge:

    task knowledge    what the expert did first that the failed run did not; at test time a world knowledge model (WKM) writes it from the
                      task's first page, and it stands in the agent's prompt
    state knowledge   the state in a few words, written by the WKM at each step. It does not stand in the prompt: with the previous action it
                      finds what experts did next in such states, P_know, and the agent acts by P = γ·P_agent + (1 − γ)·P_know

The WKM (``world``) is the base model trained to write both. All agents learn from the same demonstrations:

    base, sft       the start of all; the demonstrations alone
    sft_long        sft, for as many updates more as ``world`` takes; the stronger agent of D4.12
    task            the demonstrations with task knowledge in the prompt
    explicit        with task and state knowledge in the prompt
    X+gamma=g       X acting with state knowledge; γ = 1 is X itself, γ = 0 acts by knowledge where there is any
    task+shuffled   the same at ``state.gamma`` with the next actions of all retrieved states shuffled

Differs from the paper:
 1. Nano policies and a shop of ours. The paper's knowledge is free text; ours is one deed, and the state as a rule reads it off the page
    (:func:`common.envs.shop.deeds.state`). The rule is a player's, but knows what matters: ``explicit`` is told the same.
 2. States are retrieved by equality, with the kind of the previous action; the paper takes the nearest 3,000 of an embedding.
 3. The mixture is over whole actions, but for those with the words of a task (:class:`~papers.wkm.knowledge.Knowing`); the released
    code mixes the first words of actions, and its agent completes the chosen one.
 4. The paper takes the most probable action, as ``greedy_*`` do here; the others sample. A run that succeeded teaches "nothing".
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from common.config import Evaluation, ModelParams
from common.envs.shop.deeds import did, names, start, state
from common.envs.shop.engine import INVALID
from common.evaluate.habits import habits
from common.evaluate.rollouts import evaluate as play, records, summarise
from common.lab import BASE, KEPT_TASKS, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.rng import derive, generator
from common.rows import Label
from common.types import Cost, Task
from papers.wkm.knowledge import (NOTHING, STATE, TASK, Knowing, Pairs, Prompt, Step, asked, pairs_of, shown, task_knowledge,
                                  text_of, triple, write)  # fmt: skip


@dataclass(frozen=True)
class Expert:
    tasks: int
    """Training tasks."""
    known: int
    """Tasks that the base model was taught with."""
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
    gammas: tuple[float, ...]
    """Further ones of ``task``."""


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
    """Learns demonstrations with these kinds of knowledge in the prompt; ``long``: for as many updates as task knowledge takes in all. It
    also acts at these γs below 1."""

    shows: tuple[str, ...] = ()
    long: bool = False
    gammas: tuple[float, ...] = ()


def variants(p: Params) -> list[Condition]:
    return [
        Condition("base"), Condition("world"), Condition("sft"), Condition("sft_long", gammas=(p.state.gamma,), long=True),
        Condition("task", (TASK,), gammas=tuple(dict.fromkeys([*p.state.gammas, p.state.gamma]))), Condition("explicit", (TASK, STATE)),
    ]  # fmt: skip


# -- 1. what there is to learn from ------------------------------------------------------------------------------------


def walk(lab: Lab, task: Task, *use: str | int) -> list[Step]:
    """A demonstration: prompts, and what the expert shows there. It slips, and shows how to go on."""
    rng, shown, seen = generator(*use, task.id), [], lab.env.reset(task)
    while not seen.done:
        action, taken = lab.env.expert(rng)
        shown.append(Step(task.id, lab.env.prompt(), action))
        seen = lab.env.step(taken)
    return shown


def tasks_of(lab: Lab) -> list[Task]:
    """The tasks that are demonstrated, and tried once."""
    return lab.batch(0, lab.p.expert.tasks) + lab.panel("demos")[: lab.p.expert.known]


def demonstrated(lab: Lab) -> list[Step]:
    return lab.once("demonstrated", lambda: [step for task in tasks_of(lab) for k in range(lab.p.expert.walks)
                                             for step in walk(lab, task, lab.seed, "expert", k)])  # fmt: skip


def described(lab: Lab, prompt: Prompt) -> str:
    """The state in a few words as the rule reads it, which knows what things are also called in demonstrations."""
    return state(text_of(prompt), lab.once("names", lambda: names((text_of(step.prompt), step.action) for step in demonstrated(lab))))


def tried(lab: Lab) -> tuple[dict[str, str], Cost]:
    """Task id → its task knowledge, from one run of the base model on each; what the runs cost."""

    def compute() -> tuple[dict[str, str], Cost]:
        engine, expert = lab.engine(), {name: [step.action for step in steps] for name, steps in groupby(demonstrated(lab), lambda step: step.task)}
        tasks, runs = lab.sample(lab.policy(engine), tasks_of(lab), "tried")
        known = {task.id: NOTHING if run.success else task_knowledge(expert[task.id], run) for task, run in zip(tasks, runs, strict=True)}
        return known, spent(engine, sum(len(run.steps) for run in runs))

    return lab.once("tried", compute)


def pairs(lab: Lab, *, shuffled: bool = False) -> Pairs:
    """State knowledge of all demonstrations; with next actions in a random order."""
    found = lab.once("triples", lambda: [triple(step, described(lab, step.prompt)) for step in demonstrated(lab)])
    order = generator(lab.seed, "shuffled").permutation(len(found)) if shuffled else range(len(found))
    return pairs_of((now, last, found[i][2]) for (now, last, _), i in zip(found, order, strict=True))


# -- 2. the world knowledge model, and agents --------------------------------------------------------------------------


def train(lab: Lab, variant: Condition) -> Trained:
    if variant.name == "base":
        return BASE
    return fit_world(lab) if variant.name == "world" else fit_agent(lab, variant)


def fit_world(lab: Lab) -> Trained:
    """The WKM: the base, trained to write what is known of demonstrated tasks, once a demonstration, and of their states."""

    def collect(_: Engine) -> Collected:
        (known, cost), shown = tried(lab), demonstrated(lab)
        found = [SFTExample(asked(text_of(step.prompt), TASK), known[step.task]) for step in shown if not did(text_of(step.prompt))]
        found += [SFTExample(asked(text_of(step.prompt), STATE), described(lab, step.prompt)) for step in shown]
        return Collected(found, cost, {"nothing": fmean(text == NOTHING for text in known.values())})

    p = lab.p.world
    return lab.fit("world", collect, order=("world",), lr=p.lr, max_steps=p.updates, batch_size=p.batch)


def fit_agent(lab: Lab, variant: Condition) -> Trained:
    """The base, or for ``long`` the agent ``sft``, trained on the demonstrations with the knowledge that ``variant`` shows."""

    def collect(_: Engine) -> Collected:
        known, cost = (tried(lab)[0], fit_world(lab).cost) if variant.shows else ({}, Cost())
        return Collected([SFTExample(shown(step.prompt, variant.shows, known.get(step.task, ""), described(lab, step.prompt)), step.action)
                          for step in demonstrated(lab)], cost)  # fmt: skip

    p, start_of = lab.p.sft, fit_agent(lab, Condition("sft")) if variant.long else BASE
    return lab.fit(variant.name, collect, order=("agent", variant.long), start=start_of, part=1 + variant.long, lr=p.lr, batch_size=p.batch,
                   max_steps=lab.p.world.updates if variant.long else p.updates)  # fmt: skip


# -- 3. acting with knowledge, and how well the WKM knows --------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    if variant.name == "world":
        return [knowing(lab)]
    ways: dict[str, tuple[float, Pairs]] = {"": (1.0, {})} | {f"gamma={gamma:g}": (gamma, pairs(lab)) for gamma in variant.gammas}
    if variant.name == "task":
        ways["shuffled"] = lab.p.state.gamma, pairs(lab, shuffled=True)
    return [measured for way, knowledge in ways.items() for measured in acting(lab, variant, trained, way, *knowledge)]


def acting(lab: Lab, variant: Condition, trained: Trained, way: str, gamma: float, known: Pairs) -> list[Measured]:
    """Success and habits of episodes, sampled and greedy, on every panel."""
    engine, found = lab.engine(trained), []
    for panel, tasks in lab.panels_for(trained).items():
        tasks, metrics = tasks[: lab.p.test.tasks], {}
        for prefix, temperature, draws in (("", 1.0, lab.p.test.draws), ("greedy_", 0.0, 1)):
            agent = lab.policy(engine, temperature)
            policy = Knowing(agent, writer(lab), variant.shows, known, gamma) if variant.shows or way else agent
            drawn = [episode for draw in range(draws) for episode in play(lab.env, tasks, policy, seed=derive(lab.seed, draw))[1]]
            metrics |= {f"{prefix}{name}": value for name, value in (summarise(drawn) | habits(drawn, invalid=INVALID)).items()}
        found.append(Measured(panel, metrics, len(tasks), acting=way))
        if panel == lab.p.panels[0]:
            lab.keep(f"rollouts.{Label(variant.name, acting=way)}", records(drawn[:KEPT_TASKS]))
    return found


def writer(lab: Lab) -> LMPolicy:
    return lab.policy(lab.engine(fit_world(lab)), 0.0, max_new_tokens=lab.p.knowledge_tokens)


def knowing(lab: Lab) -> Measured:
    """How often the WKM describes pages on a demonstrator's way through the first panel as the rule does."""
    panel = lab.p.panels[0]
    prompts = [step.prompt for task in lab.panel(panel)[: lab.p.test.tasks] for step in walk(lab, task, "walk")]
    texts, rules = [text_of(prompt) for prompt in prompts], [described(lab, prompt) for prompt in prompts]
    states, tasks = write(writer(lab), texts, STATE), write(writer(lab), [start(text) for text in texts[:KEPT_TASKS]], TASK)
    lab.keep("states", [dict(zip(("page", "rule", "state", "task"), one)) for one in zip(texts, rules, states, tasks)])
    return Measured(panel, {"state_right": fmean(now == rule for now, rule in zip(states, rules, strict=True))}, len(texts))
