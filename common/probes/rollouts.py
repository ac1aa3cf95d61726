"""Probe of rollouts: a scripted policy in a toy environment, with the checks that every policy meets."""

from __future__ import annotations

from dataclasses import asdict

from common.policy import critique, propose
from common.probes.game import KEYS, TASKS, Scripted, Spelling, transcripts
from common.search.rollout import add_steps, play_out, rollout
from common.types import Cost


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    env, policy, cost, more = Spelling(), Scripted(), Cost(), Cost()
    values: dict[str, float | str] = {"episodes": transcripts(rollout(env, TASKS, policy, keys=KEYS, cost=cost)),
                                      "cost": repr(asdict(cost)),
                                      "cut": transcripts(rollout(env, TASKS, policy, keys=KEYS, max_steps=2))}  # fmt: skip
    starts, prompts = [], []
    for task in TASKS:
        env.reset(task)
        env.step("a")
        starts.append(env.snapshot())
        prompts.append(env.prompt())
    steps = play_out(env, starts, policy, keys=KEYS, limits=[0, 1, 9])
    add_steps(more, steps[2])
    scores = critique(policy, prompts, [["a", "stop"]] * len(prompts), as_value=True)
    return values | {"inside": repr(steps) + repr(asdict(more)), "proposed": repr(propose(policy, prompts, [1, 2, 3], 2)),
                     "criticised": repr((scores, critique(policy, [], [], as_value=False)))}  # fmt: skip
