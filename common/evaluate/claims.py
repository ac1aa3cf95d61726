"""``papers/<id>/claims.yaml``: what a paper says, written as comparisons before results, and their verdicts.

    paper: agent_q
    family: tree_search_dpo
    source: arXiv 2408.07199
    defaults: {metric: success, direction: higher, margin: 0.0, confidence: 0.95, tolerance: 0.05}
    claims:
      - id: D2.4b                    # a chain a > b > c is one claim per step: D2.4a, D2.4b, …
        statement: Agent Q beats trajectory-level DPO
        better: agent_q              # a variant, or "x - y": the difference of two variants
        worse: traj_dpo
        panels: [shop-v1/test, countdown-v1/test]    # one record for each
        matched_on: env_steps        # budget axis, or none (then ``why`` gives the reason)
        why: both learn from the same number of environment steps

    room: {variant: base, metric: acc@1, low: 0.05, high: 0.95}    # optional, see below

``defaults`` may hold any key of a claim except id, statement, better and worse. The **rule** of a record
(better, worse, metric, direction, panel, matched_on, tolerance, margin, confidence) is hashed into it.

The effect is the mean over seeds of better − worse, negated for ``direction: lower``, so that a positive
effect always speaks for the claim. It is tested against ``margin`` (signed the same way) by the paired
t-test, two-sided, and Holm-corrected over all claims of the paper on one panel at one profile and scale:

* **supported**: p_holm < 1 − confidence and the interval's lower bound is above the margin;
* **contradicted**: p_holm < 1 − confidence and the upper bound is below the margin. At margin 0 the
  effect is then shown to be reversed; at a margin m > 0 it is shown to be smaller than m, not to be absent;
* **inconclusive**: everything else, with the reason. No effect at all is inconclusive however many seeds
  there are: a difference of exactly zero speaks neither for "better" nor for "worse"; the interval then
  tells how large an advantage can still be. Where the variant of ``room`` has a mean below ``low`` or above ``high``
  on the panel, that is the reason: tasks that the model never solves, or always, teach and tell nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from common.config.strict import ConfigError, check_value, hint, load_yaml, nearest, require_keys
from common.envs import ENV_IDS
from common.evaluate.stats import Paired, holm, mean_and_sd, paired, seeds_needed
from common.rows import COST_FIELDS, MetricRow

AXES = ("env_steps", "lm_calls", "sampled_tokens", "updates", "samples", "none")
"""Budget axes a claim may be matched on: all but ``none`` are counters of a row's cost."""

FAMILIES = ("self_correction", "tree_search_dpo", "multi_agent", "world_models")

FIELDS = (
    "paper", "family", "id", "statement", "better", "worse", "metric", "direction", "panel", "env", "matched_on",
    "margin", "profile", "scale", "n_seeds", "value_better", "value_worse", "effect", "ci_low", "ci_high",
    "confidence", "p", "p_holm", "verdict", "reason", "seeds_to_decide", "rule_sha",
)  # fmt: skip
"""Fields of a record, in order."""

_MINUS = " - "


