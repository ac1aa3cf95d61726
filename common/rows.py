"""Tidy metric rows: the only form in which a result leaves a unit."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from common.config.strict import ConfigError, hint
from common.files import canonical, write_atomic
from common.types import Cost

COST_FIELDS = tuple(field.name for field in fields(Cost) if field.name != "seconds")
"""Budget counters of a row; wall-clock is left out so that rows repeat bit by bit."""


@dataclass(frozen=True)
class Label:
    """The name of a variant or a metric in its parts, written ``<stem>@<at>+<acting>``.

    ``at`` is the setting or number that tells it from others of the same stem (``eta=0.2`` of ``cory@eta=0.2``, 8 of ``pass@8``);
    ``acting`` a way to act at test time with the variant's weights (``vote`` of ``malt+vote``). "" where there is none.
    """

    stem: str
    at: str = ""
    acting: str = ""

    def __str__(self) -> str:
        return self.stem + f"@{self.at}" * bool(self.at) + f"+{self.acting}" * bool(self.acting)

    @classmethod
    def of(cls, name: str) -> Label:
        """Parse a name: inverse of ``str``."""
        trained, _, acting = name.partition("+")
        stem, _, at = trained.partition("@")
        return cls(stem, at, acting)

    @property
    def policy(self) -> str:
        """The variant whose weights act."""
        return str(Label(self.stem, self.at))


@dataclass(frozen=True)
class MetricRow:
    """One number: ``value`` of ``metric`` for one variant and training seed on one panel.

    ``n`` is the number of items behind the value (tasks, pairs, ...), ``scale`` names the base model's
    scale ("nano", "135M", ...), ``cost`` what the variant spent to get there (names of COST_FIELDS).
    """

    paper: str
    env: str
    profile: str
    scale: str
    variant: str
    seed: int
    panel: str
    metric: str
    value: float
    n: int
    cost: dict[str, int]

    def __post_init__(self) -> None:
        where = f"metric row {self.variant}/{self.metric} on {self.panel}"
        for name in ("paper", "env", "profile", "scale", "variant", "panel", "metric"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ConfigError(f"{where}: {name} is {value!r} but must be a non-empty text; name it")
        for name, least in (("seed", 0), ("n", 1)):
            value = getattr(self, name)
            if not _is(value, numbers.Integral) or value < least:
                raise ConfigError(f"{where}: {name} is {value!r} but must be a whole number of at least {least}; "
                                  "correct it")
            object.__setattr__(self, name, int(value))
        if not _is(self.value, numbers.Real) or not math.isfinite(self.value):
            raise ConfigError(f"{where}: value is {self.value!r} but must be a finite number; leave the row out if "
                              "the metric is undefined")
        object.__setattr__(self, "value", float(self.value))
        for name in self.cost:
            if name not in COST_FIELDS:
                raise ConfigError(f'{where}: unknown cost "{name}"; {hint(name, COST_FIELDS)}')
        for name in COST_FIELDS:
            if not _is(self.cost.get(name), numbers.Integral) or self.cost[name] < 0:
                raise ConfigError(f"{where}: cost.{name} is {self.cost.get(name)!r} but must be a whole number of at "
                                  "least 0; log every counter")
        object.__setattr__(self, "cost", {name: int(self.cost[name]) for name in COST_FIELDS})

    @property
    def identity(self) -> tuple[Any, ...]:
        """What must be unique in a file, and the order of its lines."""
        return (self.paper, self.env, self.profile, self.scale, self.variant, self.seed, self.panel, self.metric)


def _is(value: Any, kind: type) -> bool:
    """Numbers of Python and NumPy, but no bool, which Python counts as an int."""
    return isinstance(value, kind) and not isinstance(value, bool)


def cost_of(cost: Cost) -> dict[str, int]:
    """The counters of a Cost as a row holds them."""
    return {name: getattr(cost, name) for name in COST_FIELDS}


def write_metrics(path: Path, rows: Iterable[MetricRow]) -> None:
    """Write rows as JSON lines, sorted, all or nothing: equal rows in any order give equal bytes.

    Raises ConfigError when two rows share an identity.
    """
    ordered = sorted(rows, key=lambda row: row.identity)
    for first, second in zip(ordered, ordered[1:]):
        if first.identity == second.identity:
            raise ConfigError(f"{path.name}: two rows for {'/'.join(map(str, first.identity))} but only one may "
                              "exist; write each metric once")
    write_atomic(path, "".join(canonical(asdict(row), f"{path.name}") + "\n" for row in ordered))


def read_metrics(path: Path) -> list[MetricRow]:
    """The rows of a file that :func:`write_metrics` wrote. ConfigError names the line that is not one."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read ({error.strerror}); run the paper first") from None
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(MetricRow(**json.loads(line)))
        except (TypeError, ValueError) as error:
            where = "/".join(path.parts[-3:])  # results/<paper>/metrics.jsonl
            raise ConfigError(f"{where} line {number} is not a metric row ({error}); take the committed file by git checkout -- {where}, "
                              "or run the paper again") from None
    return rows
