"""``papers/<id>/claims.yaml``: what a paper says, written as comparisons before results. Read and checked here.

    paper: agent_q
    family: tree_search_dpo
    source: arXiv 2408.07199
    looks: [10, 20]                  # numbers of seeds at which verdicts are read; this is the default. {ENV/PANEL: [5]}: there alone
    defaults: {metric: success, direction: higher, margin: 0.03, confidence: 0.95, tolerance: 0.05}
    admission:                       # what must hold before a panel can tell anything; see common/evaluate/admission.py
      - {id: headroom, says: the base model solves some tasks and not all, value: base/success, at_least: 0.05, at_most: 0.95}
    claims:
      - id: D2.4b                    # a chain a > b > c is one claim per step: D2.4a, D2.4b, …
        statement: Agent Q beats trajectory-level DPO
        primary: true                # at most four records on the first environment; all other claims are secondary
        better: agent_q              # a variant, or "x - y": the difference of two variants
        worse: traj_dpo
        panels: [shop-v1/test, countdown-v1/test]    # one record for each
        matched_on: env_steps        # budget axis, or none (then ``why`` gives the reason)
        why: both learn from the same number of environment steps

``defaults`` may hold any key of a claim except id, statement, primary, better and worse. Two numbers say what a claim is
about, both on the scale of its metric and signed so that positive speaks for the claim:

* ``at_least`` (default 0): the difference must exceed it. Above 0 where the paper claims a distance, below 0 where it
  claims that nothing is lost;
* ``margin`` (default .03): the smallest effect of interest. A difference shown to lie within ±margin is *no effect*.

The verdict (supported, contradicted, no effect, undecided, not testable here) is read off one interval; the rule is in
``common/evaluate/verdicts.py`` and explained in ``docs/verdicts.md``. What decides a verdict, the fields ``RULE``, is hashed into
its record as ``rule_sha``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from common.config.strict import ConfigError, check_value, hint, load_yaml, nearest, require_keys
from common.envs import ENV_IDS
from common.evaluate.admission import Check, read_checks

AXES = ("env_steps", "lm_calls", "sampled_tokens", "updates", "samples", "none")
"""Budget axes a claim may be matched on: all but ``none`` are counters of a row's cost."""

FAMILIES = ("self_correction", "tree_search_dpo", "multi_agent", "world_models")

LOOKS = (10, 20)
MOST_PRIMARY = 4
BOUNDS = {"at_least": (-1.0, 1.0), "margin": (0.0, 0.5), "confidence": (0.95, 0.999), "tolerance": (0.0, 0.2)}
"""Field → least and largest value. A confidence below .95 would break the error rate that a family of claims shares."""

MINUS = " - "


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
    at_least: float = 0.0
    margin: float = 0.03
    confidence: float = 0.95
    tolerance: float = 0.05
    primary: bool = False
    looks: tuple[int, ...] = LOOKS
    checks: tuple[Check, ...] = ()

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
    def terms(self) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]]:
        """Variants of the effect, in the direction of the claim: those that are added and those that are subtracted, each
        with how often. Claims with the same terms compare the same numbers, however they are written."""
        added, taken = Counter((self.better[0], *self.worse[1:])), Counter((self.worse[0], *self.better[1:]))
        sides = [tuple(sorted((added - taken).items())), tuple(sorted((taken - added).items()))]
        return tuple(sides if self.direction == "higher" else reversed(sides))

    @property
    def rule(self) -> dict[str, Any]:
        """What decides the verdict, by field of a record. Text and reasons are not in it."""
        return {
            "better": MINUS.join(self.better), "worse": MINUS.join(self.worse), "metric": self.metric, "direction": self.direction,
            "panel": self.panel, "matched_on": self.matched_on, "tolerance": self.tolerance, "at_least": self.at_least,
            "margin": self.margin, "confidence": self.confidence, "primary": self.primary, "looks": list(self.looks),
            "admission": [check.rule(self.panel) for check in self.checks],
        }  # fmt: skip

    @property
    def rule_sha(self) -> str:
        """SHA-256 (hex) of the rule, as JSON with sorted keys."""
        return hashlib.sha256(json.dumps(self.rule, sort_keys=True).encode()).hexdigest()


