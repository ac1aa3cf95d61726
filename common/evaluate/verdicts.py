"""The verdict on a claim, read off one interval (``docs/verdicts.md`` explains it with a picture).

The effect is the mean over seeds of better − worse, negated for ``direction: lower``, so that a positive effect always speaks
for the claim. Claims form **families**: the primary claims of a paper on one panel, at one profile and scale, are one, its
other claims there another. A family of m claims shares the error rate α = 1 − confidence: at each look (a number of seeds listed
in ``looks``) the t-interval of the paired differences has confidence 1 − a(α/m), where a is
:func:`common.evaluate.stats.nominal_level`. The first of these that holds is the verdict:

* **undecided**, not run: no row, or no common seed;
* **undecided**, budgets differ: the variants did not spend the same on the claim's axis;
* **not testable here**: an admission check of the claim failed (``admission.py``); undecided, where one was not measured;
* **undecided**, the number of seeds is no look; or all seeds differ by exactly the same, so that there is no interval;
* **supported**: the interval lies above ``at_least``;
* **contradicted**: it lies below ``at_least``. At 0 the reverse is then shown; above 0, that the effect is smaller than the
  paper says;
* **no effect**: it lies inside ±margin and holds 0 (where it does not, its sign is the verdict);
* **undecided**: everything else.

The probability that a claim's interval misses its true effect at any look is at most α/m, so by the union bound all intervals of a
family cover their effects at all looks with probability at least 1 − α. Where they do, every verdict read off them is true, since each
says of the effect no more than that it lies where its interval lies: so the probability of any false statement in a family is at most α,
however many claims are true and whichever of the two looks is read.

The t-interval assumes roughly normal differences; ``simulate.py`` measures what other distributions do to the rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.config.strict import ConfigError
from common.evaluate.admission import Table, judge_checks, refusal, rounded
from common.evaluate.claims import RULE, Claim, PaperClaims, require_known
from common.evaluate.stats import FLAT, Paired, mean_and_sd, nominal_level, paired
from common.rows import COST_FIELDS, MetricRow

VERDICTS = ("supported", "contradicted", "no effect", "undecided", "not testable here")

FIELDS = (
    "paper", "family", "id", "statement", "env", "profile", "scale", *RULE, "n_seeds", "value_better", "value_worse", "effect", "ci_low",
    "ci_high", "level", "simultaneous", "other_effect", "verdict", "reason", "next_look", "rule_sha", "earlier",
)  # fmt: skip
"""Fields of a record, in order. ``earlier`` is filled by ``publish.py``, which knows the records before."""

GREEDY = "greedy_"
"""Prefix of a metric that was measured by greedy decoding, where the name without it means sampled answers."""


@dataclass(frozen=True)
class Judged:
    """Records of claims (keys ``FIELDS``) and of admission checks (keys ``admission.CHECK_FIELDS``)."""

    claims: list[dict[str, Any]] = field(default_factory=list)
    admission: list[dict[str, Any]] = field(default_factory=list)

    def __add__(self, other: Judged) -> Judged:
        return Judged(self.claims + other.claims, self.admission + other.admission)

    def of(self, **chosen: str) -> Judged:
        """Those whose fields have the values ``chosen``: ``of(paper="score", profile="cpu")``."""
        def keep(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
            return [one for one in records if all(one[name] == value for name, value in chosen.items())]

        return Judged(keep(self.claims), keep(self.admission))


def judge(paper: PaperClaims, rows: Sequence[MetricRow]) -> Judged:
    """Every claim and check at each (profile, scale) that the paper's rows have, on the environments that were run there: what
    was never run is no verdict.

    Every variant must occur in some row of the paper; where the panel's environment was run at all, the panel too, and the
    metric on that panel. What else was not run is undecided.

    Raises:
        ConfigError: a claim or check names an absent variant, metric or panel; names the nearest present one.
    """
    rows = [row for row in rows if row.paper == paper.paper]
    _all_known(paper, rows)
    judged = Judged()
    for profile, scale in sorted({(row.profile, row.scale) for row in rows}):
        table = _table(row for row in rows if (row.profile, row.scale) == (profile, scale))
        ran = {row.env for row in rows if (row.profile, row.scale) == (profile, scale)}
        judged += _judge_scale(paper, [claim for claim in paper.claims if claim.env in ran], table, profile, scale)
    return judged


def _all_known(paper: PaperClaims, rows: Sequence[MetricRow]) -> None:
    variants, metrics = {row.variant for row in rows}, {row.metric for row in rows}
    panels: dict[str, set[str]] = {}
    measured: dict[str, set[str]] = {}
    for row in rows:
        panels.setdefault(row.env, set()).add(row.panel)
        measured.setdefault(row.panel, set()).add(row.metric)
    toy = {row.profile for row in rows} <= {"smoke"}  # may decide no pair, and has then no accuracy of pairs
    for claim in paper.claims if rows else ():
        who = f'claim "{claim.id}"'
        for variant in claim.variants:
            require_known(paper, who, "variant", variant, variants)
        if claim.env in panels:
            require_known(paper, who, "panel", claim.panel, panels[claim.env])
        if not toy:
            require_known(paper, who, "metric", claim.metric, measured.get(claim.panel, metrics))
    for check in paper.checks if rows else ():
        for term in check.terms:
            require_known(paper, f'check "{check.id}"', "variant", term.variant, variants)
            if not toy:
                require_known(paper, f'check "{check.id}"', "metric", term.metric, metrics)


def _table(rows: Iterable[MetricRow]) -> Table:
    table: Table = {}
    for row in rows:
        seeds = table.setdefault((row.panel, row.metric, row.variant), {})
        if row.seed in seeds:
            raise ConfigError(f"results of {row.paper}: {row.variant}/{row.metric} on {row.panel} has two rows for "
                              f"seed {row.seed} at profile {row.profile} but only one may exist; remove one file")
        seeds[row.seed] = row
    return table


def _judge_scale(paper: PaperClaims, claims: Sequence[Claim], table: Table, profile: str, scale: str) -> Judged:
    checks = judge_checks(paper.paper, paper.checks, [(claim.id, claim.panel) for claim in claims], table, profile, scale)
    by_place = {(record["id"], record["panel"]): record for record in checks}
    sizes = Counter((claim.panel, claim.primary) for claim in claims)
    records = []
    for claim in claims:
        m = sizes[claim.panel, claim.primary]
        compared = _compare(claim, table, nominal_level((1 - claim.confidence) / m, claim.looks))
        verdict, reason = _verdict(claim, compared, refusal(claim.checks, claim.panel, by_place))
        test = compared.test
        record = {
            "paper": paper.paper, "family": paper.family, "id": claim.id, "statement": claim.statement, "env": claim.env,
            "profile": profile, "scale": scale, **claim.rule, "n_seeds": compared.n_seeds,
            "value_better": rounded(compared.value_better), "value_worse": rounded(compared.value_worse),
            "effect": rounded(test and test.effect), "ci_low": rounded(test and test.low), "ci_high": rounded(test and test.high),
            "level": rounded(compared.level), "simultaneous": m, "other_effect": rounded(compared.other), "verdict": verdict, "reason": reason,
            "next_look": _next_look(claim, compared, verdict), "rule_sha": claim.rule_sha, "earlier": [],
        }  # fmt: skip
        assert tuple(record) == FIELDS
        records.append(record)
    return Judged(records, checks)


@dataclass(frozen=True)
class _Compared:
    """A claim's numbers at one scale; ``problem`` says why they cannot decide anything, ``flat`` why there is no interval."""

    n_seeds: int = 0
    value_better: float | None = None
    value_worse: float | None = None
    test: Paired | None = None
    level: float | None = None
    other: float | None = None
    problem: str = ""
    flat: str = ""


