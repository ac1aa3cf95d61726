"""Inputs of units (data panels, base models), and the record of the inputs behind a published table.

``results/<paper>/source.json`` is written beside a table, so that a clone in which nothing was computed can tell its state:
table → profile → environment → hashes of parameters, data panels, of what the base model was made by and of the numeric libraries;
room, layers, ``code`` and ``digests`` of the code, as :class:`common.track.store.UnitSpec` has them; and ``processors``, on which its
units were computed (:mod:`common.track.processor`), which decide nothing and are absent where one of the units does not say.

``results/identity/<paper>.json`` is what every paper's results would be computed from now, its parameters aside: environment → room,
layers, hashes of the panels and of the base model's weights. The pipeline's stage ``run`` depends on it instead of on files of code.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from common.config import ConfigError, PaperSpec, hint, known_papers, load_lab, load_spec, resolve, to_json
from common.envs import ENV_IDS, env_file
from common.files import canonical, storage, write_atomic
from common.lm.bases import base_seeds, has_base, settings_for
from common.rows import read_metrics
from common.sweep.board import Progress
from common.sweep.identity import Identities
from common.sweep.plan import USER_ENVS, Planned, default_envs, read_json, verify_panels
from common.sweep.unit import (
    MissingInput, base_dir, base_hash, data_hashes, params_class,
)
from common.track import processor
from common.track.provenance import lock_hash, pins_hash
from common.track.state import UNKNOWN, ResultState, result_state
from common.track.store import unit_path

BASE_SEED = 0
"""Training seed of a base model that all units start from; where there are several, each is trained with its unit's seed."""

ENTRY = "common/base.py"

PROFILE = "cpu"
"""Base models are trained at this size; units at smoke start from them too, and other profiles from pretrained models."""

WEIGHTS = "weights "
"""Begins the record of a base model; its weights' hash follows. Tables from before base models were shipped have the
:func:`base_key` of their training instead: the same recipe, other weights where another processor trained."""

Tables = dict[tuple[str, str, str], ResultState]
"""(paper, environment, profile) → the state of the table behind its verdicts."""


def changed_bases(root: Path) -> list[str]:
    """A sentence for each base model that is there and is not the one that ``dvc.lock`` names: trained here, or damaged."""
    lock = root / "dvc.lock"
    stages = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages", {}) if lock.is_file() else {}
    sentences = []
    for stage, content in stages.items():
        env = stage.removeprefix("base@")
        for out in content.get("outs", ()) if env != stage else ():
            folder = root / out["path"]
            if folder.is_dir() and _dvc_digest(folder) != out["md5"]:
                sentences.append(f"{out['path']} is not the published base model (its MD5 is not the one in dvc.lock): trained anew, "
                                 f"or damaged; to get the published one: dvc pull --force {stage}")
    return sentences


