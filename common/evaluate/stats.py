"""Statistics over few training seeds: intervals, paired tests, Holm's correction, power.

Conventions:

* The **training seed is the unit**: every function that takes values over runs takes one number per
  seed. Episodes of one run are no replicates; the only function about items is :func:`wilson`.
* Comparisons are **paired** by seed: variants of one unit share base model, tasks and seed.
* Intervals are two-sided and p two-sided unless the name says otherwise; ``confidence`` in (0, 1).
* What n values cannot determine is None, never a number: no interval from one seed, and none from values
  without spread. Rates that coincide in all seeds are usually saturated (all 0, all 1) or come from
  runs that do not depend on the seed; a t-interval of width zero would claim certainty from that.
* Undefined input (empty, not finite, unequal lengths) raises ValueError with one sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rliable import metrics as rliable_metrics
from scipy import stats as distributions

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
    """Paired differences d_s = a_s − b_s over seeds s, tested against ``margin``.

    ``p`` is two-sided for H0: E d = margin; ``p_above`` one-sided for H0: E d ≤ margin (small when d lies
    above), ``p_below`` for H0: E d ≥ margin. With ``sd`` 0 or one seed, interval and p are None.
    """

    n: int
    effect: float
    sd: float | None
    low: float | None
    high: float | None
    p: float | None
    p_above: float | None
    p_below: float | None


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


def paired(a: Sequence[float], b: Sequence[float], *, margin: float = 0.0, confidence: float = 0.95) -> Paired:
    """Student's paired t-test of ``a`` − ``b`` against ``margin``, with the t-interval of the difference.

    ``a[i]`` and ``b[i]`` come from the same seed. The two-sided interval excludes ``margin`` exactly when
    p < 1 − confidence. Assumes roughly normal differences, which five seeds cannot check.
    """
    first, second = _checked("a", a), _checked("b", b)
    if len(first) != len(second):
        raise ValueError(f"a has {len(first)} values and b {len(second)}; pass one pair per seed")
    n = len(first)
    effect, sd = mean_and_sd(first - second)
    if not sd:
        return Paired(n, effect, sd, None, None, None, None, None)
    error = sd / math.sqrt(n)
    half = _quantile(n, confidence) * error
    t = (effect - margin) / error
    above, below = float(distributions.t.sf(t, n - 1)), float(distributions.t.cdf(t, n - 1))
    return Paired(n, effect, sd, effect - half, effect + half, 2 * min(above, below), above, below)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values, in the order given.

    p̃_(i) = max_{j ≤ i} min(1, (m − j + 1)·p_(j)) over ascending p. A None (a test that could not be
    made) stays None and still counts in m: the family is what was planned, not what worked.
    """
    m, order = len(ps), sorted((i for i, p in enumerate(ps) if p is not None), key=lambda i: ps[i])
    if any(not 0 <= ps[i] <= 1 for i in order):
        raise ValueError(f"p-values {list(ps)} must lie in [0, 1] or be None; pass the tests' p")
    adjusted: list[float | None] = [None] * m
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (m - rank) * ps[i]))
        adjusted[i] = largest
    return adjusted


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
    # The noncentral cdf loses its far tails to nan; there the power is 1 up to rounding.
    probability = distributions.nct.sf(limit, n - 1, shift) + distributions.nct.cdf(-limit, n - 1, shift)
    return float(probability) if math.isfinite(probability) else 1.0


def seeds_needed(
    effect: float, sd: float, *, alpha: float = 0.05, target: float = 0.8, most: int = 1000
) -> int | None:
    """Fewest seeds with ``power`` of at least ``target``; None when more than ``most`` would be needed.

    A plan, not a result: with the effect and sd of a handful of seeds it is rough (the sd of five seeds
    is uncertain by a factor of two either way, hence n by four).
    """
    if effect == 0 or power(effect, sd, most, alpha=alpha) < target:
        return None
    low, high = 1, most  # power grows with n: bisect
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, sd, middle, alpha=alpha) >= target else (middle, high)
    return high


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
