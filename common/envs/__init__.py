"""Environments by versioned id: their task panels and how to make one.

The environment ``shop-v1`` is the module :mod:`common.envs.versions.shop_v1`. Modules are found by name, so that
the results of one environment do not depend on the code of the others (:mod:`common.track.code`). Each has

    make(data_dir) -> Env
    build(seed) -> dict[str, list[dict]]     rows of each panel and catalogue, when they are generated
    panels() -> dict[str, list[Task]]        the panels instead, when a user supplies the files or an optional package
    data_hash() -> str                       makes the tasks, with one hash of those
"""

from __future__ import annotations

from pathlib import Path

from common.envs.contract import Env, check_env
from common.envs.panels import PanelError, data_hash, env_file, load_panel, version

__all__ = ["ENV_IDS", "Env", "PanelError", "check_env", "data_hash", "env_file", "load_panel", "make"]

ENV_IDS = tuple(
    sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("versions/*.py") if path.stem[0] != "_")
)


def make(env_id: str, data_dir: Path | str) -> Env:
    """The environment ``env_id``; what it needs beside tasks is read from ``data_dir`` (hash-checked).

    Raises:
        ValueError: unknown id, naming the valid ones.
        PanelError: missing or corrupt data.
    """
    if env_id not in ENV_IDS:
        raise ValueError(f"env: '{env_id}' is unknown; it must be one of {', '.join(ENV_IDS)}")
    return version(env_id).make(Path(data_dir))
