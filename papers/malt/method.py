"""MALT (Motwani et al. 2024, arXiv:2412.01928): a generator, a verifier and a refiner, post-trained from one tree.

A question goes through three roles: the generator answers, the verifier criticises the answer, the refiner reads
both and answers again; only the last answer counts. For every training question each role is sampled n = 3 times at
every node, which gives 27 final answers of reward r ∈ {0, 1}. Credit flows back as a mean:

    V(refinement) = r        V(verification) = mean of its refinements        V(generation) = mean of its verifications

An utterance is positive when V > 0.5. Every role learns by SFT from its positive utterances; then verifier and
refiner learn by DPO from siblings (same prompt, sampled side by side) of opposite labels, the generator does not.
Each role ends with weights of its own. At test time several chains are sampled and the final answers vote.

    base                  one agent: the generator's answer is final
    trio                  the three roles, all played by the base
    star_trio             SFT on all trajectories that end right: positive is what some winning leaf lies below (V > 0)
    malt_sft              SFT on V > 0.5, no DPO: where ``malt`` goes on from
    malt_sft_long         the same for as many updates as ``malt`` has
    malt                  SFT, then DPO on V and R
    malt_outcome          as ``malt``, but every utterance is labelled by the outcome of one trajectory through it
    malt_base_g, _v, _r   ``malt`` with one role played by the base
    rft                   one agent, fine-tuned on its own right answers: as many sampled tokens as the tree, as many
                          updates as ``malt``'s roles have together
    …+vote                the most frequent of ``test.votes`` final answers
    …+vote_tok            one agent with as many votes as cost what the trio's chains cost in tokens

Differs from the paper:
 1. One nano policy trained from scratch on demonstrations of all three roles instead of an instruction-tuned 8B
    model with prompts; countdown-roles-v1 instead of GSM8K, CSQA and MATH. Directions may carry over, sizes not.
 2. All weights are trained (the paper: LoRA adapters), each role from the same base.
 3. Sampling at temperature 1 in the tree, see params.yaml for the test; a nano policy's samples at 0.3 are
    nearly all alike, so that siblings would not differ.
 4. Equal completions of one prompt are imitated as often as they were sampled; siblings of the same text make no pair
    (their labels differ by the luck of what followed). The paper does not say what it does with duplicates. In a pilot,
    imitating distinct utterances only made rare answers as likely as frequent ones and lost success.
 5. The DPO reference is the role's own SFT policy, whose log-probabilities of both sides are computed once.
 6. A fixed number of updates instead of epochs, so that variants of one claim are trained equally long.
 7. Votes are compared as texts, ties go to the answer given first (the paper votes on final numbers).
 8. ``malt_outcome`` shares the tree, so that its sampled tokens and utterances are those of ``malt``: an utterance's
    label is the reward of the first leaf below it. The paper's own baseline is STaR (``star_trio``).
 9. The roles' ablations keep a role and give it the base's weights; leaving it out would change the prompts.
10. A pretrained chat model (``model``) plays the roles by prompts of our own (:mod:`common.envs.word_problem_roles`),
    at the paper's temperature. It answers in prose: right or wrong, and what is voted on, is the number that a solution
    declares last (as in the paper, against 7; that it declares none is a vote too), and whole turns are imitated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import torch

from common.envs import load_panel, make
from common.envs.roles import ROLES
from common.envs.word_problem_roles import in_roles
from common.evaluate.correction import attempts_of
from common.evaluate.team import answers_of, ballots, chain_report, credit_audit, dialogue_records, vote, vote_within
from common.learn.batches import SFTExample
from common.learn.policy import dpo, sft
from common.learn.settings import DPOSettings, TrainSettings
from common.lm.device import on_device
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.lm.policy import LMPolicy
from common.lm.team import TeamPolicy
from common.rng import derive, generator
from common.search.budget import play_within
from common.search.expansion import Branch, Expansion, expand, first_outcomes, records, sibling_pairs, values
from common.search.policy import Policy
from common.search.rollout import rollout
from common.track.lines import write_lines
from common.track.rows import MetricRow, cost_of
from common.types import Cost, PreferencePair, Step, Task, Trajectory

GENERATOR, VERIFIER, REFINER = ROLES


@dataclass(frozen=True)
class Collect:
    tasks: int
    """Training questions."""
    branching: int
    """n: samples of each role at every node, n³ leaves."""
    temperature: float


@dataclass(frozen=True)
class Imitate:
    lr: float
    batch: int
    updates: int
    """Of each role."""


@dataclass(frozen=True)
class Prefer:
    lr: float
    batch: int
    updates: int
    """Of verifier and refiner each."""
    beta: float


@dataclass(frozen=True)
class Test:
    tasks: int
    votes: int
    temperature: float


@dataclass(frozen=True)
class Params:
    model: str
    """What everything starts from: "nano", the environment's own base model, or a pretrained one."""
    answer_tokens: int
    """Most tokens of an answer, the generator's or the refiner's."""
    critique_tokens: int
    """Most tokens of a critique."""
    collect: Collect
    threshold: float
    sft: Imitate
    dpo: Prefer
    test: Test
    panels: tuple[str, ...]


