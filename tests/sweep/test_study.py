"""A search: what it proposes, what it remembers, what it refuses. Units are written by hand, but for one whole search."""

from __future__ import annotations

import re
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from common.config import ConfigError
from common.files import StoreError
from common.rows import MetricRow, cost_of
from common.sweep.design import Range, Sweep
from common.sweep.execute import UnitResult
from common.sweep.study import Search
from common.track.store import Run
from common.types import Cost

ASKED = Sweep("toy", {"kind": ["a", "b"]}, (Range("x", 0, 1),), points=7, seeds="0-1", metric="gain", search=True)


def widen(root: Path) -> Path:
    """The toy with a rate, a kind and panels; its metric is highest at x = 0.3 and kind a."""
    method, params = root / "papers/toy/method.py", root / "papers/toy/params.yaml"
    fields = "    fail_at: int\n    x: float\n    kind: str\n    panels: tuple[str, ...]\n"
    text = method.read_text().replace("    fail_at: int\n", fields)
    start = text.index("    return [MetricRow(")
    method.write_text(text[:start] + '''    gain = -(unit.params.x - 0.3) ** 2 - (unit.params.kind == "b") + 0.1 * unit.seed
    return [MetricRow(paper=unit.paper, env=unit.env, profile=unit.profile, scale="nano", variant="method",
                      seed=unit.seed, panel=f"{unit.env}/{panel}", metric="gain", value=gain, n=1, cost=cost)
            for panel in unit.params.panels]

''' + text[text.index("\n\ndef run(unit)"):])
    params.write_text(params.read_text() + '  x: {default: 0.5, range: ">= 0", source: "ours"}\n  kind: {default: a, range: not empty, source: "ours"}\n'
                      "  panels: {default: [test], source: \"ours\"}\n")
    return root


def run_by_hand(root: Path, planned, *, failing=lambda one: False) -> list[UnitResult]:
    """What the executor would return, with the rows that the toy would write."""
    results = []
    for one in planned:
        if failing(one):
            results.append(UnitResult(one, "failed"))
            continue
        run = Run.open(root, one.unit)
        if not run.finished:
            gain = -(one.overrides["x"] - 0.3) ** 2 - (one.overrides["kind"] == "b") + 0.1 * one.seed
            run.write_rows([MetricRow(paper="toy", env=one.env, profile=one.profile, scale="nano", variant="method", seed=one.seed,
                                      panel=f"{one.env}/{panel}", metric="gain", value=gain, n=1, cost=cost_of(Cost()))
                            for panel in one.overrides["panels"]])
            run.finish()
        results.append(UnitResult(one, "succeeded"))
    return results


def carry_on(root: Path, asked: Sweep = ASKED, *, rounds: int = 100, workers: int = 2, failing=lambda one: False) -> Search:
    """A search from its start or from where it was, for so many rounds of ``workers`` settings."""
    with Search(root, asked, variant="method", workers=workers) as search:
        results = []
        for _ in range(rounds):
            new = search.more(results)
            results = [*results, *run_by_hand(root, new, failing=failing)]
            if not new:
                break
        search.found = search.evaluated
    return search


def states(search: Search) -> list[str]:
    with sqlite3.connect(search.folder / "study.db") as database:
        return [state for state, in database.execute("SELECT state FROM trials ORDER BY number")]


@pytest.fixture
def wide(lab):
    return widen(lab)


def test_a_setting_s_value_is_the_mean_over_seeds_and_the_preset_comes_first(wide):
    found = carry_on(wide).found
    assert len(found) == 7 and len({str(one.setting) for one in found}) == 7
    assert found[0].setting == {"x": 0.5, "kind": "a"} and found[0].value == pytest.approx(-0.04 + 0.05)
    for one in found:
        assert one.value == pytest.approx(-(one.setting["x"] - 0.3) ** 2 - (one.setting["kind"] == "b") + 0.05)
        assert [unit.seed for unit in one.planned] == [0, 1]
        assert all(unit.overrides == one.setting | {"panels": ["validation"]} for unit in one.planned)
    assert any(0.01 < one.setting["x"] < 0.99 for one in found[1:])  # 0 to 1 of a real parameter is an interval


def test_later_proposals_come_from_what_earlier_ones_showed(wide):
    found = carry_on(wide, Sweep(**{**vars(ASKED), "points": 24, "seeds": "0"}), workers=1).found
    late = found[12:]
    assert sum(one.setting["kind"] == "a" for one in late) >= 10  # kind b costs a whole point
    assert sum(abs(one.setting["x"] - 0.3) < 0.25 for one in late) >= 8  # half of the range by chance


def test_an_interrupted_search_proposes_what_an_uninterrupted_one_does(wide, tmp_path, new_lab):
    whole = carry_on(wide).found
    other = widen(new_lab(tmp_path / "other"))
    with Search(other, ASKED, variant="method", workers=2) as search:
        first = run_by_hand(other, search.more([]))
        second = search.more(first)
        assert states(search)[2:] == ["RUNNING", "RUNNING"]
        run_by_hand(other, second[:1])  # one unit of four is finished when the search is stopped
    assert "RUNNING" not in states(search)
    again = Search(other, ASKED, variant="method", workers=2)
    assert "7 settings, 2 evaluated before; 5 x 2 units to run at most" in again.cost()
    with again:
        resumed = again.more([])
        assert [one.finished for one in resumed] == [True, False, False, False]
    assert [one.setting for one in carry_on(other).found] == [one.setting for one in whole]


def test_more_points_go_on_with_the_same_study_and_fewer_show_its_beginning(wide):
    seven = [one.setting for one in carry_on(wide).found]
    nine = [one.setting for one in carry_on(wide, Sweep(**{**vars(ASKED), "points": 9})).found]
    assert nine[:7] == seven and len(nine) == 9
    assert [one.setting for one in carry_on(wide, Sweep(**{**vars(ASKED), "points": 3})).found] == seven[:3]


