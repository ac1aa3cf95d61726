"""Probe of tree search: trees of a scripted policy in a toy environment."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from common.probes.game import KEYS, TASKS, Scripted, Spelling
from common.search import steps
from common.search.draw import tree_html
from common.search.mcts import MCTSSettings, Root, search
from common.search.tree import Tree, load, replay, save, state_of, violations
from common.types import Cost

BASIC = MCTSSettings(simulations=12, branching=4, c=0.7, alpha=0.4, gamma=0.9, max_depth=3)
SETTINGS = {
    "basic": BASIC,
    "ucb1": replace(BASIC, rule="ucb1", use_critique=False, c=1.0),
    "puct": replace(BASIC, rule="puct", prior="length", unvisited=0.4),
    "rest_mcts": replace(BASIC, rule="rest_mcts", evaluation="critic", alpha=0.8),
    "mctsr": replace(BASIC, rule="mctsr", reward="critic", max_depth=2),
    "budget": replace(BASIC, simulations=40, max_env_steps=25, reward="critic"),
}


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    env, policy = Spelling(), Scripted()
    values: dict[str, float | str] = {}
    for name, settings in SETTINGS.items():
        trees = search(env, [(task, None) for task in TASKS], policy, settings, keys=KEYS)
        values |= _trees(name, trees) | _saved(name, env, trees)
    return values | _rules() | _inside(env, policy)


def _trees(name: str, trees: list[Tree]) -> dict[str, float | str]:
    """Structure and visits as a text, values as numbers."""
    nodes = [node for tree in trees for node in tree.nodes]
    lines = [(n.parent, n.depth, n.action, n.n_tokens, n.finished, n.count, n.observation, n.terminated, n.truncated, n.children, n.visits)
            for n in nodes]  # fmt: skip
    cost = sum((tree.cost for tree in trees), Cost())
    tree_html(trees[0])  # a drawing is no number: it must work and may change
    return {f"{name}.nodes": repr(lines), f"{name}.cost": repr(asdict(cost)), f"{name}.prompts": repr([n.prompt for n in nodes]),
            f"{name}.value": sum(n.value_sum for n in nodes), f"{name}.prior": sum(n.prior * (i % 7) for i, n in enumerate(nodes)),
            f"{name}.critic": sum((n.q_hat or 0.0) * (i % 5) + (n.score or 0.0) for i, n in enumerate(nodes)),
            f"{name}.returns": sum(sum(n.returns) * (i % 3) for i, n in enumerate(nodes)), f"{name}.sound": repr([violations(t) for t in trees])}  # fmt: skip


def _saved(name: str, env: Spelling, trees: list[Tree]) -> dict[str, float | str]:
    """A tree written and read again, and the states of its nodes."""
    with tempfile.TemporaryDirectory() as folder:
        save(trees[0], Path(folder) / "tree.json")
        again = load(Path(folder) / "tree.json")
    actions = [again.actions(i) for i in range(len(again.nodes))]
    state = state_of(again, max(i for i, node in enumerate(again.nodes) if node.stepped), env, TASKS[0])
    return {f"{name}.again": repr((replay(again, env, TASKS[0]), again == trees[0], actions, state))}


def _rules() -> dict[str, float]:
    """The steps of a search as functions of numbers."""
    values: dict[str, float] = {}
    for rule, q, (n_child, n_parent) in product(steps.RULES, (None, 0.3), ((0, 0), (0, 4), (3, 9))):
        score = steps.child_score(rule, q, 0.25, n_child, n_parent, c=0.8, unvisited=0.6)
        values[f"rule.{rule}.{q}.{n_child}.{n_parent}"] = min(score, 1e6)
    mixed = [steps.mix_q(tree, critic, 0.3) for tree, critic in product((None, 0.8), (None, 0.1))]
    ranks = steps.rank_to_value(steps.ranks_of([0.1, 0.7, 0.7, -1.0]), 4)
    values |= {f"mix.{i}": -1.0 if one is None else one for i, one in enumerate(mixed)}
    values |= {f"rank.{i}": one for i, one in enumerate(ranks)}
    values |= {f"backup.{node}": value for node, value in steps.backup([0, 4, 9], 0.8, 0.9, 2)}
    choices = ([3, 3, 1], [0.2, 0.4, 0.9]), ([0, 0, 0], [0.2, None, 0.1])
    values |= {f"choice.{i}.{rule}": steps.final_choice(*one, rule) for i, one in enumerate(choices) for rule in ("visits", "q")}
    return values | {"prior": steps.length_prior(-3.0, 4), "first": steps.best_index([1.0, 2.0, 2.0], [0.0, 0.1, 0.3])}


def _inside(env: Spelling, policy: Scripted) -> dict[str, float | str]:
    """A search that begins inside an episode."""
    env.reset(TASKS[0])
    env.step("a")
    [tree] = search(env, [Root(TASKS[0], env.snapshot(), ("a",))], policy, BASIC, keys=[5])
    return _trees("inside", [tree])
