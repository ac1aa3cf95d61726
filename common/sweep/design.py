"""Designs of sweeps: full grids, random draws and Latin hypercubes over ranges, from options or from a YAML file.

A design is a list of override sets (dotted names → values). Values are checked against the paper's dataclasses by
:func:`common.sweep.plan.plan`, before anything starts. A search (:mod:`common.sweep.study`) has the same axes, and chooses
its override sets one after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.config import ConfigError, hint, load_yaml, parse_yaml
from common.config.ranges import Range as Allowed
from common.config.strict import check_value, require_keys
from common.rng import generator

DRAWS = ("latin", "random")
FIELDS = {"paper": str, "envs": tuple[str, ...], "profile": str, "metric": str, "variant": str, "points": int, "draw": str,
          "sample": int, "minimise": bool, "panel": str}
"""Names of a sweep's file with the types of their values; grid, ranges, seeds and search are read by themselves."""

DIGITS = 4
"""Significant digits of a drawn number: enough to tell two apart, few enough to be read and typed again."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; ``log``: equally likely by ratio. Whole ends give whole numbers."""

    name: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        for value in (self.low, self.high):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigError(f"the range of {self.name} ends at {value!r} but must end at numbers; "
                                  "write for example rl.lr=0.0001:0.001:log")
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ConfigError(f"the range of {self.name} is {self.low} to {self.high} but must rise"
                              f"{' from above 0 on a log scale' if self.log else ''}; exchange or correct its ends")

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, u: float) -> float:
        """The value at ``u`` in [0, 1); each whole number has a share of its own."""
        high = self.high + 1 if self.whole else self.high
        value = self.low * (high / self.low) ** u if self.log else self.low + u * (high - self.low)
        return min(int(value), self.high) if self.whole else self.rounded(value)

    def rounded(self, value: float) -> float:
        """``value`` with few digits, not beyond the ends; whole numbers of a whole range as they are."""
        return int(value) if self.whole else min(max(float(f"{value:.{DIGITS}g}"), float(self.low)), float(self.high))


@dataclass(frozen=True)
class Sweep:
    """One sweep as asked. ``seeds`` as typed; what is None is left to ``params.yaml`` and to the paper's claims.

    ``search``: TPE chooses ``points`` settings from ``ranges`` and from the values of ``grid``, to raise ``metric`` of
    ``variant`` on ``panel`` (``minimise``: to lower it). Otherwise grid and draws are run whole.
    """

    paper: str
    grid: Mapping[str, Sequence[Any]]
    ranges: tuple[Range, ...] = ()
    points: int | None = None
    draw: str = "latin"
    sample: int = 0
    seeds: str = "0"
    envs: tuple[str, ...] | None = None
    profile: str | None = None
    metric: str | None = None
    variant: str | None = None
    search: bool = False
    minimise: bool = False
    panel: str = "validation"


def fitted(ranges: Sequence[Range], kinds: Mapping[str, Any]) -> tuple[Range, ...]:
    """``ranges`` with real ends where the parameter is a real number: 0:1 of a rate is an interval, not two values."""
    return tuple(replace(one, low=float(one.low), high=float(one.high)) if kinds.get(one.name) is float else one
                 for one in ranges)


def check_ends(ranges: Sequence[Range], allowed: Mapping[str, Sequence[Allowed]]) -> None:
    """ConfigError for an end that the parameter may not have; ends that depend on other parameters are checked with each setting."""
    for one in ranges:
        if one.name not in allowed:
            raise ConfigError(f'range: unknown parameter "{one.name}"; {hint(one.name, allowed)}')
        for rule in allowed[one.name]:
            for end in (one.low, one.high):
                rule.check(end, f"an end of the range of {one.name}", {})


def check_axes(grid: Mapping[str, Sequence[Any]], ranges: Sequence[Range], points: int | None) -> None:
    """ConfigError for a parameter swept twice, for none at all, and for ranges without a number of points."""
    names = [*grid, *(one.name for one in ranges)]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'the parameter "{name}" is swept twice; keep one grid or one range of it')
    if not names:
        raise ConfigError("the sweep has no parameter to change; give it a grid or a range, for example "
                          "--grid search.alpha=0,0.5,1")
    if ranges and (not isinstance(points, int) or points < 1):
        raise ConfigError(f"points is {points!r} but ranges need a whole number of settings to draw; give for example "
                          "--points 8")


