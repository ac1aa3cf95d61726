"""What a published table was computed from, so that a clone in which nothing was computed can tell its state.

``results/<paper>/source.json``: table → profile → environment → hashes of parameters, data panels, of what the base model
was made by and of the numeric libraries; room, layers, ``code`` and ``digests`` of the code, as
:class:`common.track.store.UnitSpec` has them. Written with the table; compared with the checkout's own
(:mod:`common.track.state`).

``results/identity/<paper>.json`` is what every paper's results would be computed from now, its parameters aside: environment → room,
layers, hashes of the panels and of the base model's weights. The pipeline's stage ``run`` depends on it instead of on files of code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config import PaperSpec, known_papers, load_spec, resolve, to_json
from common.files import canonical, write_atomic
from common.rows import read_metrics
from common.sweep.base import base_key
from common.sweep.declared import params_class
from common.sweep.identity import Identities
from common.sweep.plan import USER_ENVS, Planned, default_envs, read_json
from common.sweep.unit import MissingInput, base_dir, base_hash, data_hashes, folder_hash
from common.track.provenance import lock_hash, pins_hash
from common.track.state import UNKNOWN, State, state_of

WEIGHTS = "weights "

Tables = dict[tuple[str, str, str], State]
"""(paper, environment, profile) → the state of the table behind its verdicts."""


def record(root: Path, planned: Sequence[Planned], table: Path) -> None:
    """Write into ``source.json`` beside ``table`` what its units, all of them computed here, were computed from.

    It keeps what it says of other tables, profiles and environments.
    """
    found = read_json(table.parent / "source.json")
    for one in {(one.profile, one.env): one for one in planned}.values():
        unit = one.unit
        parts = {"params": _sha(unit.params), "data": _sha(canonical(dict(unit.data), "data")), "pins": unit.pins,
                 "base": _base(root, one.env, unit.base), "code": unit.code, "lock": unit.lock}
        entry = {name: _short(digest) for name, digest in parts.items()}
        entry |= {"room": unit.room, "layers": dict(unit.layers), "digests": dict(unit.digests)}
        found.setdefault(table.name, {}).setdefault(one.profile, {})[one.env] = entry
    write_atomic(table.parent / "source.json", json.dumps(found, indent=1, sort_keys=True) + "\n")


def write_identities(root: Path, identities: Identities) -> list[str]:
    """Write ``results/identity/``, a file for each paper; a line for each that could not be told here and stays as it is."""
    lines = []
    for paper in known_papers(root):
        spec = load_spec(root, paper)
        try:
            found = {env: _identity(root, spec, env, identities) for env in default_envs(spec)}
        except MissingInput as error:
            lines.append(f"results/identity/{paper}.json stays as it is: {error}")
            continue
        text = json.dumps({"pins": _short(pins_hash(root)), "envs": found}, indent=1, sort_keys=True) + "\n"
        write_atomic(root / "results" / "identity" / f"{paper}.json", text)
    return lines


def _identity(root: Path, spec: PaperSpec, env: str, identities: Identities) -> dict[str, Any]:
    code = identities.unit(spec, env)
    return {"room": code.room, "layers": code.layers, "data": _short(_sha(canonical(data_hashes(root, env), "data"))),
            "base": _short(base_hash(root, env, "cpu"))}


def table_state(root: Path, table: Path, paper: str, env: str, profile: str, identities: Identities | None = None) -> State:
    """The state of the rows of ``env`` in ``table``; unknown when the table does not say from what it was computed, or what it
    needs is not here to compare. ``identities``: those of the code at ``root``, where they are known."""
    recorded = read_json(table.parent / "source.json").get(table.name, {}).get(profile, {}).get(env)
    variable = USER_ENVS.get(env)
    if not recorded or variable and variable not in os.environ:  # nothing is fetched from elsewhere to compare
        return UNKNOWN
    identities = identities or Identities(root)
    try:
        present = _present(root, paper, env, profile, identities, by_weights=recorded["base"].startswith(WEIGHTS))
    except MissingInput:
        return UNKNOWN
    return state_of(paper, recorded, present, identities.prints)


def table_states(root: Path, results: Path, records: Sequence[Mapping[str, Any]]) -> Tables:
    """The states of the tables behind the verdicts of ``results``."""
    found, identities = {}, Identities(root)
    for record in records:
        name = (record["paper"], record["env"], record["profile"])
        if name not in found:
            found[name] = table_state(root, table_of(results, *name), *name, identities)
    return found


def table_of(results: Path, paper: str, env: str, profile: str) -> Path:
    """The file that holds a paper's rows of an environment at a profile; that of default runs where there are none."""
    for table in sorted((results / paper).glob("metrics*.jsonl")):
        if any((row.env, row.profile) == (env, profile) for row in read_metrics(table)):
            return table
    return results / paper / "metrics.jsonl"


def params_digest(params: str) -> str:
    """How ``source.json`` names parameters, given as their JSON."""
    return _short(_sha(params))


def published_params(root: Path, paper: str, profile: str, env: str) -> str:
    """:func:`params_digest` of those behind the published rows of an environment at a profile; "" where there are none."""
    table = table_of(root / "results", paper, env, profile)
    return read_json(table.parent / "source.json").get(table.name, {}).get(profile, {}).get(env, {}).get("params", "")


def _present(
    root: Path, paper: str, env: str, profile: str, identities: Identities, *, by_weights: bool
) -> Mapping[str, Any]:
    spec = load_spec(root, paper)
    params = to_json(resolve(params_class(root, spec), spec, profile, env, {}))
    base = ""
    if base_dir(root, env, profile, params) is not None:
        base = WEIGHTS + base_hash(root, env, profile, params) if by_weights else base_key(root, env, identities)
    code = identities.unit(spec, env)
    parts = {"params": _sha(params), "data": _sha(canonical(data_hashes(root, env), "data")), "base": base,
             "pins": pins_hash(root), "code": code.code, "lock": lock_hash(root)}  # fmt: skip
    return {name: _short(digest) for name, digest in parts.items()} | {
        "room": code.room, "layers": code.layers, "digests": code.digests}  # fmt: skip


def _base(root: Path, env: str, weights: str) -> str:
    """The key under which the base model with these weights was trained here, which any clone can compute; the weights' own
    hash of one that came from elsewhere, "" for none of ours."""
    if not weights:
        return ""
    trained = [kept for kept in (root / "runs" / "base").glob(f"{env}-*") if folder_hash(kept) == weights]
    keys = sorted(kept.name.rpartition("-")[2] for kept in trained)
    if not keys:
        return WEIGHTS + weights
    present = base_key(root, env)  # other code may have made the same weights
    return present if present in keys else keys[0]


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _short(digest: str) -> str:
    return digest[:24]
