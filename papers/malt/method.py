"""MALT (Motwani et al. 2024, arXiv:2412.01928): a generator, a verifier and a refiner, trained from one tree.

A question goes through three roles: the generator answers, the verifier criticises the answer, the refiner reads both
and answers again; the last answer counts. For each training question every role is sampled n = 3 times at every node,
which gives 27 last answers of reward r ∈ {0, 1}. Credit goes up the tree as a mean:

    V(refinement) = r        V(verification) = mean of its refinements        V(generation) = mean of its verifications

An utterance is positive when V > 0.5. Every role learns by SFT from its positive utterances; then verifier and refiner
learn by DPO from siblings (same prompt, sampled side by side) of opposite labels, the generator does not. Each role
ends with weights of its own. At test time several chains are sampled and the last answers vote.

    base                  one agent: the generator's answer is final
    trio                  the three roles, all played by the base
    star_trio             SFT on all trajectories that end right: positive is V > 0
    malt_sft              SFT on V > 0.5, without DPO: where ``malt`` goes on from
    malt_sft_long         the same for as many updates as ``malt`` has
    malt                  SFT, then DPO on V and R
    malt_outcome          as ``malt``, but an utterance's label is the outcome of one trajectory through it
    malt_base_g, _v, _r   ``malt`` with one role played by the base
    rft                   one agent, fine-tuned on its own right answers, with the tree's tokens and ``malt``'s updates
    …+vote                the most frequent of ``test.votes`` last answers
    …+vote_tok            one agent with as many votes as cost what the trio's chains cost in tokens

Differs from the paper:
 1. A nano policy instead of an instruction-tuned 8B model, countdown-worked-roles-v1 instead of GSM8K, CSQA and MATH.
 2. All weights are trained unless ``lora_rank`` is set (the paper: LoRA), each role from the same base.
 3. The tree is sampled at temperature 1: a nano policy's samples at 0.3 are nearly all alike.
 4. Equal completions are imitated as often as they were sampled; siblings of the same text make no pair (not stated).
 5. The DPO reference is the role's own SFT policy. On countdown-worked-roles-v1 the chosen side's likelihood is added to the loss (the
    term of Pang et al. 2024, iterative RPO; ``dpo.nll``): by DPO alone both sides lose probability to what nobody said.
 6. A fixed number of updates instead of epochs, so that variants of one claim are trained equally long.
 7. Votes are compared as texts, ties go to the answer given first (the paper votes on final numbers). Means over ``test.elections``.
 8. ``malt_outcome`` shares the tree: the label is the reward of the first leaf below. The paper's own baseline is STaR.
 9. The roles' ablations keep a role and give it the base's weights; leaving it out would change the prompts.
10. A pretrained chat model plays the roles by our own prompts (:mod:`common.envs.word_problem_roles`), at 0.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.config import ModelParams
from common.envs.contract import Env
from common.envs.roles import ROLES
from common.envs.word_problem_roles import in_roles
from common.evaluate.correction import attempts_of
from common.lab import BASE, KEPT_TASKS, Collected, Lab, Measured, Trained, Variant, spent
from common.lm.engine import Engine
from common.lm.team import TeamPolicy
from common.rng import derive
from common.rows import cost_of
from common.search.rollout import rollout
from common.types import Cost, Task, Trajectory
from papers.malt import measures, tree
from papers.malt.params import Collect, Imitate, Prefer, Test

GENERATOR, VERIFIER, _ = ROLES


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    critique_tokens: int
    """Most tokens of a critique; ``answer_tokens`` are those of generator and refiner."""
    collect: Collect
    threshold: float
    sft: Imitate
    dpo: Prefer
    test: Test


@dataclass(frozen=True)
class Condition(Variant):
    """A trio. With ``peer`` one agent instead, which gets the updates of these ``roles`` and, to vote, as many sampled
    tokens as the variant ``peer``."""

    roles: Mapping[str, str] = field(default_factory=dict)
    """Role → "<credit rule>.<sft, sft_long or dpo>". A role that is left out is played by the base."""
    peer: str = ""
    audit: str = ""
    """The credit rule whose labels are compared with the truth, "" for none."""


def variants(p: Params) -> list[Condition]:
    def trio(credit: str, how: str) -> dict[str, str]:  # the generator has SFT only
        return {role: f"{credit}.{'sft' if role == GENERATOR else how}" for role in ROLES}

    malt = trio("value", "dpo")
    return [
        Condition("trio"),
        Condition("star_trio", trio("any", "sft"), audit="any"),
        Condition("malt_sft", trio("value", "sft")),
        Condition("malt_sft_long", trio("value", "sft_long")),
        Condition("malt", malt, audit="value"),
        Condition("malt_outcome", trio("outcome", "dpo"), audit="outcome"),
        *(Condition(f"malt_base_{role[0]}", {k: how for k, how in malt.items() if k != role}) for role in ROLES),
        Condition("base", peer="trio"),
        Condition("rft", malt, peer="malt"),
    ]


def environment(lab: Lab) -> Env:
    return in_roles(lab.make_env())


@dataclass(frozen=True)
class Team(Trained):
    """The weights of each role, the base's where it has none of its own."""

    roles: Mapping[str, Trained] = field(default_factory=dict)


