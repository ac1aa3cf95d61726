"""Agent Q (Putta et al. 2024, arXiv:2408.07199): tree search, self-critique and step-level DPO.

The paper publishes no code. At each state of a search tree the policy proposes K actions and, as its own critic, ranks
them (Q̂). MCTS with UCB1 backs up outcome rewards (Q̃). With Q = α·Q̃ + (1−α)·Q̂ every two sibling actions further
apart than θ become a preference pair; DPO trains on the pairs, the log-probabilities stored at sampling time being the
reference. All start from one base:

    agent_q                 trees → pairs of actions → DPO, round after round; ``_r1`` is the policy after round 1
    rft, traj_dpo           plain episodes of as many environment steps → SFT on the successful ones, DPO on pairs
    agent_q_…               one round: with another α, or by the paper's loss alone (``plain``)
    …+mcts, …+bon           acting with search, and by the best of n episodes with as many simulated steps

Differs from the paper:
 1. Nano policies trained on demonstrations instead of xLAM-7B / Llama-3-70B; countdown-v2 and shop-v1 instead of
    WebShop and OpenTable. Directions may carry over, sizes will not.
 2. A prompt holds the goal, the present page and the last actions, not the whole history.
 3. The critic judges each action by itself ("good?" yes/no) and its probabilities are ranked; the paper asks for a
    ranking of all. Rank to Q̂ is linear, best 1, worst 0 (unstated).
 4. α = 0.5, K and θ are not stated in the text we could read; ours are in params.yaml, and α and θ are varied here.
 5. Search at test time never sees the true reward: the critic values ends of episodes (unstated) and alone decides.
 6. A search budget is a number of environment steps a tree, on which variants are matched. In round 1 all start from
    the same policy: equal settings give equal trees and episodes, and each variant pays for them.
 7. Pairs are taken between visited siblings only, at most ``pairs_per_node`` of largest margin.
 8. Policies are evaluated as they are trained, sampling; greedily (``greedy_*``) one without memory repeats itself.
 9. The chosen side's likelihood is added to DPO, of trees and of episodes alike: by DPO alone both sides lose probability to actions
    that nobody sampled. ``agent_q_plain`` is trained by the paper's loss.
10. A pretrained chat model (``model``) is shown what actions look like, with an episode of another shop
    (:mod:`common.envs.shop.instruction`); ``invalid`` is the share of its actions that the shop does not admit.
11. On word problems (``*-steps-v1``, :mod:`common.envs.steps`) an action is one line of a worked solution. Exact values
    there cannot tell one unfinished line from another, so that D2.6 is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from common.config import ModelParams
from common.envs.contract import Env
from common.envs.shop.engine import INVALID
from common.envs.shop.instruction import instructed
from common.envs.steps import StepsEnv
from common.evaluate.habits import habits
from common.evaluate.rollouts import sampling_cost, summarise
from common.lab import BASE, Collected, Lab, Measured, Result, Trained, Variant
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.rng import derive
from common.search.draw import tree_html
from common.search.mcts import MCTSSettings, search
from common.search.tree import Tree, save
from common.types import Cost, PreferencePair, Task, Trajectory
from papers.agent_q.acting import with_search
from papers.agent_q.maths import audit, episode_pairs, rewarded, successes, tree_pairs, within_budget
from papers.agent_q.params import Collect, Learn, Search, Test


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    critic: str
    """The question by which the policy, as its own critic, judges an action."""
    search: Search
    collect: Collect
    learn: Learn
    test: Test
    theta_sweep: tuple[float, ...]


@dataclass(frozen=True)
class Condition(Variant):
    """The policy of ``line`` after ``round`` of ``rounds``, each of which learns from ``data``: "trees", or plain
    "episodes" or their "successes", of as many environment steps as Agent Q's trees of the round."""

    data: str = ""
    rounds: int = 1
    alpha: float = 0.5
    nll: bool = True
    line: str = ""
    round: int = 0


