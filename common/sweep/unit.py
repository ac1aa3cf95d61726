"""Assembles a unit from parameters, panels, base model and code, and opens it in a notebook.

    unit = open_unit(paper=paper, env=env, seed=seed, profile=profile, overrides=overrides)
    unit.params, unit.run, unit.data, unit.base

The parent process computes the same :class:`UnitSpec` (:func:`unit_spec`) to know what is already finished. Parameters are
checked before torch is loaded, so a paper's ``Params`` is read without importing its method file (:func:`params_class`).
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import common
from common.config import (
    ConfigError, PaperSpec, check_paper, check_profile, check_value, from_json, hint, load_spec, resolve, to_json,
)
from common.envs.panels import PanelError, data_hash
from common.files import StoreError
from common.lm.bases import base_seeds, has_base
from common.lm.pretrained import PRETRAINED, folder_of
from common.sweep.identity import CodeIdentity, Identities
from common.sweep.sizes import check_panels
from common.track.provenance import lock_hash, pins_hash
from common.track.store import Run, Unit, UnitSpec, is_finished

BASE_PROFILES = ("smoke", "cpu")
"""Profiles whose units start from the base models in ``models/``; the others name theirs in their parameters."""

TRAINED_HERE = "nano"
"""What a parameter ``model`` says where the base model is this laboratory's own."""

# Libraries draw progress bars of their own through tqdm, which complains in every notebook about absent widgets.
warnings.filterwarnings("ignore", message="IProgress not found")

PILOT = 100
"""Seeds from here on are for pilots, which publish nothing."""

LOCK_PATIENCE = 10.0
"""Seconds to wait for a unit's lock: the kernel of a killed run needs a moment to notice."""


class MissingInput(ConfigError):
    """A panel or base model that another command makes; the message says which."""


def project_root() -> Path:
    """``LAB_ROOT`` if set (a worker sets it), else the folder that holds ``common``.

    ConfigError inside another checkout than the one whose code is running, as an installation of that one makes it.
    """
    given = os.environ.get("LAB_ROOT")
    if given:
        return Path(given)
    root = Path(common.__file__).resolve().parent.parent
    here = next((folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "common/sweep/unit.py").is_file()), root)
    if here.resolve() != root:
        raise ConfigError(f"this is the checkout {here} but Python runs the code of {root}, which is installed; in {here} run: "
                          f"make lab, or export PYTHONPATH={here}")
    return root


def results_dir(root: Path, profile: str) -> Path:
    """Where tables of a profile go: smoke runs never touch the committed ``results/``."""
    return root / "runs" / "smoke" / "results" if profile == "smoke" else root / "results"


def base_dir(root: Path, env: str, profile: str, params: str = "{}", seed: int | None = None) -> Path | None:
    """Folder of the model that a unit starts from: the pretrained one that its parameter ``model`` names (``params`` is
    their JSON), else the base model of ``env`` at ``profile``; None where there is none.

    Where ``env`` has a base model for each training seed, it is that of ``seed``; without a seed the folder that holds them all.
    Pilots (seeds from :data:`PILOT` on) take them in turn.

    Raises ConfigError for a model that cannot be one, and for a seed that has none.
    """
    named = json.loads(params).get("model", TRAINED_HERE)
    if named != TRAINED_HERE:
        return folder_of(root, named)
    if not (profile in BASE_PROFILES and has_base(env)):
        return None
    count, folder = base_seeds(env), root / "models" / env
    if count == 1 or seed is None:
        return folder
    if count <= seed < PILOT:
        raise ConfigError(f"seed: {env} has base models of the seeds 0 to {count - 1} and none of {seed}; use one of those, raise "
                          f"seeds in common/lm/bases.yaml and run dvc repro base@{env}, or pilot with a seed of {PILOT} or more")
    return folder / str(seed % count)


def folder_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of a folder's files; ``timing.json`` and hidden files do not count."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "timing.json" and not path.name.startswith("."):
            name, content = path.relative_to(folder).as_posix().encode(), path.read_bytes()
            digest.update(b"%d %b %d " % (len(name), name, len(content)) + content)
    return digest.hexdigest()