@dataclass(frozen=True)
class Weights:
    """What one role was trained on: its ``credit`` rule and how, ``sft``, ``sft_long`` or ``dpo`` (after sft)."""

    role: str
    credit: str
    how: str = "sft"

    @property
    def stage(self) -> str:
        return f"train.{self.credit}.{self.role}.{self.how}"


Team = dict[str, Weights | None]
"""Role → its weights, None for the base's."""


def teams() -> dict[str, Team]:
    """The trios in order of training."""

    def team(credit: str, how: str) -> Team:
        """``how`` is that of verifier and refiner; the generator has SFT only."""
        return {role: Weights(role, credit, "sft" if role == GENERATOR else how) for role in ROLES}

    malt = team("value", "dpo")
    return {
        "trio": dict.fromkeys(ROLES),
        "star_trio": team("any", "sft"),
        "malt_sft": team("value", "sft"),
        "malt_sft_long": team("value", "sft_long"),
        "malt": malt,
        "malt_outcome": team("outcome", "dpo"),
        "malt_base_g": malt | {GENERATOR: None},
        "malt_base_v": malt | {VERIFIER: None},
        "malt_base_r": malt | {REFINER: None},
    }


SINGLE = "train.single.generator.sft"
"""The stage that holds the weights of ``rft``."""
CREDITED = {"value": "malt", "outcome": "malt_outcome", "any": "star_trio"}
"""Credit rules, and the variant that stands for each where its labels are held against the truth."""


# -- 1. credit: what is positive, and which pairs follow (paper §4) --------------------------------------------


def labels(expansion: Expansion, credit: str, threshold: float) -> list[bool]:
    """Whether each branch is positive by a credit rule: ``value`` (V > threshold), ``any`` (V > 0: some trajectory
    through it ends right), ``outcome`` (the one trajectory that was followed from it does)."""
    if credit == "outcome":
        return [outcome >= 1.0 for outcome in first_outcomes(expansion)]
    return [value > (threshold if credit == "value" else 0.0) for value in values(expansion)]


def as_sampled(steps: Iterable[Branch | Step]) -> list[SFTExample]:
    """Finished utterances to be imitated, as often as they were sampled: their frequencies are the policy's own, so
    that likelihood is moved from what failed to what did not."""
    return [SFTExample(one.prompt, one.turn.text) for one in steps if one.turn.finished]


def positives(trees: Sequence[Expansion], credit: str, threshold: float, depth: int) -> list[SFTExample]:
    """What one role imitates: its positive utterances in the order sampled."""
    return as_sampled(
        branch
        for tree in trees
        for branch, good in zip(tree.branches, labels(tree, credit, threshold), strict=True)
        if good and branch.depth == depth
    )


def referenced(pairs: Sequence[PreferencePair], engine: Engine) -> list[PreferencePair]:
    """The pairs with both sides' log-probabilities under ``engine``, the policy that DPO starts from."""
    scored = engine.score([pair.prompt for pair in pairs], [[pair.chosen, pair.rejected] for pair in pairs])
    return [replace(pair, ref_chosen=a, ref_rejected=b) for pair, (a, b) in zip(pairs, scored, strict=True)]


# -- 2. the unit: all variants, resumable stage by stage --------------------------------------------------------


