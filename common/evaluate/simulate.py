"""How often the rule of verdicts is wrong, and how often it decides: families of claims drawn from known distributions.

    python -m common simulate-rule       # writes results/rule/simulation.json and docs/images/verdict_rule.png, fills docs/verdicts.md

A family has m claims with one pair of looks. The differences of a seed have the mean that the case names, in units of their
standard deviation or as rates; whoever reads the intervals at both looks makes a **false statement** where *supported*,
*contradicted*, or that the effect lies within ±margin (which *no effect* says, and the reason of a decided sign) is not true of that
mean. The rate counts families with any, of any claim, at either look.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats as distributions

from common.config.strict import ConfigError
from common.evaluate.claims import LOOKS
from common.evaluate.stats import nominal_level, power
from common.files import write_atomic
from common.rng import generator

RESULT = "results/rule/simulation.json"
ALPHA, CLAIMS, FAMILIES = 0.05, 4, 100_000
MARGIN = 1.5
"""Smallest effect of interest in standard deviations of the difference: at these looks *no effect* can then be shown."""
SIZES = tuple(round(0.1 * i, 1) for i in range(21))
"""Effects, and margins, in standard deviations, at which power is measured."""
TASKS, EPISODES, RATE = 500, 8, 0.4

Draw = Callable[[np.random.Generator, np.ndarray, int], np.ndarray]
"""(generator, effects [families, m] in standard deviations, seeds) → differences [families, m, seeds]."""


def _lognormal(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    values = rng.lognormal(0.0, 1.0, size)
    return (values - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)


def _lognormals(rng: np.random.Generator, effects: np.ndarray, seeds: int) -> np.ndarray:
    """Differences of two variants whose values are both lognormal."""
    size = (*effects.shape, seeds)
    return (_lognormal(rng, size) - _lognormal(rng, size)) / np.sqrt(2)


def _binomial(rng: np.random.Generator, effects: np.ndarray, seeds: int) -> np.ndarray:
    """Success rates of two policies on the same number of tasks and episodes, nothing else varying from seed to seed."""
    n = TASKS * EPISODES
    sd = np.sqrt(2 * RATE * (1 - RATE) / n)
    size = (*effects.shape, seeds)
    return (rng.binomial(n, (RATE + effects * sd)[..., None], size) - rng.binomial(n, RATE, size)) / n / sd


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, effects, seeds: rng.normal(effects[..., None], 1.0, (*effects.shape, seeds)),
    "binomial": _binomial,
    "t3": lambda rng, effects, seeds: effects[..., None] + rng.standard_t(3, (*effects.shape, seeds)) / np.sqrt(3),
    "lognormal": lambda rng, effects, seeds: effects[..., None] + _lognormals(rng, effects, seeds),
    "skewed differences": lambda rng, effects, seeds: effects[..., None] + _lognormal(rng, (*effects.shape, seeds)),
}
CASES = {"no effect": (0.0, 0.0, 0.0, 0.0), "at the margin": (MARGIN, -MARGIN, MARGIN, -MARGIN), "mixed": (0.0, 0.0, MARGIN, -MARGIN)}
"""Name → true effects of a family's claims, in standard deviations."""


def intervals(differences: np.ndarray, looks: Sequence[int] = LOOKS, m: int = CLAIMS) -> tuple[np.ndarray, np.ndarray]:
    """Bounds [families, claims, looks] of the simultaneous intervals at each look, as ``verdicts.py`` computes them."""
    level, bounds = nominal_level(ALPHA / m, tuple(looks)), []
    for n in looks:
        seen = differences[..., :n]
        half = distributions.t.isf(level / 2, n - 1) * seen.std(axis=-1, ddof=1) / np.sqrt(n)
        bounds.append((seen.mean(axis=-1) - half, seen.mean(axis=-1) + half))
    low, high = zip(*bounds)
    return np.stack(low, axis=-1), np.stack(high, axis=-1)


def statements(low: np.ndarray, high: np.ndarray, margin: float = MARGIN) -> dict[str, np.ndarray]:
    """Where an interval says what, of a claim whose ``at_least`` is 0. *No effect* is where it is within the margin and neither of the others."""
    return {"supported": low > 0, "contradicted": high < 0, "within the margin": (low > -margin) & (high < margin)}


def false_rate(draw: Draw, effects: Sequence[float], families: int, seed: int = 0) -> float:
    """Share of families in which any statement, at any look, is not true."""
    rng = generator(seed, "verdict_rule")
    truth = np.tile(np.asarray(effects), (families, 1))
    said = statements(*intervals(draw(rng, truth, LOOKS[-1])))
    true = {"supported": truth > 0, "contradicted": truth < 0, "within the margin": np.abs(truth) < MARGIN}
    wrong = np.zeros(families, dtype=bool)
    for verdict, where in said.items():
        wrong |= (where & ~true[verdict][..., None]).any(axis=(1, 2))
    return float(wrong.mean())


