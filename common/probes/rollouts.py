"""What playing episodes does: a scripted policy in a small game, asked and checked as every policy is."""

from __future__ import annotations

from dataclasses import asdict

from common.policy import critique, propose
from common.probes.game import KEYS, TASKS, Scripted, Spelling, told
from common.search.rollout import add_steps, play_out, rollout
from common.types import Cost


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    env, policy, cost, more = Spelling(), Scripted(), Cost(), Cost()
    found: dict[str, float | str] = {"episodes": told(rollout(env, TASKS, policy, keys=KEYS, cost=cost)), "cost": repr(asdict(cost)),
                                     "cut": told(rollout(env, TASKS, policy, keys=KEYS, max_steps=2))}  # fmt: skip
    starts, prompts = [], []
    for task in TASKS:
        env.reset(task)
        env.step("a")
        starts.append(env.snapshot())
        prompts.append(env.prompt())
    steps = play_out(env, starts, policy, keys=KEYS, limits=[0, 1, 9])
    add_steps(more, steps[2])
    scores = critique(policy, prompts, [["a", "stop"]] * len(prompts), as_value=True)
    return found | {"inside": repr(steps) + repr(asdict(more)), "proposed": repr(propose(policy, prompts, [1, 2, 3], 2)),
                    "criticised": repr((scores, critique(policy, [], [], as_value=False)))}  # fmt: skip
