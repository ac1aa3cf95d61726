"""``params.yaml``: which papers, seeds and profile the laboratory runs, and with how many workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from common.config.strict import ConfigError, check_value, hint, load_yaml, parse_yaml, require_keys

RUN_PROFILES = ("smoke", "cpu", "smol", "gpu")
"""By growing scale: a few steps of a tiny model; a tiny model trained here; SmolLM2-135M; a larger model on GPUs."""

PROFILES = (*RUN_PROFILES, "paper")
"""``paper`` is what the paper itself used, as far as it states it."""


@dataclass(frozen=True)
class LabParams:
    """What to run. ``seeds`` are the training seeds, the unit of all statistics."""

    profile: str
    papers: tuple[str, ...]
    seeds: tuple[int, ...]
    workers: int


def load_lab(root: Path, overrides: Mapping[str, Any] | None = None) -> LabParams:
    """``<root>/params.yaml`` with ``overrides`` (field name to value) on top, checked.

    Raises ConfigError for an unknown or missing field, a wrong type, an unknown profile or paper,
    an empty or repeated list, a negative seed or less than one worker.
    """
    names = [field.name for field in fields(LabParams)]
    values = load_yaml(root / "params.yaml", "params.yaml")
    require_keys(values, names, [], "params.yaml")
    for name in overrides or {}:
        if name not in names:
            raise ConfigError(f'override: unknown name "{name}"; {hint(name, names)}')
    values |= overrides or {}
    types = {"profile": str, "papers": tuple[str, ...], "seeds": tuple[int, ...], "workers": int}
    lab = LabParams(**{name: check_value(types[name], values[name], f"params.yaml: {name}") for name in names})
    check_profile(lab.profile, "params.yaml: profile")
    for name, items in (("papers", lab.papers), ("seeds", lab.seeds)):
        if not items:
            raise ConfigError(f"params.yaml: {name} is empty but must name at least one; add one")
        if len(set(items)) < len(items):
            raise ConfigError(f"params.yaml: {name} is {list(items)} but must not repeat an item; "
                              "remove the repeated one")
    for paper in lab.papers:
        check_paper(root, paper, "params.yaml: papers")
    if min(lab.seeds) < 0:
        raise ConfigError(f"params.yaml: seeds holds {min(lab.seeds)} but a seed must be 0 or more; use such a number")
    if lab.workers < 1:
        raise ConfigError(f"params.yaml: workers is {lab.workers} but must be at least 1; use the number of free cores")
    return lab


def known_papers(root: Path) -> tuple[str, ...]:
    """Ids of the papers that have a ``params.yaml``, sorted."""
    return tuple(sorted(path.parent.name for path in (root / "papers").glob("*/params.yaml")))


def check_paper(root: Path, paper: str, where: str) -> None:
    """Raise ConfigError unless ``papers/<paper>/params.yaml`` exists."""
    if paper not in known_papers(root):
        raise ConfigError(f'{where}: unknown paper "{paper}"; {hint(paper, known_papers(root))}')


def check_env(root: Path, env: str, where: str) -> None:
    """Raise ConfigError unless the environment ``env`` has a module: :data:`common.envs.ENV_IDS` without importing it."""
    folder = root / "common" / "envs" / "versions"
    folder = folder if folder.is_dir() else Path(__file__).parents[1] / "envs" / "versions"
    known = [path.stem.replace("_", "-") for path in folder.glob("*.py") if path.stem[0] != "_"]
    if env not in known:
        raise ConfigError(f'{where}: unknown environment "{env}"; {hint(env, known)}')


def check_profile(profile: str, where: str) -> None:
    """Raise ConfigError unless ``profile`` is one of PROFILES."""
    if profile not in PROFILES:
        raise ConfigError(f'{where}: unknown profile "{profile}"; {hint(profile, PROFILES)}')


def parse_assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Command-line overrides: ``["search.alpha=0.5", "seeds=[0, 1]"]`` to names and YAML values.

    Raises ConfigError for a text without ``=``, a repeated name or an ambiguous value such as 1e-5.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigError(f'the override "{text}" is not of the form name=value; write for example workers=2')
        if name in values:
            raise ConfigError(f'the override "{name}" is given twice; keep one of them')
        values[name] = parse_yaml(value, f'the override "{text}"')
    return values
