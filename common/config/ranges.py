"""Ranges of parameters: which values one may have, written beside its source, or with its type where papers share it.

    range: "> 0"                 also >=, < and <=
    range: "(0, 1]"              an interval; a bracket includes its end, a parenthesis does not
    range: "[0, rl.updates]"     an end may be another parameter of the paper,
    range: "[1, tasks(train)]"   or the number of tasks of a panel; tasks(panels): of the smallest one that is evaluated
    range: "not empty"           of a text or a list

The range of a list of numbers is that of each of them. NaN and infinity are in no range.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from common.config.strict import ConfigError

NOT_EMPTY = "not empty"
EXAMPLES = '"> 0", ">= 1", "[0, 1]" or "not empty"'

_NAME = r"[A-Za-z_]\w*(?:\.\w+)*|tasks\(\w+\)"
_END = rf"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|{_NAME}"
_COMPARISON = re.compile(rf"(?P<sign>>=?|<=?)\s*(?P<end>{_END})")
_INTERVAL = re.compile(rf"(?P<left>[\[(])\s*(?P<low>{_END})\s*,\s*(?P<high>{_END})\s*(?P<right>[\])])")
TASKS = re.compile(r"tasks\((\w+)\)")
"""An end that counts the tasks of a panel."""

End = float | str | None
"""A number, the name of one, or None where there is no end."""


@dataclass(frozen=True)
class Range:
    """``low`` to ``high``; a strict end is not included. ``text`` as it was written."""

    text: str
    low: End = None
    high: End = None
    strict_low: bool = False
    strict_high: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of ends that are no numbers."""
        return tuple(end for end in (self.low, self.high) if isinstance(end, str))

    def check(self, value: Any, where: str, known: Mapping[str, Any], words: Mapping[str, str] | None = None) -> None:
        """Raise ConfigError, which begins with ``where``, unless ``value`` is in the range.

        ``known`` are the values of names; an end whose name is not among them is left aside. ``words`` says what a known value is.
        Only numbers have ends: what has another type is left to the check of types.
        """
        if self.text == NOT_EMPTY:
            if isinstance(value, (str, list, tuple)) and not len(value):
                raise ConfigError(f"{where} is {value!r} but must not be empty; write at least one "
                                  f"{'word' if isinstance(value, str) else 'item'}")
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                self.check(item, f"{where}[{i}]", known, words)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self._check_number(value, where, known, words or {})

    def _check_number(self, value: float, where: str, known: Mapping[str, Any], words: Mapping[str, str]) -> None:
        low, high = self._end(self.low, known), self._end(self.high, known)
        if not abs(value) < float("inf"):
            raise ConfigError(f"{where} is {value!r} but must be a finite number; give a finite one")
        small = low is not None and (value <= low if self.strict_low else value < low)
        large = high is not None and (value >= high if self.strict_high else value > high)
        if small or large:
            rule = " and ".join(
                f"{comparison} {_shown(end)}{_said(name, words)}" for name, end, comparison in (
                    (self.low, low, "above" if self.strict_low else "at least"),
                    (self.high, high, "below" if self.strict_high else "at most")) if end is not None)
            raise ConfigError(f"{where} is {value!r} but must be {rule}; give a {'larger' if small else 'smaller'} number")

    @staticmethod
    def _end(end: End, known: Mapping[str, Any]) -> float | None:
        return known.get(end) if isinstance(end, str) else end


def _shown(end: float) -> str:
    return str(int(end)) if end == int(end) else repr(end)


def _said(end: End, words: Mapping[str, str]) -> str:
    return f" ({words.get(end, end)})" if isinstance(end, str) else ""


@lru_cache(maxsize=1024)
def parse_range(text: str, where: str = "range") -> Range:
    """The range that ``text`` describes. ConfigError, which begins with ``where``, for a text that describes none."""
    text = text.strip()
    if text == NOT_EMPTY:
        return Range(text)
    if found := _COMPARISON.fullmatch(text):
        end, strict = _number(found["end"]), found["sign"] in "<>"
        return Range(text, low=end, strict_low=strict) if found["sign"][0] == ">" else Range(text, high=end, strict_high=strict)
    if found := _INTERVAL.fullmatch(text):
        low, high = _number(found["low"]), _number(found["high"])
        if isinstance(low, str) or isinstance(high, str) or low < high or (low == high and found["left"] + found["right"] == "[]"):
            return Range(text, low, high, found["left"] == "(", found["right"] == ")")
        raise ConfigError(f'{where} is "{text}", which holds no number; exchange or correct its ends')
    raise ConfigError(f'{where} is "{text}", which describes no range; write for example {EXAMPLES}')


def _number(end: str) -> float | str:
    try:
        return float(end)
    except ValueError:
        return end


def wants_range(kind: Any) -> bool:
    """Whether a parameter of the type ``kind`` states a range: numbers, texts and lists of them do; choices have theirs in the type."""
    args = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return False
    return kind in (int, float, str) if not args else any(wants_range(one) for one in args)
