"""B-STaR: the score by hand, what is kept and learned from, equal budgets, and how configurations are compared."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from common.lab import BASE, Lab, Measured, Result, run
from common.types import Cost
from papers.b_star import figures, method
from papers.b_star.method import Condition, balance
from tests.papers.sums import ENV
from tests.papers.units import open_unit


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "b_star", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    return (unit := new_unit(tmp_path_factory.mktemp("whole") / "lab", admission=True)), run(unit)


def test_the_score_by_hand():
    """min(n′/n*, 1) · n′/n."""
    assert balance(4, 4, 4) == 1.0 and balance(8, 8, 4) == 1.0 and balance(1, 1, 4) == 0.25
    assert balance(2, 8, 4) == 0.5 * 0.25 and balance(6, 8, 4) == 0.75 and balance(0, 0, 4) == balance(0, 3, 4) == 0.0


def test_different_right_answers_are_those_the_environment_admits(new_unit, tmp_path):
    lab = Lab(new_unit(tmp_path / "lab"), method)
    tasks, engine = lab.tasks[:12], lab.engine()
    found = method.right_answers(lab, engine, 1.0, tasks, "test", group=6)
    episodes, _ = lab.attempts(lab.policy(engine), tasks, "test", group=6)
    for i, task in enumerate(tasks):
        drawn = [episode.steps[0].turn.text for episode in episodes[6 * i : 6 * i + 6]]
        lab.env.reset(task)
        assert found[i] == list(dict.fromkeys(text for text in drawn if lab.env.score(text)))


def stub(lab: Lab, monkeypatch, answers: dict[float, list[list[str]]], asked: list) -> None:
    """Right answers by temperature, in the place of a model's."""

    def given(_, engine, temperature, tasks, *use, group):
        asked.append((temperature, len(tasks), *use, group))
        return [answers[temperature][i % len(answers[temperature])] for i in range(len(tasks))]

    monkeypatch.setattr(method, "right_answers", given)


def test_the_temperature_of_most_different_right_answers_is_taken(new_unit, tmp_path, monkeypatch):
    lab, asked = Lab(new_unit(tmp_path / "lab"), method), []
    p = lab.p.collect
    cold, warm = p.temperatures
    assert p.wanted == 2
    stub(lab, monkeypatch, {cold: [["a"], ["b", "c"], []], warm: [["a", "b", "c"], ["d", "e"], ["f"]]}, asked)
    data = method.collected(lab, lab.engine(), Condition("bstar", "bstar", 2), 1)
    queries = [0.5, 1.0, 0.0, 0.5, 1.0][: p.queries], [1.0, 1.0, 0.5, 1.0, 1.0][: p.queries]
    assert [data.found[f"bs@T={t:g}"] for t in p.temperatures] == pytest.approx([np.mean(one) for one in queries])
    assert data.found["temperature"] == warm and asked[-1] == (warm, p.tasks, "collect", 1, p.samples)
    assert [row.completion for row in data.rows[:5]] == ["a", "b", "d", "e", "f"]  # at most two of a question
    lab.env.reset(lab.batch(0, p.tasks)[0])
    assert data.rows[0].prompt == lab.env.prompt()
    fixed = method.collected(lab, lab.engine(), Condition("fixed", "fixed", 2, cold, extra=True), 1)
    assert asked[-1] == (cold, p.tasks, "collect", 1, p.samples + method.choosing(p)) and "bs@T=1" not in fixed.found
    drawn = [sum(tasks * group for _, tasks, *_, group in calls) for calls in (asked[:-1], asked[-1:])]
    assert drawn == [data.cost.samples, fixed.cost.samples] and drawn[0] == drawn[1] and len(asked) == len(p.temperatures) + 2


def test_iterations_go_on_from_the_last_weights_or_from_the_base_with_the_last_policy_s_answers(new_unit, tmp_path, monkeypatch):
    lab, starts, sampled = Lab(new_unit(tmp_path / "lab"), method), [], []
    fit, plain = Lab.fit, method.collected
    monkeypatch.setattr(Lab, "fit", lambda self, name, collect, **how: starts.append((name, how["start"].stage)) or fit(self, name, collect, **how))
    weights = lambda engine: float(next(engine.model.parameters()).detach().double().sum())  # noqa: E731
    monkeypatch.setattr(method, "collected", lambda lab, engine, variant, i: sampled.append((variant.kind, i, weights(engine))) or plain(lab, engine, variant, i))
    by_name = {variant.name: variant for variant in method.variants(lab.p)}
    bstar, restart = (method.train(lab, by_name[name]) for name in ("bstar", "restart"))
    assert starts == [("bstar.1", ""), ("bstar.2", "train.bstar.1"), ("restart.1", ""), ("restart.2", "")]
    used = {(kind, i): value for kind, i, value in sampled}
    first = weights(lab.engine(replace(BASE, stage="train.restart.1")))
    assert used["restart", 2] == first == used["bstar", 2] != used["restart", 1] == weights(lab.engine())
    updates = lab.p.sft.updates
    assert (bstar.cost.updates, restart.cost.updates) == (2 * updates, updates + 2 * updates) and bstar.cost.samples == restart.cost.samples


def test_budgets_and_rows(whole):
    unit, rows = whole
    cost = {row.variant: row.cost for row in rows}
    assert cost["fixed"]["samples"] == cost["bstar"]["samples"] == cost["restart"]["samples"] == 2 * cost["bstar_half"]["samples"]
    assert cost["fixed"]["updates"] == cost["bstar"]["updates"] == unit.params.collect.iterations * unit.params.sft.updates
    assert {row.metric for row in rows if row.variant == "base"} >= {"success", "greedy_success", "distinct", "pass@2"}


def test_what_a_configuration_is_worth_is_compared_with_the_mean_of_all(whole, monkeypatch):
    lab = Lab(whole[0], method)
    p = lab.p.collect
    monkeypatch.setattr(method, "train", lambda *_: replace(BASE, found={"bs@T=0.6": 0.3, "bs@T=1": 0.2}))
    results = [Result(name, Cost(), [Measured("test", {"success": value}, 5)]) for name, value in
               (("bstar", 0.9), (f"one@T={p.temperatures[0]:g}", 0.4), (f"one@T={p.temperatures[1]:g}", 0.6))]  # fmt: skip
    chosen, chance = method.compare(lab, results)
    assert chosen.measured[0].metrics == {"success": 0.4, "rank_correlation": pytest.approx(-1.0)} and chance.measured[0].metrics == {"success": 0.5}
    assert method.compare(lab, results[:2]) == []  # a pilot of some variants


def test_the_notebook_s_parts(whole):
    assert "8 kept, 2 right: bs 0.12" in figures.toy()[-1]
    [_, picture] = figures.results(whole[1], figures.LADDER)
    assert picture.axes
