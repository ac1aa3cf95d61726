"""From names and values to a paper's frozen ``Params``, to JSON and back, without importing torch."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from common.config.lab import check_profile
from common.config.ranges import EXAMPLES, TASKS, Range, wants_range
from common.config.shared import ModelParams
from common.config.spec import SHARED, UNSTATED, PaperSpec, shared_parameters
from common.config.strict import ConfigError, check_value, hint

T = TypeVar("T")


def resolve(
    cls: type[T], spec: PaperSpec, profile: str, env: str, overrides: Mapping[str, Any] | None = None
) -> T:
    """The paper's parameters at ``profile`` for ``env``, with ``overrides`` (dotted names) on top.

    ``cls`` is the frozen dataclass of ``common.sweep.unit.params_class`` (or ``method.Params``); its field names,
    nested ones joined by dots, must be exactly those of the file and, where the file leaves them out, of the
    parameters that papers share. Raises ConfigError.
    """
    where = f"papers/{spec.paper}/params.yaml"
    check_profile(profile, "profile")
    if env not in spec.envs:
        raise ConfigError(f'{spec.paper}: unknown environment "{env}"; {hint(env, spec.envs)}')
    kinds = field_types(cls)
    for name in spec.parameters:
        if name not in kinds:
            raise ConfigError(f'{where}: unknown parameter "{name}", not a field of {spec.method}; {hint(name, kinds)}')
    shared = shared_parameters()
    for name in kinds:
        if name not in spec.parameters and name not in shared:
            raise ConfigError(f'{where}: the parameter "{name}" of {spec.method} is missing; add it with its source')
    for name in overrides or {}:
        if name not in kinds:
            raise ConfigError(f'override of {spec.paper}: unknown parameter "{name}"; {hint(name, kinds)}')
    ranges = ranges_of(cls, spec)
    values, places = {}, {}
    for name, kind in kinds.items():
        if overrides and name in overrides:
            places[name] = f"override of {spec.paper}: {name}"
            values[name] = check_value(kind, overrides[name], places[name])
            continue
        stated = spec.parameters.get(name, shared.get(name))
        value, file = stated.value(profile, env), where if name in spec.parameters else SHARED
        if value == UNSTATED:
            raise ConfigError(f"{file}: {name} is unstated by the paper and has no default; give it as an override")
        places[name] = f"{file}: {name} ({profile}, {env})"
        values[name] = check_value(kind, value, places[name])
    for name, own in ranges.items():
        for one in own:
            one.check(values[name], places[name], values)
    return _build(cls, values, "", spec.paper)


def ranges_of(cls: type, spec: PaperSpec) -> dict[str, list[Range]]:
    """Dotted name → the ranges of a paper's parameter: that of its type, or of the shared parameter of its name, and that of
    params.yaml. ConfigError for one that needs a range and has none, and for an end that is no parameter."""
    where, kinds, shared = f"papers/{spec.paper}/params.yaml", field_types(cls), field_ranges(ModelParams)
    typed = shared | field_ranges(cls)
    ranges: dict[str, list[Range]] = {}
    for name, kind in kinds.items():
        stated = spec.parameters[name].range if name in spec.parameters else None
        ranges[name] = [one for one in (typed.get(name), stated) if one]
        if not ranges[name] and name in spec.parameters and name not in shared_parameters() and wants_range(kind):
            raise ConfigError(f"{where}: {name} has no range; add range: … beside its source, for example {EXAMPLES}")
        for end in (end for one in ranges[name] for end in one.names):
            if end not in kinds and not TASKS.fullmatch(end):
                raise ConfigError(f'{where}: the range of {name} ends at "{end}", which is no parameter; {hint(end, kinds)}')
    return ranges


def field_ranges(cls: type, prefix: str = "") -> dict[str, Range]:
    """Dotted leaf name → the range that its annotation holds; names without one are left out."""
    found: dict[str, Range] = {}
    for name, kind in typing.get_type_hints(cls, include_extras=True).items():
        own = [one for one in getattr(kind, "__metadata__", ()) if isinstance(one, Range)]
        if own:
            found[prefix + name] = own[0]
        elif dataclasses.is_dataclass(kind):
            found |= field_ranges(kind, f"{prefix}{name}.")
    return found


def field_types(cls: type, prefix: str = "") -> dict[str, Any]:
    """Dotted leaf names of a dataclass and their types, in the order of definition."""
    fields: dict[str, Any] = {}
    kinds = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name, kind = prefix + field.name, kinds[field.name]
        fields |= field_types(kind, f"{name}.") if dataclasses.is_dataclass(kind) else {name: kind}
    return fields


def _build(cls: type[T], values: Mapping[str, Any], prefix: str, where: str) -> T:
    kinds = typing.get_type_hints(cls)
    arguments = {}
    for field in dataclasses.fields(cls):
        name, kind = prefix + field.name, kinds[field.name]
        arguments[field.name] = (
            _build(kind, values, f"{name}.", where) if dataclasses.is_dataclass(kind) else values[name])
    try:
        return cls(**arguments)
    except ConfigError:
        raise
    except ValueError as error:  # a rule of the dataclass' own __post_init__
        raise ConfigError(f"{where}: {error}") from None


def flat(params: Any) -> dict[str, Any]:
    """Dotted name → value of a params instance, through nested dataclasses, or of what :func:`to_json` wrote of one."""
    items = params if isinstance(params, Mapping) else {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    fields: dict[str, Any] = {}
    for name, value in items.items():
        if isinstance(value, Mapping) or dataclasses.is_dataclass(value):
            fields |= {f"{name}.{inner}": one for inner, one in flat(value).items()}
        else:
            fields[name] = value
    return fields


def to_json(params: Any) -> str:
    """Canonical JSON of a params instance: nested objects, sorted keys, no spaces, shortest floats.

    Equal params give equal text, so the text can be hashed. Fields at their default are left out
    (:mod:`common.config.shared`). Raises ValueError for NaN or infinity.
    """
    values = dataclasses.asdict(params)
    for name, default in _defaults(type(params)).items():
        if values[name] == default:
            del values[name]
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _defaults(cls: type) -> dict[str, Any]:
    """The defaults of a dataclass' own fields."""
    return {field.name: field.default for field in dataclasses.fields(cls) if field.default is not dataclasses.MISSING}


