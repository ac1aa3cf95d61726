"""CORY (Ma et al. 2024, arXiv:2410.06101): two copies of a policy, fine-tuned together by reinforcement learning.

A pioneer answers the question s, a₁ ~ π_p(·|s); an observer sees the question and that answer and answers too,
a₂ ~ π_o(·|s, a₁). Correctness r ∈ {0, 1} is checked by the environment. Both get the same reward,

    r(a₁) + r(a₂)   for pioneer and observer alike, each minus η·KL(π ‖ π₀) of its own answer

and learn from it separately, each by its own policy gradient, from copies of π₀; every T updates they exchange roles. What is judged is one
agent alone, answering once: the one that ends as pioneer. All variants start from the same base model and see as many sampled answers:

    base              one model in both roles, not trained
    single            policy-gradient RL of one agent on its first answers
    cory              pioneer and observer, roles exchanged, each agent's Adam state kept with its weights
    cory_reset        as the released code: both Adam states are thrown away at every exchange
    cory_no_exchange  the pioneer stays pioneer
    cory_blind        the observer does not see a₁: it answers the question
    …@eta=…           single and cory at other weights η, for their frontiers of reward against KL
    single_frontier, cory_frontier    what can be had by mixing each method's policies

CORY samples two answers for every question. Single-agent RL gets equally many by twice as many updates of the same size.

Differs from the paper:
 1. Nano policies trained from scratch instead of GPT-2 and Llama-2; Countdown and sums instead of IMDB and GSM8K.
 2. The observer's request is the environment's second turn, which the base's demonstrations have (an answer kept or replaced). So a₁ and a₂
    depend on each other from the start, which may make r(a₂) noisier credit for the pioneer or better credit.
 3. REINFORCE instead of PPO with a learned value. The baseline is what such a value could know without learning: the mean over the other
    samples of the question, and for an observer that sees a₁ also r(a₁), which is fixed before it answers. That leaves the expected
    gradient as it is (tested by enumeration). One gradient step for each batch.
 4. The KL is a term of the loss, exact, at a constant weight; the paper's is part of the reward, the code's weight adaptive. Rewards unscaled.
 5. A summed reward is on twice the scale, so that one η holds CORY less: methods are compared on their frontiers, never at equal η.
 6. ``cory_reset`` rebuilds Adam only, not also an adaptive KL weight. All variants warm up once, at the beginning.
 7. The last weights are taken; answers are sampled at temperature 1.
 8. ``cory_blind``'s observer gets the pioneer's own question, without the request to check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from common.config import Evaluation, UnitParams
from common.evaluate.correction import Attempts, correction
from common.lab import BASE, KEPT_TASKS, Lab, Measured, Result, Trained, Variant, spent
from common.learn.policy_gradient import PolicyGradientSettings, adam, answer_kls, policy_gradient_step
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.lm.team import TeamPolicy
from common.types import Cost, Message, Trajectory, Turn
from papers.cory import maths
from papers.cory.maths import credited, progress

ROLES = PIONEER, OBSERVER = ("pioneer", "observer")
FRONTIERS = ("single", "cory")  # methods that are trained at several weights η
WARMUP = 4  # updates of linear warm-up at the beginning (ours)


@dataclass(frozen=True)
class Cooperate:
    updates: int
    """Of each agent of a pair; single-agent RL has twice as many."""
    exchange_every: int
    """T, in updates."""
    tasks: int
    """Questions per update."""
    group: int
    """Dialogues of each."""
    lr: float
    eta: float
    """Weight of the KL to the base in all variants but the frontiers' others."""
    other_etas: tuple[float, ...]


@dataclass(frozen=True)
class Test(Evaluation):
    nats: float
    """KL up to which frontiers are compared."""


@dataclass(frozen=True, kw_only=True)
class Params(UnitParams):
    answer_tokens: int
    """Most tokens of an answer."""
    rl: Cooperate
    test: Test


