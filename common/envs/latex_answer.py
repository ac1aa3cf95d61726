"""The answer that a worked solution declares in LaTeX, and one spelling for equal answers.

Two answers are the same when their normal forms are: numbers are compared as values, everything else as text after
normalisation. An expression is never evaluated or rearranged, so ``2+3x`` and ``3x+2``, or ``\\sqrt{12}`` and
``2\\sqrt{3}``, differ: verdicts err towards "wrong". They depend on nothing but the text, neither on the clock nor on what is
installed, which math-verify (timeouts by signals, sympy's evaluating parser) cannot promise; tests hold both side by side.
"""

from __future__ import annotations

import re
from fractions import Fraction

LONGEST = 500
_MARKS = re.compile(r"####|\banswers?\b(?:\s+is\b|\s+are\b)\s*:?", re.IGNORECASE)
_MATH = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_UNITS = (r"(?:square|cubic)?\s*(?:units?|mm|cm|km|meters?|metres?|inch(?:es)?|feet|foot|ft|yards?|miles?|degrees?|radians?|"
          r"dollars?|cents?|percent|seconds?|minutes?|hours?|days?|weeks?|months?|years?|mph|kg|grams?|pounds?|points?)")  # fmt: skip
_SPELLINGS = (
    (re.compile(r"(\d)(?:\{,\}|,\\!)(?=\d{3}(?!\d))"), r"\1"),  # thousands, as LaTeX groups them
    (re.compile(r"\\(?:[,;:!> ]|q?quad\b|displaystyle\b)|[~\t]|\\\$|\$|\\[()\[\]]|\\(?:left|right)(?![a-zA-Z])\.?"), " "),
    (re.compile(r"\\?%|\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree\b|°"), ""),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"√"), r"\\sqrt "),
    (re.compile(r"π|(?<![\\a-zA-Z])pi(?![a-zA-Z])"), r"\\pi "),
    (re.compile(r"∞"), r"\\infty "),
    (re.compile(r"∪"), r"\\cup "),
    (re.compile(r"≤|\\leq?(?![a-zA-Z])"), r"\\leq "),
    (re.compile(r"≥|\\geq?(?![a-zA-Z])"), r"\\geq "),
    (re.compile(r"×|·|\\(?:cdot|times)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\varnothing\b"), r"\\emptyset"),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\frac *(\d) *(\d)"), r"\\frac{\1}{\2}"),
)
_TEXT = r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}"
_NUMBER = re.compile(r"([-+]?)(\d+\.?\d*|\.\d+)(?:/(\d+\.?\d*|\.\d+))?")
_MATRIX = re.compile(r"\\begin\{[pb]matrix\}(.*)\\end\{[pb]matrix\}", re.DOTALL)
_NAMED = re.compile(r"(?:[A-Za-z](?:_\{?\w\}?)?(?:\([a-z]\))?|\\[a-z]+|\([a-z](?:,[a-z])+\))(?:=|\\in(?![a-z]))([^=]+)")


def declared_answer(text: str) -> str | None:
    """What the last ``\\boxed{…}`` holds, else what follows the last ``####`` or "answer is" on its line, up to the end of the
    sentence; None where nothing is declared, or something whose braces do not match."""
    for start in reversed([match.end() for match in re.finditer(r"\\(?:boxed|fbox)\s*(?=\{)", text)]):
        boxed, _ = _argument(text, start)
        if boxed is not None and boxed.strip():
            return boxed.strip()
    for mark in reversed(list(_MARKS.finditer(text))):
        line = next((line.strip(" *:") for line in text[mark.end() :].splitlines() if line.strip(" *:")), "")
        inside = _MATH.match(line)
        answer = next(filter(None, inside.groups())) if inside else re.split(r"[.!]?\*\*|[.!](?:\s|$)", line)[0]
        if answer.strip() and _balanced(answer):
            return answer.strip()
    return None


def same_answer(one: str, other: str) -> bool:
    """Whether two answers have one normal form, see the module."""
    form = normal_form(one)
    return bool(form) and form == normal_form(other)


def normal_form(answer: str) -> str:
    """One spelling of an answer, on one line; the normal form of a normal form is itself.

    ``\\frac{1}{2}``, ``0.5`` and ``.50`` are ``1/2``, ``3\\frac{1}{2}`` is ``7/2``, ``1,000`` is ``1000``. Units behind a
    number, percent and degree signs, currency and ``x =`` are dropped; words are lower case. Elements of tuples, intervals
    and lists keep their order and brackets; those of a set ``\\{…\\}`` are sorted. What is longer than :data:`LONGEST`
    characters stays as it is.
    """
    for _ in range(9 if len(answer) <= LONGEST else 0):  # what one pass lays bare, the next one reads; two or three suffice
        answer = _normalised(answer)
    return " ".join(answer.split())


def _normalised(answer: str) -> str:
    text = re.sub(r"\s+", " ", answer).replace("\\\\", "\n")  # \n: the end of a matrix's row
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    text = re.sub(r"(?<!\\) *[.,;]? *$", "", text).strip(" ")
    text = re.sub(rf"(?<=[^ ]) *{_TEXT} *(?:\^ *\{{?[23]\}}?)? *$", "", text)
    text = re.sub(rf"(?<=[\d}}]) *{_UNITS} *(?:\^ *\{{?[23]\}}?)? *$", "", text)
    text = re.sub(r"\\text *\{ *(?:and|or) *\}", ",", text)
    words, plain = re.search(_TEXT, text), re.sub(_TEXT, r"\1", text).strip(" ").rstrip(" .")
    if re.fullmatch(r"[A-Za-z][A-Za-z' -]*", plain) and (words or re.search(r"[A-Za-z]{3}", plain)):
        return plain if len(plain) == 1 else re.sub(" +", " ", plain).lower()
    return _value(re.sub(" +(?![a-zA-Z])|(?<!\\\\)(?<![a-zA-Z]) +", "", plain)).replace("\n", "\\\\")


