"""SPPO: losses and their fits by hand, pairs, equal budgets, and that a cycle needs an oracle that knows it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from common.envs.duels import favouring, practice
from common.envs.panels import version
from common.lab import Lab, run
from common.learn.preferences import exploitability, softmax
from papers.sppo import figures, method
from papers.sppo.method import Condition, Learn, ends, fit, pulls
from tests.envs.test_duels import game
from tests.papers.units import open_unit, write_panels

ENV = "duel-cyclic-v1"
P = Learn(rounds=3, groups=2, k=3, steps=2000, lr=0.02, eta=0.8, beta=2.0, beta_strong=1.0, tau=0.5)
SPPO, DPO, IPO = Condition("sppo", "sppo"), Condition("dpo", "dpo", beta=2.0), Condition("ipo", "ipo")


@pytest.fixture(scope="module")
def new_unit(tmp_path_factory):
    world = tmp_path_factory.mktemp("duels")
    write_panels(world, ENV, version(ENV).build(0))
    return partial(open_unit, world, "sppo", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    return (unit := new_unit(tmp_path_factory.mktemp("whole") / "lab")), run(unit)


def test_pulls_are_the_slopes_of_the_losses():
    """½Σ(g − η(P − ½))², −log σ(β(g_w − g_l)), (g_w − g_l − 1/2τ)², by finite differences; and by hand at one point."""
    gains, wins, step = np.array([[0.3, -0.2]]), np.array([[0.9, 0.2]]), 1e-6

    def loss(name: str, g: np.ndarray) -> float:
        margin = g[0, 0] - g[0, 1]
        return {"sppo": 0.5 * ((g - 0.8 * (wins - 0.5)) ** 2).sum(), "dpo": np.log1p(np.exp(-2.0 * margin)), "ipo": (margin - 1.0) ** 2}[name]

    for variant in (SPPO, DPO, IPO):
        slopes = [(loss(variant.loss, gains + move) - loss(variant.loss, gains - move)) / (2 * step)
                  for move in (np.array([[step, 0.0]]), np.array([[0.0, step]]))]  # fmt: skip
        assert pulls(variant, gains, wins, P)[0] == pytest.approx(slopes, abs=1e-6)
    assert pulls(SPPO, gains, wins, P)[0] == pytest.approx([0.3 - 0.32, -0.2 + 0.24])
    assert pulls(IPO, gains, wins, P)[0] == pytest.approx([-1.0, 1.0])


def test_a_fit_that_can_be_exact_is_an_exponential_weights_step():
    """Where every arm is fitted to its centred log-ratio, π_{t+1} ∝ π_t · exp(η P̂): the step that the paper derives."""
    logits, wins = np.log([0.5, 0.3, 0.2]), np.array([[0.55, 0.4, 0.6]])
    target = softmax(logits + P.eta * wins[0])
    shift = np.log(target / softmax(logits)) / P.eta + 0.5  # what P̂ must be for both sides to be equal
    found = fit(logits, np.array([[0, 1, 2]]), shift[None], SPPO, P)
    assert softmax(found) == pytest.approx(target, abs=1e-3)
    apart = np.log(softmax(fit(logits, np.array([[0, 1]]), wins[:, :2], IPO, P)) / softmax(logits))
    assert apart[0] - apart[1] == pytest.approx(1 / (2 * P.tau), abs=1e-3)  # IPO's margin, and no more


def test_the_mean_loss_over_groups_is_what_is_fitted():
    """Two groups disagree about the same arm: the fit lies between them."""
    found = fit(np.zeros(4), np.array([[0, 1], [0, 2]]), np.array([[0.9, 0.5], [0.5, 0.5]]), SPPO, replace(P, steps=4000))
    gains = np.log(softmax(found) / 0.25)
    assert gains[0] == pytest.approx((0.8 * 0.4 + 0.0) / 2, abs=2e-3) and gains[1:3] == pytest.approx([0.0, 0.0], abs=2e-3)


def test_a_rare_arm_that_was_not_drawn_stays_where_it_is():
    """Win rates of a sample seldom have the mean ½, and then every arm has a slope, in proportion to its probability. No optimiser may
    make whole steps of those of rare arms, which no loss would notice."""
    logits = np.log([0.5, 0.4999, 1e-4])
    moved = np.log(softmax(fit(logits, np.array([[0, 1]]), np.array([[0.9, 0.7]]), SPPO, replace(P, steps=20))) / softmax(logits))
    assert abs(moved[2]) < 0.03 < moved[0]


def test_ends_are_the_best_and_the_worst_of_a_group():
    arms, wins = ends(np.array([[7, 3, 3, 5]]), np.array([[0.5, 0.8, 0.8, 0.2]]))
    assert arms.tolist() == [[3, 5]] and wins.tolist() == [[0.8, 0.2]]


def test_variants_compare_and_step_as_much(whole):
    """What was compared is counted where it is compared."""
    unit, rows = whole
    p, cost = unit.params.learn, {row.variant: row.cost for row in rows}
    for name in ("sppo", "sppo_all", "ipo", "dpo", "dpo_strong", "sppo_bt", "dpo_bt"):
        assert (cost[name]["env_steps"], cost[name]["updates"]) == (p.rounds * p.groups * p.k * (p.k - 1) // 2, p.rounds * p.steps), name
    assert cost["start"]["env_steps"] == 0
    found = {row.metric: row.value for row in rows if row.variant == "start" and row.panel.endswith("/test")}
    assert found["exploitability"] == pytest.approx(exploitability(game(ENV), softmax(favouring(unit.params.favour)))) and "chosen" not in found


def test_win_rates_count_the_arm_itself_as_a_draw_and_the_oracle_is_asked_of_drawn_arms(new_unit, tmp_path, monkeypatch):
    lab, seen = Lab(new_unit(tmp_path / "lab"), method), []
    monkeypatch.setattr(method, "fit", lambda logits, arms, wins, *_: seen.append((arms, wins)) or logits)
    by_name = {variant.name: variant for variant in method.variants(lab.p)}
    method.train(lab, by_name["sppo_all"])
    arms, wins = seen[0]
    truth, k = practice(lab.env, lab.seed), lab.p.learn.k
    by_hand = [[sum(truth[a, b] for b in group) / k for a in group] for group in arms]  # P(a ≻ a) = ½ is one of the k
    assert wins == pytest.approx(np.array(by_hand)) and 0.1 <= wins.min() and wins.max() <= 0.9
    monkeypatch.setattr(method, "bradley_terry", lambda rewards, *_, counts, **__: seen.append(counts.sum()) or rewards)
    method.train(lab, by_name["sppo_bt"])
    asked = [one for one in seen if not isinstance(one, tuple)]
    assert asked == [lab.p.learn.groups * k * (k - 1) / 2 * t for t in range(1, lab.p.learn.rounds + 1)]
    assert seen[-1][1] == pytest.approx(0.5)  # rewards of 0: no arm is better than another


def test_a_cycle_needs_an_oracle_that_knows_it(new_unit, tmp_path, world_of):
    only = ("start", "sppo", "sppo_bt", "dpo_strong")
    for env_id, build in ((ENV, new_unit), ("duel-transitive-v1", partial(open_unit, world_of("duel-transitive-v1"), "sppo", "duel-transitive-v1"))):
        unit = build(tmp_path / env_id, learn__rounds=120, learn__groups=20, learn__steps=20, reward__steps=20, only=only)
        found = {row.variant: row.value for row in run(unit) if row.metric == "exploitability" and row.panel.endswith("/test")}
        if env_id == ENV:
            assert found["sppo"] < 0.15 < 0.2 < min(found["sppo_bt"], found["start"])
        else:
            assert max(found[name] for name in only[1:]) < 0.06 < found["start"]


def test_the_notebook_s_parts(whole):
    text = "\n".join(figures.toy())
    assert "log π/π_t = [+0.4, -0.4]   sppo [+0.00, +0.00]" in text and "log π/π_t = [+0.0, +0.0]   sppo [+0.40, -0.40]   dpo [+1.00, -1.00]   ipo [+1.00, -1.00]" in text
    [_, picture] = figures.results(whole[1], figures.LADDER)
    assert picture.axes