RULE = ("better", "worse", "metric", "direction", "panel", "matched_on", "tolerance", "at_least", "margin", "confidence", "primary",
        "looks", "admission")  # fmt: skip
"""Fields of a record that are its rule: the keys of ``Claim.rule``."""


@dataclass(frozen=True)
class PaperClaims:
    """A claims file. ``where`` is its name in error messages; ``claims`` are expanded over panels."""

    paper: str
    family: str
    source: str
    where: str
    claims: tuple[Claim, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """The admission checks of all claims, each once, in the order of the file."""
        return tuple(dict.fromkeys(check for claim in self.claims for check in claim.checks))


def headline_metric(path: Path) -> str:
    """The metric of most claims of the claims file ``path``, by which a paper's ladder is drawn."""
    return Counter(claim.metric for claim in load_claims(path).claims).most_common(1)[0][0]


_TYPES: dict[str, Any] = {
    "id": str, "statement": str, "better": str, "worse": str, "metric": str, "panels": tuple[str, ...],
    "matched_on": Literal[AXES], "why": str, "direction": Literal["higher", "lower"], "at_least": float, "margin": float,
    "confidence": float, "tolerance": float, "primary": bool,
}  # fmt: skip
_OWN = ("id", "statement", "better", "worse")
_SHARED = tuple(name for name in _TYPES if name not in (*_OWN, "primary"))
_OPTIONAL = ("direction", *BOUNDS, "primary")


def load_claims(path: Path, *, variants: Collection[str] | None = None) -> PaperClaims:
    """Read and check ``papers/<id>/claims.yaml``; with ``variants``, those named must be among them.

    Raises:
        ConfigError: one sentence with file, claim, field, value and the nearest valid name (or the line,
            for what is not YAML).
    """
    where = f"papers/{path.parent.name}/{path.name}"
    raw = load_yaml(path, where)
    require_keys(raw, ["paper", "family", "source", "claims"], ["defaults", "looks", "admission"], where)
    head = {name: check_value(str, raw[name], f"{where}: {name}") for name in ("paper", "source")}
    if head["paper"] != path.parent.name:
        raise ConfigError(f'{where}: paper is "{head["paper"]}" but the folder is "{path.parent.name}"; '
                          "make them agree")
    family = check_value(Literal[FAMILIES], raw["family"], f"{where}: family")
    looks = _looks_by_panel(raw.get("looks", list(LOOKS)), f"{where}: looks")
    defaults = _mapping(raw.get("defaults", {}), f"{where}: defaults")
    require_keys(defaults, [], _SHARED, f"{where}: defaults")
    if not isinstance(raw["claims"], list) or not raw["claims"]:
        raise ConfigError(f"{where}: claims is {raw['claims']!r} but must be a list of at least one claim; "
                          "write - id: …")
    fields: list[dict[str, Any]] = []
    for number, entry in enumerate(raw["claims"], start=1):
        expanded = _expand(defaults, _mapping(entry, f"{where}: claim {number}"), f"{where}: claim {number}")
        if expanded[0]["id"] in {one["id"] for one in fields}:
            raise ConfigError(f'{where}: the id "{expanded[0]["id"]}" appears twice; give each claim its own id')
        fields += expanded
    checks = read_checks(raw.get("admission", []), {one["id"] for one in fields}, {one["panel"] for one in fields}, f"{where}: admission")
    if unknown := [panel for panel in looks if panel and panel not in {one["panel"] for one in fields}]:
        raise ConfigError(f'{where}: looks names the panel "{unknown[0]}", on which nothing is claimed; correct it')
    claims = tuple(Claim(**one, looks=looks.get(one["panel"], looks[""]),
                         checks=tuple(check for check in checks if check.concerns(one["id"], one["panel"])))
                   for one in fields)
    if idle := [check.id for check in checks if not any(check in claim.checks for claim in claims)]:
        raise ConfigError(f'{where}: admission "{idle[0]}" concerns no claim: none of those that it names is asked in its environment; correct one')
    _compared_once(claims, where)
    _few_primary(claims, where)
    paper = PaperClaims(**head, family=family, where=where, claims=claims)
    if variants is not None:
        for claim in claims:
            for variant in claim.variants:
                require_known(paper, f'claim "{claim.id}"', "variant", variant, variants)
    return paper


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r} but must be a mapping; write name: value lines under it")
    return value