@dataclass(frozen=True)
class Condition(Variant):
    """``method`` is the name without its η, "" for the base; a ``frontier`` is that of the method's policies."""

    method: str = ""
    eta: float = 0.0
    agents: int = 2
    exchange: bool = True
    reset: bool = False
    """A new Adam at every exchange."""
    blind: bool = False
    frontier: bool = False


def variants(p: Params) -> list[Condition]:
    eta = p.rl.eta

    def every_eta(method: str, agents: int) -> list[Condition]:
        others = [Condition(f"{method}@eta={other:g}", method, other, agents) for other in p.rl.other_etas]
        return [Condition(method, method, eta, agents), *others]

    return [
        Condition("base"),
        *every_eta("single", 1),
        *every_eta("cory", 2),
        Condition("cory_reset", "cory_reset", eta, reset=True),
        Condition("cory_no_exchange", "cory_no_exchange", eta, exchange=False),
        Condition("cory_blind", "cory_blind", eta, blind=True),
        *(Condition(f"{method}_frontier", method, frontier=True) for method in FRONTIERS),
    ]


def train(lab: Lab, variant: Condition) -> Trained:
    """Each update moves every agent by its own gradient. One agent alone has twice the updates, for as many answers."""
    if not variant.method:
        return BASE
    if variant.frontier:  # nothing more is trained: it costs what the method's policies cost together
        return Trained(cost=sum((one.cost for one in trained_by(lab, variant.method)), Cost()))
    p, base = lab.p.rl, lab.once("base", lab.engine)
    updates = p.updates * len(ROLES) // variant.agents
    settings = PolicyGradientSettings(lr=p.lr, updates=updates, max_length=base.context, warmup=WARMUP)

    def learn(engines: dict[str, Engine]) -> tuple[Cost, dict]:
        agents = [Agent(engine, adam(engine.model, settings)) for engine in engines.values()]  # the pioneer first
        cost, curve = Cost(), lab.curve(variant.name)
        for update in range(1, updates + 1):
            if variant.exchange and exchange_due(update, p.exchange_every):
                agents = exchanged(agents, settings, reset=variant.reset)
            team = policies(lab, [agent.engine for agent in agents], blind=variant.blind)
            tasks = lab.batch(update - 1, p.tasks)
            episodes, attempts = lab.attempts(team, tasks, "rl", update, group=p.group, turns=len(agents))
            lessons = credited(episodes, attempts.correct, group=p.group, eta=variant.eta, blind=variant.blind)
            done = [
                policy_gradient_step(agent.engine.model, base.model, agent.engine.tokenizer, lesson, agent.optimiser,
                                     settings, update, out_dir=lab.run.artifacts)
                for agent, lesson in zip(agents, lessons, strict=True)
            ]  # fmt: skip
            curve(update, progress([one.metrics for one in done]) | correction(attempts))
            cost = sum((spent(agent.engine, len(episodes)) for agent in agents), cost)
        engines.update(zip(engines, (agent.engine for agent in agents), strict=True))  # by the roles they end in
        return replace(cost, updates=updates * len(agents)), {}

    return lab.training(variant.name, learn, parts=ROLES[: variant.agents])


@dataclass
class Blind:
    """An observer that is shown the question alone."""

    policy: LMPolicy

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        return self.policy.propose([prompt[:1] for prompt in prompts], keys, n)


def policies(lab: Lab, engines: Sequence[Engine], *, blind: bool) -> TeamPolicy:
    """The pioneer answers every first prompt, the observer, where there is one, every second one."""
    first, *second = map(lab.policy, engines)
    return TeamPolicy({PIONEER: first} | {OBSERVER: Blind(one) if blind else one for one in second}, role_of)


def role_of(prompt: tuple[Message, ...]) -> str:
    return OBSERVER if any(message["role"] == "assistant" for message in prompt) else PIONEER


@dataclass
class Agent:
    """Weights and the Adam state that belongs to them, whatever role they play."""

    engine: Engine
    optimiser: torch.optim.Adam


def exchange_due(update: int, every: int) -> bool:
    """Before ``update`` (from 1): after every ``every`` updates."""
    return update > 1 and (update - 1) % every == 0


