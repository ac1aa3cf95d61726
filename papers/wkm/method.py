"""WKM, Agent Planning with World Knowledge Model (Qiao et al. 2024, arXiv:2405.14205): knowledge from one's own failures and an expert's steps.

An agent that comes to a home it does not know is tried on demonstrated tasks, and mostly fails. Both together give knowledge:

    task knowledge    what the expert did first, of all that failed runs did not get done; at test time a world knowledge model (WKM) writes it
                      from the goal, and it stands in the agent's prompt
    state knowledge   the state in a few words, written by the WKM at each step. It does not stand in the prompt: with the previous action it
                      finds what experts did next in such states, P_know, and the agent acts by P = γ·P_agent + (1 − γ)·P_know

The WKM (``world``) is the base model trained to write both. All agents learn from the same demonstrations:

    base            the start of all, which has seen many homes, and used what it was told of them
    sft             learned from the demonstrations alone
    sft_long        sft, for as many updates more as ``world`` takes
    task            the demonstrations with task knowledge in the prompt
    explicit        with task and state knowledge in the prompt
    base+told       base, with the WKM's task knowledge in its prompt;  base+home: with the usual places as they are, the most that can be told
    X+gamma=g       X acting with state knowledge; γ = 1 is X itself, γ = 0 acts by knowledge where there is any
    task+shuffled   the same at ``state.gamma`` with the next actions of all retrieved states shuffled

Differs from the paper:
 1. Nano policies and a home of ours. The paper's knowledge is free text; ours is where a thing usually is and where it is made hot, and the state as a
    rule reads it off the page (:func:`common.envs.versions.household_v1.described`). ``explicit`` is told the same.
 2. States are retrieved by equality, with the previous action; the paper takes the nearest 3,000 of an embedding.
 3. The mixture is over whole actions; the released code mixes the first words of actions, and its agent completes the chosen one.
 4. The paper takes the most probable action, as ``greedy_*`` do here; the others sample.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from common.config import Evaluation, Fit, ModelParams
from common.envs.contract import Pages
from common.envs.panels import version
from common.evaluate.habits import habits
from common.evaluate.rollouts import evaluate as play, records, summarise
from common.lab import BASE, KEPT_TASKS, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.rng import derive, generator
from common.rows import Label
from common.types import Cost, Task
from papers.wkm.knowledge import STATE, TASK, Knowing, Pairs, Step, asked, pairs_of, shown, task_knowledge, text_of, write


@dataclass(frozen=True)
class Expert:
    tasks: int
    """Training tasks, each demonstrated once."""
    tries: int
    """Runs of the base model on each."""


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
    sft: Fit
    task: Fit
    """Of agents with knowledge in their prompts."""
    world: Fit
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


def pages(lab: Lab) -> Pages:
    """How pages of the unit's environment are read."""
    return version(lab.env.id)  # type: ignore[return-value]


def walk(lab: Lab, task: Task, *use: str | int) -> list[Step]:
    """A demonstration: prompts, and what the expert shows there. It slips, and shows how to go on."""
    rng, found, seen = generator(*use, task.id), [], lab.env.reset(task)
    while not seen.done:
        action, taken = lab.env.expert(rng)
        found.append(Step(task.id, lab.env.prompt(), action))
        seen = lab.env.step(taken)
    return found


def demonstrated(lab: Lab) -> list[Step]:
    return lab.once("demonstrated", lambda: [step for task in lab.batch(0, lab.p.expert.tasks) for step in walk(lab, task, lab.seed, "expert")])


def tried(lab: Lab) -> tuple[dict[str, str], Cost]:
    """Task id → its task knowledge, from ``expert.tries`` runs of the base model on each; what the runs cost."""

    def compute() -> tuple[dict[str, str], Cost]:
        engine, steps, runs = lab.engine(), defaultdict(list), defaultdict(list)
        for step in demonstrated(lab):
            steps[step.task].append(step)
        tasks, sampled = lab.sample(lab.policy(engine), lab.batch(0, lab.p.expert.tasks), "tried", group=lab.p.expert.tries)
        for task, run in zip(tasks, sampled, strict=True):
            runs[task.id].append(run)
        return {name: task_knowledge(pages(lab), steps[name], runs[name]) for name in steps}, spent(engine, sum(len(run.steps) for run in sampled))

    return lab.once("tried", compute)


def pairs(lab: Lab, *, shuffled: bool = False) -> Pairs:
    """State knowledge of all demonstrations; with next actions in a random order."""
    steps = demonstrated(lab)
    order = generator(lab.seed, "shuffled").permutation(len(steps)) if shuffled else range(len(steps))
    texts, read = [text_of(step.prompt) for step in steps], pages(lab)
    return pairs_of((read.described(text), read.did(text), steps[i].action) for text, i in zip(texts, order, strict=True))


# -- 2. the world knowledge model, and agents --------------------------------------------------------------------------


def train(lab: Lab, variant: Condition) -> Trained:
    if variant.name == "base":
        return BASE
    return fit_world(lab) if variant.name == "world" else fit_agent(lab, variant)