def _dvc_digest(folder: Path) -> str:
    """The MD5 under which DVC keeps a folder: that of the list of its files and their MD5."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    listed = [{"md5": hashlib.md5(files[name].read_bytes(), usedforsecurity=False).hexdigest(), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def build_data(root: Path) -> str:
    """Build the panels unless all are there with their hashes right. Returns a sentence on what was done, and one on each base
    model that is not the published one."""
    return "\n".join([_build_panels(root), *(f"note: {sentence}" for sentence in changed_bases(root))])


def _build_panels(root: Path) -> str:
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


def base_key(root: Path, env: str, identities: Identities | None = None, seed: int = BASE_SEED) -> str:
    """Hash of all that a base model depends on: settings, fingerprints of the layers that its training reaches, panels,
    numeric libraries, seed. ``identities``: those of the code at ``root``, where they are known."""
    code = (identities or Identities(root)).of((ENTRY, env_file(env)), env)
    content = [env, PROFILE, seed, asdict(settings_for(env, PROFILE)), code.layers, data_hashes(root, env), pins_hash(root)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _kept(root: Path, env: str, identities: Identities, seed: int) -> Path:
    """Where the run store keeps the base model of a seed."""
    return root / "runs" / "base" / f"{env}-{base_key(root, env, identities, seed)}"


def progress_log(progress: Progress) -> Callable[[int, dict[str, float]], None]:
    """A training log that shows how far the training is and how long the rest will take at its pace so far."""
    ends: list[float] = []  # of updates; what came before the first one does not come again

    def log(update: int, metrics: dict[str, float]) -> None:
        ends.append(time.monotonic())
        pace = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else None
        left = None if pace is None else pace * (progress.total - update) / 60
        progress.update(update, [f"loss {metrics['loss']:.3f}"], left)

    return log


def build_base(root: Path, env: str) -> str:
    """Train the base models of ``env`` into ``models/<env>``, or copy them from the run store when they were trained before.

    DVC deletes the folder before its stage runs; the store (``runs/base/``) keeps the training across edits
    that cannot change it. Returns a sentence. ConfigError for an unknown name or an environment without a base
    model of ours, MissingInput for absent panels.
    """
    if env not in ENV_IDS:
        raise ConfigError(f'env: unknown environment "{env}"; {hint(env, ENV_IDS)}')
    if not has_base(env):
        raise ConfigError(f"env: {env} has no base model, its policies learn from scratch or from pretrained models; "
                          "run its papers at once")
    verify_panels(root, env)
    identities, count, target = Identities(root), base_seeds(env), root / "models" / env
    kept = {seed: _kept(root, env, identities, seed) for seed in range(count)}
    absent = {seed: folder for seed, folder in kept.items() if not folder.exists()}
    if count == 1:
        for seed, folder in absent.items():
            _train_base(root, env, seed, folder)
    elif absent:
        with ProcessPoolExecutor(load_lab(root).workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for done in [pool.submit(_train_base, root, env, seed, folder) for seed, folder in absent.items()]:
                done.result()
    with storage(target):
        shutil.rmtree(target, ignore_errors=True)
        for seed, folder in kept.items():
            shutil.copytree(folder, target if count == 1 else target / str(seed))
    done = "trained" if absent else "unchanged, copied from the run store"
    return f"base model{'s' * (count > 1)} of {env}: {done} → {target.relative_to(root)}"


def _train_base(root: Path, env: str, seed: int, folder: Path) -> None:
    """Train one base model into ``folder``, which is there afterwards or not at all."""
    from common.base import train_base

    with storage(folder):
        partial = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        what = f"base model {seed} of {env}" if base_seeds(env) > 1 else f"base model of {env}"
        progress = Progress(settings_for(env, PROFILE).updates, what, what="updates")
        train_base(env, PROFILE, root / "data", partial, seed, log=progress_log(progress))
        progress.close()
        os.replace(partial, folder)


# -- the record beside a published table ------------------------------------------------------------------------------


def record(root: Path, planned: Sequence[Planned], table: Path) -> None:
    """Write into ``source.json`` beside ``table`` what its units, all of them computed here, were computed from.

    It keeps what it says of other tables, profiles and environments.
    """
    found = read_json(table.parent / "source.json")
    for one in {(one.profile, one.env): one for one in planned}.values():
        unit = one.unit
        entry = _entry(unit, params=unit.params, data=dict(unit.data), pins=unit.pins, lock=unit.lock,
                       base=WEIGHTS + base_hash(root, one.env, one.profile, unit.params) if unit.base else "")
        where = [processor.read(unit_path(root, other.unit)) for other in planned if (other.profile, other.env) == (one.profile, one.env)]
        entry |= {"processors": processor.merged(where)} if all(where) else {}
        found.setdefault(table.name, {}).setdefault(one.profile, {})[one.env] = entry
    write_atomic(table.parent / "source.json", json.dumps(found, indent=1, sort_keys=True) + "\n")


def write_identities(root: Path, identities: Identities) -> list[str]:
    """Write ``results/identity/``, a file for each paper; a line for each that could not be determined here and stays as it is."""
    lines = []
    for paper in known_papers(root):
        spec = load_spec(root, paper)
        try:
            found = {env: _identity(root, spec, env, identities) for env in default_envs(spec)}
        except MissingInput as error:
            lines.append(f"results/identity/{paper}.json stays as it is: {error}")
            continue
        text = json.dumps({"pins": pins_hash(root)[:24], "envs": found}, indent=1, sort_keys=True) + "\n"
        write_atomic(root / "results" / "identity" / f"{paper}.json", text)
    return lines


def _identity(root: Path, spec: PaperSpec, env: str, identities: Identities) -> dict[str, Any]:
    code = identities.unit(spec, env)
    return {"room": code.room, "layers": code.layers, "data": _sha(canonical(data_hashes(root, env), "data"))[:24],
            "base": base_hash(root, env, "cpu")[:24]}


def table_state(root: Path, table: Path, paper: str, env: str, profile: str, identities: Identities | None = None) -> ResultState:
    """The state of the rows of ``env`` in ``table``; unknown when the table does not say from what it was computed, or what it
    needs is not here to compare. ``identities``: those of the code at ``root``, where they are known."""
    recorded = _recorded(table, env, profile)
    variable = USER_ENVS.get(env)
    if not recorded or variable and variable not in os.environ:  # nothing is fetched from elsewhere to compare
        return UNKNOWN
    identities = identities or Identities(root)
    try:
        present = _present(root, paper, env, profile, identities, by_weights=recorded["base"].startswith(WEIGHTS))
    except MissingInput:
        return UNKNOWN
    return result_state(paper, recorded, present, identities.prints)


def table_states(root: Path, results: Path, records: Sequence[Mapping[str, Any]]) -> Tables:
    """The states of the tables behind the verdicts of ``results``."""
    states, identities = {}, Identities(root)
    for record in records:
        name = (record["paper"], record["env"], record["profile"])
        if name not in states:
            states[name] = table_state(root, table_of(results, *name), *name, identities)
    return states


def table_of(results: Path, paper: str, env: str, profile: str) -> Path:
    """The file that holds a paper's rows of an environment at a profile; that of default runs where there are none."""
    for table in sorted((results / paper).glob("metrics*.jsonl")):
        if any((row.env, row.profile) == (env, profile) for row in read_metrics(table)):
            return table
    return results / paper / "metrics.jsonl"


