"""Monte-Carlo tree search over text environments, many trees advanced together.

One simulation of one tree:

1. **select** from the root by the rule until a state without children, a finished state, or a child
   never executed;
2. **expand** a state without children: sample K actions, merge equal texts, let the critic score
   them, choose one child by the rule. A fresh state is evaluated at its first visit and expanded at
   its second; the root is expanded at its first;
3. **step** the environment for the chosen child, and for that child only;
4. **evaluate** it: a policy rollout to the end of the episode, or the critic;
5. **back up** the discounted return along the path (``common.search.tree`` defines it).

Every round does one simulation in each tree, and each phase asks the policy once for all trees. A
tree depends on its own root, key and settings only, so trees searched together or one by one are
equal. A finished state that is visited again backs up its value again at no cost. There is no early
stop when a solution is found, nor when everything is: revisits are free and move W / N of every
inner edge towards its best continuation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple, get_args

from common.envs.contract import Env, Snapshot
from common.policy import Policy, critique, propose
from common.rng import derive
from common.search.rollout import add_steps, play_out
from common.search.steps import RULES, Rule, backup, best_index, child_score, length_prior, rank_to_value, ranks_of
from common.search.tree import ROOT, Tree
from common.types import Step, Task, Turn

Source = Literal["env", "critic"]
Evaluation = Literal["rollout", "critic"]
Prior = Literal["frequency", "length"]


@dataclass(frozen=True)
class MCTSSettings:
    """Parameters of a search. ValueError names the field that breaks its rule.

    * ``simulations`` per tree; ``branching`` K samples per expansion; ``c`` exploration constant;
    * ``alpha`` weight of Q̃ against Q̂ in selection; ``gamma`` discount per environment step;
    * ``max_depth``: states this many environment steps below the root are not expanded (rollouts
      beyond it go on to the end of the episode);
    * ``rule``, ``unvisited``: see ``steps.child_score``;
    * ``evaluation`` of a fresh unfinished state: ``rollout`` plays the policy to the end, ``critic``
      takes the critic's score of the action that led there as that edge's return;
    * ``reward``: where a finished episode's value comes from. ``env``: its true reward. ``critic``:
      the critic's score of the last action, and 0 when the episode was cut by a limit; no true reward
      reaches any decision, which is what acting at test time demands;
    * ``use_critique``: whether ranks of the critic's scores become Q̂;
    * ``prior`` (read by ``puct`` only): share of the K samples, or ``steps.length_prior``;
    * ``max_env_steps``: environment steps a tree may spend; the simulation that would exceed them is cut
      short and teaches the tree nothing, so that trees of equal budget cost exactly the same; None for
      no limit.
    """

    simulations: int
    branching: int
    c: float
    alpha: float
    gamma: float
    max_depth: int
    rule: Rule = "agent_q"
    unvisited: float | None = None
    evaluation: Evaluation = "rollout"
    reward: Source = "env"
    use_critique: bool = True
    prior: Prior = "frequency"
    max_env_steps: int | None = None

    def __post_init__(self) -> None:
        at_least_one = ("simulations", "branching", "max_depth") + ("max_env_steps",) * (self.max_env_steps is not None)
        for name in at_least_one:
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.c >= 0 and math.isfinite(self.c), "c", self.c, "a finite number of at least 0")
        _require(0 <= self.alpha <= 1, "alpha", self.alpha, "in [0, 1]")
        _require(0 < self.gamma <= 1, "gamma", self.gamma, "in (0, 1]")
        _require(self.unvisited is None or math.isfinite(self.unvisited), "unvisited", self.unvisited, "finite or None")
        choices = {"rule": RULES, "evaluation": get_args(Evaluation), "reward": get_args(Source)}
        for name, allowed in (choices | {"prior": get_args(Prior)}).items():
            _require(getattr(self, name) in allowed, name, getattr(self, name), f"one of {', '.join(allowed)}")

    @property
    def scores_are_values(self) -> bool:
        """Whether critic scores stand for returns, not only for an order."""
        return self.evaluation == "critic" or self.reward == "critic"


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise ValueError(f"MCTSSettings.{name} = {value!r} must be {rule}: correct it in the search settings.")


class Root(NamedTuple):
    """Where a tree starts: the task's reset state, or ``snapshot``, reached by the actions ``prefix``
    (needed to replay the tree later)."""

    task: Task
    snapshot: Snapshot | None = None
    prefix: tuple[str, ...] = ()


def search(
    env: Env,
    roots: Sequence[Root | tuple[Task, Snapshot | None]],
    policy: Policy,
    settings: MCTSSettings,
    *,
    keys: Sequence[int],
) -> list[Tree]:
    """One tree per root, in order. ``keys``: one integer per root, typically
    ``derive(seed, "search", task.id)``; equal root, key and settings give an equal tree.

    The environment is left in an arbitrary state. ValueError for a root whose episode is over.
    """
    trees = [_plant(env, Root(*root), key, settings) for root, key in zip(roots, keys, strict=True)]
    for simulation in range(settings.simulations):
        active = [tree for tree in trees if not _spent(tree, settings)]
        if not active:
            break
        paths = [select(tree, settings) for tree in active]
        growing = [(tree, path) for tree, path in zip(active, paths, strict=True) if _expandable(tree, path, settings)]
        _expand([tree for tree, _ in growing], [path[-1] for _, path in growing], policy, settings, simulation)
        for tree, path in growing:
            path.append(choose_child(tree, path[-1], settings))
        for tree, path in zip(active, paths, strict=True):
            if not tree.nodes[path[-1]].stepped:
                _step(env, tree, path[-1])
        values = _evaluate(env, active, [path[-1] for path in paths], policy, settings, simulation)
        for tree, path, outcome in zip(active, paths, values, strict=True):
            if outcome is not None:
                _record(tree, path, *outcome)
    return trees


def _plant(env: Env, root: Root, key: int, settings: MCTSSettings) -> Tree:
    tree = Tree(root.task.id, env.id, key, asdict(settings), tuple(root.prefix))
    node = tree.nodes[ROOT]
    if root.snapshot is None:
        node.observation = env.reset(root.task).text
    else:
        env.restore(root.snapshot)
        node.observation = ""
    if not env.actions():
        raise ValueError(f"root of task {root.task.id!r} is a finished episode: search from an unfinished state.")
    node.snapshot, node.prompt = env.snapshot(), env.prompt()
    return tree


def _spent(tree: Tree, settings: MCTSSettings) -> bool:
    return settings.max_env_steps is not None and tree.cost.env_steps >= settings.max_env_steps


def select(tree: Tree, settings: MCTSSettings) -> list[int]:
    """Node ids from the root down to where this simulation leaves the known tree. Pure."""
    path = [ROOT]
    while tree.nodes[path[-1]].children:
        path.append(choose_child(tree, path[-1], settings))
    return path


def choose_child(tree: Tree, node: int, settings: MCTSSettings) -> int:
    """The child with the largest selection score; ties by mixed Q, then the first sampled. Pure."""
    parent = tree.nodes[node]
    scores, ties = [], []
    for child in parent.children:
        one, q = tree.nodes[child], tree.q(child)
        ties.append(-math.inf if q is None else q)
        scores.append(
            child_score(
                settings.rule, q, one.prior, one.visits, parent.visits, c=settings.c, unvisited=settings.unvisited
            )
        )
    return parent.children[best_index(scores, ties)]


def _expandable(tree: Tree, path: list[int], settings: MCTSSettings) -> bool:
    node = tree.nodes[path[-1]]
    return node.stepped and not node.done and node.depth < settings.max_depth


def _expand(trees: list[Tree], leaves: list[int], policy: Policy, settings: MCTSSettings, simulation: int) -> None:
    """Give each leaf its children: one sampling request and, where needed, one critique for all."""
    nodes = [tree.nodes[leaf] for tree, leaf in zip(trees, leaves, strict=True)]
    keys = [derive(tree.key, "expand", simulation, node.depth) for tree, node in zip(trees, nodes, strict=True)]
    sampled = propose(policy, [node.prompt for node in nodes], keys, settings.branching)
    for tree, leaf, turns in zip(trees, leaves, sampled, strict=True):
        tree.cost.lm_calls += 1
        tree.cost.sampled_tokens += sum(turn.n_tokens for turn in turns)
        for turn, count in merge(turns):
            prior = count / len(turns)
            if settings.prior == "length":
                prior = length_prior(turn.logprob, turn.n_tokens)
            edge = dict(action=turn.text, logprob=turn.logprob, n_tokens=turn.n_tokens, finished=turn.finished)
            tree.add_child(leaf, **edge, count=count, prior=prior)
    _criticise(trees, leaves, policy, settings)


def merge(turns: Sequence[Turn]) -> list[tuple[Turn, int]]:
    """Distinct texts in order of first appearance, with their counts.

    The turn kept is the first finished one of its text (else the first): a log-probability without
    the end-of-turn token belongs to a different event.
    """
    merged: dict[str, tuple[Turn, int]] = {}
    for turn in turns:
        old, count = merged.get(turn.text, (turn, 0))
        merged[turn.text] = (turn if turn.finished and not old.finished else old, count + 1)
    return list(merged.values())


def _criticise(trees: list[Tree], leaves: list[int], policy: Policy, settings: MCTSSettings) -> None:
    """Fill ``score`` (and, when the critique is used, Q̂ by rank) of the leaves' new children. A single
    action has no rival: it gets no Q̂, and is not sent unless its score is needed as a value."""
    if not (settings.use_critique or settings.scores_are_values):
        return
    kids = [[tree.nodes[c] for c in tree.nodes[leaf].children] for tree, leaf in zip(trees, leaves, strict=True)]
    asked = [i for i in range(len(trees)) if len(kids[i]) > 1 or settings.scores_are_values]
    prompts = [trees[i].nodes[leaves[i]].prompt for i in asked]
    actions = [[kid.action for kid in kids[i]] for i in asked]
    for i, scores in zip(asked, critique(policy, prompts, actions, as_value=settings.scores_are_values), strict=True):
        trees[i].cost.lm_calls += 1
        for kid, score in zip(kids[i], scores, strict=True):
            kid.score = float(score)
        if settings.use_critique and len(scores) > 1:
            for kid, value in zip(kids[i], rank_to_value(ranks_of(scores), len(scores)), strict=True):
                kid.q_hat = value


def _step(env: Env, tree: Tree, child: int) -> None:
    node = tree.nodes[child]
    env.restore(tree.nodes[node.parent].snapshot)
    seen = env.step(node.action)
    node.observation, node.reward = seen.text, float(seen.reward)
    node.terminated, node.truncated = seen.terminated, seen.truncated
    node.snapshot = env.snapshot()
    if not seen.done:
        node.prompt = env.prompt()
    tree.cost.env_steps += 1


def _evaluate(
    env: Env, trees: list[Tree], leaves: list[int], policy: Policy, settings: MCTSSettings, simulation: int
) -> list[tuple[float, int] | None]:
    """(value of the episode's end, environment steps made beyond the leaf) per tree; None where the
    tree's budget ran out before the end."""
    values: list[tuple[float, int] | None] = [None] * len(trees)
    open_ends = []
    for i, (tree, leaf) in enumerate(zip(trees, leaves, strict=True)):
        node = tree.nodes[leaf]
        if node.done and settings.reward == "env":
            values[i] = (node.reward, 0)
        elif node.done:
            values[i] = (node.score if node.terminated else 0.0, 0)
        elif settings.evaluation == "critic":
            values[i] = (node.score, 0)
        else:
            open_ends.append(i)
    if not open_ends:
        return values
    nodes = [trees[i].nodes[leaves[i]] for i in open_ends]
    keys = [derive(trees[i].key, "rollout", simulation, node.depth) for i, node in zip(open_ends, nodes, strict=True)]
    starts = [node.snapshot for node in nodes]
    limits = [_remaining(trees[i], env, settings) for i in open_ends]
    played = play_out(env, starts, policy, keys=keys, limits=limits)
    for i, steps in zip(open_ends, played, strict=True):
        add_steps(trees[i].cost, steps)
    ended = [(i, steps) for i, steps in zip(open_ends, played, strict=True) if steps and steps[-1].observation.done]
    if settings.reward == "critic":
        ends = judge_ends(policy, [steps for _, steps in ended])
    else:
        ends = [float(steps[-1].observation.reward) for _, steps in ended]
    for (i, steps), value in zip(ended, ends, strict=True):
        trees[i].cost.lm_calls += settings.reward == "critic" and steps[-1].observation.terminated
        values[i] = (value, len(steps))
    return values


def _remaining(tree: Tree, env: Env, settings: MCTSSettings) -> int:
    return env.max_steps if settings.max_env_steps is None else settings.max_env_steps - tree.cost.env_steps


def judge_ends(policy: Policy, episodes: Sequence[tuple[Step, ...]]) -> list[float]:
    """The critic's value in [0, 1] of each episode's last action; 0 without asking where a limit cut
    the episode (an agent sees that it has run out of steps; it does not see its reward)."""
    last = [steps[-1] for steps in episodes]
    asked = [i for i, step in enumerate(last) if step.observation.terminated]
    actions = [[last[i].turn.text] for i in asked]
    values = [0.0] * len(last)
    scores = critique(policy, [last[i].prompt for i in asked], actions, as_value=True)
    for i, [score] in zip(asked, scores, strict=True):
        values[i] = float(score)
    return values


def _record(tree: Tree, path: list[int], value: float, steps_after: int) -> None:
    for node, seen in backup(path, value, tree.gamma, steps_after):
        tree.nodes[node].visits += 1
        tree.nodes[node].value_sum += seen
    tree.nodes[path[-1]].returns.append(tree.gamma**steps_after * value)
