"""ReST-MCTS*: quality values, the search and exact chances by hand, equal tokens, and that the search is led by its values."""

from __future__ import annotations

import math
from functools import partial

import pytest

from common.envs.versions.countdown_v4 import CountdownV4
from common.lab import Lab, run
from common.types import Observation, Step, Task, Trajectory, Turn
from papers.rest_mcts import figures, measures, method, prm, star
from papers.rest_mcts.star import Node, Search
from tests.papers.units import open_unit

ENV = "countdown-v4"
TASK = Task("t", ENV, "train", {"numbers": [9, 5, 3, 2], "target": 15})  # 9 + 5 + 3 - 2
SEARCH = Search(branching=2, simulations=50, c=0.7, alpha=0.5, ahead=3, gate=0.9)
RIGHT = ("9 + 5", "14 + 3", "17 - 2")


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "rest_mcts", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab", collect__tasks=30, collect__samples=12, prm__updates=60, prm__batch=32, prm__lr=3e-3,
                    sft__updates=40, sft__batch=32, sft__lr=3e-3, test__tasks=12, test__samples=6, test__draws=8)  # fmt: skip
    return unit, run(unit)


def episode(*actions: str, finished: bool = True) -> Trajectory:
    return Trajectory("t", tuple(Step((), Turn(action, -1.0, 4, finished), Observation("")) for action in actions))


def tree(*episodes: Trajectory) -> Node:
    return star.merged(CountdownV4(), TASK, episodes)


# -- what trees say --------------------------------------------------------------------------------------------------


def test_a_tree_is_what_episodes_share():
    root = tree(episode(*RIGHT), episode("9 + 5", "14 + 3", "17 + 2"), episode(*RIGHT), episode("9 - 3", finished=False))
    assert [node.action for node in root.below()] == ["9 + 5", "14 + 3", "17 - 2", "17 + 2"]
    assert [(end.action, end.reward) for end in root.ends()] == [("17 - 2", 1.0), ("17 + 2", 0.0)]


def test_quality_values_by_hand():
    """1/3, 2/3 and 1 along the right way. Wrong after two right steps: 2/3 − 1/3; after one: 1/3 − (2/3)/2 = 0; at once: less than nothing."""
    root = tree(episode(*RIGHT), episode("9 + 5", "14 + 3", "17 + 2"), episode("9 + 5", "14 - 3", "11 + 2"), episode("9 - 2", "7 + 5", "12 - 3"))
    paper = {node.action: value for node, value in star.inferred(root, method.left)}
    assert [paper[action] for action in (*RIGHT, "17 + 2", "14 - 3", "11 + 2", "9 - 2")] == pytest.approx([1 / 3, 2 / 3, 1, 1 / 3, 0, 0, 0])
    # the released code keeps the m of the last right step: 2/3 − (1/3)/2; 1/3 − (2/3)/3, and 1/9 − (8/9)/3 < 0 after it
    code = {node.action: value for node, value in star.inferred(root, method.left, released=True)}
    assert [code[action] for action in (*RIGHT, "17 + 2", "14 - 3", "11 + 2", "9 - 2")] == pytest.approx([1 / 3, 2 / 3, 1, 1 / 2, 1 / 9, 0, 0])
    assert list(star.inferred(tree(episode("9 + 5", "14 + 3", "17 + 2")), method.left, released=True)) == []
    # of 9 steps, 36 pairs: "17 + 2" leaves the tie with the first step, "14 - 3" those with the four at 0
    assert measures.reordered([root], method.left, released=True) == pytest.approx(5 / 36)
    assert measures.reordered([root], method.left, released=False) == 0.0


def test_steps_without_an_end_below_teach_nothing():
    root = tree(episode(*RIGHT), episode("9 - 2", "7 + 5"))
    assert [node.action for node, _ in star.inferred(root, method.left)] == [*RIGHT]


def test_right_solutions_are_imitated_and_of_searches_the_one_of_highest_value():
    root = tree(episode("9 + 3", "12 + 5", "17 - 2"), episode(*RIGHT), episode("9 + 5", "14 + 3", "17 + 2"))
    root.ends()[1].value = 0.95
    assert [row.completion for row in method.right_steps([root], best=True)] == [*RIGHT[::-1]]
    assert len(method.right_steps([root])) == 6


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
    """Proposes sum and difference of the first two numbers."""

    def propose(self, prompts, keys, n):  # noqa: ANN001, ANN201, ARG002
        first = [prompt[0]["content"].split()[1:3] for prompt in prompts]
        return [[Turn(f"{a} {'+-'[k % 2]} {b}", -1.0, 4) for k in range(n)] for a, b in first]


def searched(values, budget: int = 100, **changed) -> star.Tree:  # noqa: ANN001
    [found] = star.search(CountdownV4(), [TASK], Scripted(), values, Search(**(vars(SEARCH) | changed)), keys=[1], budgets=[budget])
    return found


def by_name(known: dict[str, float], otherwise: float):  # noqa: ANN201
    return lambda prompts, actions, states: [known.get(action, otherwise) for action in actions]


def test_the_search_follows_its_values_and_never_the_reward():
    found = searched(by_name({"9 + 5": 0.8, "14 + 3": 0.8, "17 - 2": 0.95}, 0.1), alpha=0.0)
    assert found.over and found.found().action == "17 - 2" and found.found().reward == 1.0
    found = searched(by_name({"9 - 5": 0.8, "4 + 3": 0.8, "7 + 2": 0.95}, 0.1), alpha=0.0)
    assert found.found().action == "7 + 2" and found.found().reward == 0.0  # led astray: nobody asks the reward