def variants(p: Params) -> list[Condition]:
    """Agent Q first, because its cost sets the baselines' budgets."""
    rounds, alpha = p.collect.rounds, p.search.alpha
    lines = [
        Condition("agent_q", "trees", rounds, alpha),
        Condition("rft", "successes", rounds),
        Condition("traj_dpo", "episodes", rounds),
        Condition("agent_q_alpha0", "trees", 1, 0.0),
        Condition("agent_q_alpha1", "trees", 1, 1.0),
        Condition("agent_q_plain", "trees", 1, alpha, nll=False),
    ]
    return [Condition("base")] + [
        replace(line, name=line.name if r == line.rounds else f"{line.name}_r{r}", line=line.name, round=r)
        for line in lines for r in range(1, line.rounds + 1)
    ]  # fmt: skip


def environment(lab: Lab) -> Env:
    """Prompts of a chat model begin with an instruction on the format of actions; those of ``*-steps`` tasks have it already."""
    env = lab.make_env()
    return env if lab.p.model == "nano" or isinstance(env, StepsEnv) else instructed(env)


def train(lab: Lab, variant: Condition) -> Trained:
    """All rounds up to that of ``variant``, each going on from the one before."""
    trained = BASE
    for one in variants(lab.p):
        if one.line == variant.line and 0 < one.round <= variant.round:
            trained = improve(lab, one, start=trained)
    return trained


def improve(lab: Lab, variant: Condition, *, start: Trained) -> Trained:
    """One round: collect with the policy ``start``, then train it on that."""
    p = lab.p.learn
    if variant.data == "successes":
        how = {"lr": p.sft_lr, "epochs": p.sft_epochs, "batch_size": p.sft_batch}
    else:
        how = {"lr": p.dpo_lr, "epochs": p.dpo_epochs, "batch_size": p.dpo_batch, "beta": p.beta,
               "nll": p.nll if variant.nll else 0.0}  # fmt: skip
    collect = collect_trees if variant.data == "trees" else collect_episodes
    return lab.fit(variant.name, lambda engine: collect(lab, variant, engine), start=start, part=variant.round,
                   order=("train", variant.line, variant.round), **how)  # fmt: skip


# -- 1. Agent Q: trees, and pairs of sibling actions (paper §4.2) ------------------------------------------------------


def collect_trees(lab: Lab, variant: Condition, engine: Engine) -> Collected:
    trees, cost = grow(lab, variant, engine)
    pairs, found = pairs_of(lab, variant, trees, lab.p.learn.theta)
    found["tree_success"] = sum(map(rewarded, trees)) / len(trees)
    if variant.line == "agent_q":
        for k, tree in enumerate(trees[:4]):
            path = lab.run.artifacts / f"tree.r{variant.round}.{k}.json"
            save(tree, path)
            path.with_suffix(".html").write_text(tree_html(tree))
        lab.keep(f"pairs.r{variant.round}", [asdict(pair) for pair in pairs[:500]])
    return Collected(pairs, replace(cost, samples=len(pairs)), found)


def grow(lab: Lab, variant: Condition, engine: Engine) -> tuple[list[Tree], Cost]:
    """A search tree for each task of the round. In round 1 the policy is the base: equal settings give equal trees."""
    settings = search_settings(lab.p, variant)

    def grown() -> tuple[list[Tree], Cost]:
        tasks = round_tasks(lab, variant)
        keys = [derive(lab.seed, "search", task.id, variant.round) for task in tasks]
        trees = search(lab.env, [(task, None) for task in tasks], actor(lab, engine), settings, keys=keys)
        return trees, replace(engine.cost, env_steps=sum(tree.cost.env_steps for tree in trees))

    return lab.once(("trees", settings), grown) if variant.round == 1 else grown()


def search_settings(p: Params, variant: Condition) -> MCTSSettings:
    return MCTSSettings(
        simulations=p.search.simulations, branching=p.search.branching, c=p.search.c, alpha=variant.alpha,
        gamma=p.search.gamma, max_depth=p.search.max_depth, rule="ucb1", max_env_steps=p.search.env_steps,
    )  # fmt: skip


