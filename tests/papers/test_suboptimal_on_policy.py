"""Suboptimal, on-policy data: its losses by hand, the reference's bins, equal budgets, and that the mechanism shows."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from statistics import fmean

import numpy as np
import pytest
import torch

from common.envs.panels import version
from common.lab import Lab, run
from papers.suboptimal_on_policy import figures, maths, method
from tests.papers.units import open_unit, write_panels

ENV = "bandit-far-v1"
LOGP, REFERENCE = torch.log(torch.tensor([[0.5, 0.25, 0.125]])), torch.log(torch.tensor([[0.25, 0.25, 0.25]]))
REWARDS = torch.tensor([[0.1, 0.7, 0.4]])


@pytest.fixture(scope="module")
def new_unit(tmp_path_factory):
    world = tmp_path_factory.mktemp("bandit")
    write_panels(world, ENV, version(ENV).build(0))
    return partial(open_unit, world, "suboptimal_on_policy", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    return (unit := new_unit(tmp_path_factory.mktemp("whole") / "lab")), run(unit)


def test_best_of_n_is_the_likelihood_of_each_context_s_best_sample():
    assert maths.best_of_n(LOGP, REWARDS).item() == pytest.approx(math.log(4))
    assert maths.best_of_n(LOGP, torch.tensor([[0.9, 0.9, 0.1]])).item() == pytest.approx(math.log(2))  # a tie: the first


def test_dpo_compares_all_pairs_whose_rewards_differ():
    # log-ratios ln 2, 0, -ln 2; pairs: 1 over 0: -ln 2, 1 over 2: ln 2, 2 over 0: -2 ln 2
    margins = sorted(maths.margins(LOGP, REFERENCE, REWARDS).tolist())
    assert margins == pytest.approx([-2 * math.log(2), -math.log(2), math.log(2)])
    wanted = fmean(math.log(1 + math.exp(-0.5 * m)) for m in margins)
    assert maths.dpo(LOGP, REFERENCE, REWARDS, beta=0.5).item() == pytest.approx(wanted)
    tied = maths.margins(LOGP, REFERENCE, torch.tensor([[0.1, 0.1, 0.4]]))
    assert sorted(tied.tolist()) == pytest.approx([-2 * math.log(2), -math.log(2)])
    assert maths.dpo(LOGP, REFERENCE, torch.full((1, 3), 0.3), beta=1.0) == 0.0  # no pair teaches nothing


def test_reinforce_weighs_by_the_reward_beyond_the_other_samples():
    # the others' means .55, .25, .4: advantages -.45, .45, 0
    assert maths.reinforce(LOGP, REWARDS).item() == pytest.approx(0.45 * (math.log(0.5) - math.log(0.25)) / 3)


def test_a_clipped_ratio_has_no_gradient_once_it_went_far_enough():
    old = torch.log(torch.tensor([[0.5, 0.2, 0.125]]))  # ratios 1, 1.25, 1
    logp = LOGP.clone().requires_grad_()
    loss = maths.clipped(logp, old, REWARDS, clip=0.2)
    assert loss.item() == pytest.approx(-(-0.45 * 1.0 + 0.45 * 1.2 + 0.0) / 3)
    loss.backward()
    assert logp.grad[0].tolist() == pytest.approx([0.45 / 3, 0.0, 0.0], abs=1e-6)
    wrong_way = torch.log(torch.tensor([[0.4, 0.25, 0.125]]))  # the worse one rose to 1.25: it is still pushed down
    logp = LOGP.clone().requires_grad_()
    maths.clipped(logp, wrong_way, REWARDS, clip=0.2).backward()
    assert logp.grad[0].tolist() == pytest.approx([0.45 * 1.25 / 3, -0.45 / 3, 0.0], abs=1e-6)


def test_the_reference_has_the_masses_of_a_squashed_cauchy_variable():
    masses = maths.squashed_cauchy(100, location=-0.7, scale=0.4)
    assert masses.sum().item() == pytest.approx(1.0) and masses[1:-1].argmax().item() + 1 in (16, 17, 18, 19)
    cauchy = torch.distributions.Cauchy(-0.7, 0.4)
    for low, high, bins in ((-1.0, -0.98, slice(0, 1)), (0.2, 0.6, slice(60, 80)), (0.98, 1.0, slice(99, 100))):
        below = [cauchy.cdf(torch.atanh(torch.tensor(edge, dtype=torch.float64))) for edge in (low, high)]
        assert masses[bins].sum().item() == pytest.approx(float(below[1] - below[0]), abs=1e-6)


def test_the_same_numbers_draw_alike():
    probabilities = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    assert maths.drawn(probabilities, np.array([[0.0, 0.49, 0.5, 0.999]] * 2)).tolist() == [[0, 0, 2, 2], [1, 1, 1, 1]]


def test_variants_draw_as_much_and_update_as_their_names_say(whole):
    unit, rows = whole
    p, cost = unit.params.learn, {row.variant: row.cost for row in rows}
    assert cost["start"]["samples"] == cost["start"]["updates"] == 0
    for name in set(cost) - {"start"}:
        assert cost[name]["samples"] == p.rounds * p.contexts * p.samples, name
        assert cost[name]["updates"] == p.rounds * (p.reuse if name.endswith("_reuse") else p.updates), name


def test_offline_variants_meet_the_same_arms_and_the_first_round_is_shared(new_unit, tmp_path, monkeypatch):
    lab, plain, met = Lab(new_unit(tmp_path / "lab"), method), maths.drawn, {}
    for variant in method.variants(lab.p)[1:5]:
        met[variant.name] = here = []
        monkeypatch.setattr(maths, "drawn", lambda *asked, here=here: here.append(plain(*asked)) or here[-1])
        method.train(lab, variant)
    assert all(torch.equal(a, b) for a, b in zip(met["bon_offline"], met["dpo_offline"], strict=True))
    first, second = met["bon_offline"]
    assert all(torch.equal(first, arms[0]) for arms in met.values()) and not torch.equal(second, met["bon"][1])


def test_losses_get_the_reference_and_the_policy_that_drew(new_unit, tmp_path):
    lab, got = Lab(new_unit(tmp_path / "lab"), method), []
    [bon] = [variant for variant in method.variants(lab.p) if variant.name == "bon"]
    method.train(lab, replace(bon, loss=lambda *asked: got.append([one.detach() for one in asked]) or maths.best_of_n(asked[0], asked[3])))
    first, later = got[0], got[lab.p.learn.updates]
    assert torch.equal(first[0], first[2]) and torch.equal(later[0], later[2])  # nothing has moved since a round's arms were drawn
    assert torch.allclose(first[1], first[2], atol=0.1) and not torch.allclose(later[1], later[2], atol=0.1)  # the reference has not
    assert all(torch.equal(a, b) for a, b in zip(got[0][1:], got[1][1:])) and not torch.equal(got[0][0], got[1][0])


def test_returns_are_exact(whole):
    unit, rows = whole
    found = {(row.variant, row.metric): row.value for row in rows}
    reference = maths.squashed_cauchy(100, location=-0.7, scale=0.4)
    by_hand = sum(p * math.exp(-(((arm - 70) / 10) ** 2)) for arm, p in enumerate(reference.tolist()))
    assert found["start", "return"] == pytest.approx(by_hand, abs=0.01)  # a copy of the reference, on contexts it has not seen
    assert 0.0 <= found["start", "kl_reference"] < 0.05
    assert sum(figures.policy_of(unit.run.artifacts, "start")) == pytest.approx(1.0, abs=1e-3)


def test_on_policy_arms_teach_what_the_reference_hardly_draws(new_unit, tmp_path):
    """And nothing is learned from rewards that belong to other arms."""
    def returns(name: str, *only: str) -> dict[str, float]:
        unit = new_unit(tmp_path / name, learn__contexts=10, learn__rounds=10, learn__updates=10, only=only)
        return {row.variant: row.value for row in run(unit) if row.metric == "return"}
    found, plain = returns("true", "bon", "bon_offline", "dpo", "ppo"), method.training_contexts
    order = torch.from_numpy(np.random.default_rng(0).permutation(100))
    assert min(found["dpo"], found["ppo"]) > 0.7 > found["bon_offline"] + 0.2
    assert found["bon"] > found["bon_offline"] + 0.1  # of imitation alone it depends on the processor how many contexts are learned
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "training_contexts", lambda lab: method.Contexts((one := plain(lab)).bits, one.rewards[:, order]))
        assert returns("shuffled", "bon")["bon"] < 0.3


def test_the_notebook_s_parts(whole, tmp_path):
    text = "\n".join(part for part in figures.toy() if isinstance(part, str))
    assert "best of N  [0.60, 0.20, 0.10, 0.10] → [0.35, 0.46, 0.09, 0.09]" in text
    assert figures.examples(tmp_path) == ["This unit kept no policies on this machine."]
    [_, picture] = figures.examples(whole[0].run.artifacts)
    assert len(picture.axes) == 4 and len(picture.axes[0].lines) == 3
