"""How numbers are written, and what announces an answer: one grammar for :mod:`common.envs.final_number` and
:mod:`common.envs.latex_answer`.

A number may carry a sign (also U+2212 and U+2013) and a currency on either side of each other; be grouped by thousands with
commas (``1,250``, ``1{,}250``, ``1,\\!250``) or spaces (``1 250``, ``1\\,250``); be a decimal, a fraction (``3/4``, ``\\tfrac34``,
``¾``) or a mixed number (``2 1/4``, ``2\\frac14``); and be counted in thousands, millions and so on. What looks like a number and may
mean several, or is only a part of an expression (``1,2``, ``5:30``, ``2^5``, ``3\\sqrt{2}``, ``4 10/3``), has no value: a reader must
not take a piece of it for the whole.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

SPACE = r"(?:[ \u00a0\u2009\u202f]|\\[,;: ]|~)"
_UNSIGNED = (
    r"(?:[1-9]\d{0,2}(?:(?:,|\{,\}|,\\!)\d{3})+(?!\d)|[1-9]\d{0,2}(?:" + SPACE + r"\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
)
_BRACED = rf"(?:\{{\s*([-+]?)\s*({_UNSIGNED})\s*\}}|\s*(\d))"
_FRAC = rf"\\(?:[dtcs]|nice)?frac(?![a-zA-Z])\s*{_BRACED}\s*{_BRACED}"
_NUMBER = re.compile(
    rf"(?:(?P<sign>[-+]){SPACE}?)?(?:(?:\\?\$|[€£]){SPACE}?(?P<late>[-+]?))?"
    rf"(?:(?:(?P<whole>\d+){SPACE}*)?(?P<frac>{_FRAC})"
    rf"|(?P<mixed>\d+){SPACE}(?P<above>\d+)\s?/\s?(?P<below>\d+)"
    rf"|(?P<over>{_UNSIGNED})(?:\s?/\s?(?P<minus>-?)(?P<under>{_UNSIGNED}))?)"
    r"(?:[ \t]*(?:\\(?:text|mathrm|mbox)\s*\{\s*)?\b(?P<scale>hundred|thousand|million|billion|trillion)\b)?",
    re.IGNORECASE,
)  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PLAIN = str.maketrans("−–‐‑‒﹣－＋⁄∕⋅", "-------+//·")
_VULGAR = {"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5), "⅘": (4, 5),
           "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8)}  # fmt: skip
_PART_AFTER = re.compile(
    r"[,.:'’_/]\d|[ \t]*\^(?!\s*\{?\s*\\circ)|[²³¹⁰⁴-⁹√π]|[eE][-+]?\d"
    r"|[ \t]*\\(?:sqrt|pi|[dtc]?frac|log|ln|sin|cos|tan|binom|pm)(?![a-zA-Z])"
    r"|[kKMBxyzn](?![A-Za-z])(?!\s*[\d\\$(])|[ \t]*\\(?:text|mathrm|mbox)\s*\{\s*[kKMB]\s*\}|[ \t]+and[ \t]+\d+\s*/\s*\d|[ ]?(?:±|\\pm)"
)
"""Behind a number: it is a part of something else."""
_PART_BEFORE = re.compile(r"(?:\d[,.:'’/]|(?:\^|[\w)}]_)\s*\{?|\\sqrt\s*(?:\[\d+\])?\s*\{?|√|±\s*|\\pm\s*)$")
LONGEST = 1000
"""Most characters of a number that has a value."""
_LOOK_BACK = 16
"""Characters before a number that may make it a part of something."""

ANNOUNCED = r"####|\banswers?\b\**(?:\s+is\b|\s+are\b)(?!\s+not\b)"
"""GSM8K's mark of an answer, and words. A regular expression, for any case."""
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