def _compare(claim: Claim, table: Table, level: float) -> _Compared:
    columns = _columns(claim, claim.metric, table)
    missing = [variant for variant, by_seed in columns.items() if not by_seed]
    if missing:
        return _Compared(problem=f"not run: no {claim.metric} of {', '.join(missing)} on {claim.panel} at this profile")
    seeds = _common(columns)
    if not seeds:
        return _Compared(problem=f"no common seed: {', '.join(columns)} were run with different seeds")
    better, worse = _sides(claim, columns, seeds)
    # Between looks an interval would be read without having been paid for, so there is none.
    test = _test(claim, better, worse, 1 - level) if len(seeds) in claim.looks else None
    effect = _test(claim, better, worse).effect
    flat = _flat(claim, table, test) if test and test.low is None else ""
    return _Compared(len(seeds), mean_and_sd(better)[0], mean_and_sd(worse)[0],
                     test or Paired(len(seeds), effect, None, None, None), 1 - level if test and test.low is not None else None,
                     _other_effect(claim, table, seeds), _budget_problem(claim, columns, seeds), flat)


def _columns(claim: Claim, metric: str, table: Table) -> dict[str, dict[int, MetricRow]]:
    return {variant: table.get((claim.panel, metric, variant), {}) for variant in claim.variants}


