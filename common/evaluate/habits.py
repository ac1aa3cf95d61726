"""Rates of undesired behaviour: inadmissible and repeated actions; and of turns that reason before they act."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from common.envs.answers import declared
from common.types import Trajectory


def habits(episodes: Sequence[Trajectory], *, invalid: str) -> dict[str, float]:
    """Behaviour rates in [0, 1] over all turns of ``episodes``; the action of a turn is its last line.

    ``invalid``: the observation begins with ``invalid``, as the environment answers an inadmissible action;
    ``repeated``: of turns that are not an episode's first, those with the action of the turn before;
    ``reflected``: the turn has lines before its action. What is undefined is absent.
    """
    turns = [step for episode in episodes for step in episode.steps]
    acted = [[declared(step.turn.text) for step in episode.steps] for episode in episodes]
    again = [now == before for own in acted for before, now in zip(own, own[1:])]
    rates = {"invalid": fmean(step.observation.text.startswith(invalid) for step in turns),
             "reflected": fmean("\n" in step.turn.text.strip() for step in turns)}  # fmt: skip
    if again:
        rates["repeated"] = fmean(again)
    return rates