def _value(text: str) -> str:
    """The normal form of mathematics without spelling variants."""
    text = re.sub(r"(\\[a-zA-Z]+) +", r"\1 ", text.strip(" ").removeprefix("+"))
    if matrix := _MATRIX.fullmatch(text):
        rows = [",".join(map(_value, row.split("&"))).replace(",", "&") for row in matrix[1].strip("\n ").split("\n")]
        return r"\begin{pmatrix}" + "\n".join(rows) + r"\end{pmatrix}"
    if named := _NAMED.fullmatch(text.replace(" ", "")):
        return _value(named[1])
    if re.fullmatch(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        return _value(text.replace(",", ""))
    if "\\cup" in text:
        return "\\cup ".join(_value(part) for part in text.split("\\cup"))
    opening, inner, closing = _outer(text)
    parts = _split(inner)
    if len(parts) > 1 or opening not in ("", "("):
        elements = [_value(part) for part in parts]
        return opening + ",".join(sorted(elements) if opening == "\\{" else elements) + closing
    if opening:
        return _value(inner)
    if mixed := re.fullmatch(r"(-?)(\d+)\\frac\{(\d+)\}\{(\d+)\}", text):
        sign, whole, over, under = mixed.groups()
        text = f"{sign}{int(whole) * int(under) + int(over)}/{under}"
    return _number(_layout(text))


def _number(text: str) -> str:
    """A number as an integer or a reduced fraction; other text as it is."""
    if not (match := _NUMBER.fullmatch(text)) or len(text) > 1000:
        return text
    sign, over, under = match.groups()
    try:
        return str((-1 if sign == "-" else 1) * Fraction(over) / Fraction(under or 1))
    except ZeroDivisionError:
        return text


def _layout(text: str) -> str:
    """Fractions with a slash, roots and powers with the fewest braces, no spaces and no sign of multiplication after digits."""
    for name, arguments in (("\\frac", 2), ("\\sqrt", 1)):
        at = text.rfind(name)  # the last one holds no other one before the rest is done
        while at >= 0:
            given, end = [], at + len(name)
            for _ in range(arguments):
                found, end = _argument(text, end)
                given.append(found)
            if None not in given:
                before, after = text[:at], text[end:]
                made = f"√{{{given[0]}}}" if arguments == 1 else _slash(given[0], given[1], before, after)
                text = before + made + after
            at = text.rfind(name, 0, at)
    text = re.sub(r"([\^_])\{(-?\w+|[^{}])\}", r"\1\2", text.replace("√", "\\sqrt"))
    text = re.sub(r"(?<=\d)\*(?=[a-zA-Z\\(])", "", text)
    return re.sub(r"(?<![a-zA-Z]) | (?![a-zA-Z])", "", text)


def _slash(over: str, under: str, before: str, after: str) -> str:
    over = f"({over})" if re.search(r"(?<=.)[-+]|/", over) else over
    atom = re.fullmatch(r"\d+\.?\d*|[a-zA-Z]|\\[a-zA-Z]+(?:\{[^{}]*\})?", under)
    whole = f"{over}/{under}" if atom else f"{over}/({under})"
    return f"({whole})" if re.search(r"[\d.]$", before) and over[:1].isdigit() or re.match(r"[\w\\(]", after) else whole


def _argument(text: str, start: int) -> tuple[str | None, int]:
    """What a LaTeX command at ``start`` takes: the group in braces, a command or one character, and where it ends."""
    start += len(text[start:]) - len(text[start:].lstrip(" "))
    if text[start : start + 1] != "{":
        token = re.compile(r"\\[a-zA-Z]+|\w").match(text, start)
        return (token[0], token.end()) if token else (None, start)
    depth = 0
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return (text[start + 1 : brace.start()], brace.end()) if brace[0] == "}" else (None, start)
    return None, start


def _balanced(text: str) -> bool:
    """Whether ``text`` may stand between braces."""
    return _argument(f"{{{text}}}", 0)[1] == len(text) + 2


def _outer(text: str) -> tuple[str, str, str]:
    """The bracket that opens the text and closes it only at its end, what is between, and the closing one; else no brackets."""
    for opening, closings in (("\\{", ("\\}",)), ("(", (")", "]")), ("[", ("]", ")"))):
        closing = next((one for one in closings if text.endswith(one)), "")
        if text.startswith(opening) and closing and len(text) > 1:
            inner = text[len(opening) : -len(closing)]
            depth, lowest = 0, 0
            for char in re.findall(r"[()\[\]{}]", inner):
                depth += 1 if char in "([{" else -1
                lowest = min(lowest, depth)
            if lowest == 0 == depth:
                return opening, inner, closing
    return "", text, ""


def _split(text: str) -> list[str]:
    """The text at its commas outside of brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += {**dict.fromkeys("([{", 1), **dict.fromkeys(")]}", -1)}.get(char, 0)
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts
