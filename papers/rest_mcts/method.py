"""ReST-MCTS* (Zhang et al. 2024, arXiv:2406.03816): a process reward model from search trees, and a policy from what it leads the search to.

A process reward model says of a step how far it gets towards a right answer. ReST-MCTS* asks nobody to label steps: where a tree holds
a right answer, the steps towards it are good, and the nearer the better (:func:`papers.rest_mcts.star.inferred`). Trained on that, it leads
a search (:mod:`papers.rest_mcts.star`) whose trees teach both the next process reward model and, by the right answers in them, the
policy.

    base                  the policy; base+vote: the most frequent of ``test.samples`` solutions
    prm1                  a process reward model from the tree of ``collect.samples`` solutions of each training question
    prm2                  ``prm1`` trained further, on trees that it searched as well
    prm_more              ``prm1`` trained further for as long, on as many more sampled solutions instead
      …+bon               the base model's solutions, of which it chooses the one whose last step it values most
      …+mcts              MCTS* with the base model, led by it, in no more sampled steps
    exact                 not trained: the truth in the place of a process reward model, what any could give
    rest_em               the policy fine-tuned on right solutions, all of them sampled
    rest_mcts             the same, but half of the steps were spent on searches led by ``prm1``

Differs from the paper:
 1. Nano policies trained from scratch on step-wise Countdown instead of language models on MATH, SciBench and others.
 2. One iteration of policy and two of the process reward model. The first one begins at the base model, without labelled data.
 3. The search ends at a finished node of large value, and not where an unfinished one has it; its answer is the finished node of
    largest value.
 4. m, the steps that are needed after one, is known: two of three numbers, or one of two, are left to combine.
 5. Solutions hold no right answer with wrong steps, so that filtering right solutions by their steps' value (D2.2) would change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from safetensors.torch import load_file, save_file

from common.config import Evaluation, ModelParams
from common.envs.contract import Snapshot
from common.evaluate.votes import majority
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.learn.settings import TrainSettings
from common.learn.value import ValueExample, ValueHead, predict_values, train_value
from common.lm.engine import Engine
from common.lm.models import save_model
from common.rng import derive
from common.types import Cost, Task, Trajectory
from papers.rest_mcts import star
from papers.rest_mcts.star import Node, Search, Values

FIRST, SECOND = "first", "second"


@dataclass(frozen=True)
class Collect:
    tasks: int
    """Training questions."""
    samples: int
    """Solutions of each, twice."""


@dataclass(frozen=True)
class Fit:
    updates: int
    batch: int
    lr: float


@dataclass(frozen=True)
class Test(Evaluation):
    samples: int
    """Solutions that vote, or of which one is chosen."""


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    collect: Collect
    search: Search
    """On training questions; at test time ``steps`` are those of ``test.samples`` solutions."""
    prm: Fit
    sft: Fit
    test: Test


@dataclass(frozen=True)
class Condition(Variant):
    """``kind`` is what it trains: "policy", "prm", "exact" or "" for nothing; ``more`` the second half of its data: sampled or searched."""

    kind: str = ""
    more: str = ""


SAMPLED, SEARCHED = "sampled", "searched"


def variants(p: Params) -> list[Condition]:  # noqa: ARG001 - the same for all parameters
    return [
        Condition("base"),
        Condition("prm1", "prm"),
        Condition("prm2", "prm", SEARCHED),
        Condition("prm_more", "prm", SAMPLED),
        Condition("exact", "exact"),
        Condition("rest_em", "policy", SAMPLED),
        Condition("rest_mcts", "policy", SEARCHED),
    ]


# -- 1. trees of training questions ------------------------------------------------------------------------------------


def left(state: Snapshot) -> int:
    """Steps that are needed after ``state``."""
    return len(state.numbers) - 1


def episodes_of(lab: Lab, engine: Engine, tasks: Sequence[Task], n: int, *use: str) -> list[list[Trajectory]]:
    """``n`` sampled solutions of each task."""
    _, episodes = lab.sample(lab.policy(engine), tasks, *use, group=n)
    return [episodes[n * i : n * i + n] for i in range(len(tasks))]


def sampled(lab: Lab, half: str) -> tuple[list[Node], Cost]:
    """The trees of sampled solutions to the training questions, and their cost; both halves are of the same questions."""

    def compute() -> tuple[list[Node], Cost]:
        engine, tasks = lab.engine(), lab.batch(0, lab.p.collect.tasks)
        found = episodes_of(lab, engine, tasks, lab.p.collect.samples, "collect", half)
        trees = [star.merged(lab.env, task, episodes) for task, episodes in zip(tasks, found, strict=True)]
        return trees, spent(engine, sum(len(one.steps) for episodes in found for one in episodes))

    return lab.once(("sampled", half), compute)


def searched(lab: Lab) -> tuple[list[Node], Cost]:
    """Trees that MCTS* grew on the training questions, led by the first process reward model."""

    def compute() -> tuple[list[Node], Cost]:
        engine, tasks = lab.engine(), lab.batch(0, lab.p.collect.tasks)
        trees = star.search(lab.env, tasks, lab.policy(engine), lab.policy(engine, 0.0), learned(lab, reward_model(lab, "prm1")), lab.p.search,
                            lab.keys(tasks, "search"))  # fmt: skip
        return [tree.root for tree in trees], spent(engine, sum(tree.sampled for tree in trees))

    return lab.once("searched", compute)


def trees_of(lab: Lab, more: str) -> tuple[list[Node], Cost]:
    """The first half of the samples, and the second or the searches."""
    first, cost = sampled(lab, FIRST)
    if not more:
        return first, cost
    second, paid = sampled(lab, SECOND) if more == SAMPLED else searched(lab)
    return [*first, *second], cost + paid


# -- 2. process reward models ------------------------------------------------------------------------------------------


def train(lab: Lab, variant: Condition) -> Trained:
    if variant.kind == "prm":
        return reward_model(lab, variant.name, variant.more)
    if variant.kind != "policy":
        return BASE
    led = reward_model(lab, "prm1").cost.updates if variant.more == SEARCHED else 0

    def collect(_: Engine) -> Collected:
        trees, cost = trees_of(lab, variant.more)
        return Collected(list(right_steps(trees)), replace(cost, updates=led))

    p = lab.p.sft
    return lab.fit(variant.name, collect, order=("sft",), lr=p.lr, max_steps=p.updates, batch_size=p.batch)


def right_steps(trees: Iterable[Node]) -> Iterable[SFTExample]:
    """Each step on the way to a right end, as often as right ends are reached by it."""
    for root in trees:
        for end in root.below():
            if end.reward == 1.0:
                while end.parent:
                    yield SFTExample(end.parent.prompt, end.action)
                    end = end.parent


def reward_model(lab: Lab, name: str, more: str = "") -> Trained:
    """The stage of a process reward model: one that has seen the first half, or that one trained further."""
    p, start = lab.p.prm, reward_model(lab, "prm1") if more else BASE

    def make(folder: Path) -> tuple[Cost, dict]:
        model = load(lab, start)
        trees, cost = trees_of(lab, more)
        examples = [ValueExample(node.parent.prompt, node.action, value) for root in trees for node, value in star.inferred(root, left)]
        settings = TrainSettings(lr=p.lr, max_steps=p.updates, batch_size=p.batch, max_length=model.engine.context, warmup=0.1)
        stats = train_value(model.engine.model, model.head, model.engine.tokenizer, examples, settings, log=lab.curve(name),
                            seed=derive(lab.seed, "prm", len(more)) % 2**31, out_dir=lab.run.artifacts)  # fmt: skip
        save_model(model.engine.model, model.engine.tokenizer, folder)
        save_file(dict(model.head.state_dict()), folder / "head.safetensors")
        return replace(cost, updates=stats.updates), {"examples": len(examples)}

    done = lab.weights(name, make)
    return replace(done, cost=replace(done.cost, updates=done.cost.updates + start.cost.updates))


@dataclass(frozen=True)
class RewardModel:
    engine: Engine
    head: ValueHead


def load(lab: Lab, trained: Trained) -> RewardModel:
    engine = lab.engine(trained)
    head = ValueHead(engine.model.config.hidden_size)
    if trained.stage:
        head.load_state_dict(load_file(lab.folder(trained) / "head.safetensors"))
    return RewardModel(engine, head)


def learned(lab: Lab, trained: Trained) -> Values:
    one = load(lab, trained)
    return lambda prompts, actions, _: predict_values(one.engine.model, one.head, one.engine.tokenizer, prompts, actions)


def exact(lab: Lab) -> Values:
    """1 for a step after which the target can be reached, else 0."""
    return lambda _, actions, states: [float(lab.env.q(state, action) > 0) for state, action in zip(states, actions, strict=True)]


# -- 3. solving with them ----------------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """A policy by the standard evaluation, the base model also by votes; a process reward model by what it makes of the base model's
    samples, and by how well it orders steps."""
    if variant.kind in ("", "policy"):
        found = lab.evaluate(variant, trained)
        return found if variant.kind else [*found, *(voted(lab, panel, tasks) for panel, tasks in lab.panels.items())]
    values = exact(lab) if variant.kind == "exact" else learned(lab, trained)
    found = []
    for panel, tasks in lab.panels.items():
        tasks = tasks[: lab.p.test.tasks]
        found += [best_of(lab, panel, tasks, values), by_search(lab, panel, tasks, values),
                  Measured(panel, {"step_order": step_order(lab, tasks, values)}, len(tasks))]  # fmt: skip
    return found


def solutions(lab: Lab, panel: str, tasks: Sequence[Task]) -> tuple[list[list[Trajectory]], Cost]:
    """The base model's solutions to a panel, the same for votes and for all process reward models."""

    def compute() -> tuple[list[list[Trajectory]], Cost]:
        engine = lab.engine()
        found = episodes_of(lab, engine, tasks, lab.p.test.samples, "test solutions")
        return found, spent(engine, sum(len(one.steps) for episodes in found for one in episodes))

    return lab.once(("solutions", panel), compute)


