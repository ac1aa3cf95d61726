"""In which of three states recorded results are: computed by this code, attested, or stale.

* *computed*: by exactly the present code, and from the present parameters, data, base model and numeric libraries;
* *attested*: by other code, whose layers' probes return what the present ones do, and whose own folder's code is the same or
  was proven to give the same rows;
* *stale*: something else that results depend on has changed.

Recorded and present parts are mappings with ``params``, ``room``, ``layers``, ``data``, ``base`` and ``pins``, which decide,
and ``code`` and ``digests``, which tell computed and attested apart. What was recorded before there were layers has ``code`` and
``lock`` instead; it is computed by this code or stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from common.track.fingerprints import UNATTESTED, Fingerprints
from common.track.layers import describe_layer

Kind = Literal["computed", "attested", "stale", "unknown"]

WORDS = {"params": "parameters", "room": "code of the paper's own folder", "data": "data panels",
         "base": "what its base model is made by", "pins": "numeric libraries in requirements.lock"}  # fmt: skip
"""Part of a result → what people call it."""

BEFORE = {"params": WORDS["params"], "code": "code that the method reaches", "data": WORDS["data"], "base": WORDS["base"],
          "lock": "requirements.lock"}  # fmt: skip
"""The same of results that were recorded before there were layers."""

ATTEST = "python -m common attest"


@dataclass(frozen=True)
class ResultState:
    """``changed``: what makes results stale, in words. ``unattested``: some of it is code that no probe has run yet.
    ``seen``: of attested results, what was recomputed and when; "" for unknown ones, which say nothing."""

    kind: Kind
    changed: tuple[str, ...] = ()
    unattested: bool = False
    seen: str = ""

    @property
    def stale(self) -> bool:
        return self.kind == "stale"

    def __str__(self) -> str:
        """One sentence without its full stop."""
        if self.kind == "unknown":
            return "of unknown origin: source.json does not say what this table was computed from, or that is not here to compare"
        if self.kind == "computed":
            return "computed by this code, from these parameters, data panels, base model and libraries, by source.json"
        if self.kind == "attested":
            return f"attested: computed by other code that behaves the same ({self.seen}); nothing else changed, by source.json"
        return f"STALE: other than when it was computed: {', '.join(self.changed)}{self.advice}"

    @property
    def advice(self) -> str:
        """What to do first about stale results."""
        return f"; whether that code behaves as before says: {ATTEST}" if self.unattested else ""


UNKNOWN = ResultState("unknown")


def result_state(paper: str, recorded: Mapping[str, Any], present: Mapping[str, Any], prints: Fingerprints) -> ResultState:
    """The state of a result of ``paper`` that was recorded with the parts ``recorded`` where the present ones are ``present``."""
    if not recorded.get("room"):
        changed = tuple(text for part, text in BEFORE.items() if recorded[part] != present[part])
        return ResultState("stale", changed) if changed else ResultState("computed")
    room, layers = prints.canonical(paper, recorded["room"], recorded["layers"])
    now_room, now_layers = prints.canonical(paper, present["room"], present["layers"])
    moved = [name for name in sorted({*layers, *now_layers}) if layers.get(name) != now_layers.get(name)]
    changed = [WORDS["params"]] * (recorded["params"] not in prints.same_params(paper, present["params"]))
    changed += [WORDS[part] for part in ("data", "base", "pins") if recorded[part] != present[part]]
    changed += [WORDS["room"]] * (room != now_room) + [describe_layer(name) for name in moved]
    if changed:
        return ResultState("stale", tuple(changed), any(now_layers.get(name, "").startswith(UNATTESTED) for name in moved))
    if recorded["code"] == present["code"]:
        return ResultState("computed")
    return ResultState("attested", seen=_seen(paper, recorded, present, prints))


def _seen(paper: str, recorded: Mapping[str, Any], present: Mapping[str, Any], prints: Fingerprints) -> str:
    """Which of the differing code was recomputed with equal values, and when."""
    proofs = []
    for name, digest in present["digests"].items():
        if recorded["digests"].get(name) == digest:
            continue
        if name == "room" and (step := prints.papers.get(paper, {}).get(digest)):
            proofs.append(f"its own code gave the rows of {len(step['units'])} unit{'s' * (len(step['units']) != 1)} on {step['date']}")
        elif known := prints.known(name, digest):
            one = prints.layers[name][known].attested[digest]
            proofs.append(f"{describe_layer(name)}: {one['what']} on {one['date']}")
    return "; ".join(proofs) or "only code that no number depends on differs"
