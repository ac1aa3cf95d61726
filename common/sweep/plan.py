"""Plans of sweeps: which units to run, which are already finished, and what the rest will cost."""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import ConfigError, LabParams, PaperSpec, check_profile, hint, load_lab, load_spec, resolve
from common.lm.backends import asked_backend
from common.sweep.identity import Identities
from common.sweep.notebook import check_notebook
from common.sweep.sizes import check_panels
from common.sweep.unit import MissingInput, params_class, results_dir, unit_spec
from common.track.store import UnitSpec, is_finished, read_unit, unit_path

USER_ENVS = {
    "gsm8k-steps-v1": "GSM8K_DATA", "gsm8k-v1": "GSM8K_DATA", "math500-v1": "MATH500_DATA",
    "minigrid-unlock-v1": "", "reasoning-gym-steps-v1": "", "reasoning-gym-v1": "", "textworld-coin-v1": "",
    "textworld-cooking-v1": "", "textworld-home-v1": "", "textworld-map-v1": "", "webshop-1k": "WEBSHOP_DATA",
}  # fmt: skip
"""Environments that need files a user supplies, and the variable that names their folder; "" where an optional package makes
the tasks. Left out unless asked for by name."""


@dataclass(frozen=True)
class Planned:
    """One unit of a plan. ``unit`` is None in a dry run whose inputs do not exist yet (``missing`` says which).

    ``minutes`` and ``disk_mb`` are estimates for one unit, None when nothing is known.
    """

    paper: str
    env: str
    seed: int
    profile: str
    overrides: dict[str, Any]
    notebook: Path
    unit: UnitSpec | None
    missing: str
    finished: bool
    minutes: float | None
    disk_mb: float | None

    @property
    def names(self) -> dict[str, Any]:
        """What names the unit, as :func:`common.sweep.unit.open_unit` takes it."""
        return {"paper": self.paper, "env": self.env, "seed": self.seed, "profile": self.profile,
                "overrides": self.overrides}

    @property
    def parameters(self) -> dict[str, Any]:
        """What the notebook's parameters cell receives: a sweep's notebooks train."""
        return self.names | {"train": True}

    @property
    def name(self) -> str:
        changes = "".join(f" {name}={value}" for name, value in self.overrides.items())
        return f"{self.paper} {self.env} seed {self.seed} {self.profile}{changes}"


def default_envs(spec: PaperSpec) -> tuple[str, ...]:
    """The paper's environments without those that need a user's files or run only when asked for."""
    return tuple(env for env in spec.envs if env not in USER_ENVS and env not in spec.asked)


def plan(
    root: Path, paper: str, *, seeds: Sequence[int], profile: str, envs: Sequence[str] | None = None,
    grid: Sequence[Mapping[str, Any]] = ({},), dry: bool = False,
) -> list[Planned]:
    """Units of one paper: seeds × environments × override sets of ``grid``, equal units only once.

    Checks everything that can be checked before a kernel starts: names, types, ranges, the notebook's
    parameters cell, panels and base models. Raises ConfigError; with ``dry`` absent panels and base models
    are noted in the plan instead.
    """
    spec = load_spec(root, paper)
    check_profile(profile, "profile")
    asked_backend()
    for env in envs or ():
        if env not in spec.envs:
            raise ConfigError(f'envs: {paper} does not run on "{env}"; {hint(env, spec.envs)}')
    notebook = root / spec.notebook
    cls = params_class(root, spec)
    chosen = tuple(envs or default_envs(spec))
    for env, overrides in itertools.product(chosen, grid):
        params = resolve(cls, spec, profile, env, overrides)
        if env not in USER_ENVS:  # else once the user's files are known to be there
            check_panels(root, spec, profile, env, params, overrides)
        check_notebook(notebook, {"paper": paper, "env": env, "seed": 0, "profile": profile,
                                  "overrides": dict(overrides), "train": True}, spec.notebook)
    for env in chosen:
        verify_panels(root, env)
    identities = Identities(root)
    codes = {env: identities.unit(spec, env) for env in chosen}
    costs = {env: estimate(root, spec, env, profile) for env in chosen}
    planned, seen = [], set()
    for overrides, seed, env in itertools.product(grid, seeds, chosen):
        unit, missing = None, ""
        try:
            unit = unit_spec(root, spec, env=env, seed=seed, profile=profile, overrides=overrides, code=codes[env])
        except MissingInput as error:
            if not dry:
                raise
            missing = str(error)
        if unit is not None and unit.key in seen:
            continue
        seen.add(unit.key if unit else None)
        planned.append(Planned(
            paper=paper, env=env, seed=seed, profile=profile, overrides=dict(overrides), notebook=notebook, unit=unit,
            missing=missing, finished=unit is not None and is_finished(root, unit),
            minutes=costs[env][0], disk_mb=costs[env][1]))
    return planned


