"""Agent Q (Putta et al. 2024, arXiv:2408.07199): tree search, self-critique and step-level DPO.

The paper publishes no code. At each state of a search tree the policy proposes K actions and, as its
own critic, ranks them (Q̂). MCTS with UCB1 backs up outcome rewards (Q̃). With
Q = α·Q̃ + (1−α)·Q̂, every two sibling actions further apart than θ become a preference pair, and DPO
trains on them with the log-probabilities stored at sampling time as reference. Here the whole ladder
is trained from one base model on the same tasks and the same number of environment steps:

    base → rft (SFT on successful episodes) → traj_dpo (DPO on whole episodes) → agent_q
    each also with test-time search (``+mcts``); ``_tok`` variants match sampled tokens instead

Differs from the paper:
 1. Nano policies trained from scratch on demonstrations instead of xLAM-7B / Llama-3-70B; shop-v1 and
    countdown-v1 instead of WebShop and OpenTable. Effect: directions may carry over, sizes will not.
 2. A prompt holds the goal, the present page and the last actions, not the whole history.
 3. The critic is asked about each action by itself ("good?" yes/no) and its probabilities are
    ranked; the paper asks for a ranking of all. Rank to Q̂ is linear, best 1, worst 0 (unstated).
 4. α = 0.5, K and θ are not stated in the text we could read; ours are in params.yaml, swept here.
 5. Test-time search never sees the true reward: ends of episodes are valued by the critic. The paper
    does not say what scores its leaves at test time; with true rewards the comparison is void. Acting
    goes by those values alone (``test.alpha`` 1); best-of-n (``+bon``) gets the same simulated steps.
 6. A search budget is a number of environment steps per tree, so that variants are matched on it.
    In round 1 every variant starts from the same policy; those that ask for the same trees or
    episodes get the same ones, and each is charged for them.
 7. Pairs are taken between visited siblings only, at most ``pairs_per_node`` of largest margin.
 8. Policies are evaluated as they are trained, sampling at ``collect.temperature`` (nano: 1). Greedy decoding is
    reported beside it (``greedy_*``, half as many tasks): a policy without memory repeats itself when greedy.
 9. ``agent_q_nll`` adds the chosen side's likelihood to DPO; it is not the paper's.
10. A pretrained chat model (``model``) is told what actions look like and shown an episode of another shop
    (:mod:`common.envs.shop.instruction`); it proposes free text all the same, and ``invalid`` is the share of its
    actions that the shop does not admit.
11. On word problems (``*-steps-v1``, :mod:`common.envs.steps`) an action is one line of a worked solution. Exact values
    there cannot tell one unfinished line from another, so that D2.6 is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch

from common.envs import load_panel, make
from common.envs.shop.engine import INVALID
from common.envs.shop.instruction import instructed
from common.envs.steps import StepsEnv
from common.evaluate.habits import habits
from common.evaluate.rollouts import evaluate, records, summarise
from common.learn.batches import ScoredTurn, SFTExample, TrajectoryPair
from common.learn.policy import dpo, sft
from common.learn.settings import DPOSettings, TrainSettings
from common.lm.device import on_device
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.lm.policy import LMPolicy
from common.rng import derive, generator
from common.search.draw import tree_html
from common.search.mcts import MCTSSettings, search
from common.search.pairs import audit, step_pairs
from common.search.plan import best_of_n, plan_and_act
from common.search.rollout import rollout
from common.search.tree import Tree, save
from common.track.lines import write_lines
from common.track.rows import MetricRow, cost_of
from common.types import Cost, PreferencePair, Task, Trajectory


@dataclass(frozen=True)
class Search:
    env_steps: int
    """Environment steps per tree (small budget)."""
    big_env_steps: int
    """The same for the ``_big`` variants (D2.5)."""
    simulations: int
    """Most simulations per tree; revisits of finished states cost no environment step."""
    branching: int
    c: float
    alpha: float
    gamma: float
    max_depth: int


@dataclass(frozen=True)
class Collect:
    tasks: int
    """Training tasks per round."""
    rounds: int
    temperature: float


@dataclass(frozen=True)
class Learn:
    theta: float
    pairs_per_node: int
    pairs_per_task: int
    """Most trajectory pairs from one task (traj_dpo)."""
    beta: float
    nll: float
    """Weight of the chosen side's likelihood in ``agent_q_nll``."""
    dpo_lr: float
    dpo_epochs: int
    dpo_batch: int
    sft_lr: float
    sft_epochs: int
    sft_batch: int