@dataclass(frozen=True)
class Claim:
    """One comparison on one panel. ``better`` and ``worse`` hold one variant, or two: first minus second."""

    id: str
    statement: str
    better: tuple[str, ...]
    worse: tuple[str, ...]
    metric: str
    panel: str
    matched_on: str
    why: str
    direction: Literal["higher", "lower"] = "higher"
    margin: float = 0.0
    confidence: float = 0.95
    tolerance: float = 0.05

    @property
    def env(self) -> str:
        return self.panel.split("/")[0]

    @property
    def variants(self) -> tuple[str, ...]:
        return (*self.better, *self.worse)

    @property
    def matched(self) -> tuple[tuple[str, str], ...]:
        """Pairs of variants whose budgets must agree: better and worse, or those within each difference."""
        return (self.better, self.worse) if len(self.better) == 2 else ((self.better[0], self.worse[0]),)

    @property
    def rule_sha(self) -> str:
        """SHA-256 (hex) of what decides the verdict, as JSON with sorted keys. Text and reasons are not in it."""
        rule = {
            "better": _MINUS.join(self.better), "worse": _MINUS.join(self.worse), "metric": self.metric,
            "direction": self.direction, "panel": self.panel, "matched_on": self.matched_on,
            "tolerance": self.tolerance, "margin": self.margin, "confidence": self.confidence,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Headroom:
    """Floor and ceiling of a panel: the variant and metric that must lie between two bounds, else the panel is too hard or
    too easy for the model and decides no claim."""

    variant: str
    metric: str
    low: float
    high: float


@dataclass(frozen=True)
class PaperClaims:
    """A claims file. ``where`` is its name in error messages; ``claims`` are expanded over panels."""

    paper: str
    family: str
    source: str
    where: str
    claims: tuple[Claim, ...]
    room: Headroom | None = None


def headline_metric(path: Path) -> str:
    """The metric of most claims of the claims file ``path``, by which a paper's ladder is drawn."""
    return Counter(claim.metric for claim in load_claims(path).claims).most_common(1)[0][0]


_TYPES: dict[str, Any] = {
    "id": str, "statement": str, "better": str, "worse": str, "metric": str, "panels": tuple[str, ...],
    "matched_on": Literal[AXES], "why": str, "direction": Literal["higher", "lower"], "margin": float,
    "confidence": float, "tolerance": float,
}  # fmt: skip
_OWN = ("id", "statement", "better", "worse")
_OPTIONAL = ("direction", "margin", "confidence", "tolerance")


def load_claims(path: Path, *, variants: Collection[str] | None = None) -> PaperClaims:
    """Read and check ``papers/<id>/claims.yaml``; with ``variants``, those named must be among them.

    Raises:
        ConfigError: one sentence with file, claim, field, value and the nearest valid name (or the line,
            for what is not YAML).
    """
    where = f"papers/{path.parent.name}/{path.name}"
    raw = load_yaml(path, where)
    require_keys(raw, ["paper", "family", "source", "claims"], ["defaults", "room"], where)
    head = {name: check_value(str, raw[name], f"{where}: {name}") for name in ("paper", "source")}
    if head["paper"] != path.parent.name:
        raise ConfigError(f'{where}: paper is "{head["paper"]}" but the folder is "{path.parent.name}"; '
                          "make them agree")
    family = check_value(Literal[FAMILIES], raw["family"], f"{where}: family")
    defaults = _mapping(raw.get("defaults", {}), f"{where}: defaults")
    require_keys(defaults, [], [name for name in _TYPES if name not in _OWN], f"{where}: defaults")
    if not isinstance(raw["claims"], list) or not raw["claims"]:
        raise ConfigError(f"{where}: claims is {raw['claims']!r} but must be a list of at least one claim; "
                          "write - id: …")
    claims: list[Claim] = []
    for number, entry in enumerate(raw["claims"], start=1):
        expanded = _expand(defaults, _mapping(entry, f"{where}: claim {number}"), f"{where}: claim {number}")
        if expanded[0].id in {claim.id for claim in claims}:
            raise ConfigError(f'{where}: the id "{expanded[0].id}" appears twice; give each claim its own id')
        claims += expanded
    room = _room(raw["room"], f"{where}: room") if "room" in raw else None
    paper = PaperClaims(**head, family=family, where=where, claims=tuple(claims), room=room)
    if variants is not None:
        for claim in claims:
            for variant in claim.variants:
                _require_known(paper, claim, "variant", variant, variants)
    return paper


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r} but must be a mapping; write name: value lines under it")
    return value


def _room(value: Any, where: str) -> Headroom:
    require_keys(_mapping(value, where), ["variant", "metric", "low", "high"], [], where)
    types = {"variant": str, "metric": str, "low": float, "high": float}
    room = Headroom(**{name: check_value(kind, value[name], f"{where}: {name}") for name, kind in types.items()})
    if not room.low < room.high:
        raise ConfigError(f"{where}: low is {room.low:g} and high {room.high:g} but low must be the smaller; exchange them")
    return room


