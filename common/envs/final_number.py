"""The number that a worked solution declares as its answer."""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = r"(?:(?<![\w).])[-+−])?\s?[$€£]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:\s?/\s?\d+)?"
_FRACTION = re.compile(r"\\d?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_FOUND = re.compile(_NUMBER)
_SUM = re.compile(rf"[^\d\n]*{_NUMBER}\s*[-+*/×÷−][^=\n]*=([^\n]*)")
"""An answer that is written as the calculation that gives it."""
_MARKS = re.compile(r"####|\\boxed\s*\{|\banswers?\b(?:\s+is\b|\s+are\b|\s*[:=])", re.IGNORECASE)
"""What announces an answer: GSM8K's own mark, MATH's, and words."""


def final_number(text: str) -> Fraction | None:
    """The number behind the last announcement of an answer; the last number of all where nothing announces one.

    None where there is no number. Thousands may be grouped by commas; currency, percent signs and units are left
    aside; ``3/4``, ``\\frac{3}{4}`` and ``2.50`` are read as values. An announcement without a number behind it
    ("The answer is clear.") counts as none; one with a calculation behind it ("Answer: 16 - 3 = 13") means its result.
    """
    text = _FRACTION.sub(r"\1/\2", text)
    for mark in reversed(list(_MARKS.finditer(text))):
        after = text[mark.end() :]
        calculated = _SUM.match(after)
        numbers = _numbers(calculated[1].rpartition("=")[2] if calculated else after)
        if numbers:
            return numbers[0]
    numbers = _numbers(text)
    return numbers[-1] if numbers else None


def _numbers(text: str) -> list[Fraction]:
    found = (_value(match[0]) for match in _FOUND.finditer(text) if any(c.isdigit() for c in match[0]))
    return [value for value in found if value is not None]


def _value(written: str) -> Fraction | None:
    plain = re.sub(r"[\s,$€£+]", "", written).replace("−", "-")
    try:
        return Fraction(plain)
    except (ValueError, ZeroDivisionError):
        return None
