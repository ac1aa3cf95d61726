"""Conservation, saving, replaying; each checker is also shown a broken tree."""

import pytest

from common.search.mcts import MCTSSettings, search
from common.search.tree import ROOT, Tree, load, recount, replay, save, state_of, tree_from_json, tree_to_json, violations
from common.types import Cost

from .toy import Scripted, ToyEnv, toy_task

SETTINGS = MCTSSettings(simulations=40, branching=4, c=1.0, alpha=0.5, gamma=0.9, max_depth=4)


@pytest.fixture
def tree() -> Tree:
    return search(ToyEnv(), [(toy_task(3), None)], Scripted(), SETTINGS, keys=[11])[0]


def hand_made() -> Tree:
    """root ─ a (own 0.81, then 2 through its child) ─ aa (ends: 1.0 twice); root ─ b (own 0.5)."""
    tree = Tree("t", "e", 0, {"gamma": 0.9, "alpha": 0.5})
    tree.nodes[ROOT].observation = "start"
    a = tree.add_child(ROOT, action="a", observation="", visits=3, value_sum=0.81 + 0.9 * 2, returns=[0.81])
    tree.add_child(ROOT, action="b", observation="", visits=1, value_sum=0.5, returns=[0.5])
    end = dict(observation="", reward=1.0, terminated=True)
    tree.add_child(a, action="aa", visits=2, value_sum=2.0, returns=[1.0, 1.0], **end)
    tree.nodes[ROOT].visits, tree.nodes[ROOT].value_sum = 4, 0.9 * (2.61 + 0.5)
    return tree


def test_hand_made_tree_is_sound_and_recounted():
    tree = hand_made()
    assert violations(tree) == []
    totals = recount(tree)
    assert [n for n, _ in totals] == [4, 3, 1, 2]
    assert [w for _, w in totals] == pytest.approx([2.799, 2.61, 0.5, 2.0])
    assert tree.path(3) == [0, 1, 3] and tree.actions(3) == ("a", "aa")
    assert tree.q(1) == pytest.approx(0.87)


@pytest.mark.parametrize(
    ("node", "field", "value", "message"),
    [
        (1, "visits", 4, "visits"),
        (0, "value_sum", 2.9, "W ="),
        (3, "returns", [1.0], "visits"),
        (2, "q_hat", 1.5, "outside"),
        (2, "action", "a", "same action"),
        (1, "terminated", True, "finished"),
        (1, "observation", None, "never executed"),
        (3, "depth", 3, "depth"),
        (3, "parent", 2, "not a child"),
    ],
)
def test_violations_are_found(node, field, value, message):
    tree = hand_made()
    setattr(tree.nodes[node], field, value)
    assert any(message in text for text in violations(tree))


def test_search_trees_conserve_visits_and_returns(tree):
    assert violations(tree) == []
    assert tree.nodes[ROOT].visits == SETTINGS.simulations and tree.nodes[ROOT].returns == []
    # W is the sum of all recorded returns below, each discounted by its distance: an independent slow sum
    for i, node in enumerate(tree.nodes):
        below = [j for j in range(len(tree.nodes)) if i in tree.path(j)]
        slow = sum(r * 0.9 ** (tree.nodes[j].depth - node.depth) for j in below for r in tree.nodes[j].returns)
        assert node.value_sum == pytest.approx(slow, abs=1e-9)
        assert node.visits == sum(len(tree.nodes[j].returns) for j in below)


def test_save_and_load_round_trip(tree, tmp_path):
    save(tree, tmp_path / "tree.json")
    loaded = load(tmp_path / "tree.json")
    assert loaded == tree  # snapshots are not compared
    assert all(node.snapshot is None for node in loaded.nodes) and tree.nodes[ROOT].snapshot is not None
    save(loaded, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tree.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.json", "tree.json"]


def test_wall_clock_is_not_saved(tree):
    text = tree_to_json(tree)
    tree.cost += Cost(seconds=3.0)
    assert tree_to_json(tree) == text


def test_damaged_or_foreign_files_are_refused(tree):
    text = tree_to_json(tree)
    with pytest.raises(ValueError, match="version 7"):
        tree_from_json(text.replace('"version":1', '"version":7'))
    for broken in (text[:-20], text.replace('"parent"', '"patron"', 1), "[]"):
        with pytest.raises(ValueError, match="damaged"):
            tree_from_json(broken)


def test_replay_confirms_and_finds_lies(tree):
    env, task = ToyEnv(), toy_task(3)
    loaded = tree_from_json(tree_to_json(tree))
    assert replay(loaded, env, task) == []
    ended = next(i for i, node in enumerate(loaded.nodes) if node.terminated)
    loaded.nodes[ended].reward += 0.125
    loaded.nodes[1].observation = "something else"
    found = {(m.node, m.field) for m in replay(loaded, env, task)}
    assert found == {(ended, "reward")} | ({(1, "observation")} if tree.nodes[1].stepped else set())
    with pytest.raises(ValueError, match="pass the task"):
        replay(loaded, env, toy_task(4))


def test_replay_of_other_rewards_reports_only_rewards(tree):
    other = toy_task(3, {word: 0.0 for word in toy_task(3).data["rewards"]})
    assert {m.field for m in replay(tree, ToyEnv(), other)} == {"reward"}


def test_replay_survives_an_earlier_end(tree):
    env = ToyEnv()
    env.max_steps = 1
    assert {m.field for m in replay(tree, env, toy_task(3))} == {"truncated"}


def test_state_is_the_same_from_memory_and_by_replay(tree):
    env, task = ToyEnv(), toy_task(3)
    loaded = tree_from_json(tree_to_json(tree))
    stepped = [i for i, node in enumerate(tree.nodes) if node.stepped]
    assert len(stepped) > 5
    for i in stepped:
        assert state_of(loaded, i, env, task) == state_of(tree, i, env, task)