def fit_world(lab: Lab) -> Trained:
    """The WKM: the base, trained to write what is known of demonstrated tasks, once a step, and of their states."""

    def collect(_: Engine) -> Collected:
        (known, cost), steps, read = tried(lab), demonstrated(lab), pages(lab)
        found = [SFTExample(asked(read.first_page(read.goal_of(text_of(step.prompt))), TASK), known[step.task]) for step in steps]
        found += [SFTExample(asked(text_of(step.prompt), STATE), read.described(text_of(step.prompt))) for step in steps]
        return Collected(found, cost, {"words": fmean(len(text.split()) for text in known.values())})

    p = lab.p.world
    return lab.fit("world", collect, order=("world",), lr=p.lr, max_steps=p.updates, batch_size=p.batch)


def fit_agent(lab: Lab, variant: Condition) -> Trained:
    """The base, or for ``long`` the agent ``sft``, trained on the demonstrations with the knowledge that ``variant`` shows."""

    def collect(_: Engine) -> Collected:
        known, cost = (tried(lab)[0], fit_world(lab).cost) if variant.shows else ({}, Cost())
        return Collected([SFTExample(shown(step.prompt, variant.shows, known.get(step.task, ""), pages(lab).described(text_of(step.prompt))), step.action)
                          for step in demonstrated(lab)], cost)  # fmt: skip

    p, start = lab.p.task if variant.shows else lab.p.sft, fit_agent(lab, Condition("sft")) if variant.long else BASE
    return lab.fit(variant.name, collect, order=("agent", variant.long), start=start, part=1 + variant.long, lr=p.lr, batch_size=p.batch,
                   max_steps=lab.p.world.updates if variant.long else p.updates)  # fmt: skip


# -- 3. acting with knowledge, and how well the WKM knows --------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    if variant.name == "world":
        return [knowing(lab)]
    acting: dict[str, Any] = {"": {}} | {f"gamma={gamma:g}": {"gamma": gamma, "pairs": pairs(lab)} for gamma in variant.gammas}
    if variant.name == "base":
        acting |= {"told": {"shows": (TASK,)}, "home": {"shows": (TASK,), "tasks": of_home(lab)}}
    if variant.name == "task":
        acting["shuffled"] = {"gamma": lab.p.state.gamma, "pairs": pairs(lab, shuffled=True)}
    return [measured for name, how in acting.items() for measured in played(lab, variant, trained, name, {"shows": variant.shows} | how)]


def of_home(lab: Lab) -> dict[str, str]:
    """Goal → all that can be told of it, of every panel."""
    return {goal: told for tasks in lab.panels.values() for goal, told in map(pages(lab).told_of_home, tasks)}


def played(lab: Lab, variant: Condition, trained: Trained, name: str, how: Mapping[str, Any]) -> list[Measured]:
    """Success and habits of episodes that are acted as ``how`` says, sampled and greedy, on every panel."""
    engine, found = lab.engine(trained), []
    for panel, tasks in (lab.panels if name else lab.panels_for(trained)).items():
        tasks, metrics = tasks[: lab.p.test.tasks], {}
        for prefix, temperature, draws in (("", 1.0, lab.p.test.draws), ("greedy_", 0.0, 1)):
            policy = Knowing(lab.policy(engine, temperature), writer(lab), pages(lab), **how)
            drawn = [episode for draw in range(draws) for episode in play(lab.env, tasks, policy, seed=derive(lab.seed, draw))[1]]
            metrics |= {f"{prefix}{name}": value for name, value in (summarise(drawn) | habits(drawn, invalid=pages(lab).INVALID)).items()}
        found.append(Measured(panel, metrics, len(tasks), acting=name))
        if panel == lab.p.panels[0]:
            lab.keep(f"rollouts.{Label(variant.name, acting=name)}", records(drawn[:KEPT_TASKS]))
    return found


def writer(lab: Lab) -> LMPolicy:
    return lab.once("writer", lambda: lab.policy(lab.engine(fit_world(lab)), 0.0, max_new_tokens=lab.p.knowledge_tokens))


def knowing(lab: Lab) -> Measured:
    """How often the WKM knows the home of the first panel's goals, and describes pages on a demonstrator's way as the rule does."""
    panel, read = lab.p.panels[0], pages(lab)
    tasks = lab.panel(panel)[: lab.p.test.tasks]
    home = {read.told_of_home(task)[0]: read.told_facts(task) for task in tasks}
    texts = [text_of(step.prompt) for task in tasks for step in walk(lab, task, "walk")]
    rules, states = list(map(read.described, texts)), write(writer(lab), texts, STATE)
    told = dict(zip(home, write(writer(lab), list(map(read.first_page, home)), TASK), strict=True))
    lab.keep("states", [dict(zip(("page", "rule", "state"), one)) for one in zip(texts, rules, states)][: 8 * KEPT_TASKS])
    lab.keep("tasks", [{"goal": goal, "told": told[goal], "home": " ".join(known.values())} for goal, known in home.items()])
    right = {f"{name}_right": fmean(known[name] in told[goal] for goal, known in home.items()) for name in next(iter(home.values()))}
    return Measured(panel, {"state_right": fmean(now == rule for now, rule in zip(states, rules, strict=True))} | right, len(home))
