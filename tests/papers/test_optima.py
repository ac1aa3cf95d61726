"""Optima: the reward, a tree's values and pairs, and measures by hand; equal budgets; that talks grow shorter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from common.envs.versions.facts_two_holders_v1 import FactsTwoHoldersEnv
from common.lab import BASE, Lab, run
from common.types import PreferencePair, Step, Task, Trajectory, Turn
from papers.optima import method, talks
from papers.optima.talks import Talk, Weights, best, judged, measured, pairs, rewards, values
from tests.papers.units import open_unit

ENV = "facts-two-holders-v1"
DATA = {"facts": [["wood", "red", "ring", "big", "sour"], ["blue", "star", "gold", "mild", "tiny"]], "key": "color"}
TASK = Task("t", ENV, "train", DATA)
RIGHT, WRONG, AT_ONCE = "red:blue!", "pink:blue!", "blue:red!"


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "optima", ENV)


def talk(*texts: str, tokens: tuple[int, ...] | None = None, nll: float = 1.0, task: Task = TASK, finished: bool = True) -> Talk:
    """What is said after the start of ``task``, played in the environment; each message has 2 tokens, or ``tokens``."""
    env, steps = FactsTwoHoldersEnv(), []
    env.reset(task)
    for k, text in enumerate(texts):
        prompt = env.prompt()
        steps.append(Step(prompt, Turn(text, -1.0, tokens[k] if tokens else 2, finished), env.step(text)))
    return Talk(tuple(steps), nll)


def test_the_reward_by_hand():
    """Three talks of 5, 10 and 20 tokens, the first two right."""
    found = [talk("red", RIGHT, tokens=(2, 3), nll=0.5), talk("sure", RIGHT, tokens=(7, 3), nll=2.0), talk(WRONG, tokens=(20,), nll=0.4)]
    assert [one.right for one in found] == [True, True, False]
    assert rewards(found, Weights(0.5, 0.2)) == pytest.approx([1 - 0.5 * 5 / 20 + 0.2 / 0.5, 1 - 0.5 * 10 / 20 + 0.2 / 2, -0.5 + 0.2 / 0.4])
    assert rewards(found, Weights(0.0, 0.0)) == [1.0, 1.0, 0.0]
    assert rewards(found[:2], Weights(0.5, 0.0)) == pytest.approx([1 - 0.5 * 5 / 10, 0.5])  # the longest of its own task


def test_the_best_talk_is_taken_above_the_threshold_and_whole():
    brief, wordy = talk("red", RIGHT, nll=0.8), talk("so now;red", RIGHT, tokens=(9, 3), nll=0.4)
    lucky, wrong = talk(AT_ONCE, nll=4.0), talk(WRONG)
    assert best([wordy, brief, wrong], Weights(0.5, 0.0), 0.5) is brief
    assert best([wordy, brief, wrong], Weights(0.0, 0.2), 0.5) is wordy
    assert best([brief, lucky], Weights(0.5, 0.0), 0.5) is lucky and best([brief, lucky], Weights(0.5, 0.4), 0.5) is brief
    assert best([wordy, brief], Weights(0.0, 0.0), 0.5) is wordy  # the first of equals
    cut = talk("red", RIGHT, tokens=(1, 1), finished=False)
    assert best([wrong], Weights(0.5, 0.0), 0.5) is best([cut], Weights(0.0, 0.0), 0.5) is None
    assert best([cut, brief], Weights(0.5, 0.0), 0.5) is brief is best([brief], Weights(0.5, 0.0), 0.5)  # the next best; θ itself is enough


def test_the_likelihood_is_that_of_the_least_likely_message_per_token(new_unit, tmp_path):
    engine = Lab(new_unit(tmp_path / "lab"), method).engine()
    said = talk("red", RIGHT).steps
    [found] = judged(engine, [said])
    each = [-engine.score([step.prompt], [[step.turn.text]])[0][0] / len(engine.action_ids(step.turn.text)) for step in said]
    assert found.nll == pytest.approx(max(each)) and len(set(each)) == 2


# red is answered right twice and wrong once, sure wrong; all talks have two messages of two tokens
TREE = [talk(*texts) for texts in (("red", RIGHT), ("red", WRONG), ("sure", WRONG), ("red", RIGHT))]


def test_a_trees_values_by_hand():
    plain = {(): 1 / 2, ("red",): 2 / 3, ("red", RIGHT): 1.0, ("red", WRONG): 0.0, ("sure",): 0.0, ("sure", WRONG): 0.0}
    assert values(TREE, Weights(0.0, 0.0)) == pytest.approx(plain)
    # every talk is as long as the longest, and as unlikely: all values are shifted alike
    assert values(TREE, Weights(0.5, 0.1)) == pytest.approx({node: value - 0.5 + 0.1 for node, value in plain.items()})


def test_pairs_are_the_best_and_the_worst_after_the_same_words():
    def chosen(above: float, gap: float, tree: Sequence[Talk] = TREE) -> list[PreferencePair]:
        return pairs(tree, Weights(0.0, 0.0), above, gap, "t")

    [first] = chosen(0.4, 0.2)  # of two, the half that is worth most
    assert (first.chosen, first.rejected, first.q_chosen, first.q_rejected) == (RIGHT, WRONG, 1.0, 0.0)
    assert first.prompt[0]["content"].endswith("you:red")
    assert [pair.q_chosen for pair in chosen(0.4, 0.2, [*TREE, talk("ball", RIGHT), talk("ball", WRONG)])] == [1.0, 1.0]  # of three, two
    [other] = chosen(0.4, 0.2, TREE[2:])
    assert (other.chosen, other.rejected, other.q_chosen) == ("red", "sure", 1.0)
    assert chosen(1.0, 0.2) == chosen(0.4, 1.0) == []  # the better one must be good, and better by enough


def test_nodes_that_ended_a_talk_are_not_gone_on_from():
    rng, weights = np.random.default_rng(0), Weights(0.0, 0.0)
    drawn = [tuple(step.turn.text for step in talks.selected(TREE, weights, 10, rng)) for _ in range(3000)]
    odds = {(): math.exp(1 / 2), ("red",): math.exp(2 / 3), ("sure",): 1.0}
    for node, weight in odds.items():
        assert drawn.count(node) / 3000 == pytest.approx(weight / sum(odds.values()), abs=0.03)
    assert set(drawn) == set(odds) and talks.selected(TREE, weights, 1, rng) == TREE[0].steps[:1] and talks.selected([], weights, 1, rng) == ()


def test_measures_by_hand():
    said = talk("red", RIGHT, tokens=(2, 3)), talk("sure", "?", AT_ONCE, tokens=(6, 4, 4)), talk(WRONG, tokens=(3,))
    found = measured([Trajectory("t", one.steps) for one in said], 5, [False, False, True])
    assert found == pytest.approx({"success": 2 / 3, "success@1": 0.0, "success@2": 1 / 3, "success@4": 2 / 3, "tokens": 22 / 3, "messages": 2.0,
                                   "ratio": 22 / 15, "guessed": 1 / 3})  # fmt: skip


def test_a_tree_samples_as_many_dialogues_and_goes_on_from_what_was_said(new_unit, tmp_path):
    lab = Lab(new_unit(tmp_path / "lab"), method)
    (trees, cost), (sampled, as_much), p = method.grown(lab, lab.engine(), 1, Weights(0.5, 0.1)), method.sampled(lab, BASE, 1), lab.p.collect
    assert {len(talks) for talks in (*trees, *sampled)} == {p.expansions * p.rollouts}
    assert cost.samples == as_much.samples == p.tasks * p.expansions * p.rollouts
    found = [talk for talks in trees for talk in talks]
    assert cost.env_steps < sum(len(talk.steps) for talk in found)  # some went on from the middle of another
    for task, talks in zip(lab.batch(0, p.tasks), trees, strict=True):
        for one in talks:
            played = talk(*(step.turn.text for step in one.steps), task=task)
            assert [(s.prompt, s.observation) for s in one.steps] == [(s.prompt, s.observation) for s in played.steps]
            assert one.steps[-1].observation.done


def test_a_unit_measures_all_variants_at_equal_cost(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab")
    found = {(row.variant, row.metric): row for row in run(unit) if row.panel == f"{ENV}/test"}
    names = {variant.name for variant in method.variants(unit.params)}
    for metric in ("success", "success@1", "success@2", "success@4", "tokens", "ratio", "guessed", "saving", "greedy_success", "greedy_tokens"):
        assert {variant for variant, measured_metric in found if measured_metric == metric} == names
    p = unit.params.collect
    trained = [found[name, "success"].cost for name in names - {"base"}]
    assert {one["samples"] for one in trained} == {p.iterations * p.tasks * p.expansions * p.rollouts}
    assert found["base", "saving"].value == found["base", "greedy_saving"].value == 0.0


def test_the_token_term_makes_talks_shorter(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", collect__tasks=60, collect__expansions=4, collect__iterations=1, sft__updates=60, sft__batch=32, sft__lr=3e-3,
                    reward__likelihood=0.0, test__tasks=40, only=("base", "isft", "rft"))  # fmt: skip
    found = {(row.variant, row.metric): row.value for row in run(unit) if row.panel.endswith("/test")}
    assert found["isft", "tokens"] < found["rft", "tokens"] and found["isft", "saving"] > 0.2
