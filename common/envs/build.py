"""Building the task panels and catalogues of all environments that generate theirs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from common.envs import ENV_IDS
from common.envs.panels import supplied, version

SEED = 0


def build_all(data_dir: Path | str) -> dict[str, dict[str, int]]:
    """Write every panel and catalogue; the same bytes each time. Returns rows by env and file."""
    return {env_id: build_env(data_dir, env_id) for env_id in ENV_IDS if not supplied(env_id)}


def build_env(data_dir: Path | str, env_id: str) -> dict[str, int]:
    """Write those of one environment, with their manifest. Returns rows by file."""
    panels = version(env_id).build(SEED)
    folder = Path(data_dir) / env_id
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {}
    for name, rows in sorted(panels.items()):
        blob = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        (folder / f"{name}.jsonl").write_bytes(blob)
        manifest[f"{name}.jsonl"] = {"rows": len(rows), "sha256": hashlib.sha256(blob).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"env": env_id, "files": manifest}, indent=1) + "\n")
    return {name: len(rows) for name, rows in panels.items()}
