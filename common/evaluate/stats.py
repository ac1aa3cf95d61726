"""Statistics over few training seeds: intervals, paired differences, levels of repeated looks, power.

Conventions:

* The **training seed is the unit**: every function that takes values over runs takes one number per
  seed. Episodes of one run are no replicates; the only function about items is :func:`wilson`.
* Comparisons are **paired** by seed: variants of one unit share base model, tasks and seed.
* Intervals are two-sided; ``confidence`` in (0, 1).
* What n values cannot determine is None, never a number: no interval from one seed, and none from values
  without spread. Rates that coincide in all seeds are usually saturated (all 0, all 1) or come from
  runs that do not depend on the seed; a t-interval of width zero would claim certainty from that.
* Undefined input (empty, not finite, unequal lengths) raises ValueError with one sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from rliable import metrics as rliable_metrics
from scipy import stats as distributions
from scipy.optimize import brentq

from common.rng import generator

FLAT = 1e-12
"""Values that differ by less than this share of the largest (or of 1) are equal: float noise of means."""


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds with a two-sided interval; ``low`` and ``high`` are None where undefined."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Paired:
    """Paired differences d_s = a_s − b_s over seeds s: mean and interval. With ``sd`` 0 or one seed there is no interval."""

    n: int
    effect: float
    sd: float | None
    low: float | None
    high: float | None


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n − 1 below); None for one value, exactly 0.0 for equal ones."""
    data = _checked("values", values)
    if len(data) == 1:
        return float(data[0]), None
    if np.ptp(data) <= FLAT * max(1.0, float(np.abs(data).max())):
        return float(data.mean()), 0.0
    return float(data.mean()), float(data.std(ddof=1))


def t_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Mean ± t(n−1)·sd/√n. At n = 3 that is ± 2.48 sd, at n = 5 ± 1.24 sd, at n = 10 ± 0.72 sd (95 %)."""
    mean, sd = mean_and_sd(values)
    half = _quantile(len(values), confidence) * sd / math.sqrt(len(values)) if sd else None
    return _around(mean, half, len(values))


def prediction_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Where one further run should fall: mean ± t(n−1)·sd·√(1 + 1/n).

    CORE-Bench (arXiv 2409.11363) calls a reproduced number right when it lies in the 95 % prediction
    interval of several reference runs. For a rerun with a *new* seed; the same seed on the same machine
    must give the same number.
    """
    mean, sd = mean_and_sd(values)
    half = _quantile(len(values), confidence) * sd * math.sqrt(1 + 1 / len(values)) if sd else None
    return _around(mean, half, len(values))


def paired(a: Sequence[float], b: Sequence[float], *, confidence: float = 0.95) -> Paired:
    """The t-interval of the mean difference ``a`` − ``b``.

    ``a[i]`` and ``b[i]`` come from the same seed. Assumes roughly normal differences, which five seeds cannot check.
    """
    first, second = _checked("a", a), _checked("b", b)
    if len(first) != len(second):
        raise ValueError(f"a has {len(first)} values and b {len(second)}; pass one pair per seed")
    n = len(first)
    effect, sd = mean_and_sd(first - second)
    half = _quantile(n, confidence) * sd / math.sqrt(n) if sd else None
    return Paired(n, effect, sd, None, None) if half is None else Paired(n, effect, sd, effect - half, effect + half)