def _expand(defaults: Mapping[str, Any], entry: Mapping[str, Any], where: str) -> list[Claim]:
    """One Claim for each panel of a checked entry."""
    if isinstance(entry.get("id"), str):
        where += f' "{entry["id"]}"'
    require_keys(entry, _OWN, [name for name in _TYPES if name not in _OWN], where)
    entry = {**defaults, **entry}
    require_keys(entry, [name for name in _TYPES if name not in _OPTIONAL], _OPTIONAL, where)
    value = {name: check_value(_TYPES[name], entry[name], f"{where}: {name}") for name in entry}
    for name in (*_OWN, "metric", "why"):
        if not value[name].strip():
            raise ConfigError(f"{where}: {name} is empty but must say something; write it")
    for name, low, high in (("confidence", 0.5, 1.0), ("tolerance", 0.0, 1.0)):
        if name in value and not (low < value[name] < high or value[name] == low == 0.0):
            raise ConfigError(f"{where}: {name} is {value[name]} but must lie between {low} and {high}; correct it")
    better, worse = (_side(value[name], f"{where}: {name}") for name in ("better", "worse"))
    if len(better) != len(worse):
        raise ConfigError(f'{where}: better is "{value["better"]}" and worse "{value["worse"]}" but both must be a '
                          'variant or both a difference "x - y"; write the same form on both sides')
    if better == worse:
        raise ConfigError(f'{where}: better and worse are both "{value["better"]}" but must differ; correct one')
    panels = value.pop("panels")
    if not panels or len(set(panels)) < len(panels):
        raise ConfigError(f"{where}: panels is {list(panels)} but must name at least one panel, each once; correct it")
    for panel in panels:
        env, slash, name = panel.partition("/")
        if not slash or not name:
            raise ConfigError(f'{where}: the panel "{panel}" must be written <env id>/<name>; add the missing part')
        if env not in ENV_IDS:
            raise ConfigError(f'{where}: the panel "{panel}" has an unknown environment; {hint(env, ENV_IDS)}')
    return [Claim(**{**value, "better": better, "worse": worse}, panel=panel) for panel in panels]


def _side(text: str, where: str) -> tuple[str, ...]:
    names = tuple(text.split(_MINUS))
    if len(names) > 2 or any(not name or " " in name for name in names):
        raise ConfigError(f'{where} is "{text}" but must be one variant or a difference "x - y"; write variants '
                          "without spaces and one minus with a space on both sides")
    return names


def _require_known(paper: PaperClaims, claim: Claim, kind: str, name: str, known: Collection[str]) -> None:
    if name in known:
        return
    close = nearest(name, known)
    advice = f'the nearest one present is "{close}"' if close else f"present are {', '.join(sorted(known)) or 'none'}"
    raise ConfigError(f'{paper.where}: claim "{claim.id}" names the {kind} "{name}", which is absent from the results; '
                      f"{advice}; correct the name or run that {kind}")


def judge(paper: PaperClaims, rows: Sequence[MetricRow]) -> list[dict[str, Any]]:
    """Records (keys ``FIELDS``) for every claim at each (profile, scale) that the paper's rows have, on the environments that
    were run there: what was never run is no verdict.

    Every variant must occur in some row of the paper; every metric and, where the panel's environment was
    run at all, every panel too. What else was not run is inconclusive.

    Raises:
        ConfigError: a claim names an absent variant, metric or panel; names the nearest present one.
    """
    rows = [row for row in rows if row.paper == paper.paper]
    if not rows:
        return []
    present = {"variant": {row.variant for row in rows}, "metric": {row.metric for row in rows}}
    panels: dict[str, set[str]] = {}
    for row in rows:
        panels.setdefault(row.env, set()).add(row.panel)
    for claim in paper.claims:
        for variant in claim.variants:
            _require_known(paper, claim, "variant", variant, present["variant"])
        if {row.profile for row in rows} != {"smoke"}:  # a toy run may decide no pair, and has then no accuracy
            _require_known(paper, claim, "metric", claim.metric, present["metric"])
        if claim.env in panels:
            _require_known(paper, claim, "panel", claim.panel, panels[claim.env])
    records = []
    for profile, scale in sorted({(row.profile, row.scale) for row in rows}):
        table = _table(row for row in rows if (row.profile, row.scale) == (profile, scale))
        ran = {row.env for row in rows if (row.profile, row.scale) == (profile, scale)}
        here = tuple(claim for claim in paper.claims if claim.env in ran)
        records += _judge_scale(replace(paper, claims=here), table, profile, scale)
    return records