def from_json(cls: type[T], text: str) -> T:
    """The params instance of :func:`to_json`'s text, as strictly checked as :func:`resolve`."""
    try:
        values = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ConfigError(f"parameters: not valid JSON ({error}); pass the text that to_json wrote") from None
    leaves = _leaves(cls, values, "")
    values = {name: check_value(kind, leaves[name], f"parameters: {name}") for name, kind in field_types(cls).items()}
    for name, one in field_ranges(cls).items():
        one.check(values[name], f"parameters: {name}", values)
    return _build(cls, values, "", "parameters")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'parameters: the name "{name}" appears twice; keep one of them')
    return dict(pairs)


def _leaves(cls: type, values: Any, prefix: str) -> dict[str, Any]:
    kinds = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    if not isinstance(values, dict):
        raise ConfigError(f'parameters: "{prefix.rstrip(".") or "the text"}" is {values!r} but must be a mapping with '
                          f"the names {', '.join(names)}; write one")
    for name in values:
        if name not in names:
            raise ConfigError(f'parameters: unknown name "{prefix}{name}"; {hint(name, names)}')
    leaves: dict[str, Any] = {}
    for name in names:
        if name not in values and not prefix and name in _defaults(cls):
            leaves[name] = _defaults(cls)[name]
            continue
        if name not in values:
            raise ConfigError(f'parameters: the name "{prefix}{name}" is missing; add it')
        nested = dataclasses.is_dataclass(kinds[name])
        leaves |= _leaves(kinds[name], values[name], f"{prefix}{name}.") if nested else {prefix + name: values[name]}
    return leaves