def actor(lab: Lab, engine: Engine, temperature: float | None = None) -> LMPolicy:
    """The policy, which is its own critic; at the temperature of training where none is given."""
    return lab.policy(engine, lab.p.collect.temperature if temperature is None else temperature, question=lab.p.critic)


def round_tasks(lab: Lab, variant: Condition) -> list[Task]:
    return lab.batch(variant.round - 1, lab.p.collect.tasks)


def pairs_of(lab: Lab, variant: Condition, trees: Sequence[Tree], theta: float) -> tuple[list[PreferencePair], dict]:
    """The trees' pairs at ``theta``, and how often they are right by exact action values."""
    pairs = tree_pairs(trees, theta=theta, alpha=variant.alpha, most=lab.p.learn.pairs_per_node)
    tasks, test_ids = round_tasks(lab, variant), {task.id for panel in lab.panels.values() for task in panel}
    return pairs, audit(pairs, lab.env, tasks, trees, test_ids=test_ids).metrics()


# -- 2. the baselines: plain episodes within Agent Q's budget of the same round ----------------------------------------


def collect_episodes(lab: Lab, variant: Condition, engine: Engine) -> Collected:
    """In round 1 the policy is the base: the same episodes serve both baselines."""
    p, budget = lab.p.learn, agent_q_cost(lab, variant.round).env_steps

    def played() -> list[Trajectory]:
        seed = derive(lab.seed, "episodes", variant.round)
        return within_budget(lab.env, round_tasks(lab, variant), actor(lab, engine), seed=seed, budget=budget)

    episodes = lab.once("episodes", played) if variant.round == 1 else played()
    rows = successes(episodes) if variant.data == "successes" else episode_pairs(
        episodes, theta=p.theta, most=p.pairs_per_task)  # fmt: skip
    found = {"episodes": len(episodes)} | {f"collected_{k}": v for k, v in summarise(episodes).items()}
    return Collected(rows, replace(sampling_cost(episodes, engine), samples=len(rows)), found)


def agent_q_cost(lab: Lab, r: int) -> Cost:
    """What Agent Q spent in its round ``r``."""
    own = [one for one in variants(lab.p) if one.line == "agent_q"]
    return train(lab, own[r - 1]).cost - (train(lab, own[r - 2]).cost if r > 1 else Cost())


# -- 3. evaluation -----------------------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """Metrics from training; the policy acting alone, and on the ladder also with search."""
    found = []
    if variant.round:
        found.append(Measured("train", {k: v for k, v in trained.found.items() if k != "rows"}, lab.p.collect.tasks))
    found += lab.evaluate(variant, trained, acting=lambda policy: actor(lab, policy.engine) if policy.temperature else policy)
    engine = lab.engine(trained)
    if lab.p.model != "nano":
        played = lab.episodes(f"{variant.name}.once", partial(actor, lab, engine))
        found += [Measured(panel, {"invalid": habits(episodes, invalid=INVALID)["invalid"]}, len(episodes))
                  for panel, episodes in played.items()]  # fmt: skip
    if variant.name in ("base", "rft", "traj_dpo", "agent_q"):
        found += with_search(lab, engine, partial(actor, lab, engine), search_settings(lab.p, variant))
    return found


def compare(lab: Lab, results: Sequence[Result]) -> list[Result]:
    """Agent Q's pairs of round 1 at each threshold θ of the sweep (D2.6)."""
    variant = next(one for one in variants(lab.p) if one.line == "agent_q")
    [cost] = [result.cost for result in results if result.name == variant.name]

    def compute() -> dict[str, dict[str, float]]:
        trees, _ = grow(lab, variant, lab.engine())
        return {str(theta): pairs_of(lab, variant, trees, theta)[1] for theta in lab.p.theta_sweep}

    return [Result(f"agent_q@theta={theta}", cost, [Measured("train", found, max(1, int(found["pair_count"])))])
            for theta, found in lab.stage("theta", compute).items()]  # fmt: skip