def check_files(root: Path, papers: Sequence[str] | None = None) -> LabParams:
    """``params.yaml`` and the parameters of its papers (or of ``papers``) at its profile, checked: what begins with minutes of
    training must not end at a mistyped word. ConfigError."""
    lab = load_lab(root)
    for paper in lab.papers if papers is None else papers:
        spec = load_spec(root, paper)
        for env in spec.envs:
            resolve(params_class(root, spec), spec, lab.profile, env)
    return lab


def verify_panels(root: Path, env: str) -> None:
    """Raise ConfigError when a panel file differs from its manifest; absent panels are reported elsewhere."""
    manifest = root / "data" / env / "manifest.json"
    if not manifest.exists():
        return
    for name, entry in read_json(manifest).get("files", {}).items():
        file = manifest.parent / name
        blob = file.read_bytes() if file.exists() else b""
        if hashlib.sha256(blob).hexdigest() != entry["sha256"]:
            state = "is missing or empty" if not blob else "was altered (its SHA-256 is not the manifest's)"
            raise ConfigError(f"data panel: data/{env}/{name} {state} but a panel never changes under its name; "
                              "run: python -m common data")


def estimate(root: Path, spec: PaperSpec, env: str, profile: str) -> tuple[float | None, float | None]:
    """Minutes and megabytes of one unit: median of finished runs in the store, else the published
    ``timing.json`` of the paper, else the paper's own estimate, else (None, None)."""
    seen = []
    for file in sorted((root / "runs" / spec.paper).glob("*/timing.json")):
        if (file.parent / "DONE").exists():
            unit = read_unit(file.parent)
            if (unit.env, unit.profile) == (env, profile):
                seen.append(read_json(file))
    seen = [entry for entry in seen if entry]
    if seen:
        return (statistics.median(entry["seconds"] for entry in seen) / 60,
                statistics.median(entry["bytes"] for entry in seen) / 1e6)
    entry = read_json(results_dir(root, profile) / spec.paper / "timing.json").get(profile, {}).get(env)
    if entry:
        return entry["minutes"], entry["disk_mb"]
    if profile in spec.estimate:
        return spec.estimate[profile].minutes, spec.estimate[profile].disk_mb
    return None, None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, {} when it is absent or damaged: timings are never a reason to stop."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def totals(planned: Sequence[Planned], workers: int) -> tuple[float | None, float | None]:
    """Wall-clock minutes with ``workers`` processes and megabytes for what is still to run."""
    todo = [one for one in planned if not one.finished]
    if any(one.minutes is None or one.disk_mb is None for one in todo):
        return None, None
    # A greedy assignment, longest first: what the executor does, give or take.
    loads = [0.0] * max(1, min(workers, len(todo) or 1))
    for minutes in sorted((one.minutes for one in todo), reverse=True):
        loads[loads.index(min(loads))] += minutes
    return max(loads), sum(one.disk_mb for one in todo)


def cost_line(planned: Sequence[Planned], workers: int) -> str:
    """One sentence: units finished and to run, minutes, disk."""
    todo = sum(not one.finished for one in planned)
    if not todo:
        return f"{len(planned)} units, all finished: nothing to run"
    minutes, disk = totals(planned, workers)
    cost = "an unknown time (none was run before)" if minutes is None else f"about {minutes:.1f} min, {disk:.0f} MB"
    return f"{len(planned)} units, {len(planned) - todo} finished, {todo} to run: {cost} with {workers} worker(s)"


def describe(planned: Sequence[Planned], workers: int) -> str:
    """The text of ``--dry-run``: units with their state, resolved parameters once per environment, cost."""
    lines = []
    shown: dict[str, str] = {}
    for one in planned:
        state = "finished" if one.finished else "inputs missing" if one.missing else "to run"
        cost = "" if one.minutes is None else f"  ~{one.minutes:.1f} min, {one.disk_mb:.0f} MB"
        where = f"  {unit_path(Path(), one.unit).as_posix()}" if one.unit else ""
        lines.append(f"{state:<15}{one.name}{where}{'' if one.finished else cost}")
        if one.unit and one.unit.params not in shown.values():
            shown[one.name.replace(f" seed {one.seed}", "")] = one.unit.params
    for name, params in shown.items():
        lines += ["", f"parameters of {name}:", json.dumps(json.loads(params), indent=2, sort_keys=True)]
    lines += ["", *sorted({f"missing: {one.missing}" for one in planned if one.missing}), cost_line(planned, workers)]
    return "\n".join(lines)


def parse_seeds(text: str) -> tuple[int, ...]:
    """``"0-4,7"`` to (0, 1, 2, 3, 4, 7). ConfigError for anything else or a repeated seed."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigError(f'seeds: "{text}" is not a list of seeds; write for example 0-4 or 0,1,7')
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f'seeds: "{text}" names no seed or one twice; write for example 0-4 or 0,1,7')
    return tuple(seeds)
