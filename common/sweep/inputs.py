"""What units start from, the data panels and base models, and from what a published table was computed.

``results/<paper>/source.json`` is written beside a table, so that a clone in which nothing was computed can tell its state:
table → profile → environment → hashes of parameters, data panels, of what the base model was made by and of the numeric libraries;
room, layers, ``code`` and ``digests`` of the code, as :class:`common.track.store.UnitSpec` has them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.config import ConfigError, hint, load_spec, resolve, to_json
from common.envs import ENV_IDS, env_file
from common.files import canonical, storage, write_atomic
from common.lm.bases import has_base, settings_for
from common.rows import read_metrics
from common.sweep.board import Progress
from common.sweep.identity import Identities
from common.sweep.plan import USER_ENVS, Planned, read_json, verify_panels
from common.sweep.unit import (
    BASE_PROFILES, MissingInput, base_dir, base_hash, data_hashes, folder_hash, params_class,
)
from common.track.provenance import lock_hash, pins_hash
from common.track.state import UNKNOWN, State, state_of

BASE_SEED = 0
"""Training seed of base models: units with different seeds start from the same model."""

ENTRY = "common/base.py"

WEIGHTS = "weights "
"""Begins the record of a base model that came from elsewhere; its weights' hash follows."""

Tables = dict[tuple[str, str, str], State]
"""(paper, environment, profile) → the state of the table behind its verdicts."""


def build_data(root: Path) -> str:
    """Build the panels unless all are there with their hashes right. Returns a sentence on what was done."""
    envs = [env for env in ENV_IDS if env not in USER_ENVS]
    try:
        for env in envs:
            if not (root / "data" / env / "manifest.json").exists():
                raise ConfigError("absent")
            verify_panels(root, env)
        return f"data panels of {', '.join(envs)} are complete: nothing to build"
    except ConfigError:
        pass  # absent or damaged: that is what this command repairs
    from common.envs.build import build_all

    with storage(root / "data"):
        counts = build_all(root / "data")
    return "; ".join(f"built {env}: {sum(files.values())} rows in {len(files)} files" for env, files in counts.items())