def test_equal_settings_are_not_run_twice_and_a_small_space_ends_the_search(wide):
    search = carry_on(wide, Sweep("toy", {"kind": ["a", "b"], "x": [0.1, 0.2]}, points=9, metric="gain", search=True))
    assert sorted(str(one.setting) for one in search.found) == sorted(
        str({"kind": kind, "x": x}) for kind in "ab" for x in (0.1, 0.2))


def test_what_failed_has_no_value_and_is_tried_again_by_the_next_start(wide):
    first = carry_on(wide, failing=lambda one: one.overrides["x"] == 0.5)
    assert len(first.found) == 6 and {"x": 0.5, "kind": "a"} not in [one.setting for one in first.found]
    second = carry_on(wide)
    assert len(second.found) == 7 and second.found[-1].setting == {"x": 0.5, "kind": "a"}
    assert "RUNNING" not in states(second) and "WAITING" not in states(second)


def test_a_search_belongs_to_its_question_and_to_its_code(wide):
    def folder(**changes):
        return Search(wide, Sweep(**{**vars(ASKED), **changes}), variant="method", workers=2).folder

    first = folder()
    changed = [folder(seeds="0"), folder(panel="train"), folder(minimise=True), folder(sample=1)]
    assert folder(points=30) == first and len({first, *changed}) == 5
    (wide / "papers/toy/method.py").write_text((wide / "papers/toy/method.py").read_text().replace("0.1 * unit.seed", "0.0"))
    assert folder() != first


def test_one_process_at_a_time(wide):
    with Search(wide, ASKED, variant="method", workers=2):
        with pytest.raises(StoreError, match="is being run by another process"):
            Search(wide, ASKED, variant="method", workers=2).__enter__()


@pytest.mark.parametrize(("change", "message"), [
    ({"panel": "test"}, 'panel is "test", a test panel, but settings are chosen where no claim is judged; use validation or train'),
    ({"panel": "test_products"}, "a test panel"),
    ({"panel": "demos"}, "no tuning panel"),
    ({"points": None}, "points is None but"),
    ({"ranges": (Range("xx", 0, 1),)}, 'unknown parameter "xx"'),
    ({"ranges": (Range("steps", 1.0, 2.0),)}, "steps is 1.0"),
    ({"grid": {"panels": [["test"]]}}, 'the parameter "panels" is swept, but a search sets it'),
    ({"grid": {"x": [1]}}, 'the parameter "x" is swept twice'),
    ({"grid": {}, "ranges": ()}, "no parameter to change"),
])  # fmt: skip
def test_a_mistake_is_one_sentence_and_starts_nothing(wide, change, message):
    with pytest.raises(ConfigError, match="^[^\n]*$") as error:
        Search(wide, Sweep(**{**vars(ASKED), **change}), variant="method", workers=2)
    assert message in str(error.value) and not (wide / "runs").exists()


@pytest.mark.parametrize(("metric", "variant", "message"), [
    ("gian", "method", 'no variant has a metric "gian" on toy-v1/validation; did you mean "gain"?'),
    ("gain", "methud", 'variant "methud" has no gain on toy-v1/validation; did you mean "method"?'),
])  # fmt: skip
def test_a_metric_that_units_do_not_have_stops_the_search_after_its_first_settings(wide, metric, variant, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        with Search(wide, Sweep(**{**vars(ASKED), "metric": metric}), variant=variant, workers=1) as search:
            search.more(run_by_hand(wide, search.more([])))
    assert states(search) == ["FAIL", "WAITING"]


def test_a_paper_without_panels_cannot_be_searched(lab):
    with pytest.raises(ConfigError, match="toy has no parameter panels"):
        Search(lab, Sweep("toy", {"steps": [1, 2]}, points=2, metric="total", search=True), variant="method", workers=1)


def test_the_command_interrupted_and_given_again(tmp_path, new_lab, run_in, start_in):
    root = widen(new_lab(tmp_path / "lab"))
    slow = (root / "papers/toy/params.yaml").read_text().replace("pause: {default: 0.0", "pause: {default: 0.5")
    (root / "papers/toy/params.yaml").write_text(slow)
    command = ("sweep", "toy", "--paper", "toy", "--search", "gain", "--points", "3", "--range", "x=0:1", "--variant", "method")
    process = start_in(root, *command)
    deadline = time.monotonic() + 120
    while not list(root.glob("runs/toy/*/stages/step0.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "to resume: python -m common sweep toy --paper toy --search gain" in output, output
    (database,) = root.glob("runs/sweeps/toy-search-*/study.db")
    with sqlite3.connect(database) as study:
        assert study.execute("SELECT count(*) FROM trials WHERE state = 'RUNNING'").fetchone() == (0,)

    result = run_in(root, *command)
    assert result.returncode == 0, result.stdout
    best = re.search(r"^highest gain of method on validation among 3 settings: (\S+) at x=(\S+) \(number", result.stdout, re.M)
    assert best and float(best[1]) == pytest.approx(-(float(best[2]) - 0.3) ** 2, abs=1e-4)
    assert re.search(rf"^x={best[2]} .* {best[1]} +1  <- best$", result.stdout, re.M), result.stdout
    assert f"python -m common sweep --paper toy --grid x={best[2]} --seeds 0,1" in result.stdout
    assert (database.parent / "parallel.png").stat().st_size and (database.parent / "table.txt").stat().st_size
    again = run_in(root, *command)
    assert again.returncode == 0 and "3 evaluated before" in again.stdout and "nothing to run" in again.stdout
