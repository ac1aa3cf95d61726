"""Whether parameters ask for no more tasks than an environment's panels hold: a cut panel would pass for the one asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import ConfigError, PaperSpec, flat, hint, ranges_of
from common.config.ranges import TASKS
from common.envs.panels import supplied, version

CATALOGUE = "catalogue"
"""Beside the panels: the products of a shop, no tasks."""


def panel_sizes(root: Path, env: str) -> dict[str, int]:
    """Panel → its number of tasks; {} where the panels are not there, which :func:`common.sweep.unit.data_hashes` tells first: it
    reads the files of a user, which takes long where they come from a hub, and they are then in memory."""
    if supplied(env):
        return {name: len(tasks) for name, tasks in version(env).panels().items()}
    try:
        files = json.loads((root / "data" / env / "manifest.json").read_text(encoding="utf-8"))["files"]
        sizes = {name.removesuffix(".jsonl"): entry["rows"] for name, entry in files.items()}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {name: rows for name, rows in sizes.items() if name != CATALOGUE}


def check_panels(root: Path, spec: PaperSpec, profile: str, env: str, params: Any, overrides: Mapping[str, Any]) -> None:
    """Raise ConfigError where ``params`` evaluates on a panel that ``env`` does not have, or asks for more tasks than there are.

    A preset is chosen for the preset's panels: where only ``panels`` is overridden, for a pilot on a smaller one, it is the most.
    """
    sizes = panel_sizes(root, env)
    if not sizes:
        return
    panels = getattr(params, "panels", ())
    for panel in panels:
        if panel not in sizes:
            raise ConfigError(f'{spec.paper}: panels holds "{panel}", which {env} does not have; {hint(panel, sizes)}')
        if panels.count(panel) > 1:
            raise ConfigError(f'{spec.paper}: panels holds "{panel}" twice but evaluates on each once; leave one out')
    known = {f"tasks({panel})": rows for panel, rows in sizes.items()}
    words = {f"tasks({panel})": f"all tasks of {env}/{panel}" for panel in sizes}
    if panels:
        smallest = min(panels, key=sizes.get)
        known["tasks(panels)"], words["tasks(panels)"] = sizes[smallest], words[f"tasks({smallest})"]
    values = flat(params)
    for name, ranges in ranges_of(type(params), spec).items():
        counted = [one for one in ranges if any(TASKS.fullmatch(end) for end in one.names)]
        if name not in overrides and "panels" in overrides:
            counted = [one for one in counted if "tasks(panels)" not in one.names]
        where = f"override of {spec.paper}: {name}" if name in overrides else f"papers/{spec.paper}/params.yaml: {name} ({profile}, {env})"
        for one in counted:
            one.check(values[name], where, values | known, words)