def same_weights(table: Path, env: str, profile: str) -> bool:
    """Whether the rows of ``env`` in ``table`` are known to come from the base model that is shipped, or from none."""
    base = _recorded(table, env, profile).get("base", "")
    return not base or base.startswith(WEIGHTS)


def published_processors(table: Path, env: str, profile: str) -> list[processor.Processor]:
    """Where the rows of ``env`` in ``table`` were computed; none where that is not known."""
    return _recorded(table, env, profile).get("processors", [])


def params_digest(params: str) -> str:
    """How ``source.json`` names parameters, given as their JSON."""
    return _sha(params)[:24]


def published_params(root: Path, paper: str, profile: str, env: str) -> str:
    """:func:`params_digest` of those behind the published rows of an environment at a profile; "" where there are none."""
    return _recorded(table_of(root / "results", paper, env, profile), env, profile).get("params", "")


def _recorded(table: Path, env: str, profile: str) -> dict[str, Any]:
    """What ``source.json`` says of the rows of an environment in ``table``; {} where it says nothing."""
    return read_json(table.parent / "source.json").get(table.name, {}).get(profile, {}).get(env, {})


def _present(
    root: Path, paper: str, env: str, profile: str, identities: Identities, *, by_weights: bool
) -> Mapping[str, Any]:
    spec = load_spec(root, paper)
    params = to_json(resolve(params_class(root, spec), spec, profile, env, {}))
    base = ""
    if base_dir(root, env, profile, params) is not None:
        base = WEIGHTS + base_hash(root, env, profile, params) if by_weights else base_key(root, env, identities)
    return _entry(identities.unit(spec, env), params=params, data=data_hashes(root, env), base=base, pins=pins_hash(root),
                  lock=lock_hash(root))


def _entry(code: Any, *, params: str, data: Mapping[str, str], base: str, pins: str, lock: str) -> dict[str, Any]:
    """What ``source.json`` says of an environment. ``code``: a unit, or the identity of the code that would compute it."""
    parts = {"params": _sha(params), "data": _sha(canonical(data, "data")), "base": base, "pins": pins, "code": code.code,
             "lock": lock}
    return {name: digest[:24] for name, digest in parts.items()} | {
        "room": code.room, "layers": dict(code.layers), "digests": dict(code.digests)}


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