@cache
def nominal_level(alpha: float, looks: tuple[int, ...]) -> float:
    """The level of each look at which the error rate over all ``looks`` (one or two numbers of seeds) is ``alpha``.

    Means of the first n1 and of all n2 seeds correlate by √(n1/n2). The level is 2·P(Z > z) for the z at which
    P(|Z1| > z or |Z2| > z) = α, Z1 and Z2 bivariate normal (Pocock 1977, with looks at any two sizes). One look: α.
    """
    if not 0 < alpha < 1 or len(looks) not in (1, 2) or list(looks) != sorted(set(looks)) or looks[0] < 1:
        raise ValueError(f"alpha = {alpha} must lie in (0, 1) and looks = {looks} must be one or two rising numbers of seeds")
    if len(looks) == 1:
        return alpha
    correlation = math.sqrt(looks[0] / looks[1])
    both = distributions.multivariate_normal(cov=[[1, correlation], [correlation, 1]])
    normal = distributions.norm

    def excess(z: float) -> float:
        return 1 - float(both.cdf([z, z], lower_limit=[-z, -z])) - alpha

    # A union of two: between one look's level and the half of it.
    return float(2 * normal.sf(brentq(excess, normal.isf(alpha / 2), normal.isf(alpha / 4), xtol=1e-10)))


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of one rate from ``n`` independent items (one run, one panel).

    Says how well this run is measured, nothing about other training seeds.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes = {successes} of n = {n} must satisfy 0 <= successes <= n and n >= 1; count again")
    z = float(distributions.norm.ppf(0.5 + _checked_confidence(confidence) / 2))
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def power(effect: float, sd: float, n: int, *, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t-test at level ``alpha``, if ``effect`` and ``sd`` were the truth.

    P(|T| > t(1−α/2, n−1)) for T noncentral t with n − 1 degrees of freedom and noncentrality
    |effect|·√n/sd. 0 below two seeds.
    """
    if not (sd > 0 and math.isfinite(sd) and math.isfinite(effect) and 0 < alpha < 1):
        raise ValueError(f"effect = {effect}, sd = {sd}, alpha = {alpha} must be finite with sd > 0 and alpha in (0, 1)"
                         "; estimate sd from at least two seeds that differ")
    if n < 2:
        return 0.0
    limit, shift = distributions.t.ppf(1 - alpha / 2, n - 1), abs(effect) * math.sqrt(n) / sd
    near, far = distributions.nct.sf(limit, n - 1, shift), distributions.nct.cdf(-limit, n - 1, shift)
    # Each tail by itself: SciPy loses the far one to nan where it is nothing but rounding, and the other may be small too.
    return float((near if math.isfinite(near) else 1.0) + (far if math.isfinite(far) else 0.0))


Aggregate = Literal["mean", "median", "iqm"]
_AGGREGATES = {
    "mean": rliable_metrics.aggregate_mean,
    "median": rliable_metrics.aggregate_median,
    "iqm": rliable_metrics.aggregate_iqm,
}


def stratified_bootstrap(
    scores: np.ndarray, *, seed: int, aggregate: Aggregate = "iqm", confidence: float = 0.95, reps: int = 2000
) -> Interval:
    """Aggregate over runs × tasks with rliable's percentile interval: runs are resampled within each task.

    Args:
        scores: [runs, tasks]; a row is one training seed, a column one task *suite* (environment, panel).
        aggregate: rliable's mean of task means, median of task means, or interquartile mean.

    Small n: with fewer than about ten runs the interval is too narrow (normal data, one task, nominal 95 %:
    it covers the mean in 73 % of cases with 3 runs, 84 % with 5, 91 % with 10), and with one task and three
    runs the IQM is the plain mean. Claims therefore never use it; it is for the picture
    over many tasks. None bounds for one run.

    The aggregates are rliable's (Agarwal et al. 2021, arXiv 2108.13264). The resampling is written here,
    because ``StratifiedBootstrap`` of rliable 1.2.0 draws from NumPy's global generator, so that its
    ``random_state`` does not make it repeat; the tests compare the two.
    """
    if aggregate not in _AGGREGATES:
        raise ValueError(f"aggregate is {aggregate!r} but must be one of {', '.join(_AGGREGATES)}; choose one")
    data = np.asarray(scores, dtype=float)
    if data.ndim != 2 or not data.size or not np.isfinite(data).all():
        raise ValueError(f"scores of shape {data.shape} must be a finite array [runs, tasks]; one row per seed")
    _checked_confidence(confidence)
    runs, tasks = data.shape
    measure = _AGGREGATES[aggregate]
    point = float(measure(data))
    if runs == 1:
        return Interval(point, None, None, 1)
    drawn = generator(seed, "stratified_bootstrap").integers(runs, size=(reps, runs, tasks))
    values = [measure(data[rows, np.arange(tasks)]) for rows in drawn]
    low, high = np.percentile(values, [50 - 50 * confidence, 50 + 50 * confidence])
    return Interval(point, float(low), float(high), runs)


def _around(mean: float, half: float | None, n: int) -> Interval:
    return Interval(mean, None, None, n) if half is None else Interval(mean, mean - half, mean + half, n)


def _quantile(n: int, confidence: float) -> float:
    return float(distributions.t.ppf(0.5 + _checked_confidence(confidence) / 2, n - 1))


def _checked_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} must lie in (0, 1); write 0.95 for 95 %")
    return confidence


def _checked(name: str, values: Sequence[float]) -> np.ndarray:
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or not len(data) or not np.isfinite(data).all():
        raise ValueError(f"{name} = {data.tolist()} must be a non-empty list of finite numbers; pass one per seed")
    return data
