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


@pytest.mark.parametrize("results", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_the_page_holds_every_measure_of_each_kind_of_processor(results):
    record = json.loads(results.read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    measures = page.measures(record)
    assert len(measures) >= 10 and {one.group for one in measures} <= set(page.GROUPS)
    assert f"## {page.kind(record['machine'])}\n" in text
    for one in measures:
        assert page.row(one) in text
    for name, curve in record["growth"].items():
        assert f"- {name}: {page.grown(curve)}" in text


def measured(ratio: float, target: float | None) -> Measure:
    return Measure("sampling", "sample", "tokens/s", 10.0, 5.0, "it", ratio, (ratio, ratio), target, "higher")


def test_a_target_that_one_kind_of_processor_misses_is_named_first(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "benchmarks").mkdir()
    for instructions, ratio in (("AVX2", 4.0), ("AVX512", 6.0)):
        page.write(tmp_path, {"cpu": "X (tm) 9", "instructions": instructions}, [measured(ratio, 5.0)], {}, [], 1.26)
    text = (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "benchmarks" / "results").iterdir()} == {"x-tm-9-avx2.json", "x-tm-9-avx512.json"}
    assert "Missed are:\n\n- X (tm) 9, AVX2: sample, 4 (at least 5)\n\n## X (tm) 9, AVX2" in text
    page.write(tmp_path, {"cpu": "X (tm) 9", "instructions": "AVX2"}, [measured(5.0, 5.0)], {}, [], 1.26)
    assert "None is missed.\n\n## X" in (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
