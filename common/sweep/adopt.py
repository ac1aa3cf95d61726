"""Finished units and base models in the run store under the keys that they have now.

A unit that was computed by code that no probe had run yet has that in its key; when the code is attested, its key is another
one. So are keys of units whose paper's own code was proven to give the rows of other code, and of units from before keys had
layers, if ``source.json`` says what their code is. Their folders are renamed, so that nothing is computed twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from common.envs import ENV_IDS
from common.files import canonical, storage, write_atomic
from common.lm.bases import has_base
from common.sweep.identity import Identities
from common.sweep.inputs import base_key
from common.sweep.plan import read_json
from common.sweep.unit import MissingInput
from common.track.fingerprints import Fingerprints
from common.track.provenance import lock_hash, pins_hash
from common.track.store import UnitSpec, read_unit

BaseKeys = Mapping[str, str]
"""Environment → the key under which its base model is kept."""


def adopt(root: Path, identities: Identities, bases: BaseKeys) -> list[str]:
    """Rename what is finished in ``runs/`` and has another key now; a line for each kind that was. ``bases``: :func:`base_keys`
    before anything was recorded."""
    units = sum(_renamed(root, marker.parent, identities.prints) for marker in sorted(root.glob("runs/*/*/DONE")))
    models = 0
    for env, new in base_keys(root, identities).items():
        old, kept = bases.get(env, new), root / "runs" / "base"
        here, there = kept / f"{env}-{old}", kept / f"{env}-{new}"
        if old != new and here.is_dir() and not there.exists():
            os.rename(here, there)
            models += 1
    return [f"{n} finished {what}s in runs/ have another key now and stay" if n > 1 else f"{n} finished {what} in runs/ has another key "
            "now and stays" for n, what in ((units, "unit"), (models, "base model")) if n]  # fmt: skip


def base_keys(root: Path, identities: Identities) -> dict[str, str]:
    """The present keys of base models of which the run store has some."""
    keys = {}
    for env in ENV_IDS:
        if has_base(env) and any((root / "runs" / "base").glob(f"{env}-*")):
            try:
                keys[env] = base_key(root, env, identities)
            except MissingInput:
                continue
    return keys


def _renamed(root: Path, folder: Path, prints: Fingerprints) -> bool:
    unit = read_unit(folder)
    new = current(root, unit, prints)
    target = folder.with_name(new.key)
    if unit.key != folder.name or new.key == unit.key or target.exists():
        return False
    write_atomic(folder / "unit.json", canonical(asdict(new), "unit") + "\n")
    with storage(target):
        os.rename(folder, target)
    return True


def current(root: Path, unit: UnitSpec, prints: Fingerprints) -> UnitSpec:
    """The unit with the fingerprints and proofs of today; itself where nothing is known of its code."""
    if not unit.room:
        unit = _described(root, unit)
    if not unit.room:
        return unit
    room, layers = prints.canonical(unit.paper, unit.room, unit.layers)
    return replace(unit, room=room, layers=layers)


def _described(root: Path, unit: UnitSpec) -> UnitSpec:
    """A unit from before keys had layers, with those that a published table of the same code has."""
    if unit.lock != lock_hash(root):
        return unit
    for profiles in read_json(root / "results" / unit.paper / "source.json").values():
        for by_env in profiles.values():
            recorded = by_env.get(unit.env, {})
            if recorded.get("room") and unit.code.startswith(recorded["code"]):
                return replace(unit, room=recorded["room"], layers=recorded["layers"], pins=pins_hash(root), digests=recorded["digests"])
    return unit