class Experiment:
    """One unit at work: environment, questions, and stages that are computed once and then read back."""

    def __init__(self, unit) -> None:
        self.unit, self.run, self.p, self.seed = unit, unit.run, unit.params, unit.seed
        self.env = in_roles(make(unit.env, unit.data))
        panel = load_panel(unit.data, f"{unit.env}/train")
        order = [panel[i] for i in generator(self.seed, "tasks").permutation(len(panel))]
        self.tasks = order[: self.p.collect.tasks]
        self.panels = {name: load_panel(unit.data, f"{unit.env}/{name}")[: self.p.test.tasks] for name in self.p.panels}

    def engine(self, stage: str | None = None) -> Engine:
        """The policy that ``stage`` saved; None is the base model."""
        return Engine(*on_device(*load_model(self.run.stage_path(stage) if stage else self.unit.base)))

    def member(self, engine: Engine, temperature: float, role: str = GENERATOR) -> LMPolicy:
        """One role played by ``engine``; a single agent answers as the generator."""
        limit = self.p.critique_tokens if role == VERIFIER else self.p.answer_tokens
        return LMPolicy(engine, temperature, max_new_tokens=limit)

    def policy(self, team: Team, temperature: float) -> TeamPolicy:
        engines = {stage: self.engine(stage) for stage in {w.stage if w else None for w in team.values()}}
        members = {role: self.member(engines[w.stage if w else None], temperature, role) for role, w in team.items()}
        return TeamPolicy(members, self.env.role_of)

    # the tree

    @cached_property
    def _trees(self) -> tuple[list[Expansion], Cost]:
        """n³ leaves a question, all by the base; grown again when a killed unit resumes, the same each time."""
        policy = self.policy(dict.fromkeys(ROLES), self.p.collect.temperature)
        keys = [derive(self.seed, "tree", task.id) for task in self.tasks]
        trees = expand(self.env, self.tasks, policy, branching=[self.p.collect.branching] * 3, keys=keys)
        turns = sum(len(tree.branches) for tree in trees)
        kept = [row for tree in trees[:40] for row in records(tree, values(tree))]
        write_lines(self.run.artifacts / "trees.jsonl", kept)
        return trees, turns_cost(policy.cost(), turns)

    def tree_cost(self) -> Cost:
        return Cost(**self.run.stage("trees", lambda: cost_of(self._trees[1])))

    def audited(self, credit: str) -> dict[str, float]:
        def compute() -> dict:
            trees = self._trees[0]
            good = [labels(tree, credit, self.p.threshold) for tree in trees]
            return credit_audit(self.env, self.tasks, trees, good, verdict=self.env.verdict)

        return self.run.stage(f"audit.{credit}", compute)

    # training

    def train(self, weights: Weights) -> Cost:
        """Train one role and what it goes on from; the cost of both, without the tree."""
        before = replace(weights, how="sft") if weights.how == "dpo" else None
        spent = self.train(before) if before else Cost()

        def compute() -> dict:
            engine, depth = self.engine(before.stage if before else None), ROLES.index(weights.role)
            learn = self.prefer if weights.how == "dpo" else self.imitate
            with self.run.stage_dir(weights.stage) as folder:
                examples, updates = learn(engine, weights, depth)
                save_model(engine.model, engine.tokenizer, folder)
            return {"cost": cost_of(replace(engine.cost, updates=updates)), "examples": examples}

        return spent + Cost(**self.run.stage(weights.stage, compute)["cost"])

    def imitate(self, engine: Engine, weights: Weights, depth: int) -> tuple[int, int]:
        examples = positives(self._trees[0], weights.credit, self.p.threshold, depth)
        updates = self.p.sft.updates + (self.p.dpo.updates if weights.how == "sft_long" else 0)
        return len(examples), self.fit(engine, examples, weights.stage, updates=updates)

    def fit(self, engine: Engine, examples: list[SFTExample], stage: str, *, updates: int) -> int:
        """SFT for ``updates``; the number made, 0 where there is nothing to imitate."""
        if not (examples and updates):
            return 0
        settings = TrainSettings(lr=self.p.sft.lr, max_steps=updates, batch_size=self.p.sft.batch,
                                 max_length=engine.context, warmup=0.1)  # fmt: skip
        return sft(engine.model, engine.tokenizer, examples, settings, seed=self.order(stage), out_dir=self.run.artifacts,
                   log=self.log(stage, "logp")).updates  # fmt: skip

    def prefer(self, engine: Engine, weights: Weights, depth: int) -> tuple[int, int]:
        good = [labels(tree, weights.credit, self.p.threshold) for tree in self._trees[0]]
        pairs = [pair for tree, own in zip(self._trees[0], good) for pair in sibling_pairs(tree, own, depth=depth)]
        if not pairs:
            return 0, 0
        settings = DPOSettings(lr=self.p.dpo.lr, max_steps=self.p.dpo.updates, batch_size=self.p.dpo.batch,
                               max_length=engine.context, warmup=0.1, beta=self.p.dpo.beta)  # fmt: skip
        keep = ("reward_margin", "reward_accuracy", "logratio_chosen", "logratio_rejected")
        return len(pairs), dpo(engine.model, engine.tokenizer, referenced(pairs, engine), settings, out_dir=self.run.artifacts,
                               seed=self.order(weights.stage), log=self.log(weights.stage, *keep)).updates  # fmt: skip

    def order(self, stage: str) -> int:
        """The seed of a stage's batches. Not the credit rule: variants that differ in it alone are paired."""
        return derive(self.seed, "train", *stage.split(".")[-2:]) % 2**31

    def log(self, stage: str, *more: str) -> Callable:
        name, keep = stage.removeprefix("train."), ("loss", "grad_norm", *more)
        return lambda update, found: self.run.log(name, update, {f"r1/train/{k}": found[k] for k in keep})

    def trained(self, team: Team) -> Cost:
        """Train all roles of a team; what it cost altogether, one tree included when any role was trained."""
        spent = [self.train(weights) for weights in team.values() if weights]
        return sum(spent, self.tree_cost()) if spent else Cost()

    def single(self) -> Cost:
        """``rft``: answers of the base alone, until they cost what the tree cost; SFT on the right ones."""
        budget, updates = self.tree_cost().sampled_tokens, self.trained(teams()["malt"]).updates

        def compute() -> dict:
            engine = self.engine()
            asked, told = play_within(self.env, self.tasks, self.member(engine, self.p.collect.temperature),
                                      tokens=budget, seed=derive(self.seed, "single"), max_steps=1)  # fmt: skip
            right = attempts_of(self.env, asked, told).correct[:, 0]
            found = as_sampled(episode.steps[0] for episode, good in zip(told, right, strict=True) if good)
            cost = turns_cost(engine.cost, len(told))
            with self.run.stage_dir(SINGLE) as folder:
                made = self.fit(engine, found, SINGLE, updates=updates)
                save_model(engine.model, engine.tokenizer, folder)
            return {"cost": cost_of(replace(cost, updates=made)), "examples": len(found)}

        return Cost(**self.run.stage(SINGLE, compute)["cost"])

    # evaluation: {panel: {suffix of the variant's name: [metrics, cost]}}

    def play(self, tasks: list[Task], policy: Policy, draw: int, *, turns: int = len(ROLES)) -> list[Trajectory]:
        """One chain of each task, or its first turn only. Random numbers depend on task and draw, not on the policy:
        the first votes of ``base`` are the first turns of ``trio``."""
        keys = [derive(self.seed, "evaluate", draw, task.id) for task in tasks]
        return rollout(self.env, tasks, policy, keys=keys, max_steps=turns)

    def evaluate_team(self, name: str, team: Team) -> dict:
        """``test.votes`` chains of every task, one by one and voting, and one greedy chain."""

        def compute() -> dict:
            result, votes = {}, self.p.test.votes
            for panel, tasks in self.panels.items():
                policy = self.policy(team, self.p.test.temperature)
                told = [self.play(tasks, policy, draw) for draw in range(votes)]
                cost = turns_cost(policy.cost(), len(ROLES) * votes * len(tasks))
                greedy = self.play(tasks, self.policy(team, 0.0), 0)
                chains = [chain for episodes in told for chain in episodes]
                one = chain_report(self.env, tasks * votes, chains, verdict=self.env.verdict, value=self.env.computed)
                one["greedy_success"] = fmean(chain.success for chain in greedy)
                together = vote(*ballots([answers_of(self.env, tasks, episodes) for episodes in told]))
                result[panel] = {"": [one, cost_of(shared(cost, votes))], "+vote": [together, cost_of(cost)]}
                if panel == self.p.panels[0]:
                    kept = dialogue_records(self.env, tasks[:60], told[0][:60], ROLES, verdict=self.env.verdict)
                    write_lines(self.run.artifacts / f"dialogues.{name}.jsonl", kept)
            return self.logged(name, result)

        return self.run.stage(f"eval.{name}", compute)

    def evaluate_single(self, name: str, stage: str | None, budgets: dict[str, int]) -> dict:
        """One answer, ``test.votes`` of them voting, and as many as ``budgets[panel]`` sampled tokens pay for."""

        def compute() -> dict:
            result, votes = {}, self.p.test.votes
            for panel, tasks in self.panels.items():
                policy, told = self.member(self.engine(stage), self.p.test.temperature), []
                spent: list[Cost] = []
                while len(told) < votes or spent[-1].sampled_tokens < budgets[panel]:
                    told.append(self.play(tasks, policy, len(told), turns=1))
                    spent.append(turns_cost(policy.engine.cost, len(told) * len(tasks)))
                judged = [attempts_of(self.env, tasks, episodes) for episodes in told]
                greedy = self.play(tasks, self.member(self.engine(stage), 0.0), 0, turns=1)
                one = {"success": fmean(float(draw.correct.mean()) for draw in judged[:votes]),
                       "greedy_success": float(attempts_of(self.env, tasks, greedy).correct.mean())}  # fmt: skip
                tokens = [[episode.n_tokens for episode in episodes] for episodes in told]
                many, paid, taken = vote_within(judged, tokens, budgets[panel])
                result[panel] = {
                    "": [one, cost_of(shared(spent[votes - 1], votes))],
                    "+vote": [vote(*ballots(judged[:votes])), cost_of(spent[votes - 1])],
                    "+vote_tok": [many, cost_of(replace(turns_cost(spent[-1], taken), sampled_tokens=paid))],
                }
            return self.logged(name, result)

        return self.run.stage(f"eval.{name}", compute)

    def logged(self, name: str, result: dict) -> dict:
        for panel, found in result.items():
            for suffix, (metrics, _) in found.items():
                self.run.log(f"{name}{suffix}", 0, {f"{panel}/{k.replace('@', '_')}": v for k, v in metrics.items()})
        return result


