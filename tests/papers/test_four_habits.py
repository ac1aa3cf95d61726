"""Four Habits: traces by hand, tries and what becomes of them, cut searches are learned from, equal budgets, and that the habit is taught."""

from __future__ import annotations

from functools import partial

import pytest

from common.envs.retracting import AND, NO, remaining, written
from common.lab import BASE, Collected, Lab, run
from common.rng import generator
from common.types import Task, Turn
from papers.four_habits import figures, method
from papers.four_habits.method import DOT, Condition, habits, thought_of, trace
from tests.papers.units import open_unit

ENV = "countdown-worked-v1"
TASK = Task("t", ENV, "train", {"numbers": [14, 5, 3], "target": 16})
RIGHT = "14 + 5 = 19 , 19 - 3 = 16"
WRONG = "14 - 5 = 9 , 9 + 3 = 12"


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "four_habits", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab", admission=True, prime__updates=250, prime__batch=32, prime__tasks=60, prime__tries=2,
                    prime__lr=3e-3, test__tasks=16)  # fmt: skip
    return unit, run(unit)


def tries(text: str) -> list[tuple[bool, bool]]:
    """(right, taken back) of each whole answer that is tried."""
    return [(one.right, one.retracted) for one in written(thought_of(text), [14, 5, 3], 16) if one.last]


@pytest.mark.parametrize("habit", ["backtrack", "dots"])
def test_traces(habit):
    told = [trace(TASK, habit, 3, generator("traces", k)) for k in range(60)]
    for text in told:
        found = tries(text)
        if habit == "dots":
            assert NO not in text and found == [(True, False)]
        else:  # all tries but the last are wrong and taken back, and none is made twice
            assert found == [*[(False, True)] * (len(found) - 1), (True, False)] and 1 <= len(found) <= 4
        assert remaining(thought_of(text)) in {RIGHT, "14 - 3 = 11 , 11 + 5 = 16", "5 - 3 = 2 , 14 + 2 = 16"}
    assert {len(tries(text)) for text in told} == ({1} if habit == "dots" else {1, 2, 3, 4})


def test_traces_that_end_wrong_are_the_primed_model_s(new_unit, tmp_path, monkeypatch):
    lab = Lab(new_unit(tmp_path / "lab"), method)
    monkeypatch.setattr(method, "primed", lambda lab, habit: BASE if habit == "backtrack" else None)
    found = method.failed_traces(lab)
    assert found.rows and found.cost.samples == lab.p.prime.tasks * lab.p.prime.traces
    for task in lab.batch(0, lab.p.prime.tasks):
        lab.env.reset(task)
        assert not any(lab.env.score(row.completion) for row in found.rows if row.prompt == lab.env.prompt())


def test_further_traces_are_others(new_unit, tmp_path):
    lab = Lab(new_unit(tmp_path / "lab"), method)
    first, more = ([row.completion for row in method.written_traces(lab, "backtrack", use)] for use in ("traces", "further traces"))
    assert len(first) == len(more) and first != more


def test_dots_take_as_many_words_as_the_tries_in_their_place():
    for k in range(20):
        one, other = (trace(TASK, habit, 3, generator("words", k)) for habit in ("backtrack", "dots"))
        assert other.removesuffix(remaining(one)) in {"", DOT * (len(one.split()) - len(remaining(one).split())) + " "}


def test_what_is_shared_with_the_next_try_is_not_taken_back():
    texts = {trace(TASK, "backtrack", 1, generator("shared", k)) for k in range(200)}
    assert "14 + 5 = 19 , 19 + 3 = 22 , no , 19 - 3 = 16" in texts and f"{WRONG} , no , no , {RIGHT}" in texts


def test_tries_are_counted_by_hand():
    found = habits([(TASK, f"{WRONG} , no , no , {RIGHT}"), (TASK, RIGHT), (TASK, WRONG), (TASK, f"{RIGHT} , no , 19 + 3 = 22"), (TASK, "14")])
    assert found["tries"] == (2 + 1 + 1 + 2 + 0) / 5 and found["first_try"] == 2 / 5
    assert found["told_apart"] == pytest.approx(1 / 3 - 1 / 3)  # of three wrong ones one is taken back, of three right ones one
    assert habits([(TASK, f".. {RIGHT}")]) == {"tries": 1.0, "first_try": 1.0}


def test_answers_that_were_cut_are_learned_from_and_those_with_other_tokens_are_not(new_unit, tmp_path, monkeypatch):
    lab, seen = Lab(new_unit(tmp_path / "lab"), method), []
    limit, plain = lab.p.answer_tokens, Lab.attempts

    def attempts(self, *given, **how):
        episodes, judged = plain(self, *given, **how)
        for k, turn in {0: Turn("14", -9.0, limit, False), 1: Turn("14", -9.0, 3, False), 2: Turn("5", -1.0, 3)}.items():
            object.__setattr__(episodes[k].steps[0], "turn", turn)
        judged.correct[:4, 0] = [0, 0, 1, 0]
        return episodes, judged

    monkeypatch.setattr(Lab, "attempts", attempts)
    monkeypatch.setattr(Lab, "reinforce", lambda self, name, collect, **how: seen.append((name, collect(self.engine(), 1), how)) or BASE)
    method.train(lab, Condition("rl", rl=True))
    [(name, data, how)] = seen
    assert isinstance(data, Collected) and (name, how["start"], how["reference"]) == ("rl", BASE, BASE)
    first, second = data.rows[0][0], data.rows[1][0]
    assert (first.answer, first.ended, second.answer, second.ended) == ("14", False, "5", True)
    assert (first.advantage, second.advantage) == (pytest.approx(-1 / 3), pytest.approx(1.0))
    assert data.found["cut"] == pytest.approx(sum(not turn.ended for [turn] in data.rows) / data.cost.samples)


def test_budgets_and_rows(whole):
    unit, rows = whole
    cost, p = {row.variant: row.cost for row in rows}, unit.params
    primed, both = p.prime.updates, p.prime.updates + p.rl.updates
    assert {name: one["updates"] for name, one in cost.items()} == {
        "base": 0, "rl": p.rl.updates, "more": both, **dict.fromkeys(method.HABITS, primed), **{f"rl_{habit}": both for habit in method.HABITS}}  # fmt: skip
    assert cost["rl"]["samples"] == cost["rl_dots"]["samples"] == p.rl.updates * p.rl.tasks * p.rl.group


def test_priming_teaches_the_habit(whole):
    value = {(row.variant, row.metric): row.value for row in whole[1] if row.panel.endswith("/test")}
    assert value["base", "tries"] <= 1.0 and value["backtrack", "tries"] > 1.1 and value["wrong", "tries"] > 1.1 and value["dots", "tries"] <= 1.0
    assert value["dots", "tokens"] > value["base", "tokens"] + 3


def test_the_notebook_s_parts(whole):
    assert DOT in figures.toy()[-1]
    assert figures.results(whole[1], figures.LADDER)[-1].axes
