"""Making what units start from: the data panels and the base models."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from common.config import ConfigError, hint
from common.envs import ENV_IDS, env_file
from common.files import storage
from common.lm.bases import has_base, settings_for
from common.sweep.identity import Identities
from common.sweep.plan import USER_ENVS, verify_panels
from common.sweep.progress import Progress
from common.sweep.unit import base_dir, data_hashes
from common.track.provenance import pins_hash

BASE_SEED = 0
"""Training seed of base models: units with different seeds start from the same model."""

ENTRY = "common/base.py"

PROFILE = "cpu"
"""Base models are trained at this size; units at smoke start from them too, and other profiles from pretrained models."""


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


def base_key(root: Path, env: str, identities: Identities | None = None) -> str:
    """Hash of all that the base model depends on: settings, fingerprints of the layers that its training reaches, panels,
    numeric libraries, seed. ``identities``: those of the code at ``root``, where they are known."""
    code = (identities or Identities(root)).of((ENTRY, env_file(env)), env)
    content = [env, PROFILE, BASE_SEED, asdict(settings_for(env, PROFILE)), code.layers, data_hashes(root, env), pins_hash(root)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _kept(root: Path, env: str) -> Path:
    """Where the run store keeps the base model."""
    return root / "runs" / "base" / f"{env}-{base_key(root, env)}"


def shown_by(progress: Progress) -> Callable[[int, dict[str, float]], None]:
    """A training log that shows how far the training is and how long the rest will take at its pace so far."""
    ends: list[float] = []  # of updates; what came before the first one does not come again

    def log(update: int, metrics: dict[str, float]) -> None:
        ends.append(time.monotonic())
        pace = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else None
        left = None if pace is None else pace * (progress.total - update) / 60
        progress.update(update, [f"loss {metrics['loss']:.3f}"], left)

    return log


def build_base(root: Path, env: str) -> str:
    """Train the base model of ``env`` into ``models/<env>``, or copy it from the run store when it was trained before.

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
    target = base_dir(root, env, PROFILE)
    kept = _kept(root, env)
    trained = not kept.exists()
    with storage(kept):
        if trained:
            from common.base import train_base

            partial = kept.with_name(f".{kept.name}.{os.getpid()}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            progress = Progress(settings_for(env, PROFILE).updates, f"base model of {env}", what="updates")
            train_base(env, PROFILE, root / "data", partial, BASE_SEED, log=shown_by(progress))
            progress.close()
            os.replace(partial, kept)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(kept, target)
    done = "trained" if trained else "unchanged, copied from the run store"
    return f"base model of {env}: {done} → {target.relative_to(root)}"
