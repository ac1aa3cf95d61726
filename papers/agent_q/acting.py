"""Acting at test time in Agent Q: the policy alone, with a search at every step, and by the best of n episodes
that spend the same budget without a tree. No true reward reaches a decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from common.envs.contract import Env
from common.evaluate.rollouts import evaluate, summarise
from common.lab import Lab, Measured
from common.lm.engine import Engine
from common.policy import Policy
from common.rng import derive
from common.search.mcts import MCTSSettings, Root, judge_ends, search
from common.search.rollout import rollout
from common.search.steps import best_index
from common.search.tree import ROOT, Tree, best_child
from common.types import Cost, Observation, Step, Task, Trajectory, Turn


@dataclass(frozen=True)
class Planned:
    """One real episode and the cost of its decisions.

    ``cost`` holds everything, simulated and real (``env_steps``, ``lm_calls``, ``sampled_tokens``;
    the engine counts the same calls, so add one or the other). ``simulated_steps`` +
    ``real_steps`` = ``cost.env_steps``. ``trees``: one per real step, without snapshots.
    """

    trajectory: Trajectory
    cost: Cost
    simulated_steps: int
    trees: tuple[Tree, ...] = ()

    @property
    def real_steps(self) -> int:
        return self.cost.env_steps - self.simulated_steps


def plan_and_act(
    env: Env,
    tasks: Sequence[Task],
    policy: Policy,
    settings: MCTSSettings,
    *,
    keys: Sequence[int],
    max_steps: int | None = None,
    final: Literal["visits", "q"] = "visits",
) -> list[Planned]:
    """At each real step: a fresh search from the present state, its best action, one step for real.

    All tasks advance together. ``keys``: one integer per task; the search of real step t uses
    ``derive(key, "plan", t)``. ``max_steps`` bounds the real steps (None: the environment's own
    limit); an episode cut by it is marked truncated. The trajectory's turns carry the behaviour
    log-probability with which the chosen text was sampled.
    """
    states, steps, costs, grown = [], [[] for _ in tasks], [Cost() for _ in tasks], [[] for _ in tasks]
    for task in tasks:
        env.reset(task)
        states.append(env.snapshot())
    running, limit = list(range(len(tasks))), env.max_steps if max_steps is None else max_steps
    for t in range(limit):
        if not running:
            break
        prefixes = {i: tuple(step.turn.text for step in steps[i]) for i in running}
        roots = [Root(tasks[i], states[i], prefixes[i]) for i in running]
        trees = search(env, roots, policy, settings, keys=[derive(keys[i], "plan", t) for i in running])
        still = []
        for i, tree in zip(running, trees, strict=True):
            chosen = tree.nodes[best_child(tree, final)]
            env.restore(states[i])
            seen = env.step(chosen.action)
            if not seen.done and t == limit - 1:
                seen = Observation(seen.text, seen.reward, truncated=True)
            elif not seen.done:
                states[i] = env.snapshot()
                still.append(i)
            turn = Turn(chosen.action, chosen.logprob, chosen.n_tokens, chosen.finished)
            steps[i].append(Step(tree.nodes[ROOT].prompt, turn, seen))
            costs[i] += tree.cost
            for node in tree.nodes:
                node.snapshot = None
            grown[i].append(tree)
        running = still
    planned = []
    for task, made, cost, trees in zip(tasks, steps, costs, grown, strict=True):
        total = cost + Cost(env_steps=len(made))
        planned.append(Planned(Trajectory(task.id, tuple(made)), total, cost.env_steps, tuple(trees)))
    return planned


def best_of_n(
    env: Env, tasks: Sequence[Task], policy: Policy, *, keys: Sequence[int], n: int, max_steps: int | None = None
) -> list[Planned]:
    """n policy episodes per task, of which the one whose last action the critic scores highest (a
    probability; 0 for episodes cut by a limit; ties to the first) is the answer.

    The baseline for search with critic rewards: same policy, same critic, no tree. Sample j of a
    task uses ``derive(key, "best_of_n", j)``. The true reward decides nothing. Steps are counted as in
    :func:`plan_and_act`: all n episodes are simulated, then the answer is made for real.
    """
    if n < 1:
        raise ValueError(f"n = {n} must be at least 1: ask for one episode or more per task.")
    sampled = [task for task in tasks for _ in range(n)]
    sample_keys = [derive(key, "best_of_n", j) for key, _ in zip(keys, tasks, strict=True) for j in range(n)]
    episodes = rollout(env, sampled, policy, keys=sample_keys, max_steps=max_steps)
    scores = judge_ends(policy, [episode.steps for episode in episodes])
    planned = []
    for i in range(len(tasks)):
        mine = episodes[i * n : (i + 1) * n]
        chosen = mine[best_index(scores[i * n : (i + 1) * n])]
        made = sum(len(episode.steps) for episode in mine)
        asked = sum(episode.steps[-1].observation.terminated for episode in mine)
        tokens = sum(episode.n_tokens for episode in mine)
        cost = Cost(env_steps=made + len(chosen.steps), lm_calls=made + asked, sampled_tokens=tokens)
        planned.append(Planned(chosen, cost, made))
    return planned


# -- measured ----------------------------------------------------------------------------------------------------------


def planned_metrics(episodes: Sequence[Trajectory]) -> dict[str, float]:
    return {f"planned_{name}": value for name, value in summarise(episodes).items()}


def with_search(lab: Lab, engine: Engine, policy: Callable[..., Policy], settings: MCTSSettings) -> list[Measured]:
    """``planned_*`` of the policy alone, of acting with MCTS, and by the best of n episodes, on the same tasks: search is costly, so on
    the first ``planned_tasks`` of the first panel. n episodes come nearest to the steps that MCTS simulated. Costs are those of
    acting.

    ``policy()``: a new policy. ``settings``: those of the search in training, of which the parameters of the test replace budget and α.
    """
    p, panel = lab.p.test, lab.p.panels[0]
    settings = replace(settings, reward="critic", max_env_steps=p.env_steps, simulations=p.simulations, alpha=p.alpha)
    tasks = lab.panels[panel][: p.planned_tasks]
    keys = [derive(lab.seed, "plan", task.id) for task in tasks]

    def measured(acting: str, act: Callable[[Policy], list[Planned]]) -> Measured:
        engine.cost = Cost()
        planned = act(policy())
        metrics = planned_metrics([one.trajectory for one in planned])
        metrics["simulated_steps"] = sum(one.simulated_steps for one in planned) / len(planned)
        cost = replace(engine.cost, env_steps=sum(one.cost.env_steps for one in planned))
        return Measured(panel, metrics, len(tasks), acting, cost)

    _, alone = evaluate(lab.env, tasks, policy(), seed=lab.seed)
    mcts = measured("mcts", lambda policy: plan_and_act(lab.env, tasks, policy, settings, keys=keys))
    n = max(1, round(mcts.metrics["simulated_steps"] / summarise(alone)["length"]))
    return [Measured(panel, planned_metrics(alone), len(tasks)), mcts, measured("bon", lambda policy: best_of_n(lab.env, tasks, policy, keys=keys, n=n))]
