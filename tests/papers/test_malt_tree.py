"""n-ary expansion and its credit, by hand and against plain rollouts of a scripted policy."""

from __future__ import annotations

import dataclasses
import itertools
import json
from statistics import fmean

import numpy as np
import pytest

from common.envs.versions.countdown_roles_v1 import CountdownRolesEnv
from common.rng import generator
from common.types import Task, Turn
from papers.malt.figures import by_hand
from papers.malt.tree import (
    Branch, Expansion, expand, first_outcomes, labels, play_within, positives, records, sibling_pairs, values,
)  # fmt: skip

TASKS = [Task(f"t{k}", "countdown-roles-v1", "t", {"numbers": numbers, "target": target})
         for k, (numbers, target) in enumerate((([9, 8, 3], 24), ([9, 5, 2], 14), ([7, 4, 1], 28)))]  # fmt: skip


class Scripted:
    """Says one of the admissible utterances, a function of prompt, key and number of the sample."""

    def __init__(self) -> None:
        self.asked = 0

    def propose(self, prompts, keys, n):
        self.asked += len(prompts)
        proposals = []
        for prompt, key in zip(prompts, keys, strict=True):
            text = prompt[-1]["content"]
            numbers = [int(part) for part in text.split("numbers ")[1].split(" target")[0].split()]
            a, b, c = numbers
            options = (f"{a} + {b}", f"{b} * {c}", f"{a} - {c}", f"{a} * {b}")
            if text.startswith("verify"):
                options = ("right", "wrong")
            picks = [int(generator(text, key, j).integers(len(options))) for j in range(n)]
            proposals.append([Turn(options[i], -1.0, 3 + i) for i in picks])
        return proposals


def test_values_are_means_over_children_by_hand():
    one = by_hand([[1, 1, 0], [1, 0, 0], [0, 0, 1]])
    found = values(one)
    assert found[0] == pytest.approx(4 / 9) and found[1:4] == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert found[4:] == [1, 1, 0, 1, 0, 0, 0, 0, 1]
    assert first_outcomes(one)[:4] == [1, 1, 1, 0]


def test_values_equal_the_mean_over_the_array_of_leaves():
    rng = np.random.default_rng(0)
    for _ in range(20):
        rewards = rng.integers(0, 2, (3, 3))
        found = values(by_hand(rewards.tolist()))
        assert found[0] == pytest.approx(rewards.mean()) and found[1:4] == pytest.approx(rewards.mean(1).tolist())


def test_no_value_of_a_full_tree_of_three_lies_on_the_threshold():
    """Odd n: V is a multiple of 1/27, so "above a half" and "at least a half" are the same rule."""
    for rewards in itertools.product((0, 1), repeat=9):
        found = values(by_hand([rewards[:3], rewards[3:6], rewards[6:]]))
        assert all(abs(value - 0.5) > 1 / 54 for value in found)


def grown(keys=(1, 2, 3), tasks=TASKS, branching=(3, 3, 3)) -> list[Expansion]:
    return expand(CountdownRolesEnv(), tasks, Scripted(), branching=branching, keys=keys)


def test_an_expansion_has_every_branch_once_with_its_own_prompt_and_reward():
    env = CountdownRolesEnv()
    for task, one in zip(TASKS, grown(), strict=True):
        assert [sum(b.depth == d for b in one.branches) for d in range(3)] == [3, 9, 27]
        assert one.task_id == task.id
        for i, branch in enumerate(one.branches):
            assert branch.parent < i and (branch.reward is None) == (branch.depth < 2)
            chain = [branch]
            while chain[0].parent >= 0:
                chain.insert(0, one.branches[chain[0].parent])
            env.reset(task)  # replayed from the start, the chain shows the same prompts and earns the same
            for step in chain:
                assert env.prompt() == step.prompt
                observation = env.step(step.turn.text)
            assert (observation.reward if observation.done else None) == branch.reward
    assert {value for one in grown() for value in values(one)} - {0.0, 1.0}


def test_a_task_s_expansion_depends_on_no_other_and_keys_matter():
    together, alone = grown(), grown(keys=(2,), tasks=TASKS[1:2])
    assert alone[0] == together[1] == grown(keys=(3, 2, 1), tasks=TASKS[::-1])[1]
    assert grown(keys=(5, 6, 7)) != together


