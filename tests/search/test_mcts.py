"""The search against an independent naive search, golden trees and exact values."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.rng import derive
from common.search.mcts import MCTSSettings, Root, merge, search
from common.search.tree import ROOT, best_child, load, replay, save, tree_to_json, violations
from common.types import Turn

from .toy import LETTERS, Listing, Scripted, ToyEnv, toy_task

BASE = MCTSSettings(simulations=30, branching=4, c=1.0, alpha=0.5, gamma=0.9, max_depth=4)
VARIANTS = {
    "agent_q": BASE,
    "ucb1_plain": replace(BASE, rule="ucb1", c=0.25, use_critique=False, alpha=1.0),
    "ucb1_critic": replace(BASE, rule="ucb1"),
    "puct_length": replace(BASE, rule="puct", prior="length", unvisited=0.0, use_critique=False),
    "rest_critic": replace(BASE, rule="rest_mcts", evaluation="critic"),
    "honest": replace(BASE, evaluation="critic", reward="critic"),
    "honest_rollout": replace(BASE, reward="critic", max_depth=2),
}
GOLDEN = Path(__file__).parent / "golden"


def run(settings, numbers=range(8), policy=None):
    roots = [(toy_task(i), None) for i in numbers]
    keys = [derive(0, "search", task.id) for task, _ in roots]
    return search(ToyEnv(), roots, policy or Scripted(), settings, keys=keys)


@pytest.mark.parametrize("name", VARIANTS)
def test_trees_are_sound_replayable_and_independent_of_batching(name):
    together = run(VARIANTS[name])
    for i, tree in enumerate(together):
        assert violations(tree) == []
        assert replay(tree, ToyEnv(), toy_task(i)) == []
        assert tree.nodes[ROOT].visits == BASE.simulations
        assert tree_to_json(run(VARIANTS[name], [i])[0]) == tree_to_json(tree)
    assert [tree_to_json(tree) for tree in run(VARIANTS[name], [7, 2, 5])] == [tree_to_json(together[i]) for i in (7, 2, 5)]
    assert len({tree_to_json(tree).split("nodes")[1] for tree in together}) == 8


def naive_search(task, key, settings, policy):
    """One tree, one simulation at a time, every state reached again from the reset, nodes in a dict
    by their actions, returns kept as lists of (distance to the end, reward). Env rewards, rollouts."""
    env, kids, info, returns = ToyEnv(), {}, {(): None}, {(): []}

    def go(actions):
        seen = env.reset(task)
        for action in actions:
            seen = env.step(action)
        return seen

    def q_of(node):
        seen = [settings.gamma**m * r for m, r in returns[node]]
        mean, rank = (np.mean(seen) if seen else None), info[node]
        if mean is None or rank is None:
            return rank if mean is None else mean
        return settings.alpha * mean + (1 - settings.alpha) * rank

    def pick(node):
        def score(kid):
            q, n, total = q_of(kid), len(returns[kid]), max(1, len(returns[node]))
            if settings.rule == "ucb1":
                return np.inf if n == 0 else q + settings.c * np.sqrt(np.log(total) / n)
            return q + settings.c * np.sqrt(np.log(total) / (1 + n))

        return max(kids[node], key=lambda kid: (score(kid), -1 if q_of(kid) is None else q_of(kid)))

    for simulation in range(settings.simulations):
        node = ()
        while node in kids:
            node = pick(node)
        over = go(node).done
        if (node == () or returns[node]) and not over and len(node) < settings.max_depth:
            go(node)
            prompt = env.prompt()
            turns = policy.one(derive(key, "expand", simulation, len(node)), settings.branching)
            texts = list(dict.fromkeys(turn.text for turn in turns))
            kids[node] = [node + (text,) for text in texts]
            scores = {text: policy.score(prompt, text) for text in texts}
            for text in texts:
                rivals = [(scores[text] > scores[x]) + (scores[text] == scores[x]) / 2 for x in texts if x != text]
                info[node + (text,)] = float(np.mean(rivals)) if rivals and settings.use_critique else None
                returns[node + (text,)] = []
            node = pick(node)
        seen, extra = go(node), 0
        while not seen.done:
            [turn] = policy.one(derive(derive(key, "rollout", simulation, len(node)), "step", extra), 1)
            seen, extra = env.step(turn.text), extra + 1
        for up in range(len(node) + 1):
            returns[node[: len(node) - up]].append((extra + up, seen.reward))
    return returns


@pytest.mark.parametrize("name", ["agent_q", "ucb1_plain", "ucb1_critic"])
def test_equals_a_naive_search_written_apart(name):
    settings = replace(VARIANTS[name], simulations=60)
    for i, tree in enumerate(run(settings)):
        expected = naive_search(toy_task(i), derive(0, "search", f"toy/{i}"), settings, Scripted())
        assert {tree.actions(j): node.visits for j, node in enumerate(tree.nodes)} == {
            actions: len(seen) for actions, seen in expected.items()
        }
        for j, node in enumerate(tree.nodes):
            slow = sum(settings.gamma**m * r for m, r in expected[tree.actions(j)])
            assert node.value_sum == pytest.approx(slow, abs=1e-9)


@pytest.mark.parametrize("name", ["agent_q", "puct_length", "honest"])
def test_golden_trees(name):
    """Regenerate after an intended change: python -m tests.search.test_mcts, then read the diff."""
    assert tree_to_json(golden_tree(name)) == tree_to_json(load(GOLDEN / f"{name}.json"))


def golden_tree(name):
    return run(replace(VARIANTS[name], simulations=14), [0])[0]


def exact_settings(simulations):
    return replace(BASE, simulations=simulations, rule="ucb1", c=1.0, alpha=1.0, use_critique=False)


def test_converges_to_the_exact_best_action_and_value():
    env = ToyEnv()
    for i, tree in enumerate(run(exact_settings(20000), range(6), Listing())):
        env.reset(toy_task(i))
        exact = {action: env.q(env.snapshot(), action) for action in (*LETTERS, "stop")}
        best = tree.nodes[best_child(tree)]
        assert exact[best.action] == max(exact.values())
        assert best.q_tree == pytest.approx(max(exact.values()), abs=0.02)
        assert tree.nodes[best_child(tree, "q")].action == best.action


def test_value_error_shrinks_with_simulations():
    env, errors = ToyEnv(), []
    for simulations in (30, 300, 3000):
        gaps = []
        for i, tree in enumerate(run(exact_settings(simulations), range(6), Listing())):
            env.reset(toy_task(i))
            gaps.append(abs(tree.nodes[ROOT].q_tree / env.gamma - env.value(env.snapshot())))
        errors.append(np.mean(gaps))
    assert errors[0] > errors[1] > errors[2]


def test_discount_by_hand():
    """One reward 1 at 'aaa', rollouts and samples that only say 'a': every number is known."""

    class OnlyA(Scripted):
        def one(self, key, n):
            return [Turn("a", -0.1, 2)] * n

    task = toy_task(0, {"aaa": 1.0})
    [tree] = search(ToyEnv(), [(task, None)], OnlyA(), replace(BASE, simulations=4), keys=[1])
    # edges: a is followed by two more steps, aa by one, aaa by none; sim 4 revisits the end
    assert [node.action for node in tree.nodes] == ["", "a", "a", "a"]
    assert [node.visits for node in tree.nodes] == [4, 4, 3, 2]
    assert [node.q_tree for node in tree.nodes] == pytest.approx([0.729, 0.81, 0.9, 1.0])
    assert [node.returns for node in tree.nodes] == [[], [pytest.approx(0.81)], [pytest.approx(0.9)], [1.0, 1.0]]
    assert [node.count for node in tree.nodes[1:]] == [4, 4, 4]
    assert all(node.q_hat is None for node in tree.nodes)  # a single action has no rival
    # env steps: 3 in the tree, rollouts of 2, 1 and 0; prompts: 3 expansions and those 3 rollout steps
    assert (tree.cost.env_steps, tree.cost.lm_calls, tree.cost.sampled_tokens) == (6, 6, 3 * 4 * 2 + 3 * 2)


def test_env_steps_are_counted_exactly():
    class Counting(ToyEnv):
        taken = 0

        def step(self, action):
            self.taken += 1
            return super().step(action)

    env = Counting()
    trees = search(env, [(toy_task(i), None) for i in range(4)], Scripted(), BASE, keys=range(4))
    assert sum(tree.cost.env_steps for tree in trees) == env.taken > 0


def test_phases_are_batched_over_trees():
    policy = Scripted()
    trees = run(BASE, range(8), policy)
    assert policy.calls[:2] == [("propose", 8), ("critique", 8)]
    requests = len(policy.calls)
    assert requests <= BASE.simulations * (2 + ToyEnv.max_steps)
    assert sum(tree.cost.lm_calls for tree in trees) == sum(size for _, size in policy.calls)


def test_no_request_without_prompts():
    policy = Scripted()
    run(replace(BASE, simulations=300), range(2), policy)
    assert min(size for _, size in policy.calls) > 0


def test_only_visited_children_are_executed():
    tree = run(BASE, [0])[0]
    assert all(node.stepped == (node.visits > 0) for node in tree.nodes)
    assert any(not node.stepped for node in tree.nodes)


def test_invalid_actions_stay_as_children_and_cost_a_step():
    trees = run(replace(BASE, simulations=60))
    junk = [node for tree in trees for node in tree.nodes if node.action == "oops!" and node.stepped]
    assert junk and all(not node.terminated and node.reward == 0.0 for node in junk)


def test_env_step_budget_is_spent_exactly_and_by_each_tree_apart():
    capped = run(replace(BASE, max_env_steps=20))
    for i, tree in enumerate(capped):
        assert violations(tree) == []
        assert tree.cost.env_steps == 20 or (tree.cost.env_steps < 20 and tree.nodes[ROOT].visits == BASE.simulations)
        assert tree_to_json(run(replace(BASE, max_env_steps=20), [i])[0]) == tree_to_json(tree)
    assert any(tree.nodes[ROOT].visits < BASE.simulations for tree in capped)
    assert len({tree.nodes[ROOT].visits for tree in capped}) > 1


@pytest.mark.parametrize("name", ["honest", "honest_rollout"])
def test_critic_reward_never_looks_at_the_environments(name):
    blind = toy_task(1, {word: 0.0 for word in toy_task(1).data["rewards"]})
    [seeing] = run(VARIANTS[name], [1])
    [other] = search(ToyEnv(), [(blind, None)], Scripted(), VARIANTS[name], keys=[derive(0, "search", "toy/1")])
    assert any(node.reward > 0 for node in seeing.nodes)
    for one, two in zip(seeing.nodes, other.nodes, strict=True):
        assert (one.action, one.visits, one.returns) == (two.action, two.visits, two.returns)


def test_env_reward_does_look():
    blind = toy_task(1, {word: 0.0 for word in toy_task(1).data["rewards"]})
    [other] = search(ToyEnv(), [(blind, None)], Scripted(), BASE, keys=[derive(0, "search", "toy/1")])
    assert other.nodes[ROOT].value_sum < run(BASE, [1])[0].nodes[ROOT].value_sum


def test_depth_limit_and_finished_states_are_evaluated_at_every_visit():
    tree = run(replace(BASE, max_depth=1, simulations=20), [0])[0]
    assert max(node.depth for node in tree.nodes) == 1
    assert all(len(node.returns) == node.visits for node in tree.nodes[1:])


def test_root_from_a_snapshot_with_prefix():
    env, task = ToyEnv(), toy_task(2)
    env.reset(task)
    env.step("b")
    [tree] = search(env, [Root(task, env.snapshot(), ("b",))], Scripted(), BASE, keys=[5])
    assert replay(tree, ToyEnv(), task) == []
    assert tree.actions(tree.nodes[ROOT].children[0])[0] == "b"
    env.restore(tree.nodes[ROOT].snapshot)
    env.step("stop")
    with pytest.raises(ValueError, match="finished episode"):
        search(env, [(task, env.snapshot())], Scripted(), BASE, keys=[5])


def test_merge_counts_and_prefers_finished_turns():
    turns = [Turn("x", -1.0, 3, finished=False), Turn("y", -2.0, 2), Turn("x", -1.5, 4), Turn("x", -1.5, 4)]
    assert merge(turns) == [(Turn("x", -1.5, 4), 3), (Turn("y", -2.0, 2), 1)]


def test_priors():
    [tree] = run(replace(BASE, simulations=2), [0])
    kids = [tree.nodes[c] for c in tree.nodes[ROOT].children]
    assert sum(kid.count for kid in kids) == 4 and [kid.prior for kid in kids] == [kid.count / 4 for kid in kids]
    [tree] = run(replace(VARIANTS["puct_length"], simulations=2), [0])
    kid = tree.nodes[1]
    assert kid.prior == pytest.approx(np.exp(kid.logprob / kid.n_tokens**1.25))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("simulations", 0),
        ("branching", 0),
        ("max_depth", 0),
        ("max_env_steps", 0),
        ("c", -1.0),
        ("alpha", 1.5),
        ("gamma", 0.0),
        ("unvisited", float("inf")),
        ("rule", "usb1"),
        ("evaluation", "oracle"),
        ("reward", "true"),
        ("prior", "flat"),
    ],
)
def test_settings_name_the_wrong_field(field, value):
    with pytest.raises(ValueError, match=rf"MCTSSettings\.{field} = "):
        replace(BASE, **{field: value})


def test_policies_that_break_their_shape_are_refused():
    class Short(Scripted):
        def propose(self, prompts, keys, n):
            return super().propose(prompts, keys, n - 1)

    class Loud(Scripted):
        def critique(self, prompts, actions):
            return [[7.0] * len(row) for row in actions]

    with pytest.raises(ValueError, match=r"policy\.propose"):
        run(BASE, [0], Short())
    run(BASE, [0], Loud())  # an order needs no range
    with pytest.raises(ValueError, match="must be a probability"):
        run(VARIANTS["honest"], [0], Loud())


if __name__ == "__main__":
    for golden in ("agent_q", "puct_length", "honest"):
        save(golden_tree(golden), GOLDEN / f"{golden}.json")
