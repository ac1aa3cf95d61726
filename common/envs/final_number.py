"""The number that a worked solution declares as its answer."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from fractions import Fraction

from common.envs.answer_text import ANNOUNCED, SPACE, Number, boxes, numbers, plain

_MARKS = re.compile(rf"{ANNOUNCED}|\\boxed\s*\{{|\\fbox\s*\{{|\banswers?\b\**\s*[:=]", re.IGNORECASE)
"""What announces an answer: GSM8K's own mark, MATH's, and words."""
_UNITS = r"(?P<unit>\s*(?:\\(?:text|mathrm)\s*\{[^{}\n]*\}|(?<![A-Za-z])[A-Za-z]+(?![A-Za-z]))){0,3}?"
_OPERATOR = re.compile(rf"(?:[ \t)\]}}%$]|\\[)%])*{_UNITS}[ \t)]*(?:[-+*/×÷·x]|\\(?:times|cdot|div)(?![a-zA-Z]))[ \t(\[{{$\\]*")
"""Between two numbers of a calculation."""
_EQUALS = re.compile(r"(?:[\s\\&]*|(?:(?![.;!?]\s)[^\n=≈]){0,60}?)(?:=|≈|\\approx(?![a-zA-Z]))[^\n=≈+*/×÷·]{0,30}")
"""Between a calculation and its result."""


def final_number(text: str) -> Fraction | None:
    """The number behind the last announcement of an answer; the last number of all where nothing announces one.

    None where there is no number, or where it cannot be told which one is meant. How numbers are written is
    :mod:`common.envs.answer_text`'s matter; percent signs and units are left aside. An announcement without a number behind
    it ("The answer is clear.") counts as none; one with a calculation behind it ("Answer: 16 - 3 = 13") means its result,
    and a calculation without a result, or a box that holds several numbers, means nothing.
    """
    text = plain(text)
    found = numbers(text)
    announced, inside = _announced(text, found)
    if not announced:
        return found[-1].value if found and not _operand(text, found) else None
    at, _ = _declaring(text, announced)
    several = inside and any(not re.search(r"\^[ {]*$", text[max(0, one.start - 9) : one.start]) for one in announced[at + 1 :])
    return None if several or at < 0 else announced[at].value


def announces_number(text: str) -> bool:
    """Whether ``text`` announces a number as the answer, rather than just ending with one, or breaking off in the calculation
    of one. The number need not be one that can be told: see :func:`final_number`."""
    text = plain(text)
    announced, _ = _announced(text, numbers(text))
    return bool(announced) and not _declaring(text, announced)[1]


def _between(text: str, one: Number, other: Number) -> str:
    """What stands between two numbers, the sign of the second included: 16 -3 may be a calculation."""
    return text[one.end : other.start + (text[other.start] in "+-")]


def _operand(text: str, found: list[Number]) -> bool:
    """Whether the last number belongs to a calculation that has no result. A range, 20-30, is none."""
    before = _between(text, *found[-2:]) if len(found) > 1 else ""
    operator = _OPERATOR.fullmatch(before)
    return operator is not None and operator["unit"] is None and before != "-"


def _announced(text: str, found: list[Number]) -> tuple[list[Number], bool]:
    """The numbers behind the last announcement that has one behind it, and whether they are those in a box."""
    starts = [one.start for one in found]
    marks = [(match.end(), "{" in match[0]) for match in _MARKS.finditer(text)]
    last = bisect_right(marks, (starts[-1], True)) - 1 if found else -1
    if last < 0:
        return [], False
    mark, boxed = marks[last]
    first = bisect_left(starts, mark)
    end = next((end for start, end in boxes(text) if start == mark), mark) if boxed else mark
    inside = found[first : bisect_left(starts, end)]
    return inside or found[first:], bool(inside)


def _declaring(text: str, found: list[Number]) -> tuple[int, bool]:
    """Which of ``found`` an announcement before the first one means: that, or the result of the calculation that begins with
    it; −1 for a calculation without a result, and for two numbers with nothing between them. And whether it breaks off at
    the sign of equality."""

    def behind(at: int) -> str:
        return _between(text, found[at], found[at + 1]) if at + 1 < len(found) else "the end"

    begin = 0
    while True:
        at, plainly = begin, False
        while operator := _OPERATOR.fullmatch(behind(at)):
            at, plainly = at + 1, plainly or operator["unit"] is None
        if (at > 0 or found[0].fraction) and _EQUALS.fullmatch(behind(at)):
            begin = at + 1
        elif at > begin:
            broken_off = re.match(r"[^\n=≈\d]{0,60}(?:=|≈|\\approx)\s*(?:\n|$)", text[found[at].end :]) is not None
            return -1 if plainly or begin else 0, broken_off
        else:
            return -1 if re.fullmatch(rf"{SPACE}*", behind(at)) else at, False