def test_the_mean_value_is_the_success_rate_of_the_policy():
    """Expansions are unbiased: V of the generations averages to what plain chains earn."""
    many = [Task(f"t/{k}", "countdown-roles-v1", "t", TASKS[0].data) for k in range(300)]
    branched = fmean(values(one)[0] for one in grown(keys=range(300), tasks=many, branching=(1, 2, 2)))
    chains = fmean(values(one)[0] for one in grown(keys=range(1000, 1300), tasks=many, branching=(1, 1, 1)))
    assert abs(branched - chains) < 0.08 and 0.1 < chains < 0.5  # one of four answers is right


def test_an_episode_that_goes_on_is_refused():
    with pytest.raises(ValueError, match="t0 goes on after 2 actions"):
        grown(branching=(3, 3))


def test_pairs_are_siblings_of_opposite_labels_and_different_texts():
    one = by_hand([[1, 1, 0], [1, 0, 0], [0, 0, 1]])
    found = sibling_pairs(one, [value > 0.5 for value in values(one)], depth=1)
    assert [(p.chosen, p.rejected, p.path) for p in found] == [
        ("critique 0", "critique 1", "1/2"), ("critique 0", "critique 2", "1/3")]  # fmt: skip
    assert (found[0].q_chosen, found[0].q_rejected) == pytest.approx((2 / 3, 1 / 3))
    below = sibling_pairs(one, [value > 0.5 for value in values(one)], depth=2)
    assert [p.path for p in below] == ["4/6", "5/6", "7/8", "7/9", "12/10", "12/11"]
    assert sibling_pairs(one, [True] * 13, depth=2) == sibling_pairs(one, [False] * 13, depth=1) == []


def test_equal_texts_and_cut_turns_make_no_pair():
    def sibling(text: str, reward: float, *, finished: bool = True) -> Branch:
        return Branch(0, -1, ({"role": "user", "content": "p"},), Turn(text, -1.0, 1, finished), reward)

    one = Expansion("t", [sibling("a", 1), sibling("a", 0), sibling("b", 0), sibling("b", 0), sibling("c", 1),
                          sibling("d", 0, finished=False)])  # fmt: skip
    found = sibling_pairs(one, [branch.reward > 0 for branch in one.branches], depth=0)
    assert [(p.chosen, p.rejected) for p in found] == [("a", "b"), ("c", "a"), ("c", "b")]


def test_a_record_is_json_and_keeps_what_is_drawn():
    one = by_hand([[1, 0]])
    kept = records(one, values(one))
    assert json.loads(json.dumps(kept)) == kept and [row["value"] for row in kept] == [0.5, 0.5, 1, 0]
    first = [(row["branch"], row["parent"], row["text"]) for row in kept[:2]]
    assert first == [(0, -1, "generation"), (1, 0, "critique 0")]


@pytest.mark.parametrize("tokens", [1, 40, 500])
def test_a_baseline_spends_its_budget_and_hardly_more(tokens):
    policy = Scripted()
    asked, played = play_within(CountdownRolesEnv(), TASKS, policy, tokens=tokens, seed=3)
    spent = sum(episode.n_tokens for episode in played)
    assert tokens <= spent <= tokens + max(18, 0.1 * tokens) and [t.id for t in asked] == [e.task_id for e in played]
    if tokens == 500:
        texts = {episode.steps[0].turn.text for episode in played if episode.task_id == "t0"}
        assert len(texts) > 1  # every round has its own random numbers
        counts = [sum(t.id == task.id for t in asked) for task in TASKS]
        assert max(counts) - min(counts) <= 3


def test_three_rules_of_credit_by_hand():
    one = by_hand([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert values(one)[:5] == pytest.approx([1 / 3, 2 / 3, 1 / 3, 1 / 3, 0])
    assert labels(one, "value", 0.5)[:5] == [False, True, False, False, False]
    assert labels(one, "outcome", 0.5)[:5] == [True, True, True, False, False]
    assert labels(one, "any", 0.5)[:5] == [True, True, True, True, False]
    leaves = [labels(one, credit, 0.5)[5:] for credit in ("value", "outcome", "any")]
    assert leaves[0] == leaves[1] == leaves[2]  # a refinement's own reward is its credit by every rule


def test_what_is_imitated_is_positive_and_finished_and_as_often_as_it_was_sampled():
    one = by_hand([[1, 1, 1], [1, 0, 0]])
    branches = one.branches
    branches[4] = dataclasses.replace(branches[4], turn=branches[3].turn)
    branches[5] = dataclasses.replace(branches[5], turn=dataclasses.replace(branches[5].turn, finished=False))
    found = {d: [e.completion for e in positives([(one, labels(one, "value", 0.5))] * 2, d)] for d in range(3)}
    last = ["refinement 00", "refinement 00", "refinement 10"]
    assert found == {0: ["generation"] * 2, 1: ["critique 0"] * 2, 2: last * 2}