def decided(verdict: str, size: float, families: int, seed: int = 0) -> list[float]:
    """Share of claims with ``verdict`` at each look, of normal differences: *supported* where the effect is ``size`` standard
    deviations, *no effect* where it is 0 and the margin is ``size``."""
    rng = generator(seed, f"verdict_power/{verdict}/{size}")
    effects = np.full((families // CLAIMS, CLAIMS), size if verdict == "supported" else 0.0)
    said = statements(*intervals(DISTRIBUTIONS["normal"](rng, effects, LOOKS[-1])), margin=size)
    said["no effect"] = said["within the margin"] & ~said["supported"] & ~said["contradicted"]
    return [float(share) for share in said[verdict].mean(axis=(0, 1))]


def simulate(families: int = FAMILIES) -> dict[str, Any]:
    """All rates and powers, rounded to what ``families`` can tell."""
    level = nominal_level(ALPHA / CLAIMS, LOOKS)
    rates = {name: {case: round(false_rate(draw, effects, families), 5) for case, effects in CASES.items()}
             for name, draw in DISTRIBUTIONS.items()}
    return {
        "alpha": ALPHA, "claims": CLAIMS, "looks": list(LOOKS), "level": round(level, 6), "families": families, "margin": MARGIN,
        "standard_error": round(float(np.sqrt(ALPHA * (1 - ALPHA) / families)), 5), "false_statements": rates, "sizes": list(SIZES),
        "supported": [[round(share, 4) for share in decided("supported", size, families)] for size in SIZES],
        "no_effect": [[round(share, 4) for share in decided("no effect", size, families)] for size in SIZES],
        "detectable": [_least(lambda size, n=n: power(size, 1.0, n, alpha=level)) for n in LOOKS],
    }  # fmt: skip


def _least(share: Callable[[float], float], target: float = 0.8) -> float:
    """The smallest size, in hundredths, at which ``share`` reaches ``target``."""
    return next(size / 100 for size in range(1, 1000) if share(size / 100) >= target)


def write_simulation(root: Path) -> dict[str, Any]:
    found = simulate()
    write_atomic(root / RESULT, json.dumps(found, indent=1) + "\n")
    return found


def read_simulation(root: Path) -> dict[str, Any]:
    """What :func:`write_simulation` wrote; {} where it has not run."""
    path = root / RESULT
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{RESULT} is not JSON ({error}); run `python -m common simulate-rule` to write it again") from None


def rule_block(root: Path) -> str:
    """The block ``rule`` of ``docs/verdicts.md``: rates of false statements, and what it takes to decide."""
    found = read_simulation(root)
    if not found:
        return "The rule has not been simulated yet."
    alpha, error, first, last = found["alpha"], found["standard_error"], *found["looks"]
    lines = [f"{found['families']:,} families of {found['claims']} claims, read at {first} and at {last} seeds; each interval has confidence "
             f"{100 * (1 - found['level']):.2f} %. Shares of families with any false statement, of any claim at either look; the promise is at "
             f"most {alpha:g}, the Monte Carlo standard error there {error:.4f}. *At the margin* all effects are {found['margin']:g} standard "
             "deviations of a seed's difference, upwards or downwards, and so large is the margin; of a *mixed* family two are, and two are 0. "
             f"*binomial* are success rates on {TASKS} tasks with {EPISODES} episodes each:", "",
             f"| differences over seeds | {' | '.join(f'{case}' for case in CASES)} |", "|---|" + "---:|" * len(CASES)]
    for name, rates in found["false_statements"].items():
        lines.append(f"| {name} | {' | '.join(_rate(rates[case], alpha + 2 * error) for case in CASES)} |")
    broken = [name for name, rates in found["false_statements"].items() if max(rates.values()) > alpha + 2 * error]
    skew = (np.e + 2) * np.sqrt(np.e - 1)
    lines += ["", (f"Bold: above the promise by more than two standard errors ({', '.join(broken)}). *lognormal* are differences of two lognormal values, *skewed differences* lognormal themselves, of skewness {skew:.1f}."
                   if broken
                   else "None is above the promise by more than two standard errors."), "",
              f"*Supported* has a probability of 80 % from an effect of {found['detectable'][0]:.2f} standard deviations of the difference at "
              f"{first} seeds, {found['detectable'][1]:.2f} at {last}; *no effect*, where there is none, from a margin of "
              f"{_reaches(found, 0)} and {_reaches(found, 1)}."]
    return "\n".join(lines)


def _rate(rate: float, most: float) -> str:
    return f"**{rate:.4f}**" if rate > most else f"{rate:.4f}"


def _reaches(found: Mapping[str, Any], look: int, target: float = 0.8) -> str:
    """The margin at which *no effect* reaches ``target``, between the measured sizes by a straight line."""
    shares = [pair[look] for pair in found["no_effect"]]
    at, sizes = next((i for i, share in enumerate(shares) if share >= target), None), found["sizes"]
    if not at:
        return f"more than {sizes[-1]:g}"
    return f"{sizes[at - 1] + (target - shares[at - 1]) / (shares[at] - shares[at - 1]) * (sizes[at] - sizes[at - 1]):.2f}"
