"""One search tree for all papers: nodes in a list, addressed by integer id, saved as small JSON.

A node is a state together with the edge (parent state, action) that led to it.

Values. One simulation that ends ``m`` environment steps after a node's action, with final reward r,
is worth γ^m · r *at that edge*: an action that ends the episode with r is worth r, as in
``common.types``. ``value_sum`` W adds these returns and ``visits`` N counts them, so that
Q̃(parent, action) = W / N of the child. The root has no edge; its W follows the same formula as if
one more action had led to it, hence its state value is W / N / γ.

Conservation. ``returns`` lists, in order, the returns of those simulations that *ended* at this
node (evaluated it). For every node n, exactly:

    N(n) = len(returns(n)) + Σ_children N(c)
    W(n) = sum(returns(n)) + γ · Σ_children W(c)

An inner node was evaluated once, when it was fresh (the root never: it is expanded instead); a
finished state or one at the depth limit is evaluated at every visit. :func:`violations` checks all this.
"""

from __future__ import annotations

import json
import os
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from common.envs.contract import Env, Snapshot
from common.search.steps import TOLERANCE, final_choice, mix_q
from common.types import Cost, Message, Task

ROOT = 0
NO_PARENT = -1
VERSION = 1


@dataclass(slots=True)
class Node:
    """A state and the edge into it. Fields of the edge come first, then those of the state.

    ``logprob`` and ``n_tokens`` are the behaviour policy's for ``action`` (see ``common.types``);
    ``count`` says how many of the samples at the parent had this text; ``score`` is the critic's
    raw score, ``q_hat`` its rank as a value in [0, 1], each None when no critic was asked.
    ``observation`` is None until the action was executed: children are stepped lazily.
    """

    parent: int
    depth: int
    action: str = ""
    logprob: float = 0.0
    n_tokens: int = 0
    finished: bool = True
    count: int = 0
    prior: float = 0.0
    score: float | None = None
    q_hat: float | None = None
    observation: str | None = None
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    prompt: tuple[Message, ...] = ()
    children: list[int] = field(default_factory=list)
    visits: int = 0
    value_sum: float = 0.0
    returns: list[float] = field(default_factory=list)
    snapshot: Snapshot = field(default=None, repr=False, compare=False)
    """In memory only; never saved."""

    @property
    def done(self) -> bool:
        return self.terminated or self.truncated

    @property
    def stepped(self) -> bool:
        return self.observation is not None

    @property
    def q_tree(self) -> float | None:
        """Q̃ of the edge into this node, None before the first visit."""
        return self.value_sum / self.visits if self.visits else None


@dataclass
class Tree:
    """``nodes[ROOT]`` is the root; a child's id is larger than its parent's.

    ``prefix``: the actions from the task's reset to the root state. ``settings``: the search's
    parameters as plain JSON values, of which ``gamma`` and ``alpha`` are read here. ``cost``: what
    this tree alone spent: ``env_steps`` (tree and rollouts), ``lm_calls`` (one per prompt sent for
    sampling or critique) and ``sampled_tokens``; the engine counts the same calls in its own ``Cost``.
    """

    task_id: str
    env_id: str
    key: int
    settings: dict[str, Any]
    prefix: tuple[str, ...] = ()
    nodes: list[Node] = field(default_factory=lambda: [Node(NO_PARENT, 0)])
    cost: Cost = field(default_factory=Cost)

    @property
    def gamma(self) -> float:
        return self.settings["gamma"]

    @property
    def alpha(self) -> float:
        return self.settings["alpha"]

    def add_child(self, parent: int, **edge: Any) -> int:
        """Append a child with the given ``Node`` fields; its id."""
        self.nodes.append(Node(parent, self.nodes[parent].depth + 1, **edge))
        self.nodes[parent].children.append(len(self.nodes) - 1)
        return len(self.nodes) - 1

    def q(self, node: int, alpha: float | None = None) -> float | None:
        """Mixed value α·Q̃ + (1−α)·Q̂ of the edge into ``node``, with the search's α unless given."""
        one = self.nodes[node]
        return mix_q(one.q_tree, one.q_hat, self.alpha if alpha is None else alpha)

    def path(self, node: int) -> list[int]:
        """Node ids from the root to ``node``, both included."""
        ids = [node]
        while self.nodes[ids[-1]].parent != NO_PARENT:
            ids.append(self.nodes[ids[-1]].parent)
        return ids[::-1]

    def actions(self, node: int) -> tuple[str, ...]:
        """All actions from the task's reset to ``node``."""
        return self.prefix + tuple(self.nodes[i].action for i in self.path(node)[1:])


