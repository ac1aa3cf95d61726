"""Admission checks: what must hold before a panel can say anything about a claim, the list ``admission`` of a claims file.

    admission:
      - id: headroom
        says: the base model solves tasks in eight tries that it misses in one
        panel: countdown-answer-v1/test                 # optional; see below
        value: base/pass@8 - base/success               # variant/metric, or the difference of two
        at_least: 0.3                                   # and/or at_most
        claims: [D1.1a, D1.1b]                          # optional: all

A term may name the panel that it is measured on, ``base/success@shop-v1/train``; without, it is the check's. A check with a
``panel`` concerns the claims of that panel's environment; one without is asked anew on every panel that its claims have, and
concerns the claims there. It is judged by the mean over seeds (of a difference: over the seeds that both terms have). Where it
fails, its claims are *not testable here*, whatever their interval; where its value was not measured, they are undecided.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.config.strict import ConfigError, check_value, hint, require_keys
from common.evaluate.stats import Interval, t_interval
from common.rows import MetricRow

CHECK_FIELDS = ("paper", "id", "says", "panel", "value", "at_least", "at_most", "profile", "scale", "n_seeds", "mean", "low", "high", "passed",
                "claims")  # fmt: skip
"""Fields of a check's record, in order. ``passed`` is null where the value was not measured."""

Table = dict[tuple[str, str, str], dict[int, MetricRow]]
"""(panel, metric, variant) to rows by seed, at one profile and scale."""

_TYPES: dict[str, Any] = {"id": str, "says": str, "panel": str, "value": str, "at_least": float, "at_most": float, "claims": tuple[str, ...]}


@dataclass(frozen=True)
class Term:
    """``variant/metric[@panel]``. ``panel`` is "" where it is the check's."""

    variant: str
    metric: str
    panel: str = ""


@dataclass(frozen=True)
class Check:
    """One line of ``admission``; ``panel`` is "" where it is asked on every panel, ``claims`` the ids that it concerns."""

    id: str
    says: str
    value: str
    terms: tuple[Term, ...]
    claims: frozenset[str]
    panel: str = ""
    at_least: float | None = None
    at_most: float | None = None

    def concerns(self, claim: str, panel: str) -> bool:
        return claim in self.claims and (not self.panel or self.panel.split("/")[0] == panel.split("/")[0])

    def place(self, panel: str) -> str:
        """The panel on which it is asked for a claim on ``panel``."""
        return self.panel or panel

    @property
    def bounds(self) -> str:
        pairs = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{word} {bound:g}" for word, bound in pairs if bound is not None)

    def rule(self, panel: str) -> str:
        """What it asks of a claim on ``panel``, in words: a part of that claim's rule."""
        return f"{self.value} on {self.place(panel)} {self.bounds}"

    def holds(self, mean: float) -> bool:
        return (self.at_least is None or mean >= self.at_least) and (self.at_most is None or mean <= self.at_most)


def read_checks(value: Any, claims: Collection[str], panels: Collection[str], where: str) -> tuple[Check, ...]:
    """The checks of a claims file with ``claims`` (ids) on ``panels``. ConfigError in one sentence that begins with ``where``."""
    if not isinstance(value, list):
        raise ConfigError(f"{where} is {value!r} but must be a list of checks; write - id: …")
    checks: list[Check] = []
    for number, entry in enumerate(value, start=1):
        check = _read(entry, claims, panels, f"{where} {number}")
        if check.id in {other.id for other in checks}:
            raise ConfigError(f'{where}: the id "{check.id}" appears twice; give each check its own id')
        checks.append(check)
    return tuple(checks)


