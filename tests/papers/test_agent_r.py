"""Agent-R: first errors and splices by hand, which actions carry loss, and that taking back is learned."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest

from common.envs.undo import UndoEnv
from common.envs.versions.countdown_v2 import CountdownV2
from common.lab import Lab, run
from common.types import Step, Task, Trajectory, Turn
from papers.agent_r import method
from papers.agent_r.revision import first_error, loops, read, shuffled, splice
from tests.papers.units import open_unit

ENV = "countdown-v2"
TASK = Task("by hand", "countdown-v2", "train", {"numbers": [9, 4, 2], "target": 15})  # 9 + 4 + 2, and no other way


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "agent_r", ENV)


@pytest.fixture
def env() -> UndoEnv:
    found = UndoEnv(CountdownV2(), 6)
    found.reset(TASK)
    return found


def test_the_first_error_is_one_that_is_not_taken_back_at_once():
    assert first_error(("a", "b"), [False, False]) == 1
    assert first_error(("a", "b"), [True, False]) == 2
    assert first_error(("a", "undo", "b", "c"), [False, True, False, False]) == 3
    assert first_error(("a", "undo"), [False, True]) is None and first_error(("a", "b"), [True, True]) is None
    assert first_error(("a", "undo", "b", "c"), [True, True, True, False]) == 4


def test_a_revision_goes_back_to_where_the_right_path_leaves():
    assert splice(("b", "c"), 1, ("g", "h")) == ("b", "undo", "g", "h")
    assert splice(("b", "c"), 2, ("g", "h")) == ("b", "c", "undo", "undo", "g", "h")  # at the end
    assert splice(("g", "c"), 2, ("g", "h")) == ("g", "c", "undo", "h")  # a beginning is shared
    assert splice(("g", "c"), 1, ("g", "h")) == ("g", "undo", "g", "h")  # cut too early: at least one step is taken back
    assert splice(("a", "undo", "b", "c"), 3, ("g", "h")) == ("a", "undo", "b", "undo", "g", "h")


def episode(env: UndoEnv, *texts: str) -> Trajectory:
    env.reset(TASK)
    return Trajectory(TASK.id, tuple(Step(env.prompt(), Turn(text, -1.0, 3), env.step(text)) for text in texts))


def test_shuffled_places_are_as_many_among_attempts_as_long():
    cuts, attempts = [1, 2, None, 4, 1, 2], [("a", "b")] * 3 + [("a", "undo", "b", "c")] + [("a", "b")] * 2
    found = [shuffled(cuts, attempts, np.random.default_rng(seed)) for seed in range(20)]
    assert all(one[3] == 4 and Counter(one) == Counter(cuts) for one in found) and len(set(map(tuple, found))) > 5


def test_attempts_are_read_from_episodes(env):
    assert read(env, TASK, episode(env, "9 + 4", "13 + 2")) == (("9 + 4", "13 + 2"), None)
    twice = episode(env, "9 - 4", "junk", "5 + 2", "undo", "undo", "4 + 2")
    assert read(env, TASK, twice) == (None, ("9 - 4", "5 + 2"))  # up to the first wrong result, without what was refused
    revised = episode(env, "9 - 4", "undo", "9 + 4", "13 + 2")
    assert read(env, TASK, revised) == (("9 + 4", "13 + 2"), None)
    wandering = episode(env, "9 - 4", "undo", "9 - 2", "undo", "9 - 4", "undo")
    assert read(env, TASK, wandering) == (None, ("9 - 4", "undo", "9 - 2", "undo", "9 - 4", "undo"))
    assert read(env, TASK, episode(env, *["junk"] * 6)) == (None, None)


def lessons(lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    [variant] = [one for one in method.variants(lab.p) if one.name == name]
    monkeypatch.setattr(method, "judged", lambda lab, _, asked: method.exact(lab, asked))
    found = [method.Tried(TASK, (("9 + 4", "13 + 2"),), (("9 - 4", "5 + 2"),))]
    rows = method.revisions(lab, variant, None, found)
    return [(row.prompt[0]["content"], row.completion) for row in method.examples(lab, rows)]


def test_the_bad_attempt_carries_no_loss_unless_it_is_asked_to(new_unit, tmp_path, monkeypatch):
    lab = Lab(new_unit(tmp_path / "lab", collect__kept=1), method)
    undo = [("numbers 5 2 target 15", "undo")]
    path = [("numbers 9 4 2 target 15, 9 - 4, undo", "9 + 4"), ("numbers 13 2 target 15, 9 - 4, undo, 9 + 4", "13 + 2")]
    assert lessons(lab, "agent_r", monkeypatch) == lessons(lab, "exact", monkeypatch) == undo + path
    assert lessons(lab, "unmasked_it1", monkeypatch) == [("numbers 9 4 2 target 15", "9 - 4")] + undo + path
    at_end = lessons(lab, "end", monkeypatch)
    assert at_end[:2] == [("numbers 7 target 15", "undo"), ("numbers 5 2 target 15, 9 - 4, 5 + 2, undo", "undo")] and len(at_end) == 4
    short = Lab(new_unit(tmp_path / "short", steps=5), method)
    assert lessons(short, "end", monkeypatch) == [] and len(lessons(short, "exact", monkeypatch)) == 3  # no room in an episode


def test_loops_by_hand(env):
    def taken(*texts: str) -> bool:
        return loops(episode(env, *texts).steps)

    assert not taken("9 - 4", "5 + 2", "undo", "undo", "9 + 4")  # two undo, of different numbers
    assert taken("9 - 4", "undo", "9 - 4", "5 + 2") and not taken("junk", "junk")  # what is refused does not count


def test_equal_budgets_and_a_shared_first_round(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", only=("base", "sft", "agent_r_it1", "agent_r", "agent_r_once", "shuffled", "end"))
    found = {(row.variant, row.metric): row for row in run(unit)}
    costs = {name: found[name, "success"].cost for name in ("sft", "agent_r_it1", "agent_r", "agent_r_once", "shuffled", "end")}
    rounds, updates = unit.params.rounds, unit.params.sft.updates
    assert {name: cost["updates"] for name, cost in costs.items()} == {
        name: unit.params.start.updates + updates * (1 if name == "agent_r_it1" else rounds) for name in costs}  # fmt: skip
    assert {"recovery", "greedy_recovery", "caught", "false_alarm", "loops"} <= {metric for name, metric in found if name == "agent_r"}
    assert found["sft+retry", "success"].value >= found["sft", "success"].value
    assert ("sft+retry", "judged") not in found


def test_taking_back_is_learned(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", rounds=1, collect__tasks=150, collect__samples=12, collect__kept=4, sft__updates=120, sft__batch=16,
                    sft__lr=3e-3, test__tasks=60, test__draws=4, only=("base", "sft", "exact"))  # fmt: skip
    found = {(row.variant, row.metric): row.value for row in run(unit)}
    assert found["base", "recovery"] == found["sft", "recovery"] == 0.0
    assert found["exact", "recovery"] > 0.1 and found["exact", "caught"] > 0.1
    assert found["sft", "loops"] == 0.0 < found["exact", "loops"]  # who takes nothing back stands still, and is refused