def _looks_by_panel(value: Any, where: str) -> dict[str, tuple[int, ...]]:
    """Looks by panel; those of all others under ""."""
    if not isinstance(value, dict):
        return {"": _looks(value, where)}
    return {"": LOOKS} | {panel: _looks(looks, f"{where}: {panel}") for panel, looks in value.items()}


def _looks(value: Any, where: str) -> tuple[int, ...]:
    looks = check_value(tuple[int, ...], value, where)
    if len(looks) not in (1, 2) or list(looks) != sorted(set(looks)) or looks[0] < 2:
        raise ConfigError(f"{where} is {list(looks)} but must be one or two rising numbers of seeds, the first at least 2; write "
                          f"for example {list(LOOKS)}")
    return looks


def _expand(defaults: Mapping[str, Any], entry: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The fields of a Claim for each panel of a checked entry."""
    if isinstance(entry.get("id"), str):
        where += f' "{entry["id"]}"'
    require_keys(entry, _OWN, [name for name in _TYPES if name not in _OWN], where)
    entry = {**defaults, **entry}
    require_keys(entry, [name for name in _TYPES if name not in _OPTIONAL], _OPTIONAL, where)
    value = {name: check_value(_TYPES[name], entry[name], f"{where}: {name}") for name in entry}
    for name in (*_OWN, "metric", "why"):
        if not value[name].strip():
            raise ConfigError(f"{where}: {name} is empty but must say something; write it")
    for name, (low, high) in BOUNDS.items():
        if name in value and (not low <= value[name] <= high or (name == "margin" and not value[name])):
            least = "above 0" if name == "margin" else f"at least {low:g}"
            raise ConfigError(f"{where}: {name} is {value[name]:g} but must be {least} and at most {high:g}; correct it")
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
    return [{**value, "better": better, "worse": worse, "panel": panel} for panel in panels]


def _side(text: str, where: str) -> tuple[str, ...]:
    names = tuple(text.split(MINUS))
    if len(names) > 2 or any(not name or " " in name for name in names):
        raise ConfigError(f'{where} is "{text}" but must be one variant or a difference "x - y"; write variants '
                          "without spaces and one minus with a space on both sides")
    if len(set(names)) < len(names):
        raise ConfigError(f'{where} is "{text}", a variant less itself, but must be a difference of two; correct one')
    return names


def _compared_once(claims: Sequence[Claim], where: str) -> None:
    """A question counts once: neither twins under two ids, nor a claim beside its reverse, of which one would always do well."""
    seen: list[Claim] = []
    for claim in claims:
        for other in seen:
            if (other.panel, other.metric, other.matched_on) != (claim.panel, claim.metric, claim.matched_on):
                continue
            both = f'{where}: the claims "{other.id}" and "{claim.id}" on {claim.panel}'
            if claim.terms == other.terms and claim.at_least == other.at_least:
                raise ConfigError(f"{both} have one rule but a question counts once; remove one of them")
            if claim.terms == other.terms[::-1] and claim.at_least + other.at_least >= 0:
                raise ConfigError(f"{both} are the reverse of each other but cannot both be true; keep the one that the paper makes")
        seen.append(claim)


def _few_primary(claims: Sequence[Claim], where: str) -> None:
    first = [claim.id for claim in claims if claim.primary and claim.env == claims[0].env]
    if len(first) > MOST_PRIMARY:
        raise ConfigError(f"{where}: {len(first)} primary records on {claims[0].env} ({', '.join(dict.fromkeys(first))} on each of their "
                          f"panels) but at most {MOST_PRIMARY} may be; leave primary out of the others")


def require_known(paper: PaperClaims, who: str, kind: str, name: str, known: Collection[str]) -> None:
    """Raise where ``name`` is not among what the results have, with the nearest one that is."""
    if name in known:
        return
    close = nearest(name, known)
    advice = f'the nearest one present is "{close}"' if close else f"present are {', '.join(sorted(known)) or 'none'}"
    raise ConfigError(f'{paper.where}: {who} names the {kind} "{name}", which is absent from the results; '
                      f"{advice}; correct the name or run that {kind}")
