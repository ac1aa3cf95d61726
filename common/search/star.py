"""MCTS*, a search that is led by the value of steps and never reads the reward, and what a tree says about its steps afterwards.

A node is a state and the step that led to it. V of a fresh node is what the process reward model says of that step; an inner node's V is
the mean of its children's, weighted by their visits. One simulation goes down by V + c·√(2 ln N_parent / N), unvisited children first,
expands the leaf it finds, and looks further ahead from the best new child: V ← (1−α)·V + α·max V of the steps seen there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from common.envs.contract import Env, Snapshot
from common.policy import Policy
from common.rng import derive
from common.search.rollout import play_out
from common.types import Message, Task, Trajectory, Turn

Values = Callable[[Sequence[tuple[Message, ...]], Sequence[str], Sequence[Snapshot]], Sequence[float]]
"""V ∈ [0, 1] of steps: (what was read, the step, the state it was taken in)."""


@dataclass(frozen=True)
class Search:
    branching: int
    """Steps sampled to expand a node."""
    simulations: int
    """At most, of a question."""
    c: float
    alpha: float
    """Weight of looking ahead; 0 does not look."""
    ahead: int
    """Most steps that look ahead."""
    gate: float
    """The search ends with a finished node of at least this value."""


@dataclass
class Node:
    """``reward`` is the environment's of a finished node; the search does not read it."""

    state: Snapshot
    prompt: tuple[Message, ...] = ()
    """Of this state, empty of a finished one."""
    action: str = ""
    parent: Self | None = None
    done: bool = False
    reward: float = 0.0
    value: float = 0.0
    visits: int = 0
    children: list[Self] = field(default_factory=list)

    def below(self) -> Iterator[Node]:
        """All nodes below this one, parents before children."""
        for child in self.children:
            yield child
            yield from child.below()

    def ends(self) -> list[Node]:
        """What is finished, here or below."""
        return [node for node in (self, *self.below()) if node.done]


def grown(env: Env, node: Node, action: str) -> Node:
    """The child of ``node`` by ``action``, made where it is not there."""
    for child in node.children:
        if child.action == action:
            return child
    env.restore(node.state)
    observation = env.step(action)
    child = Node(env.snapshot(), () if observation.done else env.prompt(), action, node, observation.done, observation.reward)
    node.children.append(child)
    return child


def root_of(env: Env, task: Task) -> Node:
    env.reset(task)
    return Node(env.snapshot(), env.prompt())


def merged(env: Env, task: Task, episodes: Sequence[Trajectory]) -> Node:
    """The tree of steps that ``episodes`` of a task share; those with a step that was cut end before it."""
    root = root_of(env, task)
    for episode in episodes:
        node = root
        for step in episode.steps:
            if not step.turn.finished or node.done:
                break
            node = grown(env, node, step.turn.text)
    return root


# -- the search --------------------------------------------------------------------------------------------------------


def selected(root: Node, c: float) -> Node:
    node = root
    while node.children:
        parent = node
        node = max(parent.children, key=lambda child: bound(child, parent.visits, c))  # noqa: B023 - used at once
    return node


def bound(child: Node, parent_visits: int, c: float) -> float:
    """V + c·√(2 ln N_parent / N); an unvisited child's is V + 1."""
    return child.value + (c * math.sqrt(2 * math.log(parent_visits) / child.visits) if child.visits else 1.0)


def backed_up(node: Node) -> None:
    """Count the visit of ``node``, and make each ancestor's value the mean of its children's by visits."""
    node.visits += 1
    while node := node.parent:
        node.visits += 1
        visits = sum(child.visits for child in node.children)
        node.value = sum(child.visits * child.value for child in node.children) / visits


@dataclass
class Tree:
    root: Node
    budget: int
    """Most tokens that are written for it, those of looking ahead among them."""
    tokens: int = 0
    turns: int = 0
    over: bool = False

    def paid(self, turn: Turn) -> bool:
        """Whether the tree can afford ``turn``; it is over where not."""
        if self.over or self.tokens + turn.n_tokens > self.budget:
            self.over = True
            return False
        self.tokens, self.turns = self.tokens + turn.n_tokens, self.turns + 1
        return True

    def found(self) -> Node | None:
        """The finished node of largest value, the first of several."""
        return max(self.root.ends(), key=lambda node: node.value, default=None)


