"""``papers/<id>/params.yaml``: every parameter of a paper at every profile, with its source.

    family: tree_search_dpo                       # its notebook is notebooks/tree_search_dpo.py
    envs: [shop-v1, countdown-v1]
    estimate:                                     # optional: cost of one unit before any was run
      cpu: {minutes: 4, disk_mb: 30}
    parameters:
      search:
        alpha: {default: 0.5, paper: 0.5, range: "[0, 1]", source: "section 4.2: alpha = 0.5"}
        simulations:
          default: 20
          cpu: {shop-v1: 12, countdown-v1: 8}     # a mapping is always environment to value
          paper: unstated
          range: ">= 1"                           # which values it may have: common/config/ranges.py
          source: "ours: fits two cores"

The value of a parameter is ``<profile>`` if written, else ``default``; ``paper: unstated`` records
that the paper does not say, and running the ``paper`` profile then takes the default. A mapping must
name every environment of the paper. What has a ``source`` is a parameter; what has none holds those of a nested
dataclass, and is called with dots: ``search.alpha``. Parameters that papers share
(common/config/shared.py) have their values in ``shared.yaml``; a paper that states one replaces its entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from common.config.lab import PROFILES, RUN_PROFILES, check_env, check_paper, check_profile
from common.config.ranges import EXAMPLES, Range, parse_range
from common.config.strict import ConfigError, check_value, hint, load_yaml, require_keys

UNSTATED = "unstated"
SHARED = "common/config/shared.yaml"


@dataclass(frozen=True)
class Estimate:
    """Expected cost of one unit on the profile's machine."""

    minutes: float
    disk_mb: float


@dataclass(frozen=True)
class Parameter:
    """One line of the table: ``presets`` maps "default" and profiles to a value or to {env: value}. ``range`` is None where the
    type, or the shared parameter of that name, has one."""

    name: str
    presets: Mapping[str, Any]
    source: str
    range: Range | None = None

    def value(self, profile: str, env: str) -> Any:
        """The value at ``profile`` for ``env``: None is a legal value; UNSTATED is never returned
        while there is a default."""
        chosen = self.presets.get(profile, UNSTATED)
        if chosen == UNSTATED:
            chosen = self.presets.get("default", UNSTATED)
        return chosen[env] if isinstance(chosen, Mapping) else chosen


@dataclass(frozen=True)
class PaperSpec:
    """A paper's parameter file."""

    paper: str
    family: str
    envs: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    estimate: Mapping[str, Estimate]
    asked: tuple[str, ...] = ()
    """Environments of ``envs`` on which the paper runs only when they are asked for by name."""
    seeds: tuple[int, ...] = ()
    """Training seeds that are recorded of it; () means those of the project's ``params.yaml``."""

    @property
    def method(self) -> str:
        """The module that defines ``class Params`` and the method, relative to the root."""
        return f"papers/{self.paper}/method.py"

    @property
    def notebook(self) -> str:
        """The source of the family's notebook, relative to the root."""
        return f"notebooks/{self.family}.py"


def load_spec(root: Path, paper: str) -> PaperSpec:
    """Read and check ``papers/<paper>/params.yaml``. Raises ConfigError."""
    check_paper(root, paper, "paper")
    where = f"papers/{paper}/params.yaml"
    raw = load_yaml(root / where, where)
    require_keys(raw, ["family", "envs", "parameters"], ["asked", "seeds", "estimate", "notebook", "method"], where)
    family = check_value(str, raw["family"], f"{where}: family")
    envs = check_value(tuple[str, ...], raw["envs"], f"{where}: envs")
    if not envs or len(set(envs)) < len(envs):
        raise ConfigError(f"{where}: envs is {list(envs)} but must name at least one environment, each once; "
                          "correct it")
    for env in envs:
        check_env(root, env, f"{where}: envs")
    asked = check_value(tuple[str, ...], raw.get("asked", []), f"{where}: asked")
    if not set(asked) < set(envs):
        raise ConfigError(f"{where}: asked is {list(asked)} but must name some of envs and not all; correct it")
    seeds = check_value(tuple[int, ...], raw.get("seeds", []), f"{where}: seeds")
    if any(seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{where}: seeds is {list(seeds)} but must be different numbers of 0 or more; correct it")
    parameters = _leaves(_mapping(raw["parameters"], f"{where}: parameters"), f"{where}: ")
    return PaperSpec(
        paper=paper, family=family, envs=envs,
        parameters={name: _parameter(name, entry, envs, f"{where}: {name}") for name, entry in parameters.items()},
        estimate=_estimates(_mapping(raw.get("estimate", {}), f"{where}: estimate"), f"{where}: estimate"), asked=asked, seeds=seeds,
    )


@lru_cache(maxsize=1)
def shared_parameters() -> Mapping[str, Parameter]:
    """The entries of ``shared.yaml``, which no environment of a paper can be named in."""
    raw = load_yaml(Path(__file__).with_name("shared.yaml"), SHARED)
    return {name: _parameter(name, entry, (), f"{SHARED}: {name}") for name, entry in raw.items()}


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r} but must be a mapping; write name: value lines under it")
    return value