def train(lab: Lab, variant: Condition) -> Team:
    """Each role learns from the same tree, whose cost counts once; one agent learns from as many tokens and updates."""
    roles = {role: train_role(lab, role, *how.split(".")) for role, how in variant.roles.items()}
    cost = sum((one.cost for one in roles.values()), tree_cost(lab)) if roles else Cost()
    return train_alone(lab, updates=cost.updates) if roles and variant.peer else Team(cost=cost, roles=roles)


# -- 1. the tree, and what each role learns from it (paper §4) -------------------------------------------------------


def grow(lab: Lab) -> tuple[list[tree.Expansion], Cost]:
    """n³ leaves for each training question, sampled from the base, and what they cost."""
    p, tasks = lab.p.collect, lab.tasks[: lab.p.collect.tasks]
    policy = team(lab, Team(), p.temperature)
    keys = [derive(lab.seed, "tree", task.id) for task in tasks]
    found = tree.expand(lab.env, tasks, policy, branching=[p.branching] * len(ROLES), keys=keys)
    lab.keep("trees", [row for one in found[:40] for row in tree.records(one, tree.values(one))])
    return found, measures.turns_cost(policy.cost(), sum(len(one.branches) for one in found))


def tree_cost(lab: Lab) -> Cost:
    return Cost(**lab.stage("trees", lambda: cost_of(lab.once("trees", lambda: grow(lab))[1])))


def labelled(lab: Lab, credit: str) -> list[tree.Labelled]:
    """Each tree, and which of its utterances are positive by the rule ``credit``."""
    return [(one, tree.labels(one, credit, lab.p.threshold)) for one in lab.once("trees", lambda: grow(lab))[0]]


def train_role(lab: Lab, role: str, credit: str, how: str) -> Trained:
    """SFT of one role on its positive utterances; with ``dpo`` then DPO on its siblings of opposite labels.

    The order of batches does not depend on the credit rule, so that variants that differ in it alone are paired.
    """
    p, depth = lab.p, ROLES.index(role)
    name, order = f"{credit}.{role}.{how}", ("train", role, how)

    def preferred(engine: Engine) -> Collected:
        pairs = [pair for one, good in labelled(lab, credit) for pair in tree.sibling_pairs(one, good, depth=depth)]
        return Collected(tree.referenced(pairs, engine), spent(engine, 0))

    if how == "dpo":
        return lab.fit(name, preferred, order=order, start=train_role(lab, role, credit, "sft"), lr=p.dpo.lr,
                       max_steps=p.dpo.updates, batch_size=p.dpo.batch, beta=p.dpo.beta, nll=p.dpo.nll)  # fmt: skip
    return lab.fit(name, lambda _: Collected(tree.positives(labelled(lab, credit), depth)), order=order, lr=p.sft.lr,
                   max_steps=p.sft.updates + p.dpo.updates * (how == "sft_long"), batch_size=p.sft.batch)  # fmt: skip


