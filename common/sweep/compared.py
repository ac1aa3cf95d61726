"""``python -m common attest --paper ID --against FOLDER``: prove by finished units that other code of a paper gives the same rows.

``FOLDER`` is a run store (a ``runs/`` folder) in which the paper's earlier code finished some units. For each of them, ``runs/``
must hold the same unit, finished by the present code. When all their ``rows.jsonl`` are equal byte by byte, ``fingerprints.json``
gets a note that the present code of ``papers/ID/`` stands for the earlier one, and results of the earlier one stay.

Where the present code has other parameters, renamed ones for example, a unit with the parameters of a published table is compared with
the unit of the present presets, and the note says that these stand for the former.
"""

from __future__ import annotations

import datetime
import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.config import ConfigError, check_paper, flat, load_spec, resolve, to_json
from common.sweep.adopt import adopt, current
from common.sweep.collect import spelled
from common.sweep.identity import CodeIdentity, Identities
from common.sweep.inputs import params_digest, published_params
from common.sweep.unit import params_class
from common.track.fingerprints import write_fingerprints
from common.track.layers import FILE
from common.track.store import UnitSpec, finished_rows, read_unit, unit_path


def attest_paper(root: Path, paper: str, store: Path) -> str:
    """Compare, record, and say so in a sentence. ConfigError where there is nothing to compare, a unit of the present code is
    missing, or a row differs."""
    check_paper(root, paper, "--paper")
    earlier = sorted(marker.parent for marker in (store / paper).glob("*/DONE"))
    if not earlier:
        raise ConfigError(f"--against: {store} holds no finished unit of {paper}; give the runs/ folder in which its earlier code ran")
    identities, spec = Identities(root), load_spec(root, paper)
    proofs: list[tuple[UnitSpec, CodeIdentity]] = []
    renamed: dict[str, str] = {}
    units = [(current(root, read_unit(folder), identities.prints), folder) for folder in earlier]
    for other, folder in units:
        if not other.room:
            raise ConfigError(f"--against: {folder.name} ({other.name}) was computed by code that no results/{paper}/source.json names, so "
                              "its code is unknown; compare with units of published code")
    for other, folder in sorted(units, key=lambda one: one[0].name):
        if other.env not in spec.envs:
            raise ConfigError(f"--against: {folder.name} is in {other.env}, where {paper} does not run any more; remove that unit")
        own = identities.unit(spec, other.env)
        preset = to_json(resolve(params_class(root, spec), spec, other.profile, other.env, {}))
        if other.params != preset and params_digest(other.params) == published_params(root, paper, other.profile, other.env):
            renamed[params_digest(preset)] = params_digest(other.params)
            other = replace(other, params=preset)  # noqa: PLW2901 - the unit that the present code computes in its place
        present = replace(other, room=own.room, layers=own.layers, code=own.code, digests=own.digests)
        mine = unit_path(root, present)
        if not (mine / "DONE").exists():
            raise ConfigError(f"runs/{paper}/{present.key} is missing: {other.name} was not computed by the present code; run: {_command(root, other)}")
        if read_unit(mine).digests.get("room") != own.digests["room"]:
            raise ConfigError(f"runs/{paper}/{present.key} was computed by other code of {paper} than the present one; move that folder away "
                              f"and run: {_command(root, other)}")
        finished_rows(folder), finished_rows(mine)
        if (folder / "rows.jsonl").read_bytes() != (mine / "rows.jsonl").read_bytes():
            raise ConfigError(f"{other.name}: the rows of {folder / 'rows.jsonl'} and {(mine / 'rows.jsonl').relative_to(root)} differ, so the "
                              "present code gives other results; python -m common run computes them anew")
        proofs.append((other, own))
    return _record(root, paper, identities, proofs, renamed)


def _record(
    root: Path, paper: str, identities: Identities, proofs: list[tuple[UnitSpec, CodeIdentity]], renamed: Mapping[str, str]
) -> str:
    rooms = {(own.digests["room"], other.room) for other, own in proofs}
    if len(rooms) > 1:
        raise ConfigError(f"--against: the units of {paper} there were computed by {len(rooms)} different codes; keep those of one")
    [(present, before)] = rooms
    spec = load_spec(root, paper)
    new, old = {}, {}
    for other, own in proofs:
        raw = identities.raw(identities.parts_of_unit(spec, other.env))
        _merge(new, {name: one for name, one in raw.items() if other.layers.get(name) != one})
        _merge(old, {name: one for name, one in other.layers.items() if raw.get(name) != one})
    if present == before and not new and not old and not renamed:
        raise ConfigError(f"--against: the units of {paper} there were computed by the present code; nothing is to be proven")
    units = sorted(other.name for other, _ in proofs)
    notes = identities.prints.papers.setdefault(paper, {})
    stands_for = {**notes.get(present, {}).get("params", {}), **renamed}  # what an earlier proof of the same code renamed stays so
    notes[present] = {"same_as": before, "with": new, "was": old, "date": datetime.date.today().isoformat(), "units": units,
                      **({"params": stands_for} if stands_for else {})}  # fmt: skip
    write_fingerprints(root, identities.prints)
    lines = [f"{paper}: all rows of {len(units)} unit{'s' * (len(units) > 1)} are equal ({', '.join(units)}); results of code {before} stay"]
    return "\n".join(lines + adopt(root, Identities(root), {}))


def _merge(into: dict[str, str], more: Mapping[str, str]) -> None:
    for name, one in more.items():
        if into.setdefault(name, one) != one:
            raise ConfigError(f"--against: {name.removeprefix(FILE)} is not the same in all units there; keep those of one code")


def _command(root: Path, unit: UnitSpec) -> str:
    """What computes the unit by the present code."""
    spec = load_spec(root, unit.paper)
    preset = json.loads(to_json(resolve(params_class(root, spec), spec, unit.profile, unit.env, {})))
    changed = {name: value for name, value in flat(json.loads(unit.params)).items() if flat(preset).get(name) != value}
    grid = f" --grid {shlex.join([spelled({name: value}) for name, value in changed.items()])}" if changed else ""
    return (f"python -m common {'sweep' if changed else 'run'} --paper {unit.paper} --envs {unit.env} --seeds {unit.seed} "
            f"--profile {unit.profile}{grid}")