def search(env: Env, tasks: Sequence[Task], policy: Policy, values: Values, p: Search, *, keys: Sequence[int], budgets: Sequence[int]) -> list[Tree]:
    """A tree for each task, of at most ``budgets[i]`` tokens. Trees grow side by side, and each depends on its own task and key alone."""
    trees = [Tree(root_of(env, task), budget) for task, budget in zip(tasks, budgets, strict=True)]
    for simulation in range(p.simulations):
        leaves = {i: selected(tree.root, p.c) for i, tree in enumerate(trees) if not tree.over}
        seeds = {i: derive(keys[i], simulation) for i in leaves}
        _expand(env, trees, {i: leaf for i, leaf in leaves.items() if not leaf.done}, policy, values, p, seeds)
        best = {i: max(leaf.children, key=lambda child: child.value, default=leaf) for i, leaf in leaves.items()}
        _look_ahead(env, trees, {i: node for i, node in best.items() if p.alpha and not node.done and not trees[i].over}, policy, values, p, seeds)
        for i, node in best.items():
            backed_up(node)
            end = trees[i].found()
            trees[i].over |= end is not None and end.value >= p.gate
    return trees


def _expand(env: Env, trees: list[Tree], leaves: dict[int, Node], policy: Policy, values: Values, p: Search, seeds: dict[int, int]) -> None:
    if not leaves:
        return
    drawn = policy.propose([leaf.prompt for leaf in leaves.values()], [derive(seeds[i], "expand") for i in leaves], p.branching)
    fresh: list[Node] = []
    for (i, leaf), turns in zip(leaves.items(), drawn, strict=True):
        kept = [turn.text for turn in turns if trees[i].paid(turn) and turn.finished]
        fresh += [grown(env, leaf, text) for text in dict.fromkeys(kept)]
        if not kept and not trees[i].over:  # nothing that was written can be read: a dead end
            leaf.done, leaf.value = True, 0.0
    for node, value in zip(fresh, values(*asked(fresh)), strict=True):
        node.value = value


def asked(nodes: Sequence[Node]) -> tuple[list, list, list]:
    """What :data:`Values` is given about ``nodes``."""
    return [node.parent.prompt for node in nodes], [node.action for node in nodes], [node.parent.state for node in nodes]


def _look_ahead(env: Env, trees: list[Tree], best: dict[int, Node], policy: Policy, values: Values, p: Search, seeds: dict[int, int]) -> None:
    if not best:
        return
    played = play_out(env, [node.state for node in best.values()], policy, keys=[derive(seeds[i], "ahead") for i in best],
                      limits=[p.ahead] * len(best))  # fmt: skip
    prompts, actions, states, owner = [], [], [], []
    for (i, node), steps in zip(best.items(), played, strict=True):
        env.restore(node.state)
        for step in steps:
            if not trees[i].paid(step.turn):
                break
            prompts.append(step.prompt), actions.append(step.turn.text), states.append(env.snapshot()), owner.append(i)
            env.step(step.turn.text)
    seen: dict[int, float] = {}
    for i, value in zip(owner, values(prompts, actions, states), strict=True):
        seen[i] = max(seen.get(i, 0.0), value)
    for i, value in seen.items():
        best[i].value = (1 - p.alpha) * best[i].value + p.alpha * value


# -- what a tree says about its steps ----------------------------------------------------------------------------------


def inferred(root: Node, left: Callable[[Snapshot], int], *, released: bool = False) -> Iterator[tuple[Node, float]]:
    """Every node below ``root`` with a finished one below it, and its quality value: with v₀ = 0 at the root,

        v = max(v_parent + (1 − v_parent) / (m + 1) · (±1), 0)        + where something right is below, − elsewhere

    and m = ``left(state)``, the steps that are needed after it. It is 1 at a right end, and rises along the way to it. A tree without a right
    end says nothing. In the ``released`` code a wrong step has its parent's m."""
    if not any(end.reward == 1.0 for end in root.ends()):
        return
    worth = {id(root): (0.0, left(root.state))}
    for node in root.below():
        ends, (before, m) = node.ends(), worth[id(node.parent)]
        right = any(end.reward == 1.0 for end in ends)
        if right or not released:
            m = left(node.state)
        value = max(before + (1 - before) / (m + 1) * (1 if right else -1), 0.0)
        worth[id(node)] = value, m
        if ends:
            yield node, value
