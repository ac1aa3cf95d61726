"""Confidence and critique: by hand, the identities, both modes, and Shapley values against their definition."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from common.envs.versions.arithmetic_v1 import ArithmeticEnv
from common.evaluate.correction import Attempts, correction
from common.evaluate.decompose import Levels, change, exact_levels, levels, sampled_levels
from common.evaluate.votes import stacked
from common.rng import generator
from common.types import Task


def some_levels(rng: np.random.Generator) -> Levels:
    return Levels(float(rng.uniform(0.05, 0.95)), float(rng.random()), float(rng.random()))


# -- levels ---------------------------------------------------------------------------------------------------


def test_levels_by_hand():
    # p_a = 1/2, 1/4, 0; p_b = 1, 1/2, –; p_c = 0, 1/3, 1/10
    found = levels(np.array([0.5, 0.25, 0.0]), np.array([0.5, 0.125, 0.0]), np.array([0.0, 0.25, 0.1]))
    assert (found.acc_1, found.cl, found.cs) == pytest.approx((0.25, 0.625 / 0.75, 0.35 / 2.25))
    assert found.confidence == pytest.approx(-0.125 / 3) and found.critique == pytest.approx(0.35 / 3)
    assert found.report()["acc@2"] == pytest.approx((0.625 + 0.35) / 3)
    assert found.report("prob_").keys() == {f"prob_{k}" for k in ("acc@1", "acc@2", "delta", "cl", "cs", "rss")}


@pytest.mark.parametrize("seed", range(20))
def test_identities_hold_for_any_policy(seed):
    rng = generator("levels", seed)
    first = rng.random(7)
    found = levels(first, first * rng.random(7), (1 - first) * rng.random(7))
    report = found.report()
    acc_2 = found.acc_1 * found.cl + (1 - found.acc_1) * found.cs
    assert report["acc@2"] == pytest.approx(acc_2, abs=1e-12)
    assert report["delta"] == pytest.approx(report["acc@2"] - report["acc@1"], abs=1e-12)
    assert report["delta"] == pytest.approx(found.acc_1 * (found.cl - 1) + (1 - found.acc_1) * found.cs, abs=1e-12)


def test_what_is_undefined_is_absent():
    never, always = levels(np.zeros(3), np.zeros(3), np.full(3, 0.2)), levels(np.ones(3), np.full(3, 0.9), np.zeros(3))
    assert never.report() == pytest.approx({"acc@1": 0.0, "acc@2": 0.2, "delta": 0.2, "cs": 0.2})
    assert always.report() == pytest.approx({"acc@1": 1.0, "acc@2": 0.9, "delta": -0.1, "cl": 0.9})
    for wrong in ((0.0, 0.5, 0.5), (1.0, 0.5, 0.5), (0.5, None, 0.5), (40.0, 0.5, 0.5)):
        with pytest.raises(ValueError, match="levels"):
            Levels(*wrong)


def test_sampling_mode_is_the_pooled_report_and_the_paper_s_formula():
    rng = generator("draws")
    draws = [Attempts(rng.random((5, 2)) < 0.5, tuple(("a", "b") for _ in range(5))) for _ in range(10)]
    found, pooled = sampled_levels(draws), correction(stacked(draws))
    for name in ("acc@1", "acc@2", "delta", "cl", "cs", "rss"):
        assert found.report()[name] == pytest.approx(pooled[name], abs=1e-12), name
    first = np.mean([d.correct[:, 0] for d in draws], 0)
    both = np.mean([d.correct.all(1) for d in draws], 0)
    p_b = np.divide(both, first, out=np.zeros(5), where=first > 0)  # after a right first answer, question by question
    assert found.cl == pytest.approx((first * p_b).sum() / first.sum())


# -- probability mode -------------------------------------------------------------------------------------------


class Table:
    """An engine of known probabilities. It answers the sum with 0.5, each neighbour with 0.2 and rubbish with 0.1;
    then a right answer is kept with 0.8, one too small repaired with 0.3, and one too large with 0.1."""

    def score(self, prompts, actions):
        found = []
        for prompt, options in zip(prompts, actions, strict=True):
            total = sum(map(int, prompt[0]["content"].removeprefix("compute ").split(" + ")))
            if len(prompt) == 1:
                chance = {total: 0.5, total - 1: 0.2, total + 1: 0.2}
            else:
                off = int(prompt[1]["content"]) - total
                chance = {total: {0: 0.8, -1: 0.3, 1: 0.1}.get(off, 0.0)}
            found.append([math.log(chance[int(o)]) if chance.get(int(o)) else -math.inf for o in options])
        return found


def test_probability_mode_by_hand():
    tasks = [Task(f"t{i}", "arithmetic-v1", "test", {"numbers": [i + 2, 3, 4]}) for i in range(3)]
    found, missing = exact_levels(ArithmeticEnv(), tasks, Table())
    assert missing == pytest.approx(0.1)
    assert (found.acc_1, found.cl) == pytest.approx((0.5, 0.8))
    assert found.cs == pytest.approx((0.2 * 0.3 + 0.2 * 0.1) / 0.5)  # of all that is not right, rubbish included
    part, left = exact_levels(ArithmeticEnv(), tasks, Table(), floor=0.3)
    assert (part.acc_1, part.cl, part.cs, left) == pytest.approx((0.5, 0.8, 0.0, 0.5))


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
