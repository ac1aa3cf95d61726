"""Whole episodes in lockstep: every step asks the policy once for all episodes still running."""

from __future__ import annotations

from dataclasses import replace

from common.envs.contract import Env, Snapshot
from common.rng import derive
from common.search.policy import Policy, propose
from common.types import Cost, Step, Task, Trajectory


def play_out(
    env: Env, starts: list[Snapshot], policy: Policy, *, keys: list[int], max_steps: int
) -> list[tuple[Step, ...]]:
    """Follow the policy from each unfinished state to its end; the steps made, per start.

    ``keys``: one integer per start; step t of an episode samples with ``derive(key, "step", t)``. An
    episode not over after ``max_steps`` gets ``truncated`` set on its last observation.
    """
    states, steps = list(starts), [[] for _ in starts]
    running = list(range(len(starts)))
    for t in range(max_steps):
        if not running:
            break
        prompts = []
        for i in running:
            env.restore(states[i])
            prompts.append(env.prompt())
        turns = propose(policy, prompts, [derive(keys[i], "step", t) for i in running], 1)
        still = []
        for i, prompt, [turn] in zip(running, prompts, turns, strict=True):
            env.restore(states[i])
            observation = env.step(turn.text)
            if not observation.done:
                states[i] = env.snapshot()
                if t == max_steps - 1:
                    observation = replace(observation, truncated=True)
                else:
                    still.append(i)
            steps[i].append(Step(prompt, turn, observation))
        running = still
    return [tuple(one) for one in steps]


def rollout(
    env: Env,
    tasks: list[Task],
    policy: Policy,
    *,
    keys: list[int],
    max_steps: int | None = None,
    cost: Cost | None = None,
) -> list[Trajectory]:
    """One episode per task, in order (repeat a task with another key for more samples of it).

    ``max_steps``: None means the environment's own limit. ``cost``: when given, ``env_steps``,
    ``lm_calls`` (one per prompt) and ``sampled_tokens`` are added to it; leave it out where the
    engine's own counters are added up.
    """
    starts = []
    for task in tasks:
        env.reset(task)
        starts.append(env.snapshot())
    played = play_out(env, starts, policy, keys=keys, max_steps=env.max_steps if max_steps is None else max_steps)
    if cost is not None:
        for steps in played:
            add_steps(cost, steps)
    return [Trajectory(task.id, steps) for task, steps in zip(tasks, played, strict=True)]


def add_steps(cost: Cost, steps: tuple[Step, ...]) -> None:
    """Count policy-made steps: one environment step and one prompt each, and the sampled tokens."""
    cost.env_steps += len(steps)
    cost.lm_calls += len(steps)
    cost.sampled_tokens += sum(step.turn.n_tokens for step in steps)
