"""MCTS*: a search that is led by the value of steps and never plays to the end, and what its trees say about steps afterwards.

A node is a state and the step that led to it. V of a fresh node is what the process reward model says of that step; an inner node's V is
the mean of its children's, weighted by their visits. One simulation goes down by V + c·√(2 ln N_parent / N), unvisited children first,
expands the leaf it finds, and looks further ahead from the best new child by greedy steps, V ← (1−α)·V + α·max V of those.
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
from common.types import Message, Task, Trajectory

Values = Callable[[Sequence[tuple[Message, ...]], Sequence[str], Sequence[Snapshot]], Sequence[float]]
"""V ∈ [0, 1] of steps: (what was read, the step, the state it was taken in)."""


@dataclass(frozen=True)
class Search:
    branching: int
    """Steps sampled to expand a node."""
    steps: int
    """Most steps that are sampled for a question, those of looking ahead among them."""
    c: float
    alpha: float
    """Weight of looking ahead."""
    ahead: int
    """Greedy steps that look ahead."""
    gate: float
    """The search ends at a finished node of at least this value."""


@dataclass
class Node:
    """``reward`` is the environment's of a finished node; the search does not read it."""

    state: Snapshot
    prompt: tuple[Message, ...] = ()
    """Of this state, "" of a finished one."""
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

    @property
    def solved(self) -> bool:
        """Whether it, or something below, is finished and right."""
        return self.reward == 1.0 or any(child.solved for child in self.children)


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
    sampled: int = 0
    """Steps that were sampled for it."""
    over: bool = False

    def found(self) -> Node | None:
        """The finished node of largest value, the first of several."""
        return max((node for node in self.root.below() if node.done), key=lambda node: node.value, default=None)


def search(env: Env, tasks: Sequence[Task], policy: Policy, greedy: Policy, values: Values, p: Search, keys: Sequence[int]) -> list[Tree]:
    """A tree for each task. Trees grow side by side, and each depends on its own task and key alone."""
    trees = [Tree(root_of(env, task)) for task in tasks]
    while active := [i for i, tree in enumerate(trees) if not tree.over]:
        leaves = {i: selected(trees[i].root, p.c) for i in active}
        for i in [i for i, leaf in leaves.items() if leaf.done or trees[i].sampled + p.branching + p.ahead > p.steps]:
            trees[i].over = True  # nothing is left to expand where it wants to go, or to spend
            del leaves[i]
        _expand(env, trees, leaves, policy, values, p, keys)
        best = {i: max(leaf.children, key=lambda child: child.value) for i, leaf in leaves.items() if leaf.children}
        _look_ahead(env, trees, best, greedy, values, p, keys)
        for i, node in best.items():
            backed_up(node)
            end = trees[i].found()
            trees[i].over = end is not None and end.value >= p.gate
    return trees


def _expand(env: Env, trees: list[Tree], leaves: dict[int, Node], policy: Policy, values: Values, p: Search, keys: Sequence[int]) -> None:
    if not leaves:
        return
    drawn = policy.propose([leaf.prompt for leaf in leaves.values()], [derive(keys[i], "expand", trees[i].sampled) for i in leaves], p.branching)
    fresh: list[Node] = []
    for (i, leaf), turns in zip(leaves.items(), drawn, strict=True):
        trees[i].sampled += len(turns)
        fresh += [grown(env, leaf, text) for text in dict.fromkeys(turn.text for turn in turns if turn.finished)]
        if not leaf.children:  # nothing that was written can be read
            leaf.done, leaf.value = True, 0.0
    for node, value in zip(fresh, values(*asked(fresh)), strict=True):
        node.value = value


def asked(nodes: Sequence[Node]) -> tuple[list, list, list]:
    """What :data:`Values` is given about ``nodes``."""
    return [node.parent.prompt for node in nodes], [node.action for node in nodes], [node.parent.state for node in nodes]


def _look_ahead(env: Env, trees: list[Tree], best: dict[int, Node], greedy: Policy, values: Values, p: Search, keys: Sequence[int]) -> None:
    going = {i: node for i, node in best.items() if not node.done} if p.alpha else {}
    played = play_out(env, [node.state for node in going.values()], greedy, keys=[derive(keys[i], "ahead") for i in going],
                      limits=[p.ahead] * len(going)) if going else []  # fmt: skip
    prompts, actions, states, owner = [], [], [], []
    for (i, node), steps in zip(going.items(), played, strict=True):
        trees[i].sampled += len(steps)
        env.restore(node.state)
        for step in steps:
            prompts.append(step.prompt), actions.append(step.turn.text), states.append(env.snapshot()), owner.append(i)
            env.step(step.turn.text)
    seen: dict[int, float] = {}
    for i, value in zip(owner, values(prompts, actions, states) if prompts else [], strict=True):
        seen[i] = max(seen.get(i, 0.0), value)
    for i, value in seen.items():
        going[i].value = (1 - p.alpha) * going[i].value + p.alpha * value


# -- what a tree says about its steps ----------------------------------------------------------------------------------


def inferred(root: Node, left: Callable[[Snapshot], int]) -> Iterator[tuple[Node, float]]:
    """Every node below ``root`` and its quality value: with v₀ = 0 at the root,

        v = max(v_parent + (1 − v_parent) / (m + 1) · (±1), 0)        + where something right is below, − elsewhere

    and m = ``left(state)``, the steps that are needed after it. It is 1 at a right end, and rises along the way to it."""
    worth = {id(root): 0.0}
    for node in root.below():
        before = worth[id(node.parent)]
        worth[id(node)] = max(before + (1 - before) / (left(node.state) + 1) * (1 if node.solved else -1), 0.0)
        yield node, worth[id(node)]
