"""Acting with search and by the best of n: against one-by-one loops written here."""

from dataclasses import replace

import pytest

from common.rng import derive
from common.search.mcts import MCTSSettings
from common.search.rollout import rollout
from common.search.tree import ROOT, replay, violations
from common.types import Turn
from papers.agent_q.acting import best_of_n, plan_and_act
from tests.search.toy import Listing, Scripted, ToyEnv, toy_task

TASKS = [toy_task(i) for i in range(6)]
KEYS = [derive(0, "plan", task.id) for task in TASKS]
SEARCH = MCTSSettings(simulations=25, branching=4, c=1.0, alpha=0.5, gamma=0.9, max_depth=4)


def test_planning_is_batch_independent_and_counts_both_kinds_of_steps():
    class Counting(ToyEnv):
        taken = 0

        def step(self, action):
            self.taken += 1
            return super().step(action)

    env = Counting()
    planned = plan_and_act(env, TASKS, Scripted(), SEARCH, keys=KEYS)
    assert sum(one.cost.env_steps for one in planned) == env.taken
    for i, one in enumerate(planned):
        assert one.real_steps == len(one.trajectory.steps) == len(one.trees)
        assert one.simulated_steps == sum(tree.cost.env_steps for tree in one.trees) > 0
        assert plan_and_act(ToyEnv(), TASKS[i : i + 1], Scripted(), SEARCH, keys=KEYS[i : i + 1]) == [one]
        assert one.trajectory.steps[-1].observation.done


def test_planned_trees_follow_the_real_episode():
    for task, one in zip(TASKS, plan_and_act(ToyEnv(), TASKS, Scripted(), SEARCH, keys=KEYS), strict=True):
        taken = []
        for tree, step in zip(one.trees, one.trajectory.steps, strict=True):
            assert tree.prefix == tuple(taken) and tree.nodes[ROOT].prompt == step.prompt
            assert violations(tree) == [] and replay(tree, ToyEnv(), task) == []
            taken.append(step.turn.text)
        env = ToyEnv()
        env.reset(task)
        assert [env.step(action) for action in taken] == [step.observation for step in one.trajectory.steps]


def test_planning_with_true_rewards_solves_what_the_policy_does_not():
    settings = replace(SEARCH, simulations=600, rule="ucb1", alpha=1.0, use_critique=False)
    planned = plan_and_act(ToyEnv(), TASKS, Listing(), settings, keys=KEYS)
    assert [one.trajectory.reward for one in planned] == [1.0] * len(TASKS)
    alone = rollout(ToyEnv(), TASKS, Listing(), keys=KEYS)
    assert sum(episode.success for episode in alone) < len(TASKS)


def test_planning_without_true_rewards_is_blind_to_them():
    honest = replace(SEARCH, evaluation="critic", reward="critic")
    blind = [toy_task(i, {word: 0.0 for word in toy_task(i).data["rewards"]}) for i in range(6)]
    texts = []
    for tasks in (TASKS, blind):
        planned = plan_and_act(ToyEnv(), tasks, Scripted(), honest, keys=KEYS)
        texts.append([[step.turn.text for step in one.trajectory.steps] for one in planned])
    assert texts[0] == texts[1]


def test_plan_max_steps_truncates():
    class Patient(Scripted):
        def one(self, key, n):
            return [Turn("a", -0.1, 2)] * n

    [one] = plan_and_act(ToyEnv(), TASKS[:1], Patient(), SEARCH, keys=KEYS[:1], max_steps=2)
    assert one.real_steps == 2 and one.trajectory.steps[-1].observation.truncated


def test_best_of_n_equals_a_slow_choice():
    policy = Scripted()
    answers = best_of_n(ToyEnv(), TASKS, policy, keys=KEYS, n=5)
    for task, key, answer in zip(TASKS, KEYS, answers, strict=True):
        tried = [rollout(ToyEnv(), [task], policy, keys=[derive(key, "best_of_n", j)])[0] for j in range(5)]
        ends = [one.steps[-1] for one in tried]
        scores = [policy.score(end.prompt, end.turn.text) if end.observation.terminated else 0.0 for end in ends]
        assert answer.trajectory == tried[scores.index(max(scores))]
        assert answer.simulated_steps == sum(len(one.steps) for one in tried)
        assert answer.real_steps == len(answer.trajectory.steps)
    with pytest.raises(ValueError, match="at least 1"):
        best_of_n(ToyEnv(), TASKS, policy, keys=KEYS, n=0)
