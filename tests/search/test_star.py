"""MCTS*: quality values and the search by hand, no token beyond the budget, and exact chances."""

from __future__ import annotations

import math
from functools import partial

import pytest

from common.envs.versions.sorting_v1 import SortingEnv
from common.rng import generator
from common.search import star
from common.search.chances import chances
from common.search.star import Node, Search
from common.types import Observation, Step, Task, Trajectory, Turn

TASK = Task("t", "sorting-v1", "train", {"numbers": [5, 2, 7, 3]})
SEARCH = Search(branching=2, simulations=50, c=0.7, alpha=0.5, ahead=3, gate=0.9)
RIGHT = ("2", "3", "5")


def episode(*actions: str, finished: bool = True) -> Trajectory:
    return Trajectory("t", tuple(Step((), Turn(action, -1.0, 4, finished), Observation("")) for action in actions))


def tree(*episodes: Trajectory) -> Node:
    return star.merged(SortingEnv(), TASK, episodes)


def left(state) -> int:  # noqa: ANN001
    return max(len(state.rest) - 1, 0)


# -- what trees say --------------------------------------------------------------------------------------------------


def test_a_tree_is_what_episodes_share():
    root = tree(episode(*RIGHT), episode("2", "3", "7"), episode(*RIGHT), episode("7", finished=False))
    assert [node.action for node in root.below()] == ["2", "3", "5", "7"]
    assert [(end.action, end.reward) for end in root.ends()] == [("5", 1.0), ("7", 0.0)]


def test_quality_values_by_hand():
    """1/3, 2/3 and 1 along the right way. Wrong after two right steps: 2/3 − 1/3; after one: 1/3 − (2/3)/2 = 0; at once: less than nothing."""
    root = tree(episode(*RIGHT), episode("2", "3", "7"), episode("2", "7", "3"), episode("5", "2", "3"))
    values = list(star.inferred(root, left))
    assert [node.action for node, _ in values] == ["2", "3", "5", "7", "7", "3", "5", "2", "3"]
    assert [value for _, value in values] == pytest.approx([1 / 3, 2 / 3, 1, 1 / 3, 0, 0, 0, 0, 0])
    # the released code keeps the m of the last right step: 2/3 − (1/3)/2; 1/3 − (2/3)/3, and 1/9 − (8/9)/3 < 0 after it
    assert [value for _, value in star.inferred(root, left, released=True)] == pytest.approx([1 / 3, 2 / 3, 1, 1 / 2, 1 / 9, 0, 0, 0, 0])


def test_what_teaches_nothing():
    """A step with no end below it; and a tree without a right end, where nobody knows how far it would have been."""
    root = tree(episode(*RIGHT), episode("5", "2"))
    assert [node.action for node, _ in star.inferred(root, left)] == [*RIGHT]
    assert list(star.inferred(tree(episode("2", "3", "7")), left)) == list(star.inferred(tree(episode("2", "3", "7")), left, released=True)) == []


# -- the search ------------------------------------------------------------------------------------------------------


def test_the_way_down_and_up_by_hand():
    root = Node(None, visits=3)
    root.children = [Node(None, parent=root, value=0.6, visits=2), Node(None, parent=root, value=0.5, visits=1), Node(None, parent=root, value=0.1)]
    bounds = [star.bound(child, 3, 0.7) for child in root.children]
    assert bounds == pytest.approx([0.6 + 0.7 * math.sqrt(math.log(3)), 0.5 + 0.7 * math.sqrt(2 * math.log(3)), 1.1])
    assert star.selected(root, 0.7) is root.children[1] and star.selected(root, 0.0) is root.children[2]  # an unvisited one has V + 1
    star.backed_up(root.children[2])
    assert (root.visits, root.value) == (4, pytest.approx((2 * 0.6 + 0.5 + 0.1) / 4))


class Scripted:
    """Proposes the first two numbers that are left."""

    def propose(self, prompts, keys, n):  # noqa: ANN001, ANN201, ARG002
        first = [prompt[0]["content"].split()[1:3] for prompt in prompts]
        return [[Turn(two[k % 2], -1.0, 4) for k in range(n)] for two in first]


