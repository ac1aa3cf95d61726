"""``fingerprints.json``: how each layer of the code behaves, and which code was seen to behave so.

    {"layers": {"engine": {"<id>": {"probe": …, "values": {…}, "attested": {"<code digest>": {"date", "commit", "what"}}}}},
     "papers": {"agent_q": {"<digest of its folder's code>": {"same_as": …, "with": {…}, "was": {…}, "date", "units": […]}}}}

A *behaviour* is what a layer's probe returned, name → number or text. Code with the digest of an ``attested`` entry was run
by the probe and returned these values. The id of a behaviour is a hash of its first values; keys hold it as the layer's
fingerprint, or ``unattested:<digest>`` where code was never run by its probe.

``papers`` says which code of a paper's own folder was proven to give the rows of other code, by units computed with both.
``with`` are the layers and files that the new code depends on and the old one did not, or not in this form, ``was`` those
of the old code in their place. ``params``, where parameters were renamed: hash of the new ones → hash of those they stand for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config.strict import ConfigError
from common.files import canonical, write_atomic

NAME = "fingerprints.json"
UNATTESTED = "unattested:"
DIGITS = 6
"""Significant digits of a recorded number."""
TOLERANCE = 2e-4
"""Two numbers of a probe are equal when they differ by at most this share of the larger one, or by :data:`NEAR_ZERO`. Another
processor sums in another order: the last bits of a float32, a few times over after updates (``docs/identity.md``)."""
NEAR_ZERO = 2e-5
KEPT = 12
"""Attested digests that a behaviour keeps: the first one and the latest."""

Value = float | int | str
Values = Mapping[str, Value]


@dataclass
class Behaviour:
    """``values`` as the probe with hash ``probe`` returned them; ``attested``: code digest → date, commit and what was seen."""

    probe: str
    values: dict[str, Value]
    attested: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class Fingerprints:
    """The content of the file; empty where there is none."""

    layers: dict[str, dict[str, Behaviour]] = field(default_factory=dict)
    papers: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def known(self, layer: str, digest: str) -> str | None:
        """The id of the behaviour under which the layer's code is attested, None where it is not."""
        behaviours = self.layers.get(layer, {})
        return next((id_ for id_, one in behaviours.items() if digest in one.attested), None)

    def of(self, layer: str, digest: str) -> str:
        """The fingerprint of a layer whose code has ``digest``."""
        return self.known(layer, digest) or f"{UNATTESTED}{digest}"

    def resolved(self, layer: str, fingerprint: str) -> str:
        """``fingerprint`` itself, or, when it is of code that was attested since it was written, the present one."""
        digest = fingerprint.removeprefix(UNATTESTED)
        return fingerprint if digest == fingerprint else self.of(layer, digest)

    def canonical(self, paper: str, room: str, layers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Room and layers of the code that ``papers`` names as giving the same rows, found step by step; attested
        fingerprints in the place of unattested ones. A step is not taken where a layer behaves otherwise than in its proof."""
        layers, passed = {name: self.resolved(name, one) for name, one in layers.items()}, {room}
        while step := self.papers.get(paper, {}).get(room):
            added = {name: self.resolved(name, one) for name, one in step["with"].items()}
            again = step["same_as"] in passed
            if again and step["same_as"] != room or any(layers.get(name, one) != one for name, one in added.items()):
                break
            was = {name: self.resolved(name, one) for name, one in step["was"].items()}
            layers = {name: one for name, one in layers.items() if name not in added} | was
            if again:  # the paper's own code is the same: the proof was about a file beyond it
                break
            room = step["same_as"]
            passed.add(room)
        return room, dict(sorted(layers.items()))

    def same_params(self, paper: str, params: str) -> set[str]:
        """Hashes of parameters that ``papers`` names as standing for those with the hash ``params``, and itself."""
        hashes = {params}
        while more := {old for step in self.papers.get(paper, {}).values() for new, old in step.get("params", {}).items()
                       if new in hashes} - hashes:  # fmt: skip
            hashes |= more
        return hashes

    def text(self) -> str:
        """The file's text: the same for the same content. Long mappings have a line for each entry."""
        layers = {name: {id_: vars(one) for id_, one in found.items()} for name, found in self.layers.items()}
        return _lines({"layers": layers, "papers": self.papers}, depth=5) + "\n"


def read(root: Path) -> Fingerprints:
    """The file at ``root``. ConfigError when it is damaged, by a merge for example."""
    path = root / NAME
    if not path.exists():
        return Fingerprints()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        layers = {name: {id_: Behaviour(**one) for id_, one in prints.items()} for name, prints in content["layers"].items()}
        return Fingerprints(layers, content["papers"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{NAME} cannot be read ({error!r}); restore it from git, then run: python -m common attest") from None


def write_fingerprints(root: Path, prints: Fingerprints) -> None:
    """Replace the file, all or nothing."""
    write_atomic(root / NAME, prints.text())


def rounded(values: Values) -> dict[str, Value]:
    """Numbers to :data:`DIGITS` significant digits; texts longer than their hash as that. ConfigError for another type, or a
    number that is not finite."""
    rounded_values: dict[str, Value] = {}
    for name, value in values.items():
        if isinstance(value, str):
            digest = hashlib.sha256(value.encode()).hexdigest()[:24]
            rounded_values[name] = value if len(value) <= len(digest) else digest
        elif isinstance(value, (bool, int)):
            rounded_values[name] = int(value)
        elif isinstance(value, float) and math.isfinite(value):
            rounded_values[name] = float(f"{value:.{DIGITS}g}")
        else:
            raise ConfigError(f"probe value {name} is {value!r} but must be a finite number or a text; correct the probe")
    return rounded_values


def behaviour_id(values: Values) -> str:
    """A hash of rounded values."""
    return hashlib.sha256(canonical(dict(values), "probe values").encode()).hexdigest()[:12]


def differences(recorded: Values, values: Values) -> dict[str, str]:
    """Name → how it moved, for all names of ``recorded``, within :data:`TOLERANCE`; {} for the same behaviour. Names
    that ``recorded`` lacks, of a probe that was extended since, do not count."""
    moved = {}
    for name, old in recorded.items():
        new = values.get(name)
        if isinstance(old, float) and isinstance(new, float | int) or isinstance(new, float) and isinstance(old, int):
            if abs(new - old) > max(TOLERANCE * max(abs(new), abs(old)), NEAR_ZERO):
                moved[name] = f"{old:.{DIGITS}g} → {new:.{DIGITS}g} ({new - old:+.2g})"
        elif new != old:
            moved[name] = f"{old} → {'absent' if new is None else new}"
    return moved


def _lines(value: Any, *, depth: int, indent: int = 0) -> str:
    """JSON with sorted keys, mappings over several lines down to ``depth``."""
    if not isinstance(value, Mapping) or not value or not depth:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    pad = " " * (indent + 1)
    inner = [f"{pad}{json.dumps(name)}: {_lines(one, depth=depth - 1, indent=indent + 1)}" for name, one in sorted(value.items())]
    return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"