def _common(columns: Mapping[str, Mapping[int, MetricRow]]) -> list[int]:
    return sorted(set.intersection(*(set(by_seed) for by_seed in columns.values())))


def _sides(claim: Claim, columns: Mapping[str, Mapping[int, MetricRow]], seeds: Sequence[int]) -> tuple[list[float], list[float]]:
    def value(side: tuple[str, ...], seed: int) -> float:
        first, *rest = (columns[variant][seed].value for variant in side)
        return first - sum(rest)

    return [value(claim.better, seed) for seed in seeds], [value(claim.worse, seed) for seed in seeds]


def _test(claim: Claim, better: Sequence[float], worse: Sequence[float], confidence: float = 0.95) -> Paired:
    return paired(better, worse, confidence=confidence) if claim.direction == "higher" else paired(
        [-x for x in better], [-x for x in worse], confidence=confidence)


def _other_effect(claim: Claim, table: Table, seeds: Sequence[int]) -> float | None:
    """The effect by the other decoding, where all variants have it in all ``seeds``."""
    other = claim.metric.removeprefix(GREEDY) if claim.metric.startswith(GREEDY) else GREEDY + claim.metric
    columns = _columns(claim, other, table)
    return _test(claim, *_sides(claim, columns, seeds)).effect if set(seeds) <= set(_common(columns)) else None


def _flat(claim: Claim, table: Table, test: Paired) -> str:
    """Why there is no interval, where all seeds differ by exactly the same."""
    first, second, third, fourth = (*claim.better, *claim.worse) if len(claim.better) == 2 else (*claim.better, "", *claim.worse, "")
    pairings = [[(first, third), (second, fourth)]] + [[(first, second), (third, fourth)]] * (len(claim.better) == 2)
    if any(all(_same_rows(claim.panel, a, b, table) for a, b in pairs if a) for pairs in pairings):
        return (f"identical rows: {', '.join(dict.fromkeys(claim.variants))} have the same value of every metric in every seed, so the "
                "claim compares a variant with itself; correct the claim, or what makes its variants")
    return (f"no spread: all {test.n} seeds differ by exactly {test.effect:.4g}, so there is no interval; the metric may be "
            "saturated or the runs may not depend on the seed")


def _same_rows(panel: str, a: str, b: str, table: Table) -> bool:
    """Whether two variants have equal values of all metrics that both have, and values that vary with the seed: then they
    are one run under two names. Values that do not vary may be equal because they are saturated."""
    varies = False
    for of_panel, metric, variant in table:
        if (of_panel, variant) == (panel, a) and (panel, metric, b) in table:
            one, two = ({seed: row.value for seed, row in table[panel, metric, name].items()} for name in (a, b))
            if one != two:
                return False
            varies |= max(one.values()) - min(one.values()) > FLAT
    return varies


