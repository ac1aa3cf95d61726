"""PBT, Persuasion-Balanced Training (Stengel-Eskin et al. 2024, arXiv:2410.14596): when to give in to a partner, and when not to.

Two agents talk about a question. One answers, its partner objects or agrees, the first answers again. A model that gives in
loses right answers to a bad partner, one that never does learns nothing from a good one. PBT grows a tree of such talks and learns by
DPO from siblings, last answers to the same words, of which one is right and the other is not:

    resist pair      the agent was right before its partner spoke: staying so is chosen before giving in to something wrong
    accept pair      it was wrong: changing to something right is chosen before staying

and takes equally many of both. All variants learn from equally many pairs, in as many updates:

    base         gives in as it was demonstrated to, whoever is right
    sft          fine-tuned on the chosen sides of the balanced pairs
    pbt          DPO on half resist and half accept pairs
    resist       DPO on resist pairs alone
    accept       DPO on accept pairs alone

The partner *always objects*, truly to a wrong answer, falsely to a right one, and in the same words: only a look at the answer tells
which it is (:func:`papers.pbt.talks.objections`). How the agent fares with others is measured with a partner who always agrees,
and with the base model, which says what it finds.

Differs from the paper:
 1. Nano policies trained from scratch on Countdown with worked answers instead of language models on trivia: whether the partner is
    right can be read off the agent's own answer.
 2. The partner is scripted, gives a verdict and no answer of its own. The paper prompts models to be stubborn or agreeable, and to
    appeal to logic, emotion and credibility.
 3. Three turns, of which the last are compared; the paper takes up to four, and compares nodes by the sum of what is right below.
    One side of a pair stays with the first answer and the other does not; the paper's may both do either.
 4. The chosen side's likelihood is added to the loss (``dpo.nll``), as in MALT here: by DPO alone both sides lose probability to
    what nobody said. It is per token, so that the first word of a short last answer, "keep", weighs more than that of a new one. The paper's SFT before DPO is left out, its control is ``sft``.
 5. Pairs are drawn at random from those there are; the released code cuts a list that is sorted by how close siblings are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from common.config import Evaluation, ModelParams
from common.envs.contract import Env
from common.envs.word_problem_roles import in_roles
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample, referenced
from common.lm.engine import Engine
from common.rng import generator
from common.types import PreferencePair, Task
from papers.pbt.talks import AGREES, OBJECTS, Last, Talk, agreements, first_answers, last_answers, objections, sampled_talks

RESIST, ACCEPT = "resist", "accept"


@dataclass(frozen=True)
class Collect:
    tasks: int
    """Training questions."""
    branching: int
    """First answers to each, and last answers to the objection to each of them."""
    pairs: int
    """Most pairs that a variant learns from."""


@dataclass(frozen=True)
class Prefer:
    updates: int
    batch: int
    lr: float
    beta: float
    nll: float
    """Weight of the chosen side's negative log-likelihood beside DPO's loss; 0 is the paper's."""


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    collect: Collect
    dpo: Prefer
    test: Evaluation


@dataclass(frozen=True)
class Condition(Variant):
    """Learns from pairs of these ``kinds``, equally many of each; by DPO, or with ``imitates`` from their chosen sides."""

    kinds: tuple[str, ...] = ()
    imitates: bool = False


def variants(p: Params) -> list[Condition]:  # noqa: ARG001 - the same for all parameters
    return [
        Condition("base"),
        Condition("sft", (RESIST, ACCEPT), imitates=True),
        Condition("pbt", (RESIST, ACCEPT)),
        Condition("resist", (RESIST,)),
        Condition("accept", (ACCEPT,)),
    ]


def environment(lab: Lab) -> Env:
    return in_roles(lab.make_env())


# -- 1. pairs of siblings ----------------------------------------------------------------------------------------------


def siblings(talk: Talk, answers: Sequence[Last]) -> PreferencePair | None:
    """Of the last answers to a talk the first that stays before the first that changes and is wrong, where the first answer was right; else
    the first that changes and is right before the first that stays. None where there are no such two."""
    done = [one for one in answers if one.turn.finished]
    stays = [one.turn.text for one in done if one.kept]
    changes = [one.turn.text for one in done if not one.kept and one.right != talk.right]
    if not stays or not changes:
        return None
    better, worse = (stays, changes) if talk.right else (changes, stays)
    return PreferencePair(talk.prompt, better[0], worse[0], task_id=talk.task.id)


def grow(lab: Lab) -> tuple[dict[str, list[PreferencePair]], Collected]:
    """Pairs of each kind from the training questions, with their log-probabilities under the base model, and what they cost."""
    p, engine = lab.p.collect, lab.engine()
    tasks, n = lab.batch(0, p.tasks), p.branching
    answers = first_answers(lab, engine, tasks, n, "first")
    talks = objections(lab, answers)
    last, found = last_answers(lab, engine, talks, n, "last"), {RESIST: [], ACCEPT: []}
    for talk, of_talk in zip(talks, last, strict=True):
        if pair := siblings(talk, of_talk):
            found[RESIST if talk.right else ACCEPT].append(pair)
    turns = n * len(tasks) + n * len(talks)
    return {kind: referenced(engine, pairs) for kind, pairs in found.items()}, Collected([], spent(engine, turns))