def base_key(root: Path, env: str, profile: str, identities: Identities | None = None) -> str:
    """Hash of all that the base model depends on: settings, fingerprints of the layers that its training reaches, panels,
    numeric libraries, profile, seed. ``identities``: those of the code at ``root``, where they are known."""
    code = (identities or Identities(root)).of((ENTRY, env_file(env)), env)
    content = [env, profile, BASE_SEED, asdict(settings_for(env, profile)), code.layers, data_hashes(root, env), pins_hash(root)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _kept_model(root: Path, env: str, profile: str) -> Path:
    """Where the run store keeps the base model."""
    return root / "runs" / "base" / f"{env}-{profile}-{base_key(root, env, profile)}"


def shown_by(progress: Progress) -> Callable[[int, dict[str, float]], None]:
    """A training log that shows how far the training is and how long the rest will take at its pace so far."""
    ends: list[float] = []  # of updates; what came before the first one does not come again

    def log(update: int, metrics: dict[str, float]) -> None:
        ends.append(time.monotonic())
        pace = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else None
        left = None if pace is None else pace * (progress.total - update) / 60
        progress.update(update, [f"loss {metrics['loss']:.3f}"], left)

    return log


def build_base(root: Path, env: str, profile: str) -> str:
    """Train the base model of ``env`` into its folder, or copy it from the run store when it was trained before.

    DVC deletes the folder before its stage runs; the store (``runs/base/``) keeps the training across edits
    that cannot change it. Returns a sentence. ConfigError for an unknown name or a profile without a base
    model of ours, MissingInput for absent panels.
    """
    if env not in ENV_IDS:
        raise ConfigError(f'env: unknown environment "{env}"; {hint(env, ENV_IDS)}')
    if not has_base(env):
        raise ConfigError(f"env: {env} has no base model, its policies learn from scratch; "
                          "run its papers at once")
    if profile not in BASE_PROFILES:
        raise ConfigError(f'profile: "{profile}" has no base model of ours, its parameters name a pretrained one; '
                          f"{hint(profile, BASE_PROFILES)}")
    verify_panels(root, env)
    target = base_dir(root, env, profile)
    kept = _kept_model(root, env, profile)
    done = "unchanged, copied from the run store"
    with storage(kept):
        if not kept.exists():
            done = "trained"
            from common.base import train_base

            partial = kept.with_name(f".{kept.name}.{os.getpid()}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            progress = Progress(settings_for(env, profile).updates, f"base model of {env}", what="updates")
            train_base(env, profile, root / "data", partial, BASE_SEED, log=shown_by(progress))
            progress.close()
            os.replace(partial, kept)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(kept, target)
    return f"base model of {env} ({profile}): {done} → {target.relative_to(root)}"


def outdated(root: Path, envs: Sequence[str], profile: str) -> list[str]:
    """Those of ``envs`` whose base model is absent, or not what its training would give now. Of one that came from
    elsewhere, DVC's cache for example, its stage knows whether it is."""
    def current(env: str) -> bool:
        target = base_dir(root, env, profile)
        if not target.is_dir() or not any((root / "runs" / "base").glob(f"{env}-{profile}-*")):
            return target.is_dir()
        kept = _kept_model(root, env, profile)
        return kept.is_dir() and folder_hash(kept) == folder_hash(target)

    return [env for env in envs if profile in BASE_PROFILES and has_base(env) and not current(env)]


def build_bases(root: Path, envs: Sequence[str], *, workers: int) -> None:
    """Train those base models of ``envs`` that are :func:`outdated` side by side, each in a process of one thread.

    DVC runs one stage at a time; it then finds these models made. A training that fails leaves its message, and its
    stage to fail again. Ended early, by Ctrl-C or a signal, it ends all trainings.
    """
    absent = outdated(root, envs, "cpu")
    if not absent:
        return
    started: list[subprocess.Popen] = []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LAB_ROOT": str(root)}

    def train(env: str) -> None:
        # Through a pipe, so that each tells by a line how far it is: two bars would overwrite each other.
        process = subprocess.Popen([sys.executable, "-m", "common", "base", "--env", env], cwd=root, env=environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        for line in process.stdout:
            print(line, end="", flush=True)
        process.wait()

    print(f"base models of {', '.join(absent)}: {min(len(absent), workers)} at a time", flush=True)
    pool = ThreadPoolExecutor(workers)
    try:
        list(pool.map(train, absent))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in started:
            process.terminate()


# -- the record beside a published table ------------------------------------------------------------------------------


def record(root: Path, planned: Sequence[Planned], table: Path) -> None:
    """Write into ``source.json`` beside ``table`` what its units, all of them computed here, were computed from.

    It keeps what it says of other tables, profiles and environments.
    """
    found = read_json(table.parent / "source.json")
    for one in {(one.profile, one.env): one for one in planned}.values():
        unit = one.unit
        entry = _entry(unit, params=unit.params, data=dict(unit.data), pins=unit.pins, lock=unit.lock,
                       base=_base(root, one.env, one.profile, unit.base))
        found.setdefault(table.name, {}).setdefault(one.profile, {})[one.env] = entry
    write_atomic(table.parent / "source.json", json.dumps(found, indent=1, sort_keys=True) + "\n")


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


def _present(
    root: Path, paper: str, env: str, profile: str, identities: Identities, *, by_weights: bool
) -> Mapping[str, Any]:
    spec = load_spec(root, paper)
    params = to_json(resolve(params_class(root, spec), spec, profile, env, {}))
    base = ""
    if base_dir(root, env, profile, params) is not None:
        base = WEIGHTS + base_hash(root, env, profile, params) if by_weights else base_key(root, env, profile, identities)
    return _entry(identities.unit(spec, env), params=params, data=data_hashes(root, env), base=base, pins=pins_hash(root),
                  lock=lock_hash(root))


def _entry(code: Any, *, params: str, data: Mapping[str, str], base: str, pins: str, lock: str) -> dict[str, Any]:
    """What ``source.json`` says of an environment. ``code``: a unit, or the identity of the code that would compute it."""
    parts = {"params": _sha(params), "data": _sha(canonical(data, "data")), "base": base, "pins": pins, "code": code.code,
             "lock": lock}
    return {name: digest[:24] for name, digest in parts.items()} | {
        "room": code.room, "layers": dict(code.layers), "digests": dict(code.digests)}


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