def test_looking_ahead_mixes_in_the_best_value_it_meets():
    found = searched(by_name({"9 + 5": 0.4, "17 + 2": 0.8}, 0.1), simulations=1)
    assert found.root.children[0].value == pytest.approx(0.5 * 0.4 + 0.5 * 0.8) and found.root.visits == 1
    assert found.turns == 2 + 2 and found.tokens == 16


def test_no_token_beyond_the_budget():
    for budget, turns in ((3, 0), (4, 1), (15, 3), (16, 4), (100, 25)):
        found = searched(by_name({}, 0.2), budget=budget)
        assert (found.turns, found.tokens) == (min(turns, found.turns), 4 * found.turns) and found.tokens <= budget
        assert found.turns == turns or not found.over  # all is paid for, or nothing is left to expand


def test_trees_grow_alike_together_and_alone(new_unit, tmp_path):
    lab = Lab(new_unit(tmp_path / "lab"), method)
    engine, tasks = lab.engine(), lab.tasks[:5]
    grow = partial(star.search, lab.env, policy=lab.policy(engine), values=prm.ideal(lab), p=lab.p.search)
    together = grow(tasks=tasks, keys=[7] * 5, budgets=[60] * 5)
    alone = [grow(tasks=[task], keys=[7], budgets=[60])[0] for task in tasks]
    shape = [[[(node.action, round(node.value, 6), node.visits) for node in tree.root.below()] for tree in trees] for trees in (together, alone)]
    assert shape[0] == shape[1]


# -- the truth -------------------------------------------------------------------------------------------------------


class Even:
    """An engine that takes every legal step with the same probability."""

    def score(self, prompts, actions):  # noqa: ANN001, ANN201, ARG002
        return [[-math.log(len(own))] * len(own) for own in actions]


def test_chances_by_hand():
    values = measures.chances(env := CountdownV4(), Even(), [TASK])
    env.reset(TASK)
    start = env.snapshot()
    env.step("9 + 5"), env.step("14 + 3")
    assert values([(), (), ()], ["17 - 2", "17 + 2", "17 * 2"], [env.snapshot()] * 3) == [1.0, 0.0, 0.0]
    # after 9 + 5 six steps: + 3 and - 2 leave one right step of two, 3 - 2 one of two, the others none
    assert values([()] * 2, ["9 + 5", "9 * 5"], [start] * 2) == pytest.approx([3 * 0.5 / 6, 0.0])


def test_measures_by_hand():
    root = tree(episode(*RIGHT), episode("9 - 2", "7 + 5", "12 - 3"))
    nodes = {node.action: node for node in root.below()}
    exact, told = by_name({"9 + 5": 0.5, "17 - 2": 1.0}, 0.0), by_name({"9 + 5": 0.4, "9 - 2": 0.2}, 0.0)
    assert measures.near([root], told, exact) == pytest.approx({"value_error": (0.1 + 0.2 + 1.0) / 6, "order": 1.0})
    assert measures.best([root], exact) == 1.0 and measures.best([root], by_name({"12 - 3": 0.1}, 0.0)) == 0.0 and len(nodes) == 6


# -- the unit --------------------------------------------------------------------------------------------------------


def test_tokens_and_updates_are_equal_where_claims_say_so(whole):
    unit, rows = whole
    found = {(row.variant, row.metric): row for row in rows if row.panel == f"{ENV}/test"}
    tokens = {variant: row.value for (variant, metric), row in found.items() if metric == "tokens"}
    assert {name for name in tokens if "+mcts" not in name} and all(tokens[name] <= tokens["base+vote"] for name in tokens)
    costs, p = {name: found[name, "success"].cost for name in ("prm0+bon", "prm2+mcts", "more1+mcts", "rest_em", "rest_mcts")}, unit.params
    assert [costs[name]["updates"] for name in ("prm0+bon", "prm2+mcts", "more1+mcts")] == [p.prm.updates, 3 * p.prm.updates, 2 * p.prm.updates]
    assert costs["rest_em"]["updates"] == costs["rest_mcts"]["updates"] == p.sft.updates


def test_values_are_learned_and_lead_to_right_answers(whole):
    """In this world a step leads on if and only if it is a sum, on new numbers too."""
    _, rows = whole
    found = {(row.variant, row.metric): row.value for row in rows if row.panel == f"{ENV}/test"}
    assert found["prm0", "order"] > 0.65 and found["more1+bon", "success"] > found["base", "success"] + 0.1
    assert found["rest_em", "success"] > found["base", "success"] + 0.3 and found["rest_mcts", "success"] > found["base", "success"] + 0.2
    assert found["ideal+bon", "success"] >= max(found[f"{name}+bon", "success"] for name in ("prm0", "prm1", "prm2", "more1", "code0"))


def test_a_reward_model_begins_as_the_critic_and_is_read_back_as_it_was_trained(whole):
    lab = Lab(whole[0], method)
    root = star.root_of(lab.env, lab.tasks[0])
    asked = ([root.prompt] * 2, lab.env.actions()[:2], [root.state] * 2)
    one, two, untrained = (prm.learned(lab, trained)(*asked) for trained in (*[method.reward_model(lab, 0)] * 2, method.BASE))
    verdicts = lab.engine().judge(asked[0], [[action] for action in asked[1]])
    assert one == two != untrained == pytest.approx([value for [value] in verdicts], abs=1e-5)


def test_the_toy_by_hand():
    """A wrong end after a right first step of two: ½ − ½ in the paper, ½ − ½/2 in the released code."""
    lines = [line for line in figures.toy()[2].splitlines() if " v = " in line]
    assert [line.split(" v = ")[1] for line in lines[:3]] == [f"{a}, released code {b}" for a, b in (("0.50", "0.50"), ("1.00", "1.00"), ("0.00", "0.25"))]
