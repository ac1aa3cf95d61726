"""Confidence and critique: the identities, and Shapley values against their definition."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from common.evaluate.decompose import Levels, change
from common.rng import generator


def some_levels(rng: np.random.Generator) -> Levels:
    return Levels(float(rng.uniform(0.05, 0.95)), float(rng.random()), float(rng.random()))


# -- levels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_identities_hold_for_any_policy(seed):
    found = some_levels(generator("levels", seed))
    report = found.report()
    acc_2 = found.acc_1 * found.cl + (1 - found.acc_1) * found.cs
    assert report["acc@2"] == pytest.approx(acc_2, abs=1e-12)
    assert report["delta"] == pytest.approx(report["acc@2"] - report["acc@1"], abs=1e-12)
    assert report["delta"] == pytest.approx(found.acc_1 * (found.cl - 1) + (1 - found.acc_1) * found.cs, abs=1e-12)


def test_what_is_undefined_is_absent():
    never, always = Levels(0.0, None, 0.2), Levels(1.0, 0.9, None)
    assert never.report() == pytest.approx({"acc@1": 0.0, "acc@2": 0.2, "delta": 0.2, "cs": 0.2})
    assert always.report() == pytest.approx({"acc@1": 1.0, "acc@2": 0.9, "delta": -0.1, "cl": 0.9})
    assert Levels(0.5, 0.5, 0.5).report("prob_").keys() == {
        f"prob_{k}" for k in ("acc@1", "acc@2", "delta", "cl", "cs", "rss")}  # fmt: skip
    for wrong in ((0.0, 0.5, 0.5), (1.0, 0.5, 0.5), (0.5, None, 0.5), (40.0, 0.5, 0.5)):
        with pytest.raises(ValueError, match="levels"):
            Levels(*wrong)


# -- the change between two policies ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_parts_add_up_and_are_shapley_values(seed):
    rng = generator("change", seed)
    before, after = some_levels(rng), some_levels(rng)
    found = change(before, after)
    assert found.total == pytest.approx(after.delta - before.delta, abs=1e-12)
    names, worth = ("acc_1", "cl", "cs"), dict.fromkeys(("acc_1", "cl", "cs"), 0.0)
    for order in permutations(names):  # the definition: mean contribution over all orders of switching
        now = {name: getattr(before, name) for name in names}
        for name in order:
            old = Levels(**now).delta
            now[name] = getattr(after, name)
            worth[name] += (Levels(**now).delta - old) / 6
    assert (found.first, found.confidence, found.critique) == pytest.approx(tuple(worth.values()), abs=1e-12)


def test_changes_by_hand_and_where_a_level_is_undefined():
    only_cl = change(Levels(0.5, 0.6, 0.1), Levels(0.5, 0.9, 0.1))
    assert (only_cl.first, only_cl.confidence, only_cl.critique) == pytest.approx((0.0, 0.15, 0.0))
    only_first = change(Levels(0.2, 0.7, 0.1), Levels(0.6, 0.7, 0.1))
    assert only_first.first == pytest.approx(0.4 * (0.7 - 1 - 0.1)) == pytest.approx(only_first.total)
    blank = change(Levels(0.0, None, 0.3), Levels(0.4, 0.5, 0.1))
    assert blank.confidence == 0.0 and blank.total == pytest.approx((0.4 * -0.5 + 0.6 * 0.1) - 0.3)
    with pytest.raises(ValueError, match="undefined for both"):
        change(Levels(0.0, None, 0.3), Levels(0.0, None, 0.1))


def test_most_of_score_s_gain_in_its_own_paper_is_confidence():
    """SCoRe, Table 2: base 52.6 → 41.4 with c→i 15.8 and i→c 4.6; SCoRe 60.0 → 64.4 with 1.4 and 5.8."""
    base = Levels(0.526, 1 - 0.158 / 0.526, 0.046 / 0.474)
    score = Levels(0.6, 1 - 0.014 / 0.6, 0.058 / 0.4)
    found = change(base, score)
    assert found.total == pytest.approx(0.044 + 0.112, abs=1e-9)
    assert (round(found.first, 3), round(found.confidence, 3), round(found.critique, 3)) == (-0.021, 0.156, 0.021)
