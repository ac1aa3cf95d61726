"""Pairs by hand, margins on searched trees, and an audit that tells right from wrong."""

from dataclasses import replace

import pytest

from common.envs.versions.countdown_v1 import CountdownEnv
from common.report.toy import ScriptedPolicy
from common.search.mcts import MCTSSettings, search
from common.search.tree import ROOT, Tree, save, tree_from_json, tree_to_json
from common.types import Task, Turn
from papers.agent_q import figures
from papers.agent_q.maths import audit, step_pairs
from tests.search.toy import Listing, Scripted, ToyEnv, toy_task

SETTINGS = MCTSSettings(simulations=80, branching=4, c=1.0, alpha=0.5, gamma=0.9, max_depth=4)


def trees_of(settings=SETTINGS, policy=None, numbers=range(6)):
    roots = [(toy_task(i), None) for i in numbers]
    return search(ToyEnv(), roots, policy or Scripted(), settings, keys=[100 + i for i in numbers])


def fan(*kids, alpha=0.5) -> Tree:
    """A root with children (action, visits, value_sum, q_hat, finished)."""
    tree = Tree("t#1", "e", 0, {"gamma": 0.9, "alpha": alpha})
    tree.nodes[ROOT].observation, tree.nodes[ROOT].prompt = "", ({"role": "user", "content": "go"},)
    for i, (action, visits, total, q_hat, finished) in enumerate(kids):
        edge = dict(action=action, logprob=-1.0 - i, n_tokens=i + 1, visits=visits, value_sum=total, q_hat=q_hat)
        tree.add_child(ROOT, **edge, finished=finished)
    return tree


def test_pairs_by_hand():
    tree = fan(("a", 2, 1.6, 0.5, True), ("b", 1, 0.2, 1.0, True), ("c", 0, 0.0, 0.0, True), ("d", 4, 0.0, 0.0, True))
    # Q at alpha 1/2: a .65, b .6, c 0 by critique alone, d 0
    pairs = step_pairs(tree, 0.05, 0.5)
    assert [(p.chosen, p.rejected) for p in pairs] == [("a", "d"), ("b", "d")]  # a over b is exactly 0.05: not above
    assert (pairs[0].q_chosen, pairs[0].q_rejected) == (pytest.approx(0.65), 0.0)
    assert (pairs[0].ref_chosen, pairs[0].ref_rejected) == (-1.0, -4.0)
    assert pairs[0].path == "t#1#0" and pairs[0].prompt == tree.nodes[ROOT].prompt and pairs[0].weight == 1.0
    free = step_pairs(tree, 0.05, 0.5, min_visits=0)
    assert [(p.chosen, p.rejected) for p in free] == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]
    assert step_pairs(tree, 0.05, 0.5, min_visits=0, max_pairs_per_node=3) == free[:3]
    assert [(p.chosen, p.rejected) for p in step_pairs(tree, 0.05, 0.5, min_visits=2)] == [("a", "d")]
    # alpha 0: a .5, b 1, d 0; margins 1, .5, .5, the tie in order of children (a, b) before (a, d)
    plain = [(p.chosen, p.rejected) for p in step_pairs(tree, 0.0, 0.0)]
    assert plain == [("b", "d"), ("b", "a"), ("a", "d")]


def test_cut_actions_make_no_pairs():
    tree = fan(("a", 2, 2.0, None, False), ("b", 1, 0.2, None, True), ("c", 1, 0.9, None, True))
    assert [(p.chosen, p.rejected) for p in step_pairs(tree, 0.1, 0.5)] == [("c", "b")]