def settings(
    grid: Mapping[str, Sequence[Any]], ranges: Sequence[Range], *, points: int | None, draw: str, sample: int
) -> tuple[dict[str, Any], ...]:
    """The full grid; with ``ranges`` each of its settings beside each of ``points`` draws.

    ``draw``: "latin", a Latin hypercube (McKay et al. 1979): each range in ``points`` equal parts, one draw in each;
    or "random", independent draws. ``sample`` numbers the draws: the same number, the same settings.
    """
    check_axes(grid, ranges, points)
    if points is not None and not ranges:
        raise ConfigError(f"points is {points} but there is no range to draw from; give one, for example "
                          "--range rl.lr=0.0001:0.001:log")
    if draw not in DRAWS:
        raise ConfigError(f'unknown draw "{draw}"; {hint(draw, DRAWS)}')
    drawn: list[dict[str, Any]] = [{}]
    if ranges:
        from scipy.stats.qmc import LatinHypercube

        rng = generator(sample, "sweep", draw)
        cube = LatinHypercube(len(ranges), rng=rng).random(points) if draw == "latin" else rng.random((points, len(ranges)))
        drawn = [{one.name: one.at(u) for one, u in zip(ranges, row, strict=True)} for row in cube.tolist()]
    whole = [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]
    return tuple(point | more for point in whole for more in drawn)


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """``["search.alpha=0,0.5,1", "search.depth=3"]`` to the values of each axis.

    Values are separated by commas outside brackets; each is read as YAML. ConfigError for a text
    without values or a name given twice.
    """
    axes: dict[str, list[Any]] = {}
    for text in texts:
        name, _, values = (part.strip() for part in text.partition("="))
        if not name or not values:
            raise ConfigError(f'the grid axis "{text}" has no name or no values; write for example '
                              "search.alpha=0,0.5,1")
        if name in axes:
            raise ConfigError(f'the grid axis "{name}" is given twice; keep one of them')
        axes[name] = parse_yaml(f"[{values}]", f'the grid axis "{text}"')
    return axes


def parse_range(text: str) -> Range:
    """``rl.lr=0.0001:0.001:log`` or ``rl.group=4:16``."""
    name, _, rest = text.partition("=")
    ends = rest.split(":")
    if not name.strip() or len(ends) not in (2, 3) or (len(ends) == 3 and ends[2] != "log"):
        raise ConfigError(f'the range "{text}" is not of the form name=from:to or name=from:to:log; write for example '
                          "rl.lr=0.0001:0.001:log")
    low, high = (parse_yaml(end, f'the range "{text}"') for end in ends[:2])
    return Range(name.strip(), low, high, len(ends) == 3)


def read_sweep(path: Path) -> Sweep:
    """A sweep as a YAML file::

        paper: score
        envs: [arithmetic-v1]          # what follows is optional, but for one of grid and ranges
        profile: cpu
        seeds: 0-1
        metric: delta
        grid: {rl.alpha: [1.0, 10.0]}
        ranges: {rl.lr: {from: 0.0001, to: 0.001, scale: log}}
        points: 8
        draw: latin                    # or random
        sample: 0                      # another number draws other settings
        variant: score                 # whose metric decides which setting is best
        search: delta                  # instead of metric and draw: TPE proposes the settings, to raise this
        minimise: false                # or to lower it,
        panel: validation              # on this panel

    Raises ConfigError: one sentence with file, name, value and rule.
    """
    where = path.name
    raw = load_yaml(path, where)
    require_keys(raw, ["paper"], [*FIELDS, "seeds", "grid", "ranges", "search"], where)
    given = {name: check_value(kind, raw[name], f"{where}: {name}") for name, kind in FIELDS.items() if name in raw}
    for name in ("grid", "ranges"):
        if not isinstance(raw.get(name, {}), dict):
            raise ConfigError(f"{where}: {name} is {raw[name]!r} but must be a mapping of parameters; write {{rl.lr: …}}")
    for name, values in raw.get("grid", {}).items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{where}: the grid of {name} is {values!r} but must be a list of values; write [a, b]")
    ranges = []
    for name, ends in raw.get("ranges", {}).items():
        if not isinstance(ends, dict):
            raise ConfigError(f"{where}: the range of {name} is {ends!r} but must say from and to; write {{from: 1, to: 2}}")
        require_keys(ends, ["from", "to"], ["scale"], f"{where}: the range of {name}")
        scale = ends.get("scale", "linear")
        if scale not in ("linear", "log"):
            raise ConfigError(f'{where}: the scale of {name} is {scale!r}; {hint(scale, ("linear", "log"))}')
        ranges.append(Range(name, ends["from"], ends["to"], scale == "log"))
    if "search" in raw:
        given = searching(check_value(str, raw["search"], f"{where}: search"), given, where)
    return Sweep(**given, seeds=str(raw.get("seeds", "0")), grid=raw.get("grid", {}), ranges=tuple(ranges))


def searching(metric: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What ``given`` says of a sweep that searches for ``metric``. ConfigError where it says something of a design."""
    for name in ("metric", "draw"):
        if name in given:
            raise ConfigError(f"{where}: {name} is {given[name]!r} beside search but a search has its own; leave one of them out")
    return {**given, "metric": metric, "search": True}