def _budget_problem(claim: Claim, columns: Mapping[str, Mapping[int, MetricRow]], seeds: Sequence[int]) -> str:
    """Empty when the matched variants spent the same on the claim's axis in every seed, and something."""
    if claim.matched_on == "none":
        return ""
    assert claim.matched_on in COST_FIELDS
    for names in claim.matched:
        spent = [[columns[variant][seed].cost[claim.matched_on] for seed in seeds] for variant in names]
        if not any(map(any, spent)):
            return f"no budget: neither {' nor '.join(names)} spent any {claim.matched_on}; match the claim on what they spend, or on none"
        apart = [seed for seed, *pair in zip(seeds, *spent) if abs(pair[0] - pair[1]) > claim.tolerance * max(pair)]
        totals = [sum(one) for one in spent]
        if abs(totals[0] - totals[1]) > claim.tolerance * max(totals):
            each = " and ".join(f"{variant} {total / len(seeds):,.0f}" for variant, total in zip(names, totals))
            return f"budgets differ: {claim.matched_on} a seed are {each}, more than {claim.tolerance:.0%} apart"
        if apart:
            each = " and ".join(f"{variant} {columns[variant][apart[0]].cost[claim.matched_on]:,}" for variant in names)
            return (f"budgets differ: {claim.matched_on} of seed {apart[0]} are {each}, more than {claim.tolerance:.0%} apart, though "
                    "the totals agree")
    return ""


def _verdict(claim: Claim, compared: _Compared, refused: tuple[str, str]) -> tuple[str, str]:
    """(verdict, reason); the reason begins with a few words and a colon, and is empty where there is nothing to add."""
    if compared.problem:
        return "undecided", compared.problem
    if refused[0]:
        return refused
    if compared.n_seeds not in claim.looks:
        last = claim.looks[-1]
        count = f"{compared.n_seeds} of {last} seeds" if compared.n_seeds < last else f"{compared.n_seeds} seeds, more than the last look"
        return "undecided", f"{count}: read at {' or '.join(map(str, claim.looks))}"
    if compared.flat:
        return "undecided", compared.flat
    verdict, reason = read_interval(claim, compared.test.low, compared.test.high)
    return verdict, "; ".join(part for part in (_other_sign(claim, compared, verdict), reason) if part)


def read_interval(claim: Claim, low: float, high: float) -> tuple[str, str]:
    """(verdict, reason) that an interval gives by itself."""
    interval = f"[{low:.4g}, {high:.4g}]"
    inside = -claim.margin < low and high < claim.margin
    small = "smaller than the smallest effect of interest" if inside and claim.at_least >= 0 else ""
    if low > claim.at_least:
        return "supported", f"{small}: the interval {interval} lies inside ±{claim.margin:g}" if small else ""
    if high < claim.at_least:
        shown = "reversed" if claim.at_least == 0 else "smaller than the paper says" if claim.at_least > 0 else "below the bound"
        small = f" and {small}" if small else ""
        return "contradicted", f"{shown}{small}: the interval {interval} lies below {claim.at_least:g}"
    if inside and low <= 0 <= high:
        return "no effect", f"within ±{claim.margin:g}: the interval is {interval}"
    return "undecided", f"interval: {interval} holds {claim.at_least:g} and reaches beyond ±{claim.margin:g}"


def _other_sign(claim: Claim, compared: _Compared, verdict: str) -> str:
    """What the other decoding says, where the verdict rests on a sign that it does not share."""
    test, other = compared.test, compared.other
    signed = verdict in ("supported", "contradicted") and (test.low > 0 or test.high < 0)
    if not signed or other is None or test.effect * other >= 0 or abs(other) <= claim.margin / 3:
        return ""
    name = "sampled" if claim.metric.startswith(GREEDY) else "greedy"
    return f"{name} decoding has the other sign ({other:+.3g})"


def _next_look(claim: Claim, compared: _Compared, verdict: str) -> str:
    if verdict != "undecided" or compared.problem or compared.n_seeds not in claim.looks:
        return ""
    after = [look for look in claim.looks if look > compared.n_seeds]
    return f"undecided at {compared.n_seeds}; next and last look at {after[0]}" if after else "undecided at the last look"