def base_hash(root: Path, env: str, profile: str, params: str = "{}", seed: int | None = None) -> str:
    """Hash of what ``base_dir`` names, "" when that is None. MissingInput when it is not there."""
    folder = base_dir(root, env, profile, params, seed)
    if folder is None:
        return ""
    where = folder.relative_to(root)
    if not folder.is_dir() or not any(folder.iterdir()):
        if folder.parent == root / PRETRAINED:
            raise MissingInput(f"model: {where} does not exist but {env} at profile {profile} starts from it; "
                               f"run: python -m common pretrained {json.loads(params)['model']}")
        raise MissingInput(f"base model: {where} does not exist but {env} at profile {profile} starts from it; run: dvc pull, or "
                           f"to train it: python -m common base --env {env}")
    again = (f"python -m common pretrained {json.loads(params)['model']}, after removing {where}" if folder.parent == root / PRETRAINED else
             f"dvc pull --force base@{env}, or to train it: python -m common base --env {env}")
    for weights in sorted(folder.rglob("*.safetensors")):
        if damage := truncated(weights):
            raise MissingInput(f"base model: {weights.relative_to(root)} is damaged ({damage}); run: {again}")
    return folder_hash(folder)


def truncated(weights: Path) -> str:
    """What is missing of a safetensors file, by the sizes that its header gives; "" for nothing."""
    size = weights.stat().st_size
    with open(weights, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length or size < 8:
            return f"{size} bytes, which is less than its header"
        try:
            entries = json.loads(file.read(length))
            end = max((entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            return "its header is none"
    return "" if size == 8 + length + end else f"{size} bytes instead of {8 + length + end}"


def data_hashes(root: Path, env: str) -> dict[str, str]:
    """Hash of the environment's panels, by environment. MissingInput when they are not there."""
    try:
        return {env: data_hash(root / "data", env)}
    except PanelError as error:
        raise MissingInput(str(error)) from None


def params_class(root: Path, spec: PaperSpec) -> type:
    """The ``Params`` dataclass of the paper's method file, without importing that file.

    Only the statements that ``Params`` needs (its nested dataclasses, constants and their imports)
    are executed. Raises ConfigError when the file is missing, does not parse, or defines no ``Params`` dataclass.
    """
    try:
        text = (root / spec.method).read_text(encoding="utf-8")
    except OSError:
        raise ConfigError(f"{spec.paper}: the method file {spec.method} does not exist; "
                          f"correct method in papers/{spec.paper}/params.yaml") from None
    return _params_of(text, spec.method, spec.paper)


@lru_cache(maxsize=256)  # every unit of a plan asks
def _params_of(text: str, file: str, paper: str) -> type:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(f"{file} line {error.lineno}: not valid Python ({error.msg}); correct it") from None
    bound = {name: node for node in tree.body for name in _bound_by(node)}
    if not isinstance(bound.get("Params"), ast.ClassDef):
        raise ConfigError(f"{file} defines no class Params; add a frozen dataclass of that name")
    wanted, queue = set(), ["Params"]
    while queue:
        node = bound.get(queue.pop())
        if node is not None and node not in wanted:
            wanted.add(node)  # names that it reads; a field ``sft: TrainSettings`` sets its name and uses no function ``sft``
            queue += [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)]
    namespace: dict[str, Any] = {"__name__": f"{paper}.params"}
    body = [node for node in tree.body if node in wanted]
    code = compile(ast.Module(body=body, type_ignores=[]), file, "exec", dont_inherit=True)
    try:
        exec(code, namespace)  # statements of our own source file
    except Exception as error:
        raise ConfigError(f"{file}: the class Params cannot be built ({error}); define what it uses above it, "
                          "at top level") from None
    cls = namespace["Params"]
    if not (dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen):
        raise ConfigError(f"{file}: Params is not a frozen dataclass; write @dataclass(frozen=True) above it")
    return cls


def _bound_by(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def unit_spec(
    root: Path, spec: PaperSpec, *, env: str, seed: int, profile: str, overrides: Mapping[str, Any], code: CodeIdentity,
) -> UnitSpec:
    """All that the unit's results depend on. ``code`` is ``Identities(root).unit(spec, env)``.

    Raises ConfigError for bad values, MissingInput for absent panels or base model.
    """
    params = resolve(params_class(root, spec), spec, profile, env, overrides)
    if check_value(int, seed, "seed") < 0:
        raise ConfigError(f"seed is {seed} but must be 0 or more; use such a number")
    text = to_json(params)
    _check_model(spec, env, profile, json.loads(text).get("model"))
    data = data_hashes(root, env)
    check_panels(root, spec, profile, env, params, overrides)
    return UnitSpec(
        paper=spec.paper, env=env, seed=seed, profile=profile, params=text, room=code.room, layers=code.layers,
        data=data, base=base_hash(root, env, profile, text, seed), pins=pins_hash(root), code=code.code,
        lock=lock_hash(root), digests=code.digests)


def _check_model(spec: PaperSpec, env: str, profile: str, named: str | None) -> None:
    """ConfigError where a paper starts from a model and the parameters name none that ``env`` has at ``profile``."""
    if named == TRAINED_HERE and not (profile in BASE_PROFILES and has_base(env)):
        raise ConfigError(f'model: "{TRAINED_HERE}" is trained here, but there is none of {env} at profile {profile}; name a '
                          f"pretrained model: --profile smol, or a sweep over model=SmolLM2-135M-Instruct")
    if named is None and profile not in BASE_PROFILES and has_base(env):
        raise ConfigError(f"profile: {spec.paper} does not run from pretrained models yet (papers/{spec.paper}/params.yaml has no "
                          f"parameter model), and {profile} has no others; run it at cpu")


def open_unit(
    *, paper: str, env: str, seed: int, profile: str, overrides: Mapping[str, Any] | None = None,
    root: Path | None = None,
) -> Unit:
    """Check the names, resolve the parameters and open the unit's run folder. Works from any directory.

    Raises ConfigError for a bad name or value, MissingInput for absent panels or base model, StoreError
    when another process is still executing the same unit or the folder cannot be written.
    """
    root = project_root() if root is None else root
    return _open(root, _wanted(root, paper, env, seed, profile, overrides or {}))


def finished_unit(
    *, paper: str, env: str, seed: int, profile: str, overrides: Mapping[str, Any] | None = None,
    root: Path | None = None,
) -> Unit | None:
    """As :func:`open_unit`, of a unit that is finished on this machine; None of one that is not. Nothing is written."""
    root = project_root() if root is None else root
    wanted = _wanted(root, paper, env, seed, profile, overrides or {})
    return _open(root, wanted) if is_finished(root, wanted) else None


def _wanted(root: Path, paper: str, env: str, seed: int, profile: str, overrides: Mapping[str, Any]) -> UnitSpec:
    check_paper(root, paper, "paper")
    check_profile(profile, "profile")
    spec = load_spec(root, paper)
    if env not in spec.envs:
        raise ConfigError(f'env: {paper} does not run on "{env}"; {hint(env, spec.envs)}')
    return unit_spec(root, spec, env=env, seed=seed, profile=profile, overrides=overrides,
                     code=Identities(root).unit(spec, env))


def _open(root: Path, wanted: UnitSpec) -> Unit:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    method = importlib.import_module(f"papers.{wanted.paper}.method")
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            run = Run.open(root, wanted)
            break
        except StoreError as error:
            # An OSError underneath (disk, permissions) does not heal by waiting; a lock may.
            if error.__cause__ is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.25)
    return Unit(root=root, paper=wanted.paper, env=wanted.env, seed=wanted.seed, profile=wanted.profile,
                params=from_json(method.Params, wanted.params), run=run,
                base=base_dir(root, wanted.env, wanted.profile, wanted.params, wanted.seed))
