"""The self-correction report: by hand, its exact identities, and where it must say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from common.envs.answers import declared
from common.envs.versions.countdown_answer_v1 import CountdownAnswerEnv
from common.evaluate.correction import Attempts, attempts_of, correction, relative_score, turn_records
from common.rng import generator
from common.types import Observation, Step, Task, Trajectory, Turn


def attempts(rows: list[str]) -> Attempts:
    """One task a text: upper case is right, equal letters (case aside) are equal answers."""
    return Attempts(np.array([[c.isupper() for c in row] for row in rows]), tuple(tuple(row.lower()) for row in rows))


def test_two_turns_by_hand():
    # kept right, broken, repaired, wrong twice (copied), wrong twice (changed)
    found = correction(attempts(["AA", "Ab", "aB", "cc", "cd"]))
    assert found == pytest.approx({
        "acc@1": 2 / 5, "acc@2": 2 / 5, "delta": 0.0, "i2c": 1 / 5, "c2i": 1 / 5, "cl": 1 / 2, "cs": 1 / 3,
        "rss": 0.5, "copy": 2 / 5, "copy_wrong": 1 / 3,
    })  # fmt: skip


def test_more_turns_compare_first_and_last_and_count_every_copy():
    found = correction(attempts(["aaB", "Abb", "CCC"]))
    assert [found[f"acc@{k}"] for k in (1, 2, 3)] == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert (found["delta"], found["i2c"], found["c2i"]) == pytest.approx((0.0, 1 / 3, 1 / 3))
    assert found["copy"] == pytest.approx(4 / 6) and found["copy_wrong"] == pytest.approx(2 / 3)
    assert correction(attempts(["A", "b"])) == {"acc@1": 0.5}


@pytest.mark.parametrize("seed", range(20))
def test_the_identities_hold_for_any_answers(seed):
    rng = generator("identities", seed)
    n = int(rng.integers(1, 40))
    found = correction(Attempts(rng.random((n, 2)) < rng.random(), tuple(("a", "b") for _ in range(n))))
    acc, last = found["acc@1"], found["acc@2"]
    cl, cs = found.get("cl", 0.0), found.get("cs", 0.0)  # absent only where their weight is 0
    assert found["delta"] == pytest.approx(found["i2c"] - found["c2i"], abs=1e-12)
    assert found["delta"] == pytest.approx(last - acc, abs=1e-12)
    assert found["i2c"] == pytest.approx((1 - acc) * cs, abs=1e-12)
    assert found["c2i"] == pytest.approx(acc * (1 - cl), abs=1e-12)
    assert last == pytest.approx(acc * cl + (1 - acc) * cs, abs=1e-12)
    assert ("cl" in found, "cs" in found) == (acc > 0, acc < 1)
    assert ("rss" in found) == (0 < acc < 1)


def test_the_paper_s_own_rows_keep_the_identity():
    """SCoRe, Table 2, MATH: acc t1, t2, Δ, i→c, c→i in percent."""
    for first, last, delta, i2c, c2i in [(52.6, 41.4, -11.2, 4.6, 15.8), (60.0, 64.4, 4.4, 5.8, 1.4)]:
        assert delta == pytest.approx(i2c - c2i, abs=1e-9) == pytest.approx(last - first, abs=1e-9)


def test_undefined_values_are_absent():
    assert correction(attempts(["AA", "AA"])).keys() == {"acc@1", "acc@2", "delta", "i2c", "c2i", "cl", "copy"}
    nothing = correction(attempts(["ab", "aa"]))
    assert "cl" not in nothing and "rss" not in nothing and nothing["cs"] == 0.0 and nothing["copy_wrong"] == 0.5


def test_relative_score_by_hand():
    assert relative_score(0.5, 0.25) == 0.0 and relative_score(0.5, 0.75) == 1.0
    assert relative_score(0.2, 0.2) == pytest.approx(0.5)
    assert relative_score(0.526, 0.414) == pytest.approx((0.414 - 0.526**2) / (2 * 0.526 * 0.474))
    assert relative_score(0.0, 0.3) is None and relative_score(1.0, 0.3) is None
    with pytest.raises(ValueError, match="Acc_1 52.6"):
        relative_score(52.6, 41.4)


def episode(task: Task, *answers: str) -> Trajectory:
    env, steps = CountdownAnswerEnv(turns=len(answers)), []
    env.reset(task)
    for text in answers:
        prompt = env.prompt()
        steps.append(Step(prompt, Turn(text, -1.0, 3), env.step(text)))
    return Trajectory(task.id, tuple(steps))


def test_each_turn_is_judged_alone_by_what_it_declares_last():
    task = Task("t", "countdown-answer-v1", "test", {"numbers": [7, 8, 24], "target": 24})
    right, wrong = "24 * (8 - 7)", "24 + 8 + 7"
    episodes = [episode(task, f"{wrong}\n{right} \n", f"{right}\n{wrong}"), episode(task, right, f"  {right}")]
    found = attempts_of(CountdownAnswerEnv(), [task, task], episodes)
    assert found.correct.tolist() == [[True, False], [True, True]]
    assert found.answers == ((right, wrong), (right, right))
    assert correction(found)["copy"] == 0.5 and correction(found)["c2i"] == 0.5
    assert episodes[0].reward == 0.0 and episodes[1].reward == 1.0  # the environment reads a turn in the same way
    lines = turn_records(found, [task, task], episodes)
    assert [(line["turn"], line["correct"]) for line in lines] == [(1, True), (2, False), (1, True), (2, True)]
    assert lines[1]["prompt"] == CountdownAnswerEnv.RETRY


@pytest.mark.parametrize(("text", "answer"), [("", ""), (" \n ", ""), ("a\nb", "b"), ("a\n\n", "a"), (" a ", "a")])
def test_the_last_line_that_is_not_blank_is_declared(text, answer):
    assert declared(text) == answer


@pytest.mark.parametrize("correct", [np.zeros((2, 2), bool), np.zeros((1, 2)), np.zeros((1, 1), bool)])
def test_a_matrix_that_does_not_fit_its_answers_is_refused(correct):
    with pytest.raises(ValueError, match="attempts: correct is"):
        Attempts(correct, (("a", "b"),))


def test_no_tasks_are_refused():
    with pytest.raises(ValueError, match="at least one task"):
        Attempts(np.zeros((0, 0), bool), ())


def test_episodes_of_other_tasks_do_not_leak_into_the_score():
    tasks = [Task(f"t{n}", "countdown-answer-v1", "test", {"numbers": [n, 3], "target": n + 3}) for n in (20, 30)]
    judged = attempts_of(CountdownAnswerEnv(), tasks, [episode(tasks[0], "20 + 3"), episode(tasks[1], "20 + 3")])
    assert judged.correct.tolist() == [[True], [False]]
    cut = Trajectory("t", (Step((), Turn("30 + 3", 0.0, 9, finished=False), Observation("")),))
    assert attempts_of(CountdownAnswerEnv(), tasks[1:], [cut]).correct.all()  # what was declared stands there