def voted(lab: Lab, panel: str, tasks: Sequence[Task]) -> Measured:
    tasks = tasks[: lab.p.test.tasks]
    found, cost = solutions(lab, panel, tasks)
    texts = [[" ; ".join(step.turn.text for step in one.steps) for one in episodes] for episodes in found]
    value = fmean(majority(said, [one.success for one in episodes]) for said, episodes in zip(texts, found, strict=True))
    return Measured(panel, {"success": value}, len(tasks), "vote", cost)


def best_of(lab: Lab, panel: str, tasks: Sequence[Task], values: Values) -> Measured:
    found, cost = solutions(lab, panel, tasks)
    roots = [star.merged(lab.env, task, episodes) for task, episodes in zip(tasks, found, strict=True)]
    ends = [[node for node in root.below() if node.done] for root in roots]
    worth = iter(values(*star.asked([node for own in ends for node in own])))
    chosen = [max(((next(worth), -k, node) for k, node in enumerate(own)), default=None) for own in ends]
    return Measured(panel, {"success": fmean(one is not None and one[2].reward == 1.0 for one in chosen)}, len(tasks), "bon", cost)


def by_search(lab: Lab, panel: str, tasks: Sequence[Task], values: Values) -> Measured:
    """MCTS* in at most as many sampled steps as the solutions of :func:`solutions` have at least."""
    engine, p = lab.engine(), replace(lab.p.search, steps=lab.p.test.samples * (len(tasks[0].data["numbers"]) - 1))
    trees = star.search(lab.env, tasks, lab.policy(engine), lab.policy(engine, 0.0), values, p, lab.keys(tasks, "test search"))
    ends = [tree.found() for tree in trees]
    metrics = {"success": fmean(end is not None and end.reward == 1.0 for end in ends), "steps": fmean(tree.sampled for tree in trees)}
    return Measured(panel, metrics, len(tasks), "mcts", spent(engine, sum(tree.sampled for tree in trees)))


def step_order(lab: Lab, tasks: Sequence[Task], values: Values) -> float:
    """Over all first steps that the rules allow: how often one that leads to the target is valued above one that does not; ties count half."""
    shares = []
    prompts, actions, states, good = [], [], [], []
    for task in tasks:
        root = star.root_of(lab.env, task)
        options = lab.env.actions()
        prompts += [root.prompt] * len(options)
        states += [root.state] * len(options)
        actions += options
        good.append([lab.env.q(root.state, action) > 0 for action in options])
    told = iter(values(prompts, actions, states))
    for truth in good:
        right, wrong = [], []
        for leads in truth:
            (right if leads else wrong).append(next(told))
        shares += [(a > b) + 0.5 * (a == b) for a in right for b in wrong]
    return fmean(shares)
