"""``python -m common doctor``: checks the installation and names the command that repairs what is missing."""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib import metadata
from pathlib import Path
from statistics import fmean

from common.config import ConfigError, load_lab
from common.envs import ENV_IDS
from common.lm.bases import has_base
from common.lm.native import compiler, library
from common.lm.vllm import installed
from common.cli.commands import missing_user_files
from common.sweep.inputs import changed_bases
from common.sweep.plan import USER_ENVS, verify_panels
from common.sweep.unit import truncated


LOCKS = ("requirements.lock", "requirements-tools.lock")
"""What results rest on, and what only tells about them."""


def lock_pins(root: Path, lock: str) -> dict[str, str]:
    """Package name to version of one of :data:`LOCKS`."""
    lines = (root / lock).read_text(encoding="utf-8").splitlines()
    return dict(line.strip().split("==") for line in lines if "==" in line and not line.startswith("#"))


def drift(root: Path) -> list[str]:
    """Packages whose installed version differs from the lock files; local labels such as ``+cpu`` do not count."""
    wrong = []
    for name, version in (pin for lock in LOCKS for pin in lock_pins(root, lock).items()):
        try:
            installed = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            installed = "absent"
        if installed != version:
            wrong.append(f"{name} {installed} (lock: {version})")
    return wrong


def doctor(root: Path) -> int:
    """Print one line per check; the exit code is 1 when something needed is missing."""
    good: list[str] = []
    bad: list[str] = []
    version = ".".join(map(str, sys.version_info[:3]))
    (good if sys.version_info >= (3, 11, 5) else bad).append(f"Python {version} (3.11.5 or newer is needed)")
    wrong = drift(root)
    bad += [f"packages differ from the locks': {', '.join(wrong[:5])}; run: make setup"] if wrong else []
    good += [] if wrong else ["packages are those of the locks"]
    for tool in ("git", "make"):
        (good if shutil.which(tool) else bad).append(f"{tool}: {shutil.which(tool) or 'not found; install it'}")
    try:
        lab = load_lab(root)
        good.append(f"params.yaml: profile {lab.profile}, papers {', '.join(lab.papers)}, seeds {list(lab.seeds)}, "
                    f"{lab.workers} worker(s)")
    except ConfigError as error:
        bad.append(str(error))
    built = library()
    slow = isinstance(built, str)
    good += [] if slow else [f"native engine: built by {compiler()}"]
    optional = [f"native engine: {built}; until then language models run through torch, more slowly"] if slow else []
    if installed():
        good.append("vLLM is installed: large models on a GPU are sampled through it")
    _inputs(root, good, bad)
    free = shutil.disk_usage(root).free / 1e9
    (good if free > 5 else bad).append(f"disk: {free:.0f} GB free (5 GB are enough for the default profile)")
    good.append(f"MLflow: {os.environ.get('MLFLOW_TRACKING_URI') or 'local sqlite store below mlruns/'}")
    for line in good:
        print(f"ok       {line}")
    for line in [*optional, *changed_bases(root), *missing_user_files(root)]:
        print(f"optional {line}")
    for line in bad:
        print(f"missing  {line}")
    return 1 if bad else 0


def _inputs(root: Path, good: list[str], bad: list[str]) -> None:
    for env in (env for env in ENV_IDS if env not in USER_ENVS):
        try:
            if not (root / "data" / env / "manifest.json").exists():
                raise ConfigError(f"data/{env}; run: python -m common data")
            verify_panels(root, env)
        except ConfigError as error:
            bad.append(str(error))
            continue
        model = root / "models" / env
        if has_base(env) and not model.is_dir():
            bad.append(f"models/{env}; run: dvc pull, or to train it: python -m common base --env {env}")
            continue
        cut = [(file, damage) for file in sorted(model.rglob("*.safetensors")) if (damage := truncated(file))]
        if cut:
            bad += [f"{file.relative_to(root)} is damaged ({damage}); run: dvc pull --force base@{env}" for file, damage in cut]
            continue
        reports = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(model.rglob("report.json"))]
        rates = {name: fmean(one[name] for one in reports) for name in (reports[0] if reports else ())}
        solved = ", ".join(f"{name} {rates[name]:.2f}" for name in rates if name.startswith("pass@"))
        start = f"base model{'s' * (len(reports) > 1)}, on validation {solved}" if has_base(env) else "policies learn from scratch"
        good.append(f"{env}: panels are what their manifest says; {start}")