def _read(entry: Any, claims: Collection[str], panels: Collection[str], where: str) -> Check:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is {entry!r} but must be a mapping; write id, says, value and at_least or at_most")
    require_keys(entry, ["id", "says", "value"], ["panel", "at_least", "at_most", "claims"], where)
    found = {name: check_value(_TYPES[name], entry[name], f"{where}: {name}") for name in entry}
    for name in ("id", "says"):
        if not found[name].strip():
            raise ConfigError(f"{where}: {name} is empty but must say something; write it")
    low, high = found.get("at_least"), found.get("at_most")
    if low is None and high is None:
        raise ConfigError(f"{where}: neither at_least nor at_most is given, so nothing could fail; add one")
    if low is not None and high is not None and not low < high:
        raise ConfigError(f"{where}: at_least is {low:g} and at_most {high:g} but at_least must be the smaller; exchange them")
    for name in found.get("claims", ()):
        if name not in claims:
            raise ConfigError(f'{where}: there is no claim "{name}"; {hint(name, claims)}')
    if "panel" in found and not (envs := {panel.split("/")[0] for panel in panels}) & {found["panel"].split("/")[0]}:
        raise ConfigError(f'{where}: no claim is asked in the environment of the panel "{found["panel"]}"; use one of {", ".join(sorted(envs))}')
    terms = tuple(_term(text, f"{where}: value") for text in found["value"].split(" - "))
    if len(terms) > 2:
        raise ConfigError(f'{where}: value is "{found["value"]}" but must be variant/metric or the difference of two; leave one out')
    return Check(**{**found, "terms": terms, "claims": frozenset(found.get("claims", claims))})


def _term(text: str, where: str) -> Term:
    variant, slash, rest = text.partition("/")
    metric, panel = rest.rsplit("@", 1) if "/" in rest and "@" in rest else (rest, "")  # acc@1 is a metric; a panel has a slash
    if not slash or not variant or not metric or " " in text or "/" in metric or (rest.endswith("@")):
        raise ConfigError(f'{where}: "{text}" must be variant/metric or variant/metric@environment/panel; correct it')
    return Term(variant, metric, panel)


def judge_checks(paper: str, checks: Sequence[Check], asked: Sequence[tuple[str, str]], table: Table, profile: str, scale: str) -> list[dict[str, Any]]:
    """A record (keys ``CHECK_FIELDS``) of every check on every panel where it is asked, for the claims ``asked``: (id, panel)."""
    return [_record(paper, check, panel, ids, table, profile, scale) for check in checks for panel, ids in _places(check, asked)]


def _places(check: Check, asked: Sequence[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    places: dict[str, list[str]] = {}
    for claim, panel in asked:
        if check.concerns(claim, panel):
            places.setdefault(check.place(panel), []).append(claim)
    for place, ids in places.items():
        yield place, list(dict.fromkeys(ids))


def _record(paper: str, check: Check, panel: str, ids: list[str], table: Table, profile: str, scale: str) -> dict[str, Any]:
    found = _measured(check, panel, table)
    record = {
        "paper": paper, "id": check.id, "says": check.says, "panel": panel, "value": check.value, "at_least": check.at_least,
        "at_most": check.at_most, "profile": profile, "scale": scale, "n_seeds": found.n if found else 0,
        "mean": rounded(found and found.mean), "low": rounded(found and found.low), "high": rounded(found and found.high),
        "passed": check.holds(found.mean) if found else None, "claims": ids,
    }  # fmt: skip
    assert tuple(record) == CHECK_FIELDS
    return record


def _measured(check: Check, panel: str, table: Table) -> Interval | None:
    columns = [table.get((term.panel or panel, term.metric, term.variant), {}) for term in check.terms]
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in columns)))
    if not seeds:
        return None
    first, *rest = columns
    return t_interval([first[seed].value - sum(column[seed].value for column in rest) for seed in seeds])


def refusal(checks: Sequence[Check], panel: str, records: Mapping[tuple[str, str], Mapping[str, Any]]) -> tuple[str, str]:
    """(verdict, reason) of a claim on ``panel`` with ``checks``, by the checks' ``records`` (id, panel); both "" where all hold.

    A check that failed comes before one that was not measured.
    """
    mine = [(check, records[check.id, check.place(panel)]) for check in checks]
    for check, record in mine:
        if record["passed"] is False:
            span = "" if record["low"] is None else f" [{record['low']:.3g}, {record['high']:.3g}]"
            return "not testable here", f"{check.id}: {check.value} is {record['mean']:.3g}{span}, not {check.bounds}; it must hold that {check.says}"
    for check, record in mine:
        if record["passed"] is None:
            return "undecided", f"{check.id} not measured: no {check.value} on {check.place(panel)} at this profile"
    return "", ""


def rounded(value: float | None) -> float | None:
    """Six significant digits: enough to read, few enough to be the same on every machine."""
    return None if value is None else float(f"{value:.6g}")
