"""Rollouts against one-by-one loops written here."""

from common.rng import derive
from common.search.rollout import rollout
from common.types import Cost, Turn

from .toy import Scripted, ToyEnv, toy_task

TASKS = [toy_task(i) for i in range(6)]
KEYS = [derive(0, "plan", task.id) for task in TASKS]


def slow_episode(task, key, policy):
    env, actions = ToyEnv(), []
    seen = env.reset(task)
    while not seen.done:
        [turn] = policy.one(derive(key, "step", len(actions)), 1)
        actions.append(turn.text)
        seen = env.step(turn.text)
    return actions, seen.reward


def test_rollout_equals_a_slow_loop():
    policy, cost = Scripted(), Cost()
    episodes = rollout(ToyEnv(), TASKS, policy, keys=KEYS, cost=cost)
    for task, key, episode in zip(TASKS, KEYS, episodes, strict=True):
        actions, reward = slow_episode(task, key, policy)
        assert [step.turn.text for step in episode.steps] == actions
        assert (episode.task_id, episode.reward) == (task.id, reward)
    assert cost.env_steps == cost.lm_calls == sum(len(episode.steps) for episode in episodes)
    assert cost.sampled_tokens == sum(episode.n_tokens for episode in episodes)
    assert len(policy.calls) == max(len(episode.steps) for episode in episodes)  # lockstep
    assert rollout(ToyEnv(), TASKS[3:4], policy, keys=KEYS[3:4]) == episodes[3:4]


def test_rollout_cut_by_the_caller_is_truncated():
    class OnlyA(Scripted):
        def one(self, key, n):
            return [Turn("a", -0.1, 2)] * n

    [cut] = rollout(ToyEnv(), TASKS[:1], OnlyA(), keys=[1], max_steps=2)
    assert len(cut.steps) == 2
    assert cut.steps[-1].observation.truncated and not cut.steps[-1].observation.terminated
    [whole] = rollout(ToyEnv(), TASKS[:1], OnlyA(), keys=[1], max_steps=3)
    assert whole.steps[-1].observation.terminated and not whole.steps[-1].observation.truncated
