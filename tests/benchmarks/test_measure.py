"""Benchmarks: rates, ratios and targets by hand; the page says what the results file says. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import measure, page
from benchmarks.measure import Measure, alone, race

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """Time that passes only when work is done."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)

    def work(self, amount: float, *seconds: float):
        left = list(seconds)

        def once() -> float:
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return amount

        return once


def test_a_race_gives_the_median_of_the_rounds_ratios(monkeypatch):
    clock = Clock(monkeypatch)
    # warm-up 9 s each; then 10 pieces in 1, 2, 4 s against 10 pieces in 4 s: ratios 4, 2, 1
    found = race("g", "n", "u", clock.work(10, 9, 1, 2, 4), clock.work(10, 9, 4), against="it", target=3.0, rounds=3)
    assert (found.ratio, found.spread, found.ours, found.baseline) == (2.0, (1.0, 4.0), 5.0, 2.5)
    assert found.met is False


def test_what_has_no_counterpart_is_a_rate_or_a_time(monkeypatch):
    clock = Clock(monkeypatch)
    fast = alone("g", "n", "steps/s", clock.work(100, 9, 2, 2, 4), target=40.0, rounds=3)
    assert (fast.ours, fast.spread, fast.met) == (50.0, (25.0, 50.0), True)
    slow = alone("g", "n", "s", clock.work(100, 9, 2, 2, 4), target=0.03, rounds=3, better="lower")
    assert (slow.ours, slow.spread, slow.met) == (0.02, (0.02, 0.04), True)


def test_the_page_holds_every_measure_of_the_results_file():
    results = ROOT / "benchmarks" / "results.json"
    if not results.exists():
        pytest.skip("benchmarks/results.json: the suite was not run yet; run: make bench")
    record = json.loads(results.read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    measures = [Measure(**one | {"spread": tuple(one["spread"])}) for one in record["measures"]]
    assert len(measures) >= 10 and {one.group for one in measures} <= set(page.GROUPS)
    for one in measures:
        assert page.row(one) in text
    for name, curve in record["growth"].items():
        assert f"- {name}: {page.grown(curve)}" in text
