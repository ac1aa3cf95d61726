"""Frozen, hashed task panels: ``data/<env id>/<panel>.jsonl`` beside a ``manifest.json``.

Panels are written once by :func:`common.envs.build.build_all`, tracked by DVC, and read with their hash
checked. Panels of files that a user supplies have no place here: their environment's own module reads them.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from common.types import Task

BUILD = "run `python -m common data` to build it again or `dvc pull data.dvc` to fetch it"


class PanelError(Exception):
    """A panel is missing, empty or not the one that was frozen."""


def env_file(env_id: str) -> str:
    """The module of an environment as a path below the project's root: an entry for ``code_hash``."""
    return f"common/envs/versions/{env_id.replace('-', '_')}.py"


def version(env_id: str) -> ModuleType:
    """The module of an environment, see :mod:`common.envs`."""
    return importlib.import_module(env_file(env_id).removesuffix(".py").replace("/", "."))


def supplied(env_id: str) -> bool:
    """Whether the environment's panels come from files that a user supplies; False for an unknown one."""
    return (Path(__file__).parents[2] / env_file(env_id)).is_file() and hasattr(version(env_id), "panels")


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.exists():
        raise PanelError(f"data panel: '{path}' is missing; every environment needs its frozen panels; {BUILD}")
    try:
        return json.loads(path.read_text())["files"]
    except (ValueError, TypeError, KeyError) as error:
        raise PanelError(
            f"data panel: '{path}' is no manifest ({error!r}); it must hold the hash of each panel; {BUILD}"
        ) from None


def _supplied(read: Callable[[], Any]) -> Any:
    """What ``read`` finds in the files a user supplies; their absence or damage is a PanelError too."""
    try:
        return read()
    except (FileNotFoundError, ValueError) as error:
        raise PanelError(f"data panel: {error}") from None


def _rows(folder: Path, name: str) -> list[dict[str, Any]]:
    files = _manifest(folder)
    file = f"{name}.jsonl"
    if file not in files:
        valid = ", ".join(sorted(known.removesuffix(".jsonl") for known in files))
        raise PanelError(f"data panel: '{folder.name}/{name}' is unknown; it must be one of {valid}")
    path = folder / file
    blob = path.read_bytes() if path.exists() else b""
    if not blob:
        raise PanelError(f"data panel: '{path}' is missing or empty; {files[file]['rows']} rows are expected; {BUILD}")
    digest = hashlib.sha256(blob).hexdigest()
    if digest != files[file]["sha256"]:
        raise PanelError(
            f"data panel: '{path}' has sha256 {digest[:12]}…, its manifest says {files[file]['sha256'][:12]}…; "
            f"a panel never changes under its name; {BUILD}"
        )
    return [json.loads(line) for line in blob.splitlines()]


def load_panel(data_dir: Path | str, panel: str) -> list[Task]:
    """Tasks of ``panel``, written ``<env id>/<name>`` such as ``shop-v1/test``.

    Raises:
        PanelError: unknown, missing, empty or altered panel, with the next step.
    """
    env_id, _, name = panel.partition("/")
    if supplied(env_id):
        panels = _supplied(version(env_id).panels)
        if name not in panels:
            raise PanelError(f"data panel: '{panel}' is unknown; it must be one of {', '.join(sorted(panels))}; what "
                             f"others need, common/envs/versions/{env_id.replace('-', '_')}.py says")
        return panels[name]
    return [Task(**row) for row in _rows(Path(data_dir) / env_id, name)]


def load_catalogue(data_dir: Path | str, env_id: str) -> list[dict[str, Any]]:
    """The products of a generated shop, hash-checked like a panel."""
    return _rows(Path(data_dir) / env_id, "catalogue")


def data_hash(data_dir: Path | str, env_id: str) -> str:
    """One SHA-256 for all data of an environment, part of each unit's key. PanelError when it is not there."""
    if supplied(env_id):
        return _supplied(version(env_id).data_hash)
    text = json.dumps(_manifest(Path(data_dir) / env_id), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
