"""Races: two ways of doing the same work take turns in one process, so that both meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], float]
"""Does some work and returns how much: tokens, simulations, steps, updates."""


@dataclass(frozen=True)
class Measure:
    """One line of the results. ``target`` bounds ``ratio`` (or ``ours`` where there is no baseline) from below when
    ``better`` is "higher", from above when it is "lower"; None where nothing was promised."""

    group: str
    name: str
    unit: str
    ours: float
    baseline: float | None
    against: str
    ratio: float | None
    spread: tuple[float, float]
    """Smallest and largest ratio (or value of ours) over the rounds."""
    target: float | None
    better: str
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        value = self.ours if self.ratio is None else self.ratio
        return value >= self.target if self.better == "higher" else value <= self.target


def rate(work: Work) -> float:
    """Work per second of one call."""
    start = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - start)


def race(
    group: str, name: str, unit: str, ours: Work, baseline: Work, *, against: str, target: float | None,
    rounds: int = 5, note: str = "",
) -> Measure:
    """Rates of both, by turns after one call each to warm up; the median of the rounds' ratios, higher is better."""
    ours(), baseline()
    pairs = [(rate(ours), rate(baseline)) for _ in range(rounds)]
    ratios = [one / other for one, other in pairs]
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Measure(group, name, unit, mine, theirs, against, statistics.median(ratios), (min(ratios), max(ratios)),
                   target, "higher", note)  # fmt: skip


def alone(
    group: str, name: str, unit: str, ours: Work, *, target: float | None, rounds: int = 5, better: str = "higher",
    note: str = "",
) -> Measure:
    """The rate of something that has no counterpart; with ``better`` "lower" the time of one piece of work."""
    ours()
    found = [rate(ours) if better == "higher" else 1 / rate(ours) for _ in range(rounds)]
    return Measure(group, name, unit, statistics.median(found), None, "", None, (min(found), max(found)), target,
                   better, note)  # fmt: skip
