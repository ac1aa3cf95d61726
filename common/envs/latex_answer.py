"""The answer that a worked solution declares in LaTeX, and one spelling for equal answers.

Two answers are the same when their normal forms are: numbers are compared as values, everything else as text after
normalisation. An expression is never evaluated or rearranged, so ``2+3x`` and ``3x+2``, or ``\\sqrt{12}`` and
``2\\sqrt{3}``, differ: verdicts err towards "wrong". They depend on nothing but the text, neither on the clock nor on what is
installed, which math-verify (timeouts by signals, sympy's evaluating parser) cannot promise; tests hold both side by side.
"""

from __future__ import annotations

import re

from common.envs.answer_text import ANNOUNCED, boxes, number, plain
from common.envs.latex_expression import expression, outer, split

LONGEST = 500
"""Characters of an answer above which it stays as it is."""
_LINE = 2000
"""Most characters behind an announcement in which its answer must end."""
_MARKS = re.compile(rf"(?:{ANNOUNCED})\s*:?", re.IGNORECASE)
_MATH = {"$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$"}
_ANOTHER = re.compile(r"\s*(?:,|and\b|or\b)[\s$]*(?:and\b|or\b)?\s*(?:\$|\\[(\[])")
_SPELLINGS = (
    (re.compile(r"(?<![\d.])[1-9]\d{0,2}(?:(?:\{,\}|,\\! *)\d{3})+(?!\d)"), lambda found: re.sub(r"\D", "", found[0])),  # thousands
    (re.compile(r"\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])\.?"), " "),
    (re.compile(r"\\(?:[,;:!> ]|q?quad\b|displaystyle\b|textstyle\b)|[~\t\u00a0\u2009\u202f]|\\\$|\$|\\[()\[\]]|[€£]"), " "),
    (re.compile(r"\n *\[-?[\d.]+ *[a-z]{2}\]"), "\n"),  # a row's distance from the next one
    (re.compile(r"√ *(\d+)"), r"\\sqrt{\1}"),
    (re.compile(r"√"), r"\\sqrt "),
    (re.compile(r"π|(?<![\\a-zA-Z])pi(?![a-zA-Z])"), r"\\pi "),
    (re.compile(r"∞"), r"\\infty "),
    (re.compile(r"∪"), r"\\cup "),
    (re.compile(r"≤|\\(?:leq?|leqslant)(?![a-zA-Z])"), r"\\leq "),
    (re.compile(r"≥|\\(?:geq?|geqslant)(?![a-zA-Z])"), r"\\geq "),
    (re.compile(r"×|·|\\(?:cdot|times)(?![a-zA-Z])"), "*"),
    (re.compile(r"(?:\^ *)?(?:°|\\degree(?![a-zA-Z]))"), r"^\\circ "),
    (re.compile(r"²"), "^2"),
    (re.compile(r"³"), "^3"),
    (re.compile(r"\\varnothing\b"), r"\\emptyset"),
    (re.compile(r"\\(?:[dtcs]|nice)frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r" *,? *\\(?:text|textrm|mbox|mathrm) *\{ *,? *(?:and|or) *\} *"), ","),
    (re.compile(r" *(?<=[\d)\]} ]) *,? *\b(?:and|or)\b *(?=[-+\d\\(\[{])"), ","),
)  # fmt: skip
_TEXT = r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}"
_POWER = r"(?: *\^ *(?:[23]|\{ *[23] *\}))?"
_SUFFIX = re.compile(rf"(?<=[^ ]) *\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf) *\{{([^{{}}]*)\}}{_POWER} *$")
_UNITS = re.compile(r" *(?:(?:square|cubic) *)?(?:units?|mm|cm|km|meters?|metres?|inch(?:es)?|feet|foot|ft|yards?|miles?|degrees?|"
                    r"radians?|dollars?|cents?|percent|seconds?|minutes?|hours?|days?|weeks?|months?|years?|mph|kg|grams?|pounds?|"
                    rf"points?)(?![a-zA-Z]){_POWER} *$")  # fmt: skip
_MARKED = re.compile(r" *(?:\\?%|\^ *(?:\\circ|\{ *\\circ *\})) *$")
_ANGLES = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_SHORT_UNITS = frozenset("m mm cm km s ms h hr g kg mg l ml ft in yd mi lb oz sq cu".split())
_NO_UNITS = frozenset("""
zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty seventy eighty ninety hundred thousand
million billion trillion lakh crore googol dozen dozens score gross half halves third thirds quarter quarters fourth fourths fifth fifths
sixth sixths seventh sevenths eighth eighths ninth ninths tenth tenths hundreds thousands millions billions trillions hundredth
hundredths thousandth thousandths pair pairs couple double twice thrice times squared cubed factorial negative minus plus less more fewer
below above under over least most not and nor between from mod modulo base binary octal decimal hexadecimal north south east west left
right upward downward clockwise counterclockwise anticlockwise loss gain owed debt noon midnight morning afternoon evening ago before after
behind ahead bce sin cos tan log cot sec csc exp gcd lcm max min cis pmod undefined none unknown infinity infinite
""".split())
"""Words behind a number that are no unit of what is counted: they change how much it is, or in which direction."""
_TIME = re.compile(r"(?<=\d) *(?:\\(?:text|mathrm|mbox) *\{ *)?([aApP])\.? ?[mM](?![a-zA-Z])\.? *\}?$")
_MATRIX = re.compile(r"(?P<open>[(\[]?) *\\begin *\{(?P<kind>[a-zA-Z]*matrix|array)\} *(?P<columns>\{[^{}]*\})?(?P<rows>.*)"
                     r"\\end *\{(?P=kind)\} *(?P<close>[)\]]?)", re.DOTALL)  # fmt: skip
_GREEK = "alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|(?:var)?phi|chi|psi|omega"
_NAME = re.compile(rf"(?:[A-Za-z]|\\(?:{_GREEK}))(?:_\{{?\w\}}?)?(?:\([a-z]\))?|\([a-z](?:,[a-z])+\)")


def declared_answer(text: str) -> str | None:
    """What the last ``\\boxed{…}`` holds, else what follows the last ``####`` or "answer is": mathematics up to its end, else
    the line up to the end of the sentence; None where nothing is declared, or something whose braces do not match."""
    for start, end in reversed(boxes(text)):
        if text[start:end].strip():
            return text[start:end].strip()
    for mark in reversed(list(_MARKS.finditer(text))):
        answer = _announced(text, re.compile(r"[\s*:]*").match(text, mark.end()).end())
        if answer and _balanced(answer):
            return answer
    return None


def _announced(text: str, start: int) -> str:
    """What stands at ``start``: mathematics without its delimiters, else the rest of the sentence; "" where neither ends."""
    shown = text[start : start + _LINE]
    opening = next((one for one in _MATH if shown.startswith(one)), "")
    if opening:
        across = shown if len(opening) == 2 and opening != "\\(" else shown.split("\n", 1)[0]
        close = re.compile(re.escape(_MATH[opening]) + ("" if len(opening) == 2 else r"(?!\d)"))  # no digit: $5 and $6 are prices
        if (end := close.search(across, len(opening))) and not _ANOTHER.match(shown, end.end()):
            return across[len(opening) : end.start()].strip()
    line = shown.split("\n", 1)[0]
    sentence = re.split(r"[.!]?\*\*|[.!](?:\s|$)", line)[0]
    if line.strip(" *:") in ("$", "$$", "\\[", "\\(") or len(sentence) == _LINE:
        return ""
    return sentence.strip(" *:")


def _balanced(text: str) -> bool:
    """Whether ``text`` may stand between braces."""
    depth = 0
    for brace in re.findall(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    return depth == 0


def same_answer(one: str, other: str) -> bool:
    """Whether two answers have one normal form, see the module."""
    form = normal_form(one)
    return bool(form) and form == normal_form(other)


def normal_form(answer: str) -> str:
    """One spelling of an answer, on one line; the normal form of a normal form is itself.

    ``\\frac{1}{2}``, ``0.5`` and ``.50`` are ``1/2``, ``3\\frac{1}{2}`` and ``3\\ 1/2`` are ``7/2``, ``1,000`` is ``1000``. Units
    behind a number, percent and degree signs, currency and ``x =`` are dropped; words that change a number (``million``,
    ``p.m.``) are not. Words are lower case. Elements of tuples, intervals and lists keep their order and brackets; those of a
    set ``\\{…\\}`` are sorted. What is longer than :data:`LONGEST` characters stays as it is.
    """
    for _ in range(9 if len(answer) <= LONGEST else 0):  # what one pass lays bare, the next one reads; two or three suffice
        answer, before = _normalised(answer), answer
        if answer == before:
            break
    return " ".join(answer.split())


def _normalised(answer: str) -> str:
    text = re.sub(r"\s+", " ", plain(answer)).replace("\\\\", "\n")  # \n: the end of a matrix's row
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    text = _TIME.sub(lambda found: f"\\text{{ {found[1].lower()}m}}", text.strip(" "))
    text = re.sub(r"(?<!\\) *[.,;]? *$", "", text).strip(" ")
    return _value(re.sub(" +", " ", text)).replace("\n", "\\\\")


def _value(text: str, listed: bool = False) -> str:
    """The normal form of an answer without spelling variants; ``listed``: of an element of a list."""
    text = text.strip(" ")
    bare = _without_unit(text)
    if (value := number(_untexted(bare))) is not None and not (listed and re.fullmatch(r"0\d+", bare)):  # (1,000) may be a thousand
        return str(value)
    words = _untexted(text).strip(" ").rstrip(" .")
    if re.fullmatch(r"[A-Za-z][A-Za-z' -]*", words) and (re.search(_TEXT, text) or re.search(r"[A-Za-z]{3}", words)):
        return words if len(words) == 1 else re.sub(" +", " ", words).lower()
    if (matrix := _MATRIX.fullmatch(text)) and "\\begin" not in matrix["rows"] and matrix["open"] + matrix["close"] in ("", "()", "[]"):
        return _matrix(matrix)
    if len(parts := [part for part in split(text, ",") if part.strip(" ")]) > 1:
        return _list(parts)
    name, unnamed = _named(text)
    if name:
        return _value(unnamed)
    if len(parts := split(text, "\\cup")) > 1:
        return "\\cup ".join(map(_value, parts))
    opening, inner, closing = outer(text)
    if opening == "(" and closing == ")" and len(split(inner, ",")) == 1:
        return _value(inner)
    if opening:
        elements = [_value(part, listed=True) for part in split(inner, ",")]
        return opening + ",".join(sorted(elements) if opening == "\\{" else elements) + closing
    if bare != text:
        return _value(bare)
    if (untexted := _untexted(text)) != text:
        return _value(untexted)
    return expression(text.removeprefix("+"))


def _untexted(text: str) -> str:
    """``text`` with the contents of ``\\text{…}`` and its like in their place."""
    return re.sub(" +", " ", re.sub(_TEXT, r" \1 ", text)).strip(" ")


def _without_unit(text: str) -> str:
    """``text`` without a unit, a percent or a degree sign behind it."""
    while True:
        if (mark := _MARKED.search(text)) and mark.start() and not _ANGLES.search(text):
            text = text[: mark.start()]
        elif (suffix := _SUFFIX.search(text)) and _is_unit(suffix[1], text[: suffix.start()]):
            text = text[: suffix.start()]
        elif (unit := _UNITS.search(text)) and _takes_unit(text[: unit.start()]):
            text = text[: unit.start()]
        else:
            return text


def _takes_unit(text: str) -> bool:
    """Whether a unit without ``\\text`` may stand behind ``text``."""
    return text[-1:].isdigit() or text[-1:] == "}" or number(text) is not None


def _is_unit(words: str, before: str) -> bool:
    """Whether words behind a number only say of what there are so many: not where they change the number."""
    if words.strip(" ") in ("C", "F") and _MARKED.search(before):
        return True
    found = re.findall("[A-Za-z]+", words)
    return bool(found) and re.fullmatch(r"[A-Za-z .'/-]+", words) is not None and all(
        word.lower() not in _NO_UNITS if len(word) > 2 else word in _SHORT_UNITS for word in found)


def _list(parts: list[str]) -> str:
    """A plain list, in its order. Names are dropped where there is one; several unknowns keep theirs, in alphabetical order."""
    named = [_named(part) for part in parts]
    names = {name for name, _ in named if name}
    elements = [_value(part, listed=True) for _, part in named]
    if len(names) > 1:
        return ",".join(sorted(f"{name}={element}" if name else element for (name, _), element in zip(named, elements, strict=True)))
    joined = ",".join(elements)
    return joined if number(joined) is None else ", ".join(elements)


def _named(text: str) -> tuple[str, str]:
    """What is before ``=`` or ``\\in`` where that names the answer, and the answer; "" and ``text`` where it does not."""
    for sign in ("=", "\\in"):
        parts = split(text, sign)
        name = parts[0].replace(" ", "")
        unknowns = re.findall("[a-z]", name) if name[:1] == "(" else []  # (y, x) = (1, 2) is (x, y) = (2, 1)
        if len(parts) == 2 and parts[1].strip(" ") and _NAME.fullmatch(name) and unknowns == sorted(unknowns):
            return name, parts[1]
    return "", text


def _matrix(matrix: re.Match[str]) -> str:
    """A matrix in round or square brackets, whichever environment it is written in; another one by its own name."""
    kind, columns, brackets = matrix["kind"], matrix["columns"] or "", matrix["open"] + matrix["close"]
    plain_columns = re.fullmatch(r"(?:\{[lcr ]*\})?", columns) is not None
    if plain_columns and (kind in ("pmatrix", "bmatrix") or brackets and kind in ("matrix", "smallmatrix", "array")):
        kind = "pmatrix"
    rows = [row for row in split(matrix["rows"].replace("\\hline", ""), "\n") if row.strip(" ")]
    cells = "\n".join("&".join(map(_value, split(row, "&"))) for row in rows)
    if kind == "pmatrix":
        return rf"\begin{{pmatrix}}{cells}\end{{pmatrix}}"
    return rf"{matrix['open']}\begin{{{kind}}}{columns}{cells}\end{{{kind}}}{matrix['close']}"
