"""What a published table was computed from, so that a clone in which nothing was computed can tell whether it is stale.

``results/<paper>/source.json``: table → profile → environment → hashes of parameters, code, data panels, of what the base
model was made by, and of the environment lock. Written with the table; compared with the checkout's own hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config import load_spec, resolve, to_json
from common.sweep.base import base_key
from common.sweep.declared import params_class
from common.sweep.plan import USER_ENVS, Planned, read_json
from common.sweep.unit import MissingInput, base_dir, base_hash, data_hashes, entries, folder_hash
from common.track.code import code_hash
from common.track.files import canonical, write_atomic
from common.track.provenance import lock_hash
from common.track.rows import read_metrics

PARTS = {"params": "parameters", "code": "code that the method reaches", "data": "data panels",
         "base": "what its base model is made by", "lock": "requirements.lock"}  # fmt: skip
"""Part of a source → what people call it."""

WEIGHTS = "weights "


def record(root: Path, planned: Sequence[Planned], table: Path) -> None:
    """Write into ``source.json`` beside ``table`` what its units, all of them computed here, were computed from.

    It keeps what it says of other tables, profiles and environments.
    """
    found = read_json(table.parent / "source.json")
    for one in {(one.profile, one.env): one for one in planned}.values():
        unit = one.unit
        parts = {"params": _sha(unit.params), "code": unit.code, "data": _sha(canonical(dict(unit.data), "data")),
                 "base": _base(root, one.env, one.profile, unit.base), "lock": unit.lock}
        by_profile = found.setdefault(table.name, {}).setdefault(one.profile, {})
        by_profile[one.env] = {name: _short(digest) for name, digest in parts.items()}
    write_atomic(table.parent / "source.json", json.dumps(found, indent=1, sort_keys=True) + "\n")


def stale(root: Path, table: Path, paper: str, env: str, profile: str) -> list[str] | None:
    """What changed since the rows of ``env`` in ``table`` were computed, in words; [] when nothing did, None when the table
    does not say from what it was computed, or what it needs is not here to compare."""
    recorded = read_json(table.parent / "source.json").get(table.name, {}).get(profile, {}).get(env)
    variable = USER_ENVS.get(env)
    if not recorded or variable and variable not in os.environ:  # nothing is fetched from elsewhere to compare
        return None
    try:
        present = _present(root, paper, env, profile, by_weights=recorded["base"].startswith(WEIGHTS))
    except MissingInput:
        return None
    return [text for name, text in PARTS.items() if recorded.get(name) != _short(present[name])]


def said(changed: Sequence[str] | None) -> str:
    """:func:`stale` as a sentence."""
    if changed is None:
        return "of unknown origin: source.json does not say what this table was computed from, or that is not here to compare"
    return (f"STALE: other than when it was computed: {', '.join(changed)}" if changed else
            "of the present code, parameters, data panels, base model and libraries, by source.json")


def stale_tables(
    root: Path, results: Path, records: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str, str], list[str] | None]:
    """(paper, environment, profile) of the verdicts of ``results`` → :func:`stale` of the table behind them."""
    found: dict[tuple[str, str, str], list[str] | None] = {}
    for record in records:
        name = (record["paper"], record["env"], record["profile"])
        if name not in found:
            found[name] = stale(root, table_of(results, *name), *name)
    return found


def table_of(results: Path, paper: str, env: str, profile: str) -> Path:
    """The file that holds a paper's rows of an environment at a profile; that of default runs where there are none."""
    for table in sorted((results / paper).glob("metrics*.jsonl")):
        if any((row.env, row.profile) == (env, profile) for row in read_metrics(table)):
            return table
    return results / paper / "metrics.jsonl"


def _present(root: Path, paper: str, env: str, profile: str, *, by_weights: bool) -> Mapping[str, str]:
    spec = load_spec(root, paper)
    params = to_json(resolve(params_class(root, spec), spec, profile, env, {}))
    base = ""
    if base_dir(root, env, profile, params) is not None:
        base = WEIGHTS + base_hash(root, env, profile, params) if by_weights else base_key(root, env, profile)
    return {"params": _sha(params), "code": code_hash(entries(spec, env), root).digest,
            "data": _sha(canonical(data_hashes(root, env), "data")), "base": base, "lock": lock_hash(root)}


def _base(root: Path, env: str, profile: str, weights: str) -> str:
    """The key under which the base model with these weights was trained here, which any clone can compute; the weights' own
    hash of one that came from elsewhere, "" for none of ours."""
    if not weights:
        return ""
    trained = [kept for kept in (root / "runs" / "base").glob(f"{env}-{profile}-*") if folder_hash(kept) == weights]
    keys = sorted(kept.name.rpartition("-")[2] for kept in trained)
    if not keys:
        return WEIGHTS + weights
    present = base_key(root, env, profile)  # other code may have made the same weights
    return present if present in keys else keys[0]


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _short(digest: str) -> str:
    return digest[:24]