@dataclass(frozen=True)
class Test:
    tasks: int
    """Tasks of each panel for policies acting alone."""
    planned_tasks: int
    """Tasks of the first panel for policies acting with search."""
    env_steps: int
    """Simulated environment steps per decision."""
    simulations: int
    """Most simulations per decision."""
    alpha: float
    """Weight of the search against the critic's ranks when acting; ends are valued by the critic anyhow."""


@dataclass(frozen=True)
class Params:
    model: str
    """What everything starts from: "nano", the environment's own base model, or a pretrained one."""
    critic: str
    """What the policy is asked about an action, as its own critic."""
    action_tokens: int
    """Most tokens of an action."""
    search: Search
    collect: Collect
    learn: Learn
    test: Test
    panels: tuple[str, ...]
    theta_sweep: tuple[float, ...]


@dataclass(frozen=True)
class Variant:
    """One training condition. ``budget``: the axis of Agent Q's cost that a baseline must match."""

    name: str
    kind: str
    rounds: int
    alpha: float = 0.5
    critique: bool = True
    big: bool = False
    nll: bool = False
    budget: str = "env_steps"


def variants(p: Params) -> list[Variant]:
    """In order of training: Agent Q first, because its cost sets the baselines' budgets."""
    rounds, alpha = p.collect.rounds, p.search.alpha
    return [
        Variant("agent_q", "agent_q", rounds, alpha),
        Variant("agent_q_nll", "agent_q", 1, alpha, nll=True),
        Variant("rft", "rft", rounds),
        Variant("traj_dpo", "traj_dpo", rounds),
        Variant("rft_tok", "rft", rounds, budget="sampled_tokens"),
        Variant("traj_dpo_tok", "traj_dpo", rounds, budget="sampled_tokens"),
        Variant("agent_q_alpha0", "agent_q", 1, 0.0),
        Variant("agent_q_alpha1", "agent_q", 1, 1.0),
        Variant("agent_q_no_critique", "agent_q", 1, 1.0, critique=False),
        Variant("agent_q_big", "agent_q", 1, alpha, big=True),
        Variant("agent_q_alpha0_big", "agent_q", 1, 0.0, big=True),
        Variant("agent_q_alpha1_big", "agent_q", 1, 1.0, big=True),
    ]


PLANNED = ("base", "rft", "traj_dpo", "agent_q")
"""Variants that are also tested with search."""


# -- 1. collect: trees (paper §4.2) and, for the baselines, plain episodes of the same total cost ------


def search_settings(p: Params, variant: Variant) -> MCTSSettings:
    return MCTSSettings(
        simulations=p.search.simulations * (2 if variant.big else 1),
        branching=p.search.branching,
        c=p.search.c,
        alpha=variant.alpha,
        gamma=p.search.gamma,
        max_depth=p.search.max_depth,
        rule="ucb1",
        use_critique=variant.critique,
        max_env_steps=p.search.big_env_steps if variant.big else p.search.env_steps,
    )


