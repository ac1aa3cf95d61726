"""Acting for real with search, and the baseline that spends the same budget without a tree.

Both look at the environment as an agent may: simulated episodes are free to be tried, their true
reward decides nothing as long as the settings say ``reward="critic"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from common.envs.contract import Env
from common.rng import derive
from common.search.mcts import MCTSSettings, Root, judge_ends, search
from common.search.policy import Policy
from common.search.rollout import rollout
from common.search.steps import best_index, final_choice
from common.search.tree import ROOT, Tree
from common.types import Cost, Observation, Step, Task, Trajectory, Turn


@dataclass(frozen=True)
class Planned:
    """One real episode and what deciding it took.

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


def best_child(tree: Tree, final: Literal["visits", "q"] = "visits", node: int = ROOT) -> int | None:
    """The child that ``steps.final_choice`` takes at ``node``; None where there are no children."""
    kids = tree.nodes[node].children
    if not kids:
        return None
    return kids[final_choice([tree.nodes[kid].visits for kid in kids], [tree.q(kid) for kid in kids], final)]


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