Table = dict[tuple[str, str, str], dict[int, MetricRow]]
"""(panel, metric, variant) to rows by seed, at one profile and scale."""


def _table(rows: Iterable[MetricRow]) -> Table:
    table: Table = {}
    for row in rows:
        seeds = table.setdefault((row.panel, row.metric, row.variant), {})
        if row.seed in seeds:
            raise ConfigError(f"results of {row.paper}: {row.variant}/{row.metric} on {row.panel} has two rows for "
                              f"seed {row.seed} at profile {row.profile} but only one may exist; remove one file")
        seeds[row.seed] = row
    return table


def _judge_scale(paper: PaperClaims, table: Table, profile: str, scale: str) -> list[dict[str, Any]]:
    compared = [_compare(claim, table) for claim in paper.claims]
    adjusted: list[float | None] = [None] * len(compared)
    for panel in {claim.panel for claim in paper.claims}:  # a claim is judged on each panel separately
        family = [i for i, claim in enumerate(paper.claims) if claim.panel == panel]
        for i, p in zip(family, holm([compared[i].p for i in family]), strict=True):
            adjusted[i] = p
    sizes = {claim.panel: sum(other.panel == claim.panel for other in paper.claims) for claim in paper.claims}
    records = []
    for claim, judged, p_holm in zip(paper.claims, compared, adjusted, strict=True):
        verdict, reason = _verdict(claim, judged, p_holm, sizes[claim.panel])
        if verdict == "inconclusive" and judged.n_seeds:
            reason = _no_room(paper.room, claim.panel, table) or reason
        record = {
            "paper": paper.paper, "family": paper.family, "id": claim.id, "statement": claim.statement,
            "better": _MINUS.join(claim.better), "worse": _MINUS.join(claim.worse), "metric": claim.metric,
            "direction": claim.direction, "panel": claim.panel, "env": claim.env, "matched_on": claim.matched_on,
            "margin": claim.margin, "profile": profile, "scale": scale, "n_seeds": judged.n_seeds,
            "value_better": _round(judged.value_better), "value_worse": _round(judged.value_worse),
            "effect": _round(judged.test and judged.test.effect), "ci_low": _round(judged.test and judged.test.low),
            "ci_high": _round(judged.test and judged.test.high), "confidence": claim.confidence, "p": _round(judged.p),
            "p_holm": _round(p_holm), "verdict": verdict, "reason": reason,
            "seeds_to_decide": _seeds_to_decide(claim, judged.test, sizes[claim.panel]), "rule_sha": claim.rule_sha,
        }  # fmt: skip
        assert tuple(record) == FIELDS
        records.append(record)
    return records


@dataclass(frozen=True)
class _Compared:
    """A claim's numbers at one scale; ``problem`` says why they cannot decide anything."""

    n_seeds: int
    value_better: float | None
    value_worse: float | None
    test: Paired | None
    problem: str

    @property
    def p(self) -> float | None:
        return None if self.problem or self.test is None else self.test.p


def _compare(claim: Claim, table: Table) -> _Compared:
    columns = {variant: table.get((claim.panel, claim.metric, variant), {}) for variant in claim.variants}
    missing = [variant for variant, by_seed in columns.items() if not by_seed]
    if missing:
        text = f"not run: no {claim.metric} of {', '.join(missing)} on {claim.panel} at this profile"
        return _Compared(0, None, None, None, text)
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in columns.values())))
    if not seeds:
        return _Compared(0, None, None, None, f"no common seed: {', '.join(columns)} were run with different seeds")
    better, worse = ([_value(side, columns, seed) for seed in seeds] for side in (claim.better, claim.worse))
    sign = 1.0 if claim.direction == "higher" else -1.0
    test = paired([sign * x for x in better], [sign * x for x in worse], margin=claim.margin,
                  confidence=claim.confidence)
    problem = _budget_problem(claim, columns, seeds)
    return _Compared(len(seeds), mean_and_sd(better)[0], mean_and_sd(worse)[0], test, problem)