def train_alone(lab: Lab, *, updates: int) -> Team:
    """SFT of one agent on the right ones of the base's own answers, as many as cost what the tree cost."""
    p = lab.p

    def right(engine: Engine) -> Collected:
        policy, tasks = lab.policy(engine, p.collect.temperature), lab.tasks[: p.collect.tasks]
        asked, episodes = tree.play_within(lab.env, tasks, policy, tokens=tree_cost(lab).sampled_tokens,
                                           seed=derive(lab.seed, "single"))  # fmt: skip
        correct = attempts_of(lab.env, asked, episodes).correct[:, 0]
        found = tree.as_sampled(episode.steps[0] for episode, good in zip(episodes, correct, strict=True) if good)
        return Collected(found, spent(engine, len(episodes)))

    alone = lab.fit("single.generator.sft", right, order=("train", GENERATOR, "sft"), lr=p.sft.lr, max_steps=updates,
                    batch_size=p.sft.batch)  # fmt: skip
    return Team(cost=alone.cost, roles={GENERATOR: alone})


# -- 2. acting and voting --------------------------------------------------------------------------------------------


def team(lab: Lab, trained: Team, temperature: float, turns: int = len(ROLES)) -> TeamPolicy:
    """The roles of the first ``turns`` turns as one policy; those of the same weights share an engine."""
    weights = {role: trained.roles.get(role, BASE) for role in ROLES[:turns]}
    engines = {stage: lab.engine(Trained(stage)) for stage in dict.fromkeys(one.stage for one in weights.values())}
    limits = {VERIFIER: {"max_new_tokens": lab.p.critique_tokens}}
    return TeamPolicy({role: lab.policy(engines[one.stage], temperature, **limits.get(role, {}))
                       for role, one in weights.items()}, lab.env.role_of)  # fmt: skip


def play(lab: Lab, tasks: list[Task], policy: TeamPolicy, draw: int, turns: int) -> list[Trajectory]:
    """The first ``turns`` turns of a chain of each task; random numbers depend on task and draw, not on the policy."""
    keys = [derive(lab.seed, "evaluate", draw, task.id) for task in tasks]
    return rollout(lab.env, tasks, policy, keys=keys, max_steps=turns)


def evaluate(lab: Lab, variant: Condition, trained: Team) -> list[Measured]:
    """``test.elections`` times ``test.votes`` chains of every task, one by one and voting, and a greedy one, which is its own vote; of
    one agent also as many votes as its peer's chains cost in sampled tokens."""
    p, env, turns, found = lab.p.test, lab.env, 1 if variant.peer else len(ROLES), []
    bare = variant.peer and not trained.roles  # the base itself, which admission checks ask about
    for panel, tasks in (lab.panels_for(trained) if bare else lab.panels).items():
        tasks, policy, drawn, costs = tasks[: p.tasks], team(lab, trained, p.temperature, turns), [], []
        budget = sum(one.cost.sampled_tokens for one in lab.results[variant.peer].measured
                     if (one.panel, one.acting) == (panel, "vote")) if variant.peer else 0  # fmt: skip
        while not measures.affords(drawn, p.elections, p.votes, budget):
            drawn.append(play(lab, tasks, policy, len(drawn), turns))
            costs.append(measures.turns_cost(policy.cost(), len(drawn) * turns * len(tasks)))
        judged, chains = [measures.answers_of(env, tasks, episodes) for episodes in drawn], p.votes * p.elections
        greedy = measures.report(env, tasks, [play(lab, tasks, team(lab, trained, 0.0, turns), 0, turns)])
        one = measures.report(env, tasks, drawn[:chains]) | {f"greedy_{name}": value for name, value in greedy.items()}
        one |= measures.passes(judged[:chains]) if bare and lab.p.admission else {}
        same = {"greedy_success": greedy["success"]}
        found.append(Measured(panel, one, len(tasks), cost=measures.share_of(costs[chains - 1], chains)))
        found.append(Measured(panel, measures.elected(judged[:chains], p.elections) | same, len(tasks), "vote",
                              measures.share_of(costs[chains - 1], p.elections)))  # fmt: skip
        if budget:
            many, paid = measures.elected_within(judged, drawn, p.elections, budget, costs[-1])
            found.append(Measured(panel, many | same, len(tasks), "vote_tok", paid))
        elif not variant.peer and panel == lab.p.panels[0]:
            kept = measures.records(env, tasks[:KEPT_TASKS], drawn[0][:KEPT_TASKS], ROLES)
            lab.keep(f"dialogues.{variant.name}", kept)
    if variant.audit:
        tasks = lab.tasks[: lab.p.collect.tasks]
        found.append(Measured("train", measures.credit_audit(env, tasks, labelled(lab, variant.audit)), len(tasks)))
    return found