@pytest.mark.parametrize("theta", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_margins_exceed_theta_and_no_pair_is_missed(theta, alpha):
    for tree in trees_of():
        pairs = step_pairs(tree, theta, alpha)
        assert all(p.q_chosen - p.q_rejected > theta for p in pairs)
        slow = set()
        for i, node in enumerate(tree.nodes):
            for a in node.children:
                for b in node.children:
                    if tree.nodes[a].visits and tree.nodes[b].visits:
                        if tree.q(a, alpha) - tree.q(b, alpha) > theta + 1e-9:
                            slow.add((f"{tree.task_id}#{i}", tree.nodes[a].action, tree.nodes[b].action))
        assert {(p.path, p.chosen, p.rejected) for p in pairs} == slow and len(pairs) == len(slow)


def test_fewer_pairs_with_larger_theta_and_same_from_saved_trees():
    trees = trees_of()
    counts = [sum(len(step_pairs(tree, theta, 0.5)) for tree in trees) for theta in (0.0, 0.1, 0.2, 0.4)]
    assert counts[0] > counts[1] > counts[3]
    assert step_pairs(tree_from_json(tree_to_json(trees[0])), 0.1, 0.5) == step_pairs(trees[0], 0.1, 0.5)
    with pytest.raises(ValueError, match="alpha"):
        step_pairs(trees[0], 0.1, 1.5)


def test_audit_is_exact():
    env, trees = ToyEnv(), trees_of()
    tasks = [toy_task(i) for i in range(6)]
    pairs = [pair for tree in trees for pair in step_pairs(tree, 0.1, 0.5)]
    report = audit(pairs, env, tasks, trees, test_ids={"toy/2", "toy/99"})
    gaps, lengths = [], []
    for pair in pairs:  # an independent route: replay the words of the path on a new environment
        tree = next(tree for tree in trees if tree.task_id == pair.task_id)
        other = ToyEnv()
        other.reset(next(task for task in tasks if task.id == pair.task_id))
        for action in tree.actions(int(pair.path.split("#")[1])):
            other.step(action)
        gaps.append(other.q(other.snapshot(), pair.chosen) - other.q(other.snapshot(), pair.rejected))
        lengths.append(len(pair.chosen) - len(pair.rejected))  # the toy's tokens are letters + 1
    assert report.exact_margins == pytest.approx(gaps)
    right, wrong = sum(g > 1e-9 for g in gaps), sum(g < -1e-9 for g in gaps)
    assert (report.n, report.correct, report.wrong) == (len(pairs), right, wrong)
    assert right and wrong and report.tied == len(pairs) - right - wrong
    assert report.accuracy == pytest.approx(right / (right + wrong))
    assert report.length_bias == pytest.approx(sum(lengths) / len(lengths))
    assert report.leaked == ("toy/2",) and report.duplicates == 0 and report.contradictions == 0
    loaded = [tree_from_json(tree_to_json(tree)) for tree in trees]
    assert audit(pairs, env, tasks, loaded, test_ids={"toy/2"}) == report
    assert report.metrics()["pair_count"] == len(pairs) and report.metrics()["pair_leaked"] == 1


def test_audit_of_many_simulations_is_more_right_than_of_reversed_pairs():
    settings = replace(SETTINGS, simulations=2000, rule="ucb1", alpha=1.0, use_critique=False)
    trees, tasks = trees_of(settings, Listing()), [toy_task(i) for i in range(6)]
    pairs = [pair for tree in trees for pair in step_pairs(tree, 0.3, 1.0, min_visits=20)]
    report = audit(pairs, ToyEnv(), tasks, trees)
    assert report.n > 20 and report.accuracy > 0.95
    flipped = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in pairs]
    mirrored = audit(flipped, ToyEnv(), tasks, trees)
    assert (mirrored.correct, mirrored.wrong, mirrored.tied) == (report.wrong, report.correct, report.tied)
    assert mirrored.length_bias == pytest.approx(-report.length_bias)


def test_audit_counts_ties_duplicates_and_contradictions():
    class TwoWords(Scripted):
        def one(self, key, n):
            return ([Turn("a", -0.1, 2), Turn("b", -0.2, 3)] * n)[:n]

    task = toy_task(0, {"aaa": 1.0, "baa": 1.0})  # a and b are equally good first letters
    trees = search(ToyEnv(), [(task, None)], TwoWords(), replace(SETTINGS, simulations=12), keys=[1])
    at_root = [pair for pair in step_pairs(trees[0], 0.0, 0.0) if pair.path == "toy/0#0"]
    assert len(at_root) == 1
    mirrored = replace(at_root[0], chosen=at_root[0].rejected, rejected=at_root[0].chosen)
    report = audit([*at_root, *at_root, mirrored], ToyEnv(), [task], trees)
    assert (report.tied, report.accuracy, report.duplicates, report.contradictions) == (3, None, 1, 1)


def test_audit_of_nothing_and_of_strangers():
    trees, tasks = trees_of(numbers=range(2)), [toy_task(0), toy_task(1)]
    empty = audit([], ToyEnv(), tasks, trees)
    assert (empty.n, empty.accuracy, empty.length_bias) == (0, None, None) and "pair_margin" not in empty.metrics()
    pairs = step_pairs(trees[1], 0.1, 0.5)
    with pytest.raises(ValueError, match="has no tree"):
        audit(pairs, ToyEnv(), tasks, trees[:1])
    with pytest.raises(ValueError, match="two trees of one task"):
        audit(pairs, ToyEnv(), tasks, [trees[0], trees[0]])


# -- pairs and trees as the notebook shows them ---------------------------------------------------------------------

HARD = Task("t/2", "countdown-v1", "t", {"numbers": [10, 6, 3], "target": 78})
"""(10 + 3) · 6; a rule of thumb prefers 10 · 6, which is nearer and leads nowhere."""


def grow(key: int = 1):
    settings = MCTSSettings(simulations=6, branching=4, c=0.5, alpha=0.1, gamma=0.95, max_depth=6, rule="ucb1")
    return search(CountdownEnv(), [(HARD, None)], ScriptedPolicy(), settings, keys=[key])[0]


def test_kept_trees_come_back_and_wrong_pairs_are_the_wrong_ones(tmp_path):
    assert figures.trees(tmp_path) == [] and figures.telling([]) is None
    grown = [grow(key) for key in range(6)]
    for k, tree in enumerate(grown):
        save(tree, tmp_path / f"tree.r1.{k}.json")
    assert figures.telling(figures.trees(tmp_path)) is not None
    found = [tree for tree in figures.trees(tmp_path)
             if audit(step_pairs(tree, 0.0, 0.1), CountdownEnv(), [HARD], [tree]).wrong]
    assert found, "no search of these made a wrong pair: the test needs one"
    table = figures.wrong_pairs(found[:1], CountdownEnv(), {HARD.id: HARD}, theta=0.0, most=100)
    wrong = audit(step_pairs(found[0], 0.0, 0.1), CountdownEnv(), [HARD], found[:1]).wrong
    assert len(table.splitlines()) - 2 == wrong and table.count("| -") == wrong
    assert "No pair" in figures.wrong_pairs(found[:1], CountdownEnv(), {HARD.id: HARD}, theta=1.0)