def _value(side: tuple[str, ...], columns: Mapping[str, Mapping[int, MetricRow]], seed: int) -> float:
    first, *rest = (columns[variant][seed].value for variant in side)
    return first - sum(rest)


def _budget_problem(claim: Claim, columns: Mapping[str, Mapping[int, MetricRow]], seeds: Sequence[int]) -> str:
    """Empty when the matched variants spent the same on the claim's axis, in total over the common seeds."""
    if claim.matched_on == "none":
        return ""
    assert claim.matched_on in COST_FIELDS
    for first, second in claim.matched:
        spent = [sum(columns[variant][seed].cost[claim.matched_on] for seed in seeds) for variant in (first, second)]
        if abs(spent[0] - spent[1]) > claim.tolerance * max(spent):
            each = [f"{variant} {total / len(seeds):,.0f}" for variant, total in zip((first, second), spent)]
            return (f"budgets differ: {claim.matched_on} a seed are {' and '.join(each)}, more than "
                    f"{claim.tolerance:.0%} apart")
    return ""


def _verdict(claim: Claim, compared: _Compared, p_holm: float | None, family: int) -> tuple[str, str]:
    """(verdict, reason); the reason begins with a few words and a colon, and is empty when supported."""
    test = compared.test
    if compared.problem or test is None:
        return "inconclusive", compared.problem
    if compared.n_seeds == 1:
        return "inconclusive", "one seed: a single run has no interval; run more seeds"
    if test.p is None:
        return "inconclusive", (f"no spread: all {compared.n_seeds} seeds differ by exactly {test.effect:.4g}, so there is "
                                "no interval; the metric may be saturated or the runs may not depend on the seed")
    interval = f"[{test.low:.4g}, {test.high:.4g}]"
    if p_holm < 1 - claim.confidence:
        if test.low > claim.margin:
            return "supported", ""
        shown = "reversed" if claim.margin == 0 else f"below the margin {claim.margin:g}"
        return "contradicted", f"{shown}: the interval {interval} lies below {claim.margin:g}"
    if test.p < 1 - claim.confidence:
        return "inconclusive", (f"not after correction: p is {test.p:.2g} alone and {p_holm:.2g} among the {family} "
                                "claims on this panel")
    return "inconclusive", f"interval holds the margin: {interval} does not exclude {claim.margin:g}"


def _no_room(room: Headroom | None, panel: str, table: Table) -> str:
    """Why the panel cannot tell anything about this model, "" where it can or nothing says so."""
    seeds = table.get((panel, room.metric, room.variant), {}) if room else {}
    if not seeds:
        return ""
    mean = sum(row.value for row in seeds.values()) / len(seeds)
    shown = f"{room.metric} of {room.variant} is {mean:.3g}"
    if mean < room.low:
        return f"floor: {shown}, below {room.low:g}: the tasks are too hard for this model"
    return f"ceiling: {shown}, above {room.high:g}: the tasks are too easy for this model" if mean > room.high else ""


def _seeds_to_decide(claim: Claim, test: Paired | None, family: int) -> int | None:
    """Seeds for 80 % power if today's effect and spread were true, at Holm's hardest step (1 − confidence)/m.

    None when undefined (fewer than two seeds, no spread, effect on the margin) or above 1000.
    """
    if test is None or not test.sd:
        return None
    return seeds_needed(test.effect - claim.margin, test.sd, alpha=(1 - claim.confidence) / family)


def _round(value: float | None) -> float | None:
    """Six significant digits: enough to read, few enough to be the same on every machine."""
    return None if value is None else float(f"{value:.6g}")