def recount(tree: Tree) -> list[tuple[int, float]]:
    """(N, W) of every node from the recorded ``returns`` alone, by the two equations of the module."""
    totals = [(len(node.returns), sum(node.returns)) for node in tree.nodes]
    for i in range(len(tree.nodes) - 1, ROOT, -1):  # children before parents: ids grow downwards
        up = tree.nodes[i].parent
        totals[up] = (totals[up][0] + totals[i][0], totals[up][1] + tree.gamma * totals[i][1])
    return totals


def violations(tree: Tree) -> list[str]:
    """Every broken rule, one sentence each; empty for a sound tree.

    Checks structure (ids, depths, children), visit conservation, backup equality, values in [0, 1],
    that only executed, unfinished states have children, and that siblings have different actions.
    """
    broken = []
    for i, (node, (n, w)) in enumerate(zip(tree.nodes, recount(tree), strict=True)):
        kids = [tree.nodes[c] for c in node.children]
        if i == ROOT and (node.parent, node.depth) != (NO_PARENT, 0):
            broken.append(f"node {i} is not a root")
        if i != ROOT and not (0 <= node.parent < i and i in tree.nodes[node.parent].children):
            broken.append(f"node {i} is not a child of its parent {node.parent}")
        if any(kid.parent != i or kid.depth != node.depth + 1 for kid in kids):
            broken.append(f"node {i} has a child that names another parent or depth")
        if len({kid.action for kid in kids}) != len(kids):
            broken.append(f"node {i} has two children with the same action")
        if kids and (node.done or not node.stepped):
            broken.append(f"node {i} has children but is finished or was never executed")
        if node.visits and not node.stepped:
            broken.append(f"node {i} has visits but was never executed")
        if node.visits != n:
            broken.append(f"node {i} has {node.visits} visits, its returns and children count {n}")
        if abs(node.value_sum - w) > TOLERANCE * max(1, n):
            broken.append(f"node {i} has W = {node.value_sum}, its returns and children sum to {w}")
        for name, value in (("Q̃", node.q_tree), ("Q̂", node.q_hat), ("reward", node.reward)):
            if value is not None and not -TOLERANCE <= value <= 1 + TOLERANCE:
                broken.append(f"node {i} has {name} = {value} outside [0, 1]")
    return broken


_SAVED = [f for f in fields(Node) if f.name not in ("snapshot", "prompt")]
_DEFAULTS: dict[str, Any] = {f.name: [] if f.default is MISSING else f.default for f in _SAVED[2:]}
_COST = [name for name in Cost.__dataclass_fields__ if name != "seconds"]