def _leaves(entries: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """Dotted name → the mapping that states a parameter."""
    leaves: dict[str, Any] = {}
    for name, entry in entries.items():
        inner = _mapping(entry, f"{where}{prefix}{name}")
        nested = inner and "source" not in inner and all(isinstance(value, dict) for value in inner.values())
        for leaf, value in (_leaves(inner, where, f"{prefix}{name}.") if nested else {f"{prefix}{name}": inner}).items():
            if leaf in leaves:
                raise ConfigError(f'{where}{leaf}: the parameter "{leaf}" is written twice, with a dot and nested; keep one of them')
            leaves[leaf] = value
    return leaves


def _parameter(name: str, entry: Any, envs: tuple[str, ...], where: str) -> Parameter:
    entry = dict(_mapping(entry, where))
    require_keys(entry, ["source"], ["default", "range", *PROFILES], where)
    source = check_value(str, entry.pop("source"), f"{where}.source")
    if not source.strip():
        raise ConfigError(f'{where}.source is empty but every value needs one; quote the paper or write "ours: why"')
    allowed = _range(entry.pop("range"), f"{where}.range") if "range" in entry else None
    for preset, value in entry.items():
        if value == UNSTATED and preset != "paper":
            raise ConfigError(f'{where}.{preset} is "unstated", which only the paper preset may be; give a value')
        if isinstance(value, dict):
            _check_envs(value, envs, f"{where}.{preset}")
        if allowed and value != UNSTATED:  # ends that are names are known once parameters are resolved
            for env, one in value.items() if isinstance(value, dict) else [("", value)]:
                allowed.check(one, f"{where}.{preset}{f' ({env})' * bool(env)}", {})
    uncovered = [profile for profile in RUN_PROFILES if profile not in entry]
    if uncovered and "default" not in entry:
        raise ConfigError(f"{where} has no value for the profile {uncovered[0]}; add {uncovered[0]}: … or default: …")
    return Parameter(name=name, presets=entry, source=source, range=allowed)


def _range(text: Any, where: str) -> Range:
    if not isinstance(text, str):
        raise ConfigError(f"{where} is {text!r} but must be a text in quotes; write for example {EXAMPLES}")
    return parse_range(text, where)


def _check_envs(value: Mapping[str, Any], envs: tuple[str, ...], where: str) -> None:
    for env in value:
        if env not in envs:
            raise ConfigError(f'{where}: unknown environment "{env}"; {hint(env, envs)}')
    for env in envs:
        if env not in value:
            raise ConfigError(f"{where} has no value for the environment {env}; add {env}: …")


def _estimates(raw: Mapping[str, Any], where: str) -> dict[str, Estimate]:
    estimates = {}
    for profile, entry in raw.items():
        check_profile(profile, where)
        entry = _mapping(entry, f"{where}.{profile}")
        require_keys(entry, ["minutes", "disk_mb"], [], f"{where}.{profile}")
        numbers = {name: check_value(float, value, f"{where}.{profile}.{name}") for name, value in entry.items()}
        for name, value in numbers.items():
            parse_range(">= 0").check(value, f"{where}.{profile}.{name}", {})
        estimates[profile] = Estimate(**numbers)
    return estimates


def diff_presets(spec: PaperSpec, first: str, second: str) -> str:
    """A printable table of the parameters whose presets differ, one line each, with the source.

    ``paper: unstated`` is shown as such, not as the default that would be run instead.
    """
    for profile in (first, second):
        check_profile(profile, "preset")
    rows = [("parameter", first, second, "source")]
    for parameter in spec.parameters.values():
        left, right = _written(parameter, first), _written(parameter, second)
        if left != right:
            rows.append((parameter.name, left, right, parameter.source))
    if len(rows) == 1:
        return f"{spec.paper}: {first} and {second} are the same"
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]) for row in rows)


def _written(parameter: Parameter, profile: str) -> str:
    value = parameter.presets.get(profile, parameter.presets.get("default", UNSTATED))
    if isinstance(value, Mapping):
        return ", ".join(f"{env}: {one!r}" for env, one in value.items())
    return value if value == UNSTATED else repr(value)
