"""ReST-MCTS*: what is imitated, measures by hand, equal tokens and updates, and that values are learned and lead to right answers."""

from __future__ import annotations

from functools import partial

import pytest

from common.envs.versions.sorting_v1 import SortingEnv
from common.lab import Lab, run
from common.search import star
from common.types import Task
from papers.rest_mcts import figures, measures, method, prm
from tests.papers.units import open_unit
from tests.search.test_star import RIGHT, TASK, by_steps, episode, tree

ENV = "sorting-v1"


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "rest_mcts", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab", collect__tasks=40, collect__samples=12, prm__updates=150, prm__batch=32, prm__lr=3e-3,
                    sft__updates=40, sft__batch=32, sft__lr=3e-3, test__tasks=12, test__samples=6, test__draws=8)  # fmt: skip
    return unit, run(unit)


def test_right_solutions_are_imitated_and_of_searches_the_one_of_highest_value():
    root = tree(episode(*RIGHT), episode("2", "3", "7"), episode("5", "2", "3"))
    root.ends()[1].reward = 1.0  # as if there were two
    root.ends()[1].value = 0.95
    assert [row.completion for row in method.right_steps([root], best=True)] == ["7", "3", "2"]
    assert sorted(row.completion for row in method.right_steps([root])) == sorted([*RIGHT, "2", "3", "7"])


def test_measures_by_hand():
    root = tree(episode(*RIGHT), episode("5", "2", "3"))
    exact, told = by_steps({("2",): 0.5, ("2", "3", "5"): 1.0}, 0.0), by_steps({("2",): 0.4, ("5",): 0.2}, 0.0)
    assert measures.near([root], told, exact) == pytest.approx({"value_error": (0.1 + 0.2 + 1.0) / 6, "order": 1.0})
    assert measures.best([root], exact) == 1.0 and measures.best([root], by_steps({("5", "2", "3"): 0.1}, 0.0)) == 0.0


def test_targets_of_the_released_code_order_some_steps_otherwise():
    """Of nine steps, 36 pairs: the wrong last step leaves the tie with the first step, the wrong second one those with the four at 0."""
    root = tree(episode(*RIGHT), episode("2", "3", "7"), episode("2", "7", "3"), episode("5", "2", "3"))
    assert measures.reordered([root], method.left, released=True) == pytest.approx(5 / 36)
    assert measures.reordered([root], method.left, released=False) == 0.0


def test_ideal_values_are_the_inferred_ones_of_a_tree_that_holds_every_game():
    env, games = SortingEnv(max_steps=3), []
    for first in (2, 3, 5, 7):
        for second in {2, 3, 5, 7} - {first}:
            games += [episode(str(first), str(second), str(third)) for third in sorted({2, 3, 5, 7} - {first, second})]
    root = star.merged(env, TASK, games)
    ideal = prm.ideal(type("Any", (), {"env": env}))
    right = [(node, value) for node, value in star.inferred(root, method.left) if any(end.reward for end in node.ends())]
    assert [value for _, value in right] == pytest.approx(ideal(*star.asked([node for node, _ in right]))) and len(right) == 3
    wrong = [node for node in root.children if node.action != "2"]
    assert ideal(*star.asked(wrong)) == [0.0] * 3 and all(value == 0.0 for node, value in star.inferred(root, method.left) if node in wrong)


def test_tokens_and_updates_are_equal_where_claims_say_so(whole):
    unit, rows = whole
    found = {(row.variant, row.metric): row for row in rows if row.panel == f"{ENV}/test"}
    tokens = {variant: row.value for (variant, metric), row in found.items() if metric == "tokens"}
    assert {name for name in tokens if "+mcts" in name} and all(tokens[name] <= tokens["base+vote"] for name in tokens)
    costs, p = {name: found[name, "success"].cost for name in ("prm0+bon", "prm1+mcts", "more1+mcts", "rest_em", "rest_mcts")}, unit.params
    assert [costs[name]["updates"] for name in ("prm0+bon", "prm1+mcts", "more1+mcts")] == [p.prm.updates, 2 * p.prm.updates, 2 * p.prm.updates]
    assert costs["rest_em"]["updates"] == costs["rest_mcts"]["updates"] == p.sft.updates


def test_values_are_learned_and_lead_to_right_answers(whole):
    _, rows = whole
    found = {(row.variant, row.metric): row.value for row in rows if row.panel == f"{ENV}/test"}
    assert found["more1", "order"] > 0.7 and found["more1+bon", "success"] > found["base+vote", "success"]
    assert found["rest_em", "success"] > found["base", "success"] + 0.2 and found["rest_mcts", "success"] > found["base", "success"] + 0.2
    assert found["ideal+bon", "success"] >= max(found[f"{name}+bon", "success"] for name in ("verdict", "prm0", "prm1", "more1"))


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