def tree_to_json(tree: Tree) -> str:
    """The tree as JSON text: same tree, same bytes. One node a line; fields at their default are left
    out; messages are kept once and prompts refer to them by number. No snapshots, no wall-clock."""
    messages: dict[tuple[tuple[str, str], ...], int] = {}
    lines = []
    for node in tree.nodes:
        row: dict[str, Any] = {"parent": node.parent, "depth": node.depth}
        row |= {name: value for name, old in _DEFAULTS.items() if (value := getattr(node, name)) != old}
        if node.prompt:
            texts = [tuple(sorted(message.items())) for message in node.prompt]
            row["prompt"] = [messages.setdefault(text, len(messages)) for text in texts]
        lines.append(_dump(row))
    head = {
        "version": VERSION,
        "task_id": tree.task_id,
        "env_id": tree.env_id,
        "key": tree.key,
        "settings": tree.settings,
        "prefix": tree.prefix,
        "cost": {name: getattr(tree.cost, name) for name in _COST},
        "messages": [dict(message) for message in messages],
    }
    return _dump(head)[:-1] + ',"nodes":[\n' + ",\n".join(lines) + "\n]}\n"


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def tree_from_json(text: str) -> Tree:
    """Inverse of :func:`tree_to_json` (snapshots stay None). ValueError for another version or a damaged file."""
    try:
        data = json.loads(text)
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']!r} of a saved tree is not {VERSION}: run the search again.")
        messages = data["messages"]
        nodes = []
        for row in data["nodes"]:
            prompt = tuple(messages[i] for i in row.pop("prompt", ()))
            nodes.append(Node(**row, prompt=prompt))
        cost, prefix = Cost(**data["cost"]), tuple(data["prefix"])
        return Tree(data["task_id"], data["env_id"], data["key"], data["settings"], prefix, nodes, cost)
    except (json.JSONDecodeError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"saved tree is damaged ({error!r}): delete the file and run the search again.") from error


def save(tree: Tree, path: Path) -> None:
    """Write :func:`tree_to_json` atomically: a reader sees the old file or the new one."""
    part = path.with_name(path.name + ".part")
    part.write_text(tree_to_json(tree), encoding="utf-8", newline="\n")
    os.replace(part, path)


def load(path: Path) -> Tree:
    """Read a tree written by :func:`save`; errors as in :func:`tree_from_json`."""
    return tree_from_json(path.read_text(encoding="utf-8"))


def best_child(tree: Tree, final: Literal["visits", "q"] = "visits", node: int = ROOT) -> int | None:
    """The child that ``steps.final_choice`` takes at ``node``; None where there are no children."""
    kids = tree.nodes[node].children
    if not kids:
        return None
    return kids[final_choice([tree.nodes[kid].visits for kid in kids], [tree.q(kid) for kid in kids], final)]


@dataclass(frozen=True)
class Mismatch:
    """A field of a node whose recorded value is not what the environment answers now."""

    node: int
    field: str
    recorded: Any
    found: Any


def replay(tree: Tree, env: Env, task: Task) -> list[Mismatch]:
    """Execute every recorded edge again and compare observation, reward, ending and prompt.

    Starts from ``env.reset(task)`` and the tree's prefix. Empty list: the record is true. Below a
    state that now ends earlier than recorded nothing can be compared; that state is reported.
    """
    if task.id != tree.task_id:
        raise ValueError(f"task {task.id!r} is not the tree's {tree.task_id!r}: pass the task it was searched for.")
    env.reset(task)
    for action in tree.prefix:
        env.step(action)
    snapshots = {ROOT: env.snapshot()}
    wrong = []
    if env.prompt() != tree.nodes[ROOT].prompt:
        wrong.append(Mismatch(ROOT, "prompt", tree.nodes[ROOT].prompt, env.prompt()))
    for i, node in enumerate(tree.nodes):
        if i == ROOT or not node.stepped or node.parent not in snapshots:
            continue
        env.restore(snapshots[node.parent])
        seen = env.step(node.action)
        pairs = [("observation", seen.text), ("reward", seen.reward)]
        pairs += [("terminated", seen.terminated), ("truncated", seen.truncated)]
        if not seen.done:
            snapshots[i] = env.snapshot()
            pairs.append(("prompt", env.prompt()))
        wrong += [Mismatch(i, name, getattr(node, name), new) for name, new in pairs if getattr(node, name) != new]
    return wrong


def state_of(tree: Tree, node: int, env: Env, task: Task) -> Snapshot:
    """Snapshot of a node's state: the one in memory, else by replaying its actions from the reset.
    Moves the environment's episode in the second case."""
    if tree.nodes[node].snapshot is not None:
        return tree.nodes[node].snapshot
    env.reset(task)
    for action in tree.actions(node):
        env.step(action)
    return env.snapshot()
