"""One-sentence errors, nearest names, YAML without guessing, and values checked against types.

Nothing here imports torch or any other slow package: a wrong parameter must stop in under a second.
"""

from __future__ import annotations

import difflib
import math
import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml


class ConfigError(ValueError):
    """Bad input. The message is one sentence: field, value, rule, nearest valid name, next step."""


def nearest(name: object, valid: Iterable[str]) -> str | None:
    """The valid name closest to ``name`` (difflib ratio of at least 0.6, case aside), or None."""
    by_lower = {candidate.lower(): candidate for candidate in valid}
    matches = difflib.get_close_matches(str(name).lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def hint(name: object, valid: Iterable[str]) -> str:
    """The end of an error sentence about an unknown name: ``did you mean "x"? (valid: x, y)``."""
    names = sorted(valid)
    close = nearest(name, names)
    listed = f"(valid: {', '.join(names)})" if names else "(there is no valid name yet)"
    return f'did you mean "{close}"? {listed}' if close else f"use a valid name {listed}"


# Unquoted scalars that YAML 1.1 (PyYAML, papermill) and YAML 1.2 (DVC) read differently, and what to write.
_AMBIGUOUS = (
    (re.compile(r"[-+]?(\d[\d_]*[eE][-+]?\d+|(\d+\.\d*|\.\d+)[eE]\d+)"), "write it with a point and a signed exponent"),
    (re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"), "write true or false, or quote it"),
    (re.compile(r"[-+]?0[0-7_]+|[-+]?0[xXobB][0-9a-fA-F_]+|[-+]?\d[\d_]*_[\d_]*(\.\d*)?"),
     "write a plain decimal number"),
    (re.compile(r"[-+]?\d+(:[0-5]?\d)+(\.\d*)?"), "quote it"),
    (re.compile(r"\d{4}-\d\d?-\d\d?([Tt ].*)?"), "quote it"),
)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys, keys that are not text, and ambiguous scalars."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise ConfigError(f"{self.name} line {line}: the key {key!r} is not text; quote it")
            if key in seen:
                raise ConfigError(f'{self.name} line {line}: the key "{key}" appears twice; keep one of them')
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            for pattern, advice in _AMBIGUOUS:
                if pattern.fullmatch(node.value):
                    raise ConfigError(f"{self.name} line {node.start_mark.line + 1}: YAML readers disagree on the "
                                      f"unquoted value {node.value}; {advice}{_decimal_example(node.value)}")
        return super().construct_object(node, deep)


def _decimal_example(text: str) -> str:
    if "e" not in text.lower():
        return ""
    try:
        return f", here {spell_float(float(text))}"
    except ValueError:
        return ""


def spell_float(number: float) -> str:
    """The number as every YAML reader takes for a float: ``1e-05`` becomes ``1.0e-5``."""
    mantissa, e, exponent = repr(number).partition("e")
    if not e:
        return mantissa
    sign = "-" if exponent.startswith("-") else "+"
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}{exponent.lstrip('+-').lstrip('0')}"


def parse_yaml(text: str, name: str) -> Any:
    """The value of one YAML text; ``name`` (a file or an option) begins the sentence of an error."""
    loader = _StrictLoader(text)
    loader.name = name
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{name}{where}: not valid YAML ({problem}); correct that line") from None
    finally:
        loader.dispose()


def load_yaml(path: Path, name: str) -> dict[str, Any]:
    """The mapping in a YAML file; ``name`` is how errors call the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{name} does not exist; create it or correct the name") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} cannot be read ({error}); make it a readable UTF-8 file") from None
    value = parse_yaml(text, name)
    if not isinstance(value, dict):
        raise ConfigError(f"{name} holds {_kind(value)}, not a mapping of names to values; write name: value lines")
    return value


def require_keys(value: dict[str, Any], required: Iterable[str], optional: Iterable[str], where: str) -> None:
    """Raise unless the mapping has all ``required`` names and none beyond ``optional``."""
    required, allowed = list(required), [*required, *optional]
    for key in value:
        if key not in allowed:
            raise ConfigError(f'{where}: unknown name "{key}"; {hint(key, allowed)}')
    for key in required:
        if key not in value:
            raise ConfigError(f'{where}: the name "{key}" is missing; add "{key}: …"')


def check_value(hint_type: Any, value: Any, where: str) -> Any:
    """``value`` as ``hint_type`` or a ConfigError that begins with ``where``.

    Types: int, float (an int is accepted and converted), str, bool, ``tuple[T, ...]``,
    ``tuple[A, B]`` (from lists), ``Optional[T]``, ``Literal[...]``. Floats are finite.
    """
    origin, args = typing.get_origin(hint_type), typing.get_args(hint_type)
    if origin is typing.Literal:
        if not any(type(value) is type(choice) and value == choice for choice in args):
            raise ConfigError(f"{where} is {value!r}, which is not one of its choices; "
                              f"{hint(value, map(str, args))}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        rest = [arg for arg in args if arg is not type(None)]
        if len(rest) == 1:
            return check_value(rest[0], value, where)
        raise TypeError(f"{where}: the type {hint_type} is not supported; use Optional of one type")
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} is {value!r}, {_kind(value)}, but must be a list; write [a, b]")
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise ConfigError(f"{where} is {value!r} with {len(value)} items but must have {len(kinds)}; "
                              "add or remove items")
        return tuple(check_value(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value)))
    return _check_scalar(hint_type, value, where)


def _check_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind not in _NAMES:
        raise TypeError(f"{where}: the type {kind} is not supported; use int, float, str, bool, tuple, Optional, "
                        "Literal or a nested dataclass")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{where} is {value!r}, {_kind(value)}, but must be {_NAMES[kind]}; {_advice(kind, value)}")
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"{where} is {value!r} but must be a finite number; give a finite one")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, (list, tuple)) else _NAMES.get(type(value), type(value).__name__)


def _advice(kind: type, value: Any) -> str:
    if isinstance(value, str) and kind in (int, float):
        try:
            number = float(value)
        except ValueError:
            return f"write {_NAMES[kind]} without quotes"
        if math.isfinite(number) and (kind is float or number.is_integer()):
            return f"write {spell_float(number) if kind is float else int(number)} without quotes"
    if kind is int and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    return f"write {_NAMES[kind]}"