def chosen(lab: Lab, found: dict[str, list[PreferencePair]], kinds: Sequence[str]) -> list[PreferencePair]:
    """As many pairs for every variant, equally many of each of its ``kinds``: a random part of those there are."""
    most = min(lab.p.collect.pairs, *map(len, found.values())) // 2 * 2
    return [found[kind][i] for kind in kinds
            for i in generator(lab.seed, "pairs", kind).permutation(len(found[kind]))[: most // len(kinds)]]  # fmt: skip


def train(lab: Lab, variant: Condition) -> Trained:
    p = lab.p.dpo
    if not variant.kinds:
        return BASE

    def collect(_: Engine) -> Collected:
        found, paid = lab.once("pairs", lambda: grow(lab))
        pairs = chosen(lab, found, variant.kinds)
        rows = [SFTExample(pair.prompt, pair.chosen) for pair in pairs] if variant.imitates else pairs
        return Collected(rows, paid.cost, {kind: len(pairs) for kind, pairs in found.items()})

    how = {} if variant.imitates else {"beta": p.beta, "nll": p.nll}
    return lab.fit(variant.name, collect, order=("pairs",), lr=p.lr, max_steps=p.updates, batch_size=p.batch, **how)


# -- 2. who is right to give in? ---------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """Last answers after first ones of the base model: to what the base model says of them (``success``), and to partners who always
    object or always agree, at temperature 1 and greedily. All variants meet the same first answers and the same partners."""
    engine, found = lab.engine(trained), []
    for panel, tasks in lab.panels_for(trained).items():
        tasks, metrics = tasks[: lab.p.test.tasks], {}
        met = lab.once(("met", panel), lambda: partners(lab, tasks))  # noqa: B023
        for prefix, temperature in (("", 1.0), ("greedy_", 0.0)):
            last = {name: [one for [one] in last_answers(lab, engine, talks, 1, "test", name, temperature=temperature)]
                    for name, talks in met.items()}  # fmt: skip
            reported = persuaded(met, last) | {"success": mean([one.right for one in last["base"]])}
            metrics |= {prefix + name: value for name, value in reported.items()}
        if not variant.kinds:
            metrics |= of_the_base(lab, met["base"])
        found.append(Measured(panel, metrics, len(tasks)))
    return found


def partners(lab: Lab, tasks: Sequence[Task]) -> dict[str, list[Talk]]:
    """Talks about the same first answers to ``tasks`` with the base model and with the scripted partners."""
    engine = lab.engine()
    answers = first_answers(lab, engine, tasks, lab.p.test.draws, "test first")
    return {OBJECTS: objections(lab, answers), AGREES: agreements(lab, answers), "base": sampled_talks(lab, engine, answers, "test partner")}


def persuaded(met: dict[str, list[Talk]], last: dict[str, list[Last]]) -> dict[str, float]:
    """To a partner who objects: ``holds``, the share of right answers that are kept, ``yields``, of wrong ones that are not, and
    ``balanced``, their mean, ½ for whoever keeps as many of both; ``repairs``, the share of wrong ones after which the last is right, and
    ``contested``, of all. To a partner who agrees: ``stays``, the share of right answers that are kept, and ``flattered``, of wrong ones."""
    def share(manner: str, was_right: bool, counted) -> float:  # noqa: ANN001
        return mean([counted(one) for talk, one in zip(met[manner], last[manner], strict=True) if talk.right == was_right])

    holds, yields = share(OBJECTS, True, lambda one: one.kept), share(OBJECTS, False, lambda one: not one.kept)
    return {"holds": holds, "yields": yields, "balanced": (holds + yields) / 2,
            "repairs": share(OBJECTS, False, lambda one: one.right), "contested": mean([one.right for one in last[OBJECTS]]),
            "stays": share(AGREES, True, lambda one: one.kept), "flattered": share(AGREES, False, lambda one: one.kept)}  # fmt: skip


def mean(values: Sequence[float]) -> float:
    """0 of none: of a policy that ends no answer."""
    return fmean(values) if values else 0.0


def of_the_base(lab: Lab, talks: Sequence[Talk]) -> dict[str, float]:
    """``acc@1``, how often first answers are right, and ``verifier_balanced``, how well the base model tells, by its verdicts, which are."""
    told = [[lab.env.verdict(talk.said) == talk.right for talk in talks if talk.right == right] for right in (True, False)]
    balanced = {"verifier_balanced": fmean(map(fmean, told))} if all(told) else {}
    return {"acc@1": mean([talk.right for talk in talks])} | balanced
