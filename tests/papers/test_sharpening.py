"""Sharpening: the likeliest of N by hand, that no judgement from outside is used, equal budgets, and that it sharpens."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest

from common.lab import Lab, run
from common.lm.policy import LMPolicy
from common.types import Turn
from papers.sharpening import figures, method
from tests.papers.sums import ENV
from tests.papers.units import open_unit


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "sharpening", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    return (unit := new_unit(tmp_path_factory.mktemp("whole") / "lab")), run(unit)


def turn(text: str, logprob: float, finished: bool = True) -> Turn:
    return Turn(text, logprob, 3, finished)


def test_the_likeliest_is_the_finished_one_of_largest_log_probability():
    turns = [turn("a", -2.0), turn("cut", -0.1, finished=False), turn("b", -1.0), turn("c", -1.0)]
    assert method.likeliest(turns).text == "b" and method.likeliest(turns[1:2]) is None


def test_best_of_n_gives_one_of_every_n_draws():
    draws = [turn("a", -3.0), turn("b", -1.0), turn("c", -0.5, finished=False), turn("d", -0.5, finished=False)]
    asked = []
    policy = SimpleNamespace(propose=lambda prompts, keys, n: asked.append(n) or [draws] * len(prompts))
    given = method.BestOfN(policy, 2).propose(["x", "y"], [1, 2], 2)
    assert asked == [4] and [[one.text for one in turns] for turns in given] == [["b", "c"], ["b", "c"]]


def test_variants_of_one_n_choose_among_the_same_answers(new_unit, tmp_path):
    lab = Lab(new_unit(tmp_path / "lab"), method)
    by_name = {variant.name: variant for variant in method.variants(lab.p)}
    engine = lab.engine()
    tasks = lab.batch(0, lab.p.collect.tasks)
    drawn = lab.policy(engine).propose(method.prompts_of(lab, tasks), lab.keys(tasks, "collect", lab.p.collect.samples), lab.p.collect.samples)
    engine.cost = type(engine.cost)()
    with pytest.MonkeyPatch.context() as patch:  # nothing from outside: no reward, no score
        for name in ("score", "step"):
            patch.setattr(type(lab.env), name, lambda *_, **__: (_ for _ in ()).throw(AssertionError("the environment was asked")))
        found = {name: method.collected(lab, engine, by_name[name]) for name in ("sharpen", "random")}
    answers = [[one for one in turns if one.finished] for turns in drawn]
    answers = [turns for turns in answers if turns]
    assert [row.completion for row in found["sharpen"].rows] == [max(turns, key=lambda one: one.logprob).text for turns in answers]
    assert all(row.completion in {one.text for one in turns} for row, turns in zip(found["random"].rows, answers, strict=True))
    assert {one.cost.samples for one in found.values()} == {len(tasks) * lab.p.collect.samples}


def test_reinforced_by_nothing_but_the_base_model_s_own_likelihood(new_unit, tmp_path, monkeypatch):
    """Each answer is credited with log π_base(answer) beyond the mean of the others of its task, at β; in the first update the
    policy is the base itself, so that these are the log-probabilities it sampled with."""
    lab, learned, drawn = Lab(new_unit(tmp_path / "lab"), method), [], []
    plain, propose = method.policy_gradient_step, LMPolicy.propose
    monkeypatch.setattr(method, "policy_gradient_step", lambda *args, **how: learned.append(args[3]) or plain(*args, **how))
    monkeypatch.setattr(LMPolicy, "propose", lambda *args: drawn.append(propose(*args)) or drawn[-1])
    monkeypatch.setattr(type(lab.env), "step", lambda *_, **__: (_ for _ in ()).throw(AssertionError("the environment was asked")))
    trained = method.reinforced(lab)
    p = lab.p.rl
    assert trained.cost.samples == p.updates * p.tasks * p.group and trained.cost.updates == p.updates == len(learned)
    assert trained.cost.scored_tokens > 0
    expected = []
    for turns in drawn[0]:
        own = [turn.logprob if turn.finished else None for turn in turns]
        if None not in own:  # a cut answer's likelihood as an answer is not the one it was sampled with
            expected += [(turn.text, value - (sum(own) - value) / (len(own) - 1)) for turn, value in zip(turns, own, strict=True)]
    found = [(turn.answer, turn.advantage) for [turn] in learned[0]]
    assert expected and all(any(text == answer and abs(value - credit) < 0.01 for answer, credit in found) for text, value in expected)
    assert {turn.beta for [turn] in learned[0]} == {p.beta}


def test_rows_say_how_probable_the_favourite_is(whole):
    unit, rows = whole
    found = {(row.variant, row.metric): row.value for row in rows if row.panel.endswith("/test")}
    assert {f"base+bon{n}" for n in method.AT_TEST} <= {variant for variant, _ in found}
    assert all(0.0 < found[name, "mode"] <= 1.0 for name in ("base", "sharpen", "rl"))
    lab = Lab(unit, method)
    [task] = lab.panel("test")[:1]
    best = method.likeliest(lab.policy(lab.engine()).propose(method.prompts_of(lab, [task]), lab.keys([task], "modes"), method.MODE_OF)[0])
    assert method.mode_of(lab, lab.engine(), [task])["mode"] == pytest.approx(math.exp(best.logprob), rel=1e-3)


def test_likely_answers_sharpen_and_random_ones_do_not(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", collect__tasks=60, collect__samples=8, sft__updates=40, sft__batch=16, sft__lr=2e-3, test__tasks=40,
                    test__draws=4, only=("base", "random", "sharpen"))  # fmt: skip
    mode = {row.variant: row.value for row in run(unit) if row.metric == "mode" and row.panel.endswith("/test")}
    assert mode["sharpen"] > mode["base"] + 0.1 and mode["sharpen"] > mode["random"] + 0.1


def test_the_toy_by_hand():
    text = figures.toy()[-1]
    # likeliest of 2: 1 − .7² = .51, .7² − .44² = .30, …; π² / Σ π² of the tempered one: .09 / .2552
    assert "likeliest of 2           [0.51, 0.30, 0.15, 0.04]" in text and "β = 1.0" in text and "[0.35, 0.26, 0.23, 0.16]" in text
