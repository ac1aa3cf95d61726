"""ReST-MCTS* (Zhang et al. 2024, arXiv:2406.03816): a process reward model from search trees, and a policy from what it leads the search to.

A process reward model (PRM) says of a step how far it gets towards a right answer. ReST-MCTS* asks nobody to label steps: where a tree
holds a right answer, the steps towards it are good, and the nearer the better (:func:`common.search.star.inferred`). Trained on that, it
leads a search (:mod:`common.search.star`) whose trees teach both the next PRM and, by the right answers in them, the policy.

    base                  the policy; base+vote: the number that most of ``test.samples`` solutions come to
    verdict               not trained: the base model's own verdict on a step
    prm0                  a PRM from the trees of ``collect.samples`` solutions to each training question
    prm1                  trained further, on trees that it searched as well
    more1                 ``prm0`` trained as long as ``prm1``, on as many more sampled solutions instead
    code0                 not trained: how the targets of the released code order the steps that ``prm0`` learned from
    ideal                 not trained: what ``inferred`` says of a tree that holds every way to go on
      …+bon               the base model's solutions, of which the last step is valued most
      …+mcts              MCTS* with the base model, in no more tokens than those solutions of the same question have
      …+mcts_alpha0, …    the same without looking ahead; without exploration (_c0); with the released code's weight of it (_c07)
    rest_em               the policy fine-tuned on right sampled solutions
    rest_mcts             on the right solution of highest value of each question in the searches of ``prm0``, in no more tokens

Differs from the paper:
 1. Nano policies trained from scratch on sorting numbers step by step instead of language models on MATH, SciBench and others.
 2. One iteration. The PRM begins as the base model's own verdict on a step, taught with one in five verdicts false, and not with labelled solutions.
 3. The search ends with a finished node of large value, not where an unfinished one has it; its answer is the finished node of
    largest value.
 4. m, the steps that are needed after one, is known: one less than there are numbers left.
 5. Steps without a finished answer below teach nothing, as in the released code.
 6. No right solution has a wrong step here, so that filtering right solutions by their steps' values changes little (D2.2).
 7. Four proposals a node instead of three, and c = 0.1 instead of 0.7 (params.yaml).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from common.config import Evaluation, Fit, ModelParams
from common.envs.contract import Snapshot
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.learn.settings import TrainSettings
from common.learn.value import ValueExample, train_value
from common.lm.engine import Engine
from common.rng import derive
from common.search import star
from common.search.chances import chances
from common.search.star import Node, Search, Values
from common.types import Cost, Task, Trajectory
from papers.rest_mcts import measures, prm


@dataclass(frozen=True)
class Collect:
    tasks: int
    """Training questions."""
    samples: int
    """Solutions of each."""


@dataclass(frozen=True)
class Test(Evaluation):
    samples: int
    """Solutions that vote, or of which one is chosen."""


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    collect: Collect
    search: Search
    prm: Fit
    sft: Fit
    test: Test


CONTROLS = {"mcts_alpha0": {"alpha": 0.0}, "mcts_c0": {"c": 0.0}, "mcts_c07": {"c": 0.7}}
VERDICT, LEARNED, TARGETS, IDEAL, POLICY = "verdict", "learned", "targets", "ideal", "policy"


@dataclass(frozen=True)
class Condition(Variant):
    """``kind``: values of one of four kinds, a policy that learns, or the ``targets`` of the released code; "" is the base model. Learned values have an
    ``iteration``, from 0; trees after the first are ``searched``, else sampled. With ``controls`` they lead other searches too."""

    kind: str = ""
    iteration: int = 0
    searched: bool = False
    controls: bool = False


def variants(p: Params) -> list[Condition]:  # noqa: ARG001 - the same for all parameters
    return [
        Condition("base"),
        Condition("verdict", VERDICT),
        Condition("prm0", LEARNED),
        Condition("prm1", LEARNED, 1, searched=True, controls=True),
        Condition("more1", LEARNED, 1),
        Condition("code0", TARGETS),
        Condition("ideal", IDEAL),
        Condition("rest_em", POLICY),
        Condition("rest_mcts", POLICY, searched=True),
    ]


# -- 1. trees of training questions ------------------------------------------------------------------------------------


def left(state: Snapshot) -> int:
    """Steps that are needed after ``state``."""
    return max(len(state.rest) - 1, 0)


def solutions(lab: Lab, tasks: Sequence[Task], n: int, *use: str | int) -> tuple[list[list[Trajectory]], Cost]:
    """``n`` sampled solutions of the base model to each task, and their cost; the same for all variants."""

    def compute() -> tuple[list[list[Trajectory]], Cost]:
        engine = lab.engine()
        _, episodes = lab.sample(lab.policy(engine), tasks, *use, group=n)
        return [episodes[n * i : n * i + n] for i in range(len(tasks))], spent(engine, sum(len(one.steps) for one in episodes))

    return lab.once(("solutions", *use), compute)


def trees_of(lab: Lab, iteration: int, searched: bool = False) -> tuple[list[Node], Cost]:
    """Trees of the training questions, the same ones in each iteration: of sampled solutions, or those that the PRM of the iteration before
    grew in no more tokens than such solutions have."""

    def compute() -> tuple[list[Node], Cost]:
        tasks = lab.batch(0, lab.p.collect.tasks)
        found, cost = solutions(lab, tasks, lab.p.collect.samples, "collect", iteration)
        if not searched:
            return [star.merged(lab.env, task, episodes) for task, episodes in zip(tasks, found, strict=True)], cost
        values = prm.learned(lab, reward_model(lab, iteration - 1, searched=True))
        trees, cost = grow(lab, tasks, found, values, lab.p.search, "search", iteration)
        return [tree.root for tree in trees], cost

    return lab.once(("trees", iteration, searched), compute)


def grow(lab: Lab, tasks: Sequence[Task], found: Sequence[Sequence[Trajectory]], values: Values, p: Search, *use: str | int) -> tuple[list[star.Tree], Cost]:
    """Search trees of ``tasks``, each of at most as many tokens as its solutions ``found`` have."""
    engine = lab.engine()
    trees = star.search(lab.env, tasks, lab.policy(engine), values, p, keys=lab.keys(tasks, *use),
                        budgets=[sum(one.n_tokens for one in episodes) for episodes in found])  # fmt: skip
    return trees, spent(engine, sum(tree.turns for tree in trees))


def right_steps(trees: Iterable[Node], *, best: bool = False) -> list[SFTExample]:
    """Each step of the different right solutions in each tree; with ``best`` of the one whose end is valued most."""
    rows = []
    for root in trees:
        ends = sorted((end for end in root.ends() if end.reward == 1.0), key=lambda end: -end.value)
        for node in ends[:1] if best else ends:
            while node.parent:
                rows.append(SFTExample(node.parent.prompt, node.action))
                node = node.parent
    return rows


# -- 2. what learns from them ------------------------------------------------------------------------------------------


def train(lab: Lab, variant: Condition) -> Trained:
    if variant.kind == LEARNED:
        return reward_model(lab, variant.iteration, searched=variant.searched)
    if variant.kind != POLICY:
        return BASE

    def collect(_: Engine) -> Collected:
        trees, cost = trees_of(lab, 1, variant.searched)
        return Collected(right_steps(trees, best=variant.searched), cost)

    p = lab.p.sft
    return lab.fit(variant.name, collect, order=("sft",), lr=p.lr, max_steps=p.updates, batch_size=p.batch)


def reward_model(lab: Lab, iteration: int, *, searched: bool = False) -> Trained:
    """The PRM of an iteration: the one before, trained further on all trees so far."""
    p, name = lab.p.prm, f"{'prm' if searched or not iteration else 'more'}{iteration}"
    start = reward_model(lab, iteration - 1, searched=searched) if iteration else BASE

    def make(folder: Path) -> tuple[Cost, dict]:
        parts = [trees_of(lab, k, searched and k > 0) for k in range(iteration + 1)]
        (engine, head), cost = prm.load(lab, start), parts[-1][1]
        examples = [ValueExample(prm.question(node.parent.prompt, node.action), None, value) for trees, _ in parts for root in trees
                    for node, value in star.inferred(root, left)]  # fmt: skip
        if examples:
            settings = TrainSettings(lr=p.lr, max_steps=p.updates, batch_size=p.batch, max_length=engine.context, warmup=0.1)
            stats = train_value(engine.model, head, engine.tokenizer, examples, settings, seed=derive(lab.seed, "prm", iteration) % 2**31,
                                out_dir=lab.run.artifacts, log=lab.curve(name, iteration + 1))  # fmt: skip
            cost = replace(cost, updates=stats.updates)
        prm.save(engine, head, folder)
        return cost, {"examples": len(examples)}

    return lab.weights(name, make, start=start)


# -- 3. solving with them ----------------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """A policy by the standard evaluation, the base model also by votes; values by what they make of the base model's solutions and of its
    steps, and by how near they are to its chances."""
    found = lab.evaluate(variant, trained) if variant.kind in ("", POLICY) else []
    if variant.kind == POLICY:
        return found
    if variant.kind in (LEARNED, TARGETS) and not variant.iteration:
        roots, _ = trees_of(lab, 0)
        found.append(Measured("train", {"reordered": measures.reordered(roots, left, released=variant.kind == TARGETS)}, len(roots)))
    for panel, tasks in lab.panels.items() if variant.kind != TARGETS else ():
        tasks = tasks[: lab.p.test.tasks]
        episodes, cost = solutions(lab, tasks, lab.p.test.samples, "test", panel)
        paid = fmean(sum(one.n_tokens for one in own) for own in episodes)
        if not variant.kind:
            found.append(Measured(panel, {"success": measures.vote(episodes), "tokens": paid}, len(tasks), "vote", cost))
            continue
        exact = lab.once(("chances", panel), lambda: chances(lab.env, lab.engine(), tasks))  # noqa: B023
        values = prm.ideal(lab) if variant.kind == IDEAL else prm.learned(lab, trained)
        roots = [star.merged(lab.env, task, own) for task, own in zip(tasks, episodes, strict=True)]
        found += [Measured(panel, measures.near(roots, values, exact), len(tasks)),
                  Measured(panel, {"success": measures.best(roots, values), "tokens": paid}, len(tasks), "bon", cost)]  # fmt: skip
        for name, changed in {"mcts": {}, **(CONTROLS if variant.controls else {})}.items():
            trees, cost = grow(lab, tasks, episodes, values, replace(lab.p.search, **changed), "test search", panel)
            metrics = {"success": fmean(one is not None and one.reward == 1.0 for one in (tree.found() for tree in trees)),
                       "tokens": fmean(tree.tokens for tree in trees)}  # fmt: skip
            found.append(Measured(panel, metrics, len(tasks), name, cost))
    return found
