"""Evaluation of a policy: metrics of its episodes on a task panel, and what sampling them costs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from common.envs.contract import Env
from common.policy import Policy
from common.rng import derive
from common.search.rollout import rollout
from common.types import Cost, Task, Trajectory

if TYPE_CHECKING:  # rollouts need no torch
    from common.lm.engine import Engine


def summarise(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """``success`` (share of episodes with reward 1), ``score`` (mean reward), ``length`` (mean steps)
    and ``truncated`` (share cut by the step limit)."""
    return {
        "success": fmean(t.success for t in trajectories),
        "score": fmean(t.reward for t in trajectories),
        "length": fmean(len(t.steps) for t in trajectories),
        "truncated": fmean(t.steps[-1].observation.truncated for t in trajectories),
    }


def evaluate(
    env: Env, tasks: Sequence[Task], policy: Policy, *, seed: int
) -> tuple[dict[str, float], list[Trajectory]]:
    """One episode per task. Every policy evaluated with the same ``seed`` meets the same random
    numbers on the same task, which pairs the comparison."""
    keys = [derive(seed, "evaluate", task.id) for task in tasks]
    trajectories = rollout(env, list(tasks), policy, keys=keys)
    return summarise(trajectories), trajectories


def sampling_cost(trajectories: Sequence[Trajectory], engine: Engine) -> Cost:
    """Cost of sampling exactly these episodes from ``engine``: every step is one call of the model, one
    sample and one environment step."""
    steps = [step for t in trajectories for step in t.steps]
    return Cost(env_steps=len(steps), lm_calls=len(steps), samples=len(steps),
                prompt_tokens=sum(len(engine.prompt_ids(step.prompt)) for step in steps),
                sampled_tokens=sum(step.turn.n_tokens for step in steps))  # fmt: skip


def records(trajectories: Sequence[Trajectory]) -> list[dict]:
    """Trajectories as JSON-able rows, one a step, to be read by people."""
    return [
        {
            "task": t.task_id,
            "step": i,
            "prompt": step.prompt[-1]["content"],
            "action": step.turn.text,
            "logprob": round(step.turn.logprob, 4),
            "reward": step.observation.reward,
            "done": step.observation.done,
        }
        for t in trajectories
        for i, step in enumerate(t.steps)
    ]
