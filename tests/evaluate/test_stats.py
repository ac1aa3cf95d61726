"""Statistics against published or hand-computed numbers, and at their edges."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import sys
import types

import numpy as np
import pytest

from common.evaluate.stats import (
    mean_and_sd, nominal_level, paired, power, prediction_interval, stratified_bootstrap, t_interval, wilson,
)

# Student (1908), extra hours of sleep under two drugs, ten patients. R's t.test(paired=TRUE) on the
# same data prints t = 4.0621, df = 9, p-value = 0.002833, interval 0.7001142 to 2.4598858, mean 1.58.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_paired_gives_students_sleep_numbers():
    test = paired(DRUG_2, DRUG_1)
    assert test.n == 10 and test.effect == pytest.approx(1.58)
    assert (test.low, test.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-7)
    assert test.effect / (test.sd / math.sqrt(10)) == pytest.approx(4.0621, abs=1e-4)
    # At a confidence of 1 − p the interval ends at zero.
    assert paired(DRUG_2, DRUG_1, confidence=1 - 0.002833).low == pytest.approx(0.0, abs=1e-3)


def test_paired_changes_sign_when_the_sides_are_exchanged():
    one, two = paired(DRUG_1, DRUG_2), paired(DRUG_2, DRUG_1)
    assert (one.effect, one.low, one.high) == pytest.approx((-two.effect, -two.high, -two.low))


def test_paired_is_not_the_unpaired_test():
    # Welch's test of the same data has p = 0.07939 (R): the pairing is what finds the effect.
    assert paired(DRUG_2, DRUG_1[::-1], confidence=0.99).low < 0 < paired(DRUG_2, DRUG_1, confidence=0.99).low


def test_paired_t_by_hand_for_three_seeds():
    # d = 0.1, 0.2, 0.3: mean 0.2, sd 0.1, se 0.1/√3, t(0.975, 2) = 4.302653.
    test = paired([0.5, 0.7, 0.9], [0.4, 0.5, 0.6])
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (test.effect, test.sd) == pytest.approx((0.2, 0.1))
    assert (test.low, test.high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-6)
    # With 2 degrees of freedom P(T > t) = ½ − t / (2√(2 + t²)); t = 0.2·√3/0.1 = 2√3 puts the lower bound at zero.
    t = 2 * math.sqrt(3)
    beyond = 1 - t / math.sqrt(2 + t * t)
    assert paired([0.5, 0.7, 0.9], [0.4, 0.5, 0.6], confidence=1 - beyond).low == pytest.approx(0.0, abs=1e-9)


def test_one_seed_has_an_effect_and_nothing_else():
    test = paired([0.6], [0.5])
    assert (test.n, test.effect) == (1, pytest.approx(0.1))
    assert test.sd is test.low is test.high is None
    assert t_interval([0.6]).low is None and prediction_interval([0.6]).high is None


@pytest.mark.parametrize("base", [[0.1, 0.2, 0.3], [1.0, 1.0, 1.0]])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_differences_without_spread_have_no_interval(base, shift):
    test = paired([value + shift for value in base], base)  # 0.1 + 0.3 − 0.1 is not 0.3 in floats
    assert test.effect == pytest.approx(shift) and test.sd == 0.0
    assert test.low is test.high is None


def test_spread_above_float_noise_counts():
    assert mean_and_sd([0.5, 0.5 + 1e-9])[1] > 0
    assert mean_and_sd([0.5, 0.5 + 1e-14])[1] == 0.0


def test_t_interval_by_hand():
    # 1..5: mean 3, sd √2.5, t(0.975, 4) = 2.776445.
    interval = t_interval([1, 2, 3, 4, 5])
    assert (interval.mean, interval.n) == (3.0, 5)
    assert interval.high - 3 == pytest.approx(2.776445 * math.sqrt(2.5 / 5), abs=1e-6)
    assert 3 - interval.low == pytest.approx(interval.high - 3)
    # The factors that the docstring and the glossary quote.
    for n, factor in ((3, 2.484), (5, 1.242), (10, 0.715)):
        values = np.linspace(0, 1, n)
        assert (t_interval(values).high - values.mean()) / values.std(ddof=1) == pytest.approx(factor, abs=5e-4)


def test_prediction_interval_by_hand_and_its_coverage():
    interval = prediction_interval([1, 2, 3, 4, 5])
    assert interval.high - 3 == pytest.approx(2.776445 * math.sqrt(2.5) * math.sqrt(1.2), abs=1e-6)
    rng = np.random.default_rng(0)
    inside = 0
    for *reference, rerun in rng.normal(size=(2000, 5)):
        found = prediction_interval(reference)
        inside += found.low < rerun < found.high
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)  # three binomial standard errors


@pytest.mark.parametrize(("alpha", "looks", "level", "within"), [
    (0.05, (10, 20), 0.0294, 5e-5), (0.01, (10, 20), 0.0056, 5e-5),  # Pocock (1977), table 1: two looks, equally many between
    (0.05, (5,), 0.05, 0.0),
])  # fmt: skip
def test_nominal_levels_are_pococks(alpha, looks, level, within):
    assert nominal_level(alpha, looks) == pytest.approx(level, abs=within)


@pytest.mark.parametrize(("alpha", "looks"), [(0.05, (10, 20)), (0.05 / 9, (10, 20)), (0.05 / 40, (5, 20)), (0.05, (19, 20))])
def test_nominal_levels_by_quadrature(alpha, looks):
    """P(|Z1| ≤ z, |Z2| ≤ z) = ∫ φ(u)·P(|Z2| ≤ z | u) du, by the midpoint rule."""
    from scipy.stats import norm

    z, r = norm.isf(nominal_level(alpha, looks) / 2), math.sqrt(looks[0] / looks[1])
    u = -z + (np.arange(20_000) + 0.5) * z / 10_000
    inside = norm.cdf((z - r * u) / math.sqrt(1 - r * r)) - norm.cdf((-z - r * u) / math.sqrt(1 - r * r))
    assert 1 - float((norm.pdf(u) * inside).sum() * z / 10_000) == pytest.approx(alpha, abs=1e-7)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_table(successes, n, low, high):
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_stays_in_the_unit_interval():
    low, high = wilson(3, 17)
    assert wilson(14, 17) == pytest.approx((1 - high, 1 - low))
    assert wilson(20, 20)[1] == 1.0 and wilson(0, 1)[0] == 0.0


@pytest.mark.parametrize(("size", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_power_gives_the_usual_table(size, n):
    # R: power.t.test(delta=size, power=0.8, type="paired") gives 198.2, 33.4, 14.3, 9.9.
    assert power(size, 1.0, n) >= 0.8 > power(size, 1.0, n - 1)
    assert power(-10 * size, 10.0, n) == pytest.approx(power(size, 1.0, n))


def test_power_is_the_share_of_simulated_intervals_that_exclude_zero():
    rng = np.random.default_rng(1)
    found = [paired(row, np.zeros(6)) for row in rng.normal(1.2, 1.0, size=(2000, 6))]
    assert power(1.2, 1.0, 6) == pytest.approx(sum(one.low > 0 or one.high < 0 for one in found) / 2000, abs=0.03)
    assert power(0.0, 1.0, 6, alpha=0.1) == pytest.approx(0.1)
    assert power(50.0, 1.0, 20) == pytest.approx(1.0) and power(1.0, 1.0, 1) == 0.0


@pytest.mark.parametrize(("alpha", "truth"), [(0.05, 0.450942), (0.05 / 8, 0.059762)])
def test_a_tail_that_scipy_loses_leaves_the_other(alpha, truth):
    """An effect of 5.4 sd at two seeds: the lower tail is 1e-16 and nan in SciPy, the upper one far from 1.

    With one degree of freedom T = Z / |Y| of independent normals, so P(T > t) = ∫ φ(y)·Φ(shift − t·|y|) dy.
    """
    from scipy.stats import norm, t

    y = (np.arange(-200_000, 200_000) + 0.5) * 5e-5
    by_hand = float((norm.pdf(y) * norm.cdf(5.4 * math.sqrt(2) - t.isf(alpha / 2, 1) * np.abs(y))).sum() * 5e-5)
    assert by_hand == pytest.approx(truth, abs=5e-6)
    assert power(5.4, 1.0, 2, alpha=alpha) == pytest.approx(truth, abs=5e-6)


def test_bootstrap_resamples_runs_within_tasks():
    # Tasks without spread over runs: whatever is resampled, the mean of task means stays.
    flat = np.tile([0.1, 0.5, 0.9], (5, 1))
    interval = stratified_bootstrap(flat, seed=0, aggregate="mean")
    assert (interval.low, interval.high) == pytest.approx((0.5, 0.5)) and interval.n == 5
    # One task and three runs: the IQM trims int(0.25 · 3) = 0 values and is the plain mean.
    assert stratified_bootstrap([[0.0], [0.3], [0.9]], seed=0).mean == pytest.approx(0.4)
    assert stratified_bootstrap([[0.2, 0.4]], seed=0).low is None


def test_bootstrap_percentiles_against_all_resamples():
    # Three runs, one task: 27 equally likely resamples, of which the lowest and highest mean have 1/27 each.
    scores = np.array([[0.0], [0.3], [0.9]])
    means = sorted(np.mean(c) for c in itertools.product(scores[:, 0], repeat=3))
    interval = stratified_bootstrap(scores, seed=0, aggregate="mean", confidence=0.8, reps=20_000)
    assert (interval.low, interval.high) == pytest.approx(np.percentile(means, [10, 90]), abs=1e-9)


def test_bootstrap_repeats_with_its_seed_only():
    scores = np.random.default_rng(3).random((6, 4))
    np.random.seed(1)
    first = stratified_bootstrap(scores, seed=5)
    np.random.seed(2)
    assert stratified_bootstrap(scores, seed=5) == first != stratified_bootstrap(scores, seed=6)


def test_bootstrap_of_three_runs_covers_far_less_than_it_says():
    rng = np.random.default_rng(4)
    inside_bootstrap = inside_t = 0
    for i, row in enumerate(rng.normal(size=(400, 3))):
        boot = stratified_bootstrap(row[:, None], seed=i, aggregate="mean", reps=200)
        student = t_interval(row)
        inside_bootstrap += boot.low <= 0 <= boot.high
        inside_t += student.low <= 0 <= student.high
    assert 0.6 < inside_bootstrap / 400 < 0.8
    assert inside_t / 400 == pytest.approx(0.95, abs=0.033)


@pytest.fixture
def library(monkeypatch):
    """``rliable.library``. It needs ``arch.bootstrap`` only, but ``arch/__init__`` of arch 7 also imports models
    that pandas 3 breaks; an empty package of that name leaves them out."""
    monkeypatch.delitem(sys.modules, "rliable.library", raising=False)
    package = types.ModuleType("arch")
    package.__path__ = list(importlib.util.find_spec("arch").submodule_search_locations)
    monkeypatch.setitem(sys.modules, "arch", package)
    found = importlib.import_module("rliable.library")
    yield found
    for name in [name for name in sys.modules if name == "rliable.library" or name.startswith("arch.")]:
        del sys.modules[name]


def test_bootstrap_agrees_with_rliable(library):
    scores = np.random.default_rng(7).random((10, 5))
    ours = stratified_bootstrap(scores, seed=0, reps=4000)
    np.random.seed(0)
    points, bounds = library.get_interval_estimates(
        {"x": scores}, lambda x: np.array([_iqm(x)]), reps=4000
    )
    assert ours.mean == pytest.approx(points["x"][0])
    assert (ours.low, ours.high) == pytest.approx(bounds["x"][:, 0], abs=0.01)


def _iqm(scores):
    ordered = np.sort(scores, axis=None)
    cut = int(0.25 * len(ordered))
    return ordered[cut : len(ordered) - cut].mean()


def test_iqm_drops_a_quarter_at_each_end():
    scores = np.random.default_rng(8).random((7, 3))
    assert stratified_bootstrap(scores, seed=0, reps=2).mean == pytest.approx(_iqm(scores))


@pytest.mark.parametrize(
    "call",
    [
        lambda: paired([1.0, 2.0], [1.0]),
        lambda: t_interval([]),
        lambda: t_interval([1.0, math.nan]),
        lambda: t_interval([1.0, 2.0], confidence=95),
        lambda: wilson(3, 2),
        lambda: nominal_level(0.05, (20, 10)),
        lambda: nominal_level(1.5, (10,)),
        lambda: power(1.0, 0.0, 5),
        lambda: stratified_bootstrap([1.0, 2.0], seed=0),
        lambda: stratified_bootstrap([[1.0]], seed=0, aggregate="max"),
    ],
)
def test_undefined_input_is_refused_in_one_sentence(call):
    with pytest.raises(ValueError, match="must|pass one pair") as error:
        call()
    assert "\n" not in str(error.value)