def exchanged(agents: list[Agent], settings: PolicyGradientSettings, *, reset: bool) -> list[Agent]:
    """The observer as pioneer and the pioneer as observer, with their weights and, without ``reset``, Adam's state."""
    return [Agent(agent.engine, adam(agent.engine.model, settings)) if reset else agent for agent in agents[::-1]]


# -- measuring: one agent alone, and both methods on their frontiers -------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """On every panel: the pioneer alone on first answers, and of a pair also the dialogue and the observer alone."""
    if variant.frontier:
        return [replace(base, metrics=maths.report(curves_of(lab, i), base.metrics["success"], upto=lab.p.test.nats)[variant.method])
                for i, base in enumerate(lab.results["base"].measured[: len(lab.panels)])]  # fmt: skip
    found, draws, kept = [], lab.p.test.draws, slice(0, KEPT_TASKS * lab.p.test.draws, lab.p.test.draws)
    for panel, tasks in lab.panels_for(trained).items():
        tasks, engines = tasks[: lab.p.test.tasks], [lab.engine(trained, role) for role in ROLES[: variant.agents]]
        team = policies(lab, engines, blind=variant.blind)
        episodes, attempts = lab.attempts(team, tasks, "evaluate", group=draws, turns=len(engines))
        metrics = first_answers(lab, engines[0], episodes, attempts)
        _, greedy = lab.attempts(lab.policy(engines[0], 0.0), tasks, "evaluate", group=1, turns=1)
        metrics["greedy_success"] = float(greedy.correct.mean())
        if lab.p.admission and not trained.stage:
            metrics[f"pass@{draws}"] = float(attempts.correct[:, 0].reshape(-1, draws).any(1).mean())
        if len(engines) == 2:
            metrics |= correction(attempts)
        if len(engines) == 2 and panel == lab.p.panels[0]:
            lab.keep(f"dialogues.{variant.name}", maths.readable(episodes[kept], attempts.correct[kept], ROLES))
        if len(engines) == 2 and trained.stage:  # the base's two agents are one
            alone = lab.attempts(lab.policy(engines[1]), tasks, "evaluate", group=draws, turns=1)
            metrics |= {f"{OBSERVER}_{name}": value for name, value in first_answers(lab, engines[1], *alone).items()}
        found.append(Measured(panel, metrics, len(tasks)))
    return found


def first_answers(lab: Lab, engine: Engine, episodes: Sequence[Trajectory], attempts: Attempts) -> dict[str, float]:
    """Share of right first answers, and their mean KL to the base in nats; ``engine`` sampled them."""
    first = [(one.steps[0].prompt, one.steps[0].turn) for one in episodes]
    kls = answer_kls(engine.model, lab.once("base", lab.engine).model, engine.tokenizer, first)
    kl = max(0.0, fmean(kls.double().tolist()))  # rounding can put the base's own a little below 0
    return {"success": float(attempts.correct[:, 0].mean()), "kl": kl}


def trained_by(lab: Lab, method: str) -> list[Result]:
    """The policies of ``method``, at all weights η."""
    return [one for name, one in lab.results.items() if name.split("@")[0] == method]


def curves_of(lab: Lab, i: int) -> dict[str, list[maths.Point]]:
    """The points of both methods' policies on the ``i``-th panel."""
    return {name: [maths.point_of(one.measured[i].metrics) for one in trained_by(lab, name)] for name in FRONTIERS}


def compare(lab: Lab, results: Sequence[Result]) -> list[Result]:
    """Each policy's reward beyond single-agent RL's frontier at its own KL, so that those of different KL compare."""
    base, *trained = results[: -len(FRONTIERS)]
    found = []
    for i, panel in enumerate(base.measured[: len(lab.panels)]):  # beyond them are the base's demonstrations
        single = curves_of(lab, i)["single"]
        for one in trained:
            excess = maths.excess(maths.point_of(one.measured[i].metrics), single, panel.metrics["success"])
            found.append(replace(one, measured=[replace(panel, metrics={"excess": excess})]))
    return found
