"""Rollouts of whole episodes in lockstep: every step asks the policy once for all episodes still running."""

from __future__ import annotations

from dataclasses import replace

from common.envs.contract import Env, Snapshot
from common.policy import Policy, propose
from common.rng import derive
from common.types import Cost, Step, Task, Trajectory


def play_out(
    env: Env, starts: list[Snapshot], policy: Policy, *, keys: list[int], limits: list[int]
) -> list[tuple[Step, ...]]:
    """Follow the policy from each unfinished state to its end or for ``limits[i]`` steps; the steps made.

    ``keys``: one integer per start; step t of an episode samples with ``derive(key, "step", t)``. Where
    the limit came first the last observation is not ``done`` (and a limit of 0 makes no step).
    """
    states, steps = list(starts), [[] for _ in starts]
    running = [i for i, limit in enumerate(limits) if limit > 0]
    t = 0
    while running:
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
                if t + 1 < limits[i]:
                    still.append(i)
            steps[i].append(Step(prompt, turn, observation))
        running, t = still, t + 1
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

    ``max_steps``: None means the environment's own limit; an episode cut by it is ``truncated``.
    ``cost``: when given, ``env_steps``, ``lm_calls`` (one per prompt) and ``sampled_tokens`` are added
    to it; leave it out where the engine's own counters are added up.
    """
    starts = []
    for task in tasks:
        env.reset(task)
        starts.append(env.snapshot())
    limit = env.max_steps if max_steps is None else max_steps
    played = [_cut(steps) for steps in play_out(env, starts, policy, keys=keys, limits=[limit] * len(starts))]
    if cost is not None:
        for steps in played:
            add_steps(cost, steps)
    return [Trajectory(task.id, steps) for task, steps in zip(tasks, played, strict=True)]


def _cut(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    *before, last = steps
    if last.observation.done:
        return steps
    return (*before, replace(last, observation=replace(last.observation, truncated=True)))


def add_steps(cost: Cost, steps: tuple[Step, ...]) -> None:
    """Count policy-made steps: one environment step and one prompt each, and the sampled tokens."""
    cost.env_steps += len(steps)
    cost.lm_calls += len(steps)
    cost.sampled_tokens += sum(step.turn.n_tokens for step in steps)