def searched(values, budget: int = 100, **changed) -> star.Tree:  # noqa: ANN001
    [found] = star.search(SortingEnv(), [TASK], Scripted(), values, Search(**(vars(SEARCH) | changed)), keys=[1], budgets=[budget])
    return found


def by_steps(known: dict[tuple[str, ...], float], otherwise: float):  # noqa: ANN201
    """Values of steps, named by all that was taken."""
    return lambda _, actions, states: [known.get((*map(str, state.taken), action), otherwise) for state, action in zip(states, actions, strict=True)]


def test_the_search_follows_its_values_and_never_the_reward():
    found = searched(by_steps({("2",): 0.8, ("2", "5"): 0.8, ("2", "5", "3"): 0.2, ("2", "5", "7"): 0.95}, 0.1), alpha=0.0)
    assert found.over and found.found().action == "7" and found.found().reward == 0.0  # led astray: nobody asks the reward
    assert found.found().parent.action == "5" and found.found().value == 0.95


def test_looking_ahead_mixes_in_the_best_value_it_meets():
    """5, then 2 and 7 ahead: 0.4 and 0.8, of which the best counts half."""
    found = searched(by_steps({("5",): 0.4, ("5", "2", "7"): 0.8}, 0.1), simulations=1)
    assert found.root.children[0].value == pytest.approx(0.5 * 0.4 + 0.5 * 0.8) and found.root.visits == 1
    assert found.turns == 2 + 2 and found.tokens == 16


def test_no_token_beyond_the_budget():
    for budget, turns in ((3, 0), (4, 1), (15, 3), (16, 4)):
        found = searched(by_steps({}, 0.2), budget=budget)
        assert (found.turns, found.tokens, found.over) == (turns, 4 * turns, True)
    assert searched(by_steps({}, 0.2), budget=10_000).tokens < 10_000  # all is expanded


class Keyed:
    """Proposes any of the numbers that are left, by its keys."""

    def propose(self, prompts, keys, n):  # noqa: ANN001, ANN201
        rests = [prompt[0]["content"].split(" :")[0].split()[1:] for prompt in prompts]
        return [[Turn(str(one), -1.0, 4) for one in generator(key).choice(rest, n)] for rest, key in zip(rests, keys, strict=True)]


def test_trees_grow_alike_together_and_alone():
    tasks = [TASK, *(Task(f"t{k}", TASK.env, "train", {"numbers": [7, k, 9, 1]}) for k in (2, 4, 5))]
    grow = partial(star.search, SortingEnv(), policy=Keyed(), values=by_steps({("2",): 0.6, ("1",): 0.4}, 0.2), p=SEARCH)
    together = grow(tasks=tasks, keys=[7, 8, 9, 10], budgets=[60] * 4)
    alone = [grow(tasks=[task], keys=[key], budgets=[60])[0] for task, key in zip(tasks, [7, 8, 9, 10], strict=True)]
    shape = [[[(node.action, node.value, node.visits) for node in tree.root.below()] for tree in trees] for trees in (together, alone)]
    assert shape[0] == shape[1] and len({len(one) for one in shape[0]}) > 1


# -- the truth -------------------------------------------------------------------------------------------------------


class Even:
    """An engine that takes every legal step with the same probability."""

    def score(self, prompts, actions):  # noqa: ANN001, ANN201, ARG002
        return [[-math.log(len(own))] * len(own) for own in actions]


def test_chances_by_hand():
    """After 2 one of three steps is right, then one of two."""
    env = SortingEnv(max_steps=3)
    values = chances(env, Even(), [TASK])
    env.reset(TASK)
    start = env.snapshot()
    assert values([()] * 3, ["2", "5", "no number"], [start] * 3) == pytest.approx([1 / 6, 0, 0])
    env.restore(start)
    env.step("2"), env.step("3")
    assert values([()] * 2, ["5", "7"], [env.snapshot()] * 2) == [1.0, 0.0]