class Number(NamedTuple):
    """A number in a text, from ``start`` (its digits', where the sign is a minus between two numbers) to ``end``; ``value`` is
    None where it has none, ``fraction`` says whether it is written as one."""

    start: int
    end: int
    value: Fraction | None
    fraction: bool


def plain(text: str) -> str:
    """``text`` with one character for each sign, and vulgar fractions in LaTeX."""
    text = text.translate(_PLAIN)
    return re.sub(f"[{''.join(_VULGAR)}]", lambda found: r"\frac{%d}{%d}" % _VULGAR[found[0]], text)


def number(text: str) -> Fraction | None:
    """The value of a :func:`plain` text that is a number and nothing else; else None."""
    match = _NUMBER.fullmatch(text)
    return _value(match) if match else None


def numbers(text: str) -> list[Number]:
    """All numbers of a :func:`plain` text in order, in time linear in its length."""
    found = []
    for match in _NUMBER.finditer(text):
        start, value = match.start(), _value(match)
        before = text[max(0, start - _LOOK_BACK) : start]
        if match["sign"] and _no_sign(before, match[0][1:2]):
            start, before = match.end("sign"), before + match["sign"]
            value = -value if value and match["sign"] == "-" else value
        elif match["sign"] and before.endswith("-"):
            value = None
        if _PART_AFTER.match(text, match.end()) or _PART_BEFORE.search(before):
            value = None
        found.append(Number(start, match.end(), value, match["under"] is not None or match["frac"] is not None))
    return found


def _no_sign(before: str, behind: str) -> bool:
    """Whether what looks like a number's sign is the minus between two numbers, a hyphen in a word, or the bullet of a line."""
    spaces = behind not in "$€£\\.0123456789"
    return re.search(r"[\w).]$|[\d)\]}%$][ \t]+$|\n[ \t]*$" if spaces else r"[\w).]$", before) is not None


def _value(match: re.Match[str]) -> Fraction | None:
    """The value of a match of the grammar; None for a division by 0 and for what may mean two numbers."""
    try:
        if match["frac"]:
            size = _fraction(match["frac"])
            if match["whole"]:
                size = _unsigned(match["whole"]) + size if 0 < size < 1 else None
        elif match["mixed"]:
            part = _unsigned(match["above"]) / _unsigned(match["below"])
            thousands = len(match["above"]) == 3 and len(match["mixed"]) <= 3  # 1 250/500 is 5/2, or one and a half
            size = _unsigned(match["mixed"]) + part if 0 < part < 1 and not thousands else None
        else:
            size = _unsigned(match["over"])
            if match["under"]:
                size /= _unsigned(match["under"]) * (-1 if match["minus"] else 1)
    except (ZeroDivisionError, OverflowError):
        return None
    if size is None or match["sign"] and match["late"]:
        return None
    sign = -1 if "-" in (match["sign"], match["late"]) else 1
    return sign * size * _SCALES[match["scale"].lower()] if match["scale"] else sign * size


def _fraction(text: str) -> Fraction:
    """The value of LaTeX's ``\\frac`` of two numbers."""
    signs_over, over, digit_over, signs_under, under, digit_under = re.fullmatch(_FRAC, text, re.IGNORECASE).groups()
    size = _unsigned(over or digit_over) / _unsigned(under or digit_under)
    return -size if (signs_over == "-") != (signs_under == "-") else size


def _unsigned(text: str) -> Fraction:
    if len(text) > LONGEST:
        raise OverflowError(f"{len(text)} characters")
    return Fraction(re.sub(r"[^\d.]", "", text))


def boxes(text: str) -> list[tuple[int, int]]:
    """Where the contents of ``\\boxed{…}`` begin and end, in order; boxes whose braces do not match are left out."""
    opens = {match.end() for match in _BOX.finditer(text)}
    if not opens:
        return []
    found, waiting = [], []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            waiting.append(brace.start())
        elif brace[0] == "}" and waiting and (start := waiting.pop()) in opens:
            found.append((start + 1, brace.start()))
    return sorted(found)
