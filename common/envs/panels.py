"""Frozen, hashed task panels: ``data/<env id>/<panel>.jsonl`` beside a ``manifest.json``.

Panels are written once by :func:`build_all`, deterministically from a fixed seed, tracked by DVC,
and read with their hash checked. ``webshop-1k`` has no files here: its panels come from the files
that the user supplies (``WEBSHOP_DATA``), which the project neither holds nor copies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.types import Task

SEED = 0
BUILD = "run `python -m common data` to build it again or `dvc pull data.dvc` to fetch it"


class PanelError(Exception):
    """A panel is missing, empty or not the one that was frozen."""


def build_all(data_dir: Path | str) -> dict[str, dict[str, int]]:
    """Write every panel and catalogue; the same bytes each time. Returns rows by env and file."""
    from common.envs import arithmetic, countdown
    from common.envs.shop import catalogue as shop

    catalogue = shop.build_catalogue(SEED)
    answers = countdown.build_answer_panels(SEED)
    files = {
        "countdown-v1": {name: list(map(asdict, tasks)) for name, tasks in countdown.build_panels(SEED).items()},
        "countdown-answer-v1": {name: list(map(asdict, tasks)) for name, tasks in answers.items()},
        "arithmetic-v1": {name: list(map(asdict, tasks)) for name, tasks in arithmetic.build_panels(SEED).items()},
        "shop-v1": {name: list(map(asdict, tasks)) for name, tasks in shop.build_panels(catalogue, SEED).items()}
        | {"catalogue": catalogue},
    }
    for env_id, panels in files.items():
        folder = Path(data_dir) / env_id
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {}
        for name, rows in sorted(panels.items()):
            blob = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
            (folder / f"{name}.jsonl").write_bytes(blob)
            manifest[f"{name}.jsonl"] = {"rows": len(rows), "sha256": hashlib.sha256(blob).hexdigest()}
        (folder / "manifest.json").write_text(json.dumps({"env": env_id, "files": manifest}, indent=1) + "\n")
    return {env_id: {name: len(rows) for name, rows in panels.items()} for env_id, panels in files.items()}


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
    found = hashlib.sha256(blob).hexdigest()
    if found != files[file]["sha256"]:
        raise PanelError(
            f"data panel: '{path}' has sha256 {found[:12]}…, its manifest says {files[file]['sha256'][:12]}…; "
            f"a panel never changes under its name; {BUILD}"
        )
    return [json.loads(line) for line in blob.splitlines()]


def load_panel(data_dir: Path | str, panel: str) -> list[Task]:
    """Tasks of ``panel``, written ``<env id>/<name>`` such as ``shop-v1/test``.

    Raises:
        PanelError: unknown, missing, empty or altered panel, with the next step.
    """
    env_id, _, name = panel.partition("/")
    if env_id == "webshop-1k":
        from common.envs.shop.webshop import webshop_panels

        panels = _supplied(webshop_panels)
        if name not in panels:
            raise PanelError(f"data panel: '{panel}' is unknown; it must be one of {', '.join(sorted(panels))}")
        return panels[name]
    return [Task(**row) for row in _rows(Path(data_dir) / env_id, name)]


def load_catalogue(data_dir: Path | str, env_id: str) -> list[dict[str, Any]]:
    """The products of a generated shop, hash-checked like a panel."""
    return _rows(Path(data_dir) / env_id, "catalogue")


def data_hash(data_dir: Path | str, env_id: str) -> str:
    """One SHA-256 for all data of an environment, part of each unit's key. PanelError when it is not there."""
    if env_id == "webshop-1k":
        from common.envs.shop.webshop import files_hash

        return _supplied(files_hash)
    text = json.dumps(_manifest(Path(data_dir) / env_id), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