def waves(
    env, tasks: Sequence[Task], policy: LMPolicy, *, seed: int, budgets: Mapping[str, int]
) -> list[Trajectory]:
    """One episode per task, wave after wave, until each axis of ``budgets`` is spent."""
    episodes: list[Trajectory] = []
    while any(sum(spent(one, axis) for one in episodes) < budget for axis, budget in budgets.items()):
        keys = [derive(seed, "episode", task.id, len(episodes) // len(tasks)) for task in tasks]
        episodes += rollout(env, list(tasks), policy, keys=keys)
    return episodes


def within(episodes: Sequence[Trajectory], axis: str, budget: int) -> list[Trajectory]:
    """The first episodes, until ``budget`` is spent on ``axis``: the overshoot is below one episode."""
    before = accumulate((spent(one, axis) for one in episodes), initial=0)
    return [one for one, so_far in zip(episodes, before) if so_far < budget]


def spent(episode: Trajectory, axis: str) -> int:
    return len(episode.steps) if axis == "env_steps" else episode.n_tokens


def episodes_cost(episodes: Sequence[Trajectory], engine: Engine) -> Cost:
    """What ``episodes`` cost, and no more: what was cut off a last wave is not charged."""
    steps = [step for episode in episodes for step in episode.steps]
    return Cost(
        env_steps=len(steps), lm_calls=len(steps), sampled_tokens=sum(step.turn.n_tokens for step in steps),
        prompt_tokens=sum(len(engine.prompt_ids(step.prompt)) for step in steps),
    )


# -- 2. build: pairs of actions from trees, pairs of episodes, successful episodes ---------------------


def tree_pairs(trees: Sequence[Tree], p: Params, alpha: float, theta: float) -> list[PreferencePair]:
    return [
        pair for tree in trees for pair in step_pairs(tree, theta, alpha, max_pairs_per_node=p.learn.pairs_per_node)
    ]


def by_task(episodes: Sequence[Trajectory]) -> dict[str, list[Trajectory]]:
    """Finished, distinct episodes of each task, best first (ties: the shorter, then the earlier)."""
    groups: dict[str, dict[tuple[str, ...], Trajectory]] = {}
    for episode in episodes:
        if all(step.turn.finished for step in episode.steps):
            groups.setdefault(episode.task_id, {}).setdefault(tuple(s.turn.text for s in episode.steps), episode)
    return {
        task: sorted(distinct.values(), key=lambda e: (-e.reward, len(e.steps))) for task, distinct in groups.items()
    }


def episode_pairs(episodes: Sequence[Trajectory], p: Params) -> list[TrajectoryPair]:
    """Per task the best episodes against the worst, pairwise, while their rewards differ by more than θ."""

    def turns(episode: Trajectory) -> tuple[ScoredTurn, ...]:
        return tuple(ScoredTurn(step.prompt, step.turn.text, step.turn.logprob) for step in episode.steps)

    pairs = []
    for group in by_task(episodes).values():
        for k in range(min(p.learn.pairs_per_task, len(group) // 2)):
            if group[k].reward - group[-1 - k].reward > p.learn.theta:
                pairs.append(TrajectoryPair(turns(group[k]), turns(group[-1 - k])))
    return pairs


def successes(episodes: Sequence[Trajectory]) -> list[SFTExample]:
    return [
        SFTExample(step.prompt, step.turn.text)
        for group in by_task(episodes).values()
        for episode in group
        if episode.success
        for step in episode.steps
    ]


# -- 3. train ------------------------------------------------------------------------------------------


def train(engine: Engine, p: Params, variant: Variant, data: list, *, seed: int, out_dir: Path, log: Callable) -> int:
    """Updates the engine's model in place; returns the number of updates (0 when there is no data)."""
    if not data:
        return 0
    common = {"max_length": engine.context, "warmup": 0.1}
    if variant.kind == "rft":
        chosen = TrainSettings(
            lr=p.learn.sft_lr, epochs=p.learn.sft_epochs, batch_size=p.learn.sft_batch, **common
        )
        return sft(engine.model, engine.tokenizer, data, chosen, seed=seed, out_dir=out_dir, log=log).updates
    settings = DPOSettings(
        lr=p.learn.dpo_lr, beta=p.learn.beta, nll=p.learn.nll if variant.nll else 0.0, epochs=p.learn.dpo_epochs,
        batch_size=p.learn.dpo_batch, **common,
    )
    return dpo(engine.model, engine.tokenizer, data, settings, seed=seed, out_dir=out_dir, log=log).updates


# -- 4. the unit: all variants, resumable round by round ------------------------------------------------


class Experiment:
    """One unit at work: environment, tasks, and stages that are computed once and then read back."""

    def __init__(self, unit) -> None:
        self.unit, self.run, self.p, self.seed = unit, unit.run, unit.params, unit.seed
        self.env = make(unit.env, unit.data)
        self.told = self.p.model != "nano"  # what actions look like, which a nano base was shown
        if self.told and not isinstance(self.env, StepsEnv):  # its prompts say themselves what a line is
            self.env = instructed(self.env)
        panel = load_panel(unit.data, f"{unit.env}/train")
        order = generator(self.seed, "tasks").permutation(len(panel))
        self.tasks = [panel[i] for i in order]
        self.panels = {name: load_panel(unit.data, f"{unit.env}/{name}") for name in self.p.panels}
        self._first: dict = {}

    def once(self, r: int, what: object, make: Callable) -> object:
        """``make()``; in round 1, where all policies are the base model, once for each ``what``."""
        if r > 1:
            return make()
        if what not in self._first:
            self._first[what] = make()
        return self._first[what]

    def round_tasks(self, r: int) -> list[Task]:
        n = self.p.collect.tasks
        return [self.tasks[i % len(self.tasks)] for i in range((r - 1) * n, r * n)]

    def engine(self, variant: str, r: int) -> Engine:
        """The policy of ``variant`` after round ``r``; round 0 is the base model for everyone."""
        folder = self.unit.base if r == 0 or variant == "base" else self.run.stage_path(f"train.{variant}.r{r}")
        return Engine(*on_device(*load_model(folder)))

    def policy(self, engine: Engine, *, greedy: bool = False) -> LMPolicy:
        temperature = 0.0 if greedy else self.p.collect.temperature
        return LMPolicy(engine, temperature, max_new_tokens=self.p.action_tokens, question=self.p.critic)

    def log(self, variant: str, r: int, part: str) -> Callable:
        keep = ("loss", "grad_norm", "reward_margin", "reward_accuracy", "logratio_chosen", "logratio_rejected", "logp")
        return lambda step, metrics: self.run.log(
            variant, step, {f"r{r}/{part}/{name}": metrics[name] for name in keep if name in metrics}
        )

    # training rounds

    def train_round(self, variant: Variant, r: int) -> Cost:
        """Collect with the policy of round r−1, train it, save round r. Returns this round's cost."""
        stage = f"train.{variant.name}.r{r}"

        def compute() -> dict:
            engine, tasks = self.engine(variant.name, r - 1), self.round_tasks(r)
            collect = self.collect_trees if variant.kind == "agent_q" else self.collect_episodes
            data, cost, found = collect(variant, r, engine, tasks)
            with self.run.stage_dir(stage) as folder:
                updates = train(
                    engine, self.p, variant, data, log=self.log(variant.name, r, "train"),
                    seed=derive(self.seed, "train", variant.name, r) % 2**31, out_dir=self.run.artifacts,
                )
                save_model(engine.model, engine.tokenizer, folder)
            self.run.log(variant.name, r, {f"collect/{k}": v for k, v in found.items()})
            return {"cost": cost_of(replace(cost, updates=updates, samples=len(data))), "found": found}

        return Cost(**self.run.stage(stage, compute)["cost"])

    def collect_trees(self, variant: Variant, r: int, engine: Engine, tasks: list[Task]) -> tuple[list, Cost, dict]:
        settings = search_settings(self.p, variant)

        def grow() -> tuple[list[Tree], Cost]:
            keys = [derive(self.seed, "search", task.id, r) for task in tasks]
            policy = self.policy(engine)
            trees = search(self.env, [(t, None) for t in tasks], policy, settings, keys=keys)
            return trees, replace(engine.cost, env_steps=sum(tree.cost.env_steps for tree in trees))

        trees, cost = self.once(r, settings, grow)
        pairs = tree_pairs(trees, self.p, variant.alpha, self.p.learn.theta)
        found = {"tree_success": sum(map(found_reward, trees)) / len(trees)}
        found |= self.audit(pairs, trees, tasks)
        if variant.name == "agent_q":
            self.keep(trees, pairs, r)
            if r == 1:
                self.theta_audit(trees, tasks, variant.alpha)
        return pairs, cost, found

    def collect_episodes(self, variant: Variant, r: int, engine: Engine, tasks: list[Task]) -> tuple[list, Cost, dict]:
        budget = self.run.stage(f"train.agent_q.r{r}", _absent)["cost"]
        axes = ("env_steps", "sampled_tokens") if r == 1 else (variant.budget,)  # in round 1 one play serves all

        def play() -> list[Trajectory]:
            policy, seed = self.policy(engine), derive(self.seed, "episodes", r)
            return waves(self.env, tasks, policy, seed=seed, budgets={axis: budget[axis] for axis in axes})

        episodes = within(self.once(r, "episodes", play), variant.budget, budget[variant.budget])
        data = successes(episodes) if variant.kind == "rft" else episode_pairs(episodes, self.p)
        found = {"episodes": len(episodes), **{f"collected_{k}": v for k, v in summarise(episodes).items()}}
        return data, episodes_cost(episodes, engine), found

    # evaluation

    def evaluate(self, name: str, engine: Engine) -> dict:
        def compute() -> dict:
            result = {}
            for panel, tasks in self.panels.items():
                policy = self.policy(engine)
                metrics, episodes = evaluate(self.env, tasks[: self.p.test.tasks], policy, seed=self.seed)
                result[panel] = metrics | {"n": len(episodes)}
                if self.told:
                    result[panel]["invalid"] = habits(episodes, invalid=INVALID)["invalid"]
                if panel == self.p.panels[0]:
                    write_lines(self.run.artifacts / f"rollouts.{name}.jsonl", records(episodes[:20]))
                    some = tasks[: max(1, self.p.test.tasks // 2)]
                    greedy, _ = evaluate(self.env, some, self.policy(engine, greedy=True), seed=self.seed)
                    result[panel] |= {f"greedy_{k}": greedy[k] for k in ("success", "truncated")}
                    result[panel] |= planned_metrics(episodes[: self.p.test.planned_tasks])
            self.run.log(name, 0, {f"{panel}/{k}": v for panel, m in result.items() for k, v in m.items()})
            return result

        return self.run.stage(f"eval.{name}", compute)

    def plan(self, name: str, engine: Engine, how: str) -> dict:
        """Acting with search (``mcts``) or, after that, with the best of n episodes by the same critic (``bon``):
        as many whole episodes per task as the search simulated steps, to the nearest number."""

        def compute() -> dict:
            first = self.p.panels[0]
            tasks = self.panels[first][: self.p.test.planned_tasks]
            keys = [derive(self.seed, "plan", task.id) for task in tasks]
            policy = self.policy(engine)
            if how == "mcts":
                settings = replace(
                    search_settings(self.p, Variant(name, "agent_q", 1, self.p.test.alpha)),
                    reward="critic", max_env_steps=self.p.test.env_steps, simulations=self.p.test.simulations,
                )
                planned = plan_and_act(self.env, tasks, policy, settings, keys=keys)
            else:
                simulated = self.run.stage(f"mcts.{name}", _absent)["simulated_steps"]
                length = self.run.stage(f"eval.{name}", _absent)[first]["length"]
                planned = best_of_n(self.env, tasks, policy, keys=keys, n=max(1, round(simulated / length)))
            metrics = planned_metrics([one.trajectory for one in planned])
            metrics["simulated_steps"] = sum(one.simulated_steps for one in planned) / len(planned)
            cost = replace(engine.cost, env_steps=sum(one.cost.env_steps for one in planned))
            self.run.log(f"{name}+{how}", 0, metrics)
            return metrics | {"n": len(tasks), "cost": cost_of(cost)}

        engine.cost = Cost()
        return self.run.stage(f"{how}.{name}", compute)

    # the pair audit against exact values (rule of the science 2)

    def audit(self, pairs: list[PreferencePair], trees: list[Tree], tasks: list[Task]) -> dict[str, float]:
        test_ids = {task.id for panel in self.panels.values() for task in panel}
        summary = audit(pairs, self.env, tasks, trees, test_ids=test_ids).summary()
        return {f"pair_{'count' if name == 'n' else name}": float(v) for name, v in summary.items() if v is not None}

    def theta_audit(self, trees: list[Tree], tasks: list[Task], alpha: float) -> None:
        def compute() -> dict:
            return {
                str(theta): self.audit(tree_pairs(trees, self.p, alpha, theta), trees, tasks)
                for theta in self.p.theta_sweep
            }

        self.run.stage("theta", compute)

    def keep(self, trees: list[Tree], pairs: list[PreferencePair], r: int) -> None:
        """A few trees and all pairs as artifacts, to be looked at."""
        for k, tree in enumerate(trees[:4]):
            save(tree, self.run.artifacts / f"tree.r{r}.{k}.json")
            (self.run.artifacts / f"tree.r{r}.{k}.html").write_text(tree_html(tree))
        write_lines(self.run.artifacts / f"pairs.r{r}.jsonl", [asdict(pair) for pair in pairs[:500]])


def found_reward(tree: Tree) -> bool:
    """Whether any simulation ended with reward 1 (γ^steps > 0 of it was recorded)."""
    return any(value > 0 for node in tree.nodes for value in node.returns)


def planned_metrics(episodes: Sequence[Trajectory]) -> dict[str, float]:
    """Metrics over the tasks on which policies with search are tested: a policy without search is compared with
    them on these alone, since the first tasks of a panel are not as hard as all."""
    return {f"planned_{name}": value for name, value in summarise(episodes).items()}


def tasks_behind(metric: str, n: int, p: Test) -> int:
    """How many tasks a metric is the mean of, where a policy was evaluated on ``n``."""
    if metric.startswith("planned_"):
        return min(n, p.planned_tasks)
    return max(1, min(n, p.tasks // 2)) if metric.startswith("greedy_") else max(n, 1)


def _absent() -> dict:
    raise RuntimeError("a stage that sets another one's budget was not run before it: keep the order of run()")


def run(unit) -> list[MetricRow]:
    """Train and evaluate every variant of one unit; writes its metric rows and marks it finished."""
    if unit.run.finished:
        return unit.run.rows()
    torch.set_num_threads(1)  # bit-identical results whatever the number of workers
    work, rows, costs = Experiment(unit), [], {"base": Cost()}

    def row(variant: str, panel: str, metrics: dict, cost: Cost) -> None:
        n = int(metrics["n"])
        for metric, value in metrics.items():
            if metric not in ("n", "cost"):
                rows.append(
                    MetricRow(
                        paper="agent_q", env=unit.env, profile=unit.profile, scale=work.p.model, variant=variant,
                        seed=unit.seed, panel=f"{unit.env}/{panel}", metric=metric, value=value,
                        n=tasks_behind(metric, n, work.p.test), cost=cost_of(cost),
                    )
                )

    def evaluate_all(name: str, engine: Engine, cost: Cost) -> None:
        for panel, metrics in work.evaluate(name, engine).items():
            row(name, panel, metrics, cost)

    evaluate_all("base", work.engine("base", 0), Cost())
    for variant in variants(work.p):
        total = Cost()
        for r in range(1, variant.rounds + 1):
            total = total + work.train_round(variant, r)
            name = variant.name if r == variant.rounds else f"{variant.name}_r{r}"
            costs[name] = total
            if r == variant.rounds or variant.budget == "env_steps":  # rounds are shown for one axis only
                evaluate_all(name, work.engine(variant.name, r), total)
            found = work.run.stage(f"train.{variant.name}.r{r}", _absent)["found"]
            row(name, "train", found | {"n": work.p.collect.tasks}, total)
    for name in PLANNED:
        for how in ("mcts", "bon"):
            result = work.plan(name, work.engine(name, work.p.collect.rounds), how)
            row(f"{name}+{how}", work.p.panels[0], result, costs[name] + Cost(**result["cost"]))
    grown = Cost(**work.run.stage("train.agent_q.r1", _absent)["cost"])
    for theta, found in work.run.stage("theta", _absent).items():
        row(f"agent_q@theta={theta}", "train", found | {"n": found["pair_count"]}, grown)
    unit.run.write_rows(rows)
    unit.run.finish()
    return rows
