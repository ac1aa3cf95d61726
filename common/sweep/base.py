"""Making what units start from: the data panels and the base models."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from common.config import ConfigError, hint
from common.envs import ENV_IDS, env_file
from common.files import storage
from common.lm.bases import has_base, settings_for
from common.sweep.identity import Identities
from common.sweep.plan import USER_ENVS, verify_panels
from common.sweep.progress import Progress
from common.sweep.unit import BASE_PROFILES, base_dir, data_hashes, folder_hash
from common.track.provenance import pins_hash

BASE_SEED = 0
"""Training seed of base models: units with different seeds start from the same model."""

ENTRY = "common/base.py"


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


def _kept(root: Path, env: str, profile: str) -> Path:
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
    kept = _kept(root, env, profile)
    trained = not kept.exists()
    with storage(kept):
        if trained:
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
    where = target.relative_to(root)
    done = "trained" if trained else "unchanged, copied from the run store"
    return f"base model of {env} ({profile}): {done} → {where}"


def outdated(root: Path, envs: Sequence[str], profile: str) -> list[str]:
    """Those of ``envs`` whose base model is absent, or not what its training would give now. Of one that came from
    elsewhere, DVC's cache for example, its stage knows whether it is."""
    def current(env: str) -> bool:
        target = base_dir(root, env, profile)
        if not target.is_dir() or not any((root / "runs" / "base").glob(f"{env}-{profile}-*")):
            return target.is_dir()
        kept = _kept(root, env, profile)
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
    with ThreadPoolExecutor(workers) as pool:
        try:
            waiting = [pool.submit(train, env) for env in absent]
            for one in waiting:
                one.result()
        except BaseException:
            for one in waiting:
                one.cancel()
            for process in started:
                process.terminate()
            raise
