"""ReST-MCTS*: quality values and the search by hand, what learns from which half, equal budgets, and that it is led by its values."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest

from common.base import demonstrations
from common.envs.versions.countdown_v2 import CountdownV2
from common.lab import Lab, run
from common.rng import generator
from common.types import Observation, Step, Task, Trajectory, Turn
from papers.rest_mcts import figures, method, star
from papers.rest_mcts.star import Node, Search
from tests.papers.units import open_unit, teach, write_panels

ENV = "countdown-v2"
TASK = Task("t", ENV, "train", {"numbers": [9, 5, 3], "target": 11})  # 9 + 5 - 3, 9 - 3 + 5, 5 - 3 + 9
SEARCH = Search(branching=2, steps=12, c=0.7, alpha=0.5, ahead=1, gate=0.9)


@pytest.fixture(scope="module")
def new_unit(tmp_path_factory):
    """Three small numbers whose target is their sum, and a half-taught policy."""
    world: Path = tmp_path_factory.mktemp("tiny")
    sets = [(a, b, c) for a in range(2, 9) for b in range(1, a) for c in range(1, b)]
    order = generator("tiny rest").permutation(len(sets))
    panels = {name: [Task(f"{ENV}/{name}/{i}", ENV, name, {"numbers": list(sets[i]), "target": sum(sets[i])}) for i in chosen]
              for name, chosen in {"train": order[:30], "test": order[30:42], "demos": order[30:]}.items()}  # fmt: skip
    write_panels(world, ENV, panels)
    teach(world, demonstrations(CountdownV2(), [*panels["train"], *panels["demos"]], seed=0, repeats=6), vocab=340, context=64, updates=200)
    return partial(open_unit, world, "rest_mcts", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    return (unit := new_unit(tmp_path_factory.mktemp("whole") / "lab", admission=True)), run(unit)


def episode(*actions: str, finished: bool = True) -> Trajectory:
    return Trajectory("t", tuple(Step((), Turn(action, -1.0, 3, finished), Observation("")) for action in actions))


# -- trees ----------------------------------------------------------------------------------------------------------


def test_a_tree_is_what_episodes_share():
    root = star.merged(CountdownV2(), TASK, [episode("9 + 5", "14 - 3"), episode("9 + 5", "14 + 3"), episode("9 + 5", "14 - 3"),
                                             episode("9 - 3", finished=False)])  # fmt: skip
    [first] = root.children
    assert [node.action for node in root.below()] == ["9 + 5", "14 - 3", "14 + 3"] and not first.done
    assert [(child.done, child.reward, child.solved) for child in first.children] == [(True, 1.0, True), (True, 0.0, False)]


def test_quality_values_by_hand():
    """½ after a first step that leads to a right end (0 + 1/2), 1 at it (½ + ½/1); less than nothing is 0: −½ and ½ − ½/1."""
    root = star.merged(CountdownV2(), TASK, [episode("9 + 5", "14 - 3"), episode("9 + 5", "14 + 3"), episode("9 - 5", "4 + 3"), episode("7 + 7", "9 - 3", "6 + 5")])
    found = {node.action: value for node, value in star.inferred(root, method.left)}
    assert found["9 + 5"] == 0.5 and found["14 - 3"] == 1.0 and found["14 + 3"] == found["9 - 5"] == found["4 + 3"] == 0.0
    # a step that the rules forbid leaves all numbers: 1/3, then 1/3 + (2/3)/2 = 2/3, then 2/3 + (1/3)/1 = 1
    assert [found[action] for action in ("7 + 7", "9 - 3", "6 + 5")] == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_the_way_down_and_up_by_hand():
    root = Node(None, visits=3)
    root.children = [Node(None, parent=root, value=0.6, visits=2), Node(None, parent=root, value=0.5, visits=1), Node(None, parent=root, value=0.1)]
    bounds = [star.bound(child, 3, 0.7) for child in root.children]
    assert bounds == pytest.approx([0.6 + 0.7 * math.sqrt(math.log(3)), 0.5 + 0.7 * math.sqrt(2 * math.log(3)), 1.1])
    assert star.selected(root, 0.7) is root.children[1] and star.selected(root, 0.0) is root.children[2]  # an unvisited one has V + 1
    star.backed_up(root.children[2])
    assert (root.visits, root.value) == (4, pytest.approx((2 * 0.6 + 0.5 + 0.1) / 4))


class Scripted:
    """Proposes the same steps again and again: from three numbers those given, from two their sum and their difference."""

    def __init__(self, *first: str) -> None:
        self.first, self.asked = first, 0

    def propose(self, prompts, keys, n):  # noqa: ANN001, ANN201
        self.asked += n * len(prompts)
        found = []
        for prompt in prompts:
            numbers = prompt[0]["content"].removeprefix("numbers ").split(" target ")[0].split()
            texts = self.first if len(numbers) == 3 else (f"{numbers[0]} + {numbers[1]}", f"{numbers[0]} - {numbers[1]}")
            found.append([Turn(texts[k % len(texts)], -1.0, 3) for k in range(n)])
        return found


def searched(values, **changed):  # noqa: ANN001, ANN201
    policy = Scripted("9 - 5", "9 + 5")
    [tree] = star.search(CountdownV2(), [TASK], policy, Scripted("9 + 5"), values, Search(**(vars(SEARCH) | changed)), [1])
    return tree, policy


def test_the_search_follows_its_values_and_never_the_reward():
    def values(prompts, actions, states):  # noqa: ANN001, ANN202
        return [{"9 + 5": 0.8, "9 - 5": 0.3, "14 - 3": 0.95, "14 + 3": 0.1}.get(action, 0.2) for action in actions]

    tree, policy = searched(values)
    assert tree.found().action == "14 - 3" and tree.over
    assert tree.sampled == 2 + 1 + 2 + 2  # two steps, one ahead from the better, two after the unvisited one, two after the better
    assert tree.root.children[1].value == pytest.approx(0.95)  # the mean of its one visited child
    tree, _ = searched(lambda prompts, actions, states: [1.0 if action in ("9 - 5", "4 + 3") else 0.0 for action in actions])
    assert tree.found().action == "4 + 3" and tree.found().reward == 0.0  # led astray: the reward is not asked
    tree, policy = searched(lambda prompts, actions, states: [0.2] * len(actions), steps=6)
    assert tree.sampled == policy.asked + 1 <= 6 and tree.over


def test_looking_ahead_mixes_in_the_best_value_it_meets():
    tree, _ = searched(lambda prompts, actions, states: [0.4 if action == "9 + 5" else 0.8 if action == "14 + 3" else 0.1 for action in actions], steps=3)
    assert tree.root.children[1].value == pytest.approx(0.5 * 0.4 + 0.5 * 0.8) and tree.root.visits == 1


def test_trees_grow_alike_together_and_alone(new_unit, tmp_path):
    lab = Lab(new_unit(tmp_path / "lab"), method)
    engine, tasks = lab.engine(), lab.tasks[:6]
    values, keys = method.exact(lab), lab.keys(tasks, "search")
    grow = partial(star.search, lab.env, policy=lab.policy(engine), greedy=lab.policy(engine, 0.0), values=values, p=lab.p.search)
    together = grow(tasks=tasks, keys=keys)
    alone = [grow(tasks=[task], keys=[key])[0] for task, key in zip(tasks, keys, strict=True)]
    shape = [[(node.action, round(node.value, 6), node.visits) for node in tree.root.below()] for tree in together]
    assert shape == [[(node.action, round(node.value, 6), node.visits) for node in tree.root.below()] for tree in alone]
    assert all(tree.sampled <= lab.p.search.steps for tree in together)


# -- the unit -------------------------------------------------------------------------------------------------------


def test_right_steps_are_those_on_the_way_to_a_right_end():
    root = star.merged(CountdownV2(), TASK, [episode("9 + 5", "14 - 3"), episode("9 - 5", "4 + 3"), episode("9 - 3", "6 + 5")])
    assert [row.completion for row in method.right_steps([root])] == ["14 - 3", "9 + 5", "6 + 5", "9 - 3"]


def test_budgets_are_equal_where_claims_say_so(whole):
    unit, rows = whole
    costs = {row.variant: row.cost for row in rows if row.metric == "success" and row.panel.endswith("/test")}
    p = unit.params
    assert costs["prm2+mcts"]["updates"] == costs["prm_more+mcts"]["updates"] == 2 * p.prm.updates == 2 * costs["prm1+bon"]["updates"]
    assert costs["rest_em"]["updates"] == p.sft.updates and costs["rest_mcts"]["updates"] == p.sft.updates + p.prm.updates
    found = {row.variant: row.value for row in rows if row.metric == "steps" and row.panel.endswith("/test")}
    assert set(found) == {f"{name}+mcts" for name in ("prm1", "prm2", "prm_more", "exact")} and max(found.values()) <= 2 * p.test.samples
    first, more = Lab(unit, method), costs["rest_em"]["samples"]
    half = sum(cost.samples for _, cost in (method.sampled(first, method.FIRST), method.sampled(first, method.SECOND)))
    assert more == half and costs["rest_mcts"]["samples"] <= costs["prm1+bon"]["samples"] + p.collect.tasks * p.search.steps


def test_the_truth_orders_all_steps_and_chooses_right_where_it_can(whole):
    _, rows = whole
    found = {(row.variant, row.metric): row.value for row in rows if row.panel.endswith("/test")}
    assert found["exact", "step_order"] == 1.0 and 0.0 <= found["prm1", "step_order"] <= 1.0
    assert found["exact+bon", "success"] >= max(found[f"{name}+bon", "success"] for name in ("prm1", "prm2", "prm_more"))
    assert found["exact+bon", "success"] >= found["base+vote", "success"]


def test_a_reward_model_is_read_back_as_it_was_trained(whole):
    unit, _ = whole
    lab = Lab(unit, method)
    [task] = lab.tasks[:1]
    root = star.root_of(lab.env, task)
    one, two, untrained = (method.learned(lab, trained) for trained in (method.reward_model(lab, "prm1"), method.reward_model(lab, "prm1"), method.BASE))
    asked = ([root.prompt] * 2, lab.env.actions()[:2], [root.state] * 2)
    assert one(*asked) == two(*asked) != untrained(*asked) == [0.5, 0.5]


def test_step_order_by_hand(new_unit, tmp_path, monkeypatch):
    lab = Lab(new_unit(tmp_path / "lab"), method)
    monkeypatch.setattr(lab.env, "q", lambda _, action: float("+" in action))
    a, b, c = sorted(TASK.data["numbers"], reverse=True)
    values = {f"{a} + {b}": 0.9, f"{a} - {b}": 0.5, f"{a} + {c}": 0.5, f"{a} - {c}": 0.1, f"{b} + {c}": 0.0, f"{b} - {c}": 0.2}
    # .9 above all three; .5 above two of them and level with one; 0 above none
    assert method.step_order(lab, [TASK], lambda prompts, actions, states: [values[action] for action in actions]) == pytest.approx((3 + 1.5 + 1 + 0) / 9)


def test_it_learns_which_steps_lead_on(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", collect__tasks=30, collect__samples=8, prm__updates=80, prm__batch=16, prm__lr=3e-3, test__tasks=12,
                    only=("base", "prm1", "exact"))  # fmt: skip
    found = {(row.variant, row.metric): row.value for row in run(unit) if row.panel.endswith("/test")}
    assert found["prm1", "step_order"] > 0.7 and found["prm1+bon", "success"] > found["base+vote", "success"]


def test_the_toy_by_hand():
    lines = figures.toy()[2].splitlines()
    assert [line.split()[-1] for line in lines if " v = " in line] == ["0.50", "1.00", "0.00", "0.00", "0.00", "0.50", "1.00"]