def turns_cost(cost: Cost, turns: int) -> Cost:
    """An engine's cost with the turns it sampled, each of them a step in the environment."""
    return replace(cost, env_steps=turns, samples=turns)


def shared(cost: Cost, draws: int) -> Cost:
    """What one of ``draws`` equal draws cost, rounded."""
    return Cost(**{name: round(n / draws) for name, n in cost_of(cost).items()})


def run(unit) -> list[MetricRow]:
    """Train and evaluate every variant of one unit; writes its metric rows and marks it finished."""
    if unit.run.finished:
        return unit.run.rows()
    torch.set_num_threads(1)  # bit-identical results whatever the number of workers
    work, rows, tokens = Experiment(unit), [], {}

    def add(variant: str, panel: str, metrics: dict, n: int, cost: Cost) -> None:
        rows.extend(
            MetricRow(paper="malt", env=unit.env, profile=unit.profile, scale=work.p.model, variant=variant,
                      seed=unit.seed, panel=f"{unit.env}/{panel}", metric=metric, value=value, n=n,
                      cost=cost_of(cost))  # fmt: skip
            for metric, value in metrics.items()
        )

    def add_all(name: str, trained: Cost, result: dict) -> None:
        for panel, found in result.items():
            for suffix, (metrics, cost) in found.items():
                add(f"{name}{suffix}", panel, metrics, len(work.panels[panel]), trained + Cost(**cost))

    for name, team in teams().items():
        trained = work.trained(team)
        result = work.evaluate_team(name, team)
        add_all(name, trained, result)
        tokens[name] = {panel: found["+vote"][1]["sampled_tokens"] for panel, found in result.items()}
    add_all("base", Cost(), work.evaluate_single("base", None, tokens["trio"]))
    trained = work.single()
    add_all("rft", trained, work.evaluate_single("rft", SINGLE, tokens["malt"]))
    for credit, name in CREDITED.items():
        add(name, "train", work.audited(credit), len(work.tasks), work.trained(teams()[name]))
    unit.run.write_rows(rows)
    unit.run.finish()
    return rows
