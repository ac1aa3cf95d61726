"""Probe of metrics of episodes: success, cost and behaviour rates."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from common.evaluate import habits, rollouts
from common.probes.game import TASKS, Scripted, Spelling, named, transcripts
from common.types import Observation, Turn


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    summary, episodes = rollouts.evaluate(Spelling(), TASKS * 6, Scripted(), seed=3)
    rollouts.records(episodes)  # for people: they must be made and may change
    first = episodes[0].steps[0]
    thought = replace(first, turn=Turn("think\nact", -1.0, 2), observation=Observation("invalid x"))
    values = named("summary", summary) | {"episodes": transcripts(episodes)} | named("habits", habits.habits(episodes, invalid="so far"))
    engine = SimpleNamespace(prompt_ids=lambda prompt: prompt[-1]["content"])
    values["cost"] = repr(rollouts.sampling_cost(episodes, engine))
    return values | named("habits.one", habits.habits([replace(episodes[0], steps=(thought,))], invalid="invalid"))
