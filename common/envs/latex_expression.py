"""One spelling of an expression in LaTeX: fractions with a slash, as few braces as say the same, no spaces that mean nothing.

What belongs together stays together: an exponent, an index, an argument and a fraction keep their extent, so that ``e^{2x}`` is
not ``e^2x`` and ``\\log_{23}`` not ``\\log_2 3``. Nothing is evaluated but the sign of a fraction.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\d+(?:\.\d+)?|\.\d+| +|.", re.DOTALL)
_FUNCTIONS = frozenset(f"\\{name}" for name in (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp det gcd max min lim".split()))  # fmt: skip
_ARGUMENTS = {"\\binom": 2, "\\dbinom": 2, "\\tbinom": 2} | {f"\\{name}": 1 for name in (
    "overline underline bar vec hat tilde widehat dot overrightarrow overleftrightarrow mathbb mathcal boldsymbol".split())}  # fmt: skip
_JOINS = re.compile(r"(?:[-+=<>,:;|&\n(\[]|\\\{|\\(?:leq|geq|neq|ne|approx|in|pm|mp|to|cup|cap|quad)) *$")
"""Ends of what a fraction may follow without being a factor of it."""
_PARTS = re.compile(r"[-+=<>,:;|&\n)\]]|\\\}|\\(?:leq|geq|neq|ne|approx|in|pm|mp|to|cup|cap)(?![a-zA-Z])|$")
DEEPEST = 40
"""Groups within each other, at most, of an expression that is read."""


class Quotient(NamedTuple):
    """A fraction's numerator and denominator."""

    over: str
    under: str


Piece = str | Quotient


def expression(text: str) -> str:
    """One spelling of ``text``, in which ``*`` is the sign of multiplication. Where groups lie deeper than :data:`DEEPEST` in each
    other the text stays as it is."""
    tokens = _tokens(text)
    depth = deepest = 0
    for token in tokens:
        depth += (token == "{") - (token == "}")
        deepest = max(deepest, depth)
    return _joined(_pieces(tokens)) if deepest <= DEEPEST else "".join(tokens)


def _tokens(text: str) -> list[str]:
    """Commands, numbers and characters; of spaces only those between two numbers."""
    found = _TOKEN.findall(text)
    return [one for before, one, after in zip(["", *found], found, [*found[1:], ""])
            if one.strip(" ") or (before[-1:].isdigit() and re.match(r"\.?\d", after))]  # fmt: skip


def _pieces(tokens: list[str]) -> list[Piece]:
    """Tokens, in which fractions, roots, exponents and arguments are pieces of their own. Uses up ``tokens``."""
    found: list[Piece] = []
    while tokens:
        _take(found, tokens)
    return found


def _take(found: list[Piece], tokens: list[str]) -> None:
    """Move a token, with what belongs to it, from the front of ``tokens`` to the end of ``found``."""
    token = tokens.pop(0)
    if token == "\\frac":
        over, under = _argument(tokens), _argument(tokens)
        if under is None:
            found.append(token if over is None else f"{token}{{{_joined(over)}}}")
        else:
            found.append(Quotient(_joined(over or []), _joined(under)))
    elif token == "\\sqrt":
        index = _group(tokens, "[", "]") if tokens[:1] == ["["] else None
        inner = _argument(tokens)
        shown = "" if index is None else f"[{_joined(_pieces(index))}]"
        found.append(f"\\sqrt{shown}" + ("" if inner is None else f"{{{_joined(inner)}}}"))
    elif token in _ARGUMENTS:
        given = [_argument(tokens) or [] for _ in range(_ARGUMENTS[token])]
        found.append(("\\binom" if len(given) == 2 else token) + "".join(f"{{{_joined(one)}}}" for one in given))
    elif token in ("^", "_"):
        _script(found, token, tokens)
    elif token == "{" and (inner := _group([token, *tokens], "{", "}")) is not None:
        del tokens[: len(inner) + 1]
        _grouped(found, inner, tokens)
    elif (re.match(r"\\[a-zA-Z]", token) and token not in _FUNCTIONS and tokens[:1] == ["{"]
          and (inner := _group(tokens, "{", "}")) is not None):  # fmt: skip
        found.append(f"{token}{{{_joined(_pieces(inner))}}}")
    else:
        found.append(token)


def _grouped(found: list[Piece], inner: list[str], after: list[str]) -> None:
    """Add what stood in braces: without them where they change nothing that a reader could take for a group."""
    pieces = _pieces(inner)
    before = found[-1] if found else ""
    ends = _PARTS.match("".join(after[:1])) is not None
    alone = ends and isinstance(before, str) and (not before or _JOINS.search(before) is not None)
    sums = any(piece in ("+", "-") for piece in pieces)
    function = any(piece in _FUNCTIONS for piece in found[-3:])  # with an index and an exponent, at most
    if pieces == [","] or len(pieces) > 1 and not alone and (sums or after[:1] in (["^"], ["_"]) or function and not ends):
        found.append(f"{{{_joined(pieces)}}}")
    else:
        found.extend(pieces)


def _script(found: list[Piece], sign: str, tokens: list[str]) -> None:
    """Add an exponent or index. Without braces it is a whole number, though TeX takes one digit: nobody means 2^1 0 by
    ``2^10``. Behind a function TeX's reading counts, since a number may be its argument: ``\\log_23`` is ``\\log_2 3``."""
    before = found[-1] if found else ""
    function = before in _FUNCTIONS
    if tokens[:1] == [" "]:
        del tokens[0]
    if not function and tokens and re.match(r"\.?\d", tokens[0]):
        inner = [tokens.pop(0)]
    elif not function and tokens[:1] in (["-"], ["+"]) and len(tokens) > 1 and re.match(r"[\da-zA-Z]", tokens[1]):
        inner = [tokens.pop(0) + tokens.pop(0)]
    else:
        inner = _argument(tokens)
    text = "" if inner is None else _joined(inner)
    several = function and re.match(r"-|\d\d", text)
    simple = not several and re.fullmatch(r"-?\d+|-?[a-zA-Z]|\\[a-zA-Z]+|[^\w\\{}+-]", text)
    made = f"{sign}{text}" if simple else f"{sign}{{{text}}}"
    if sign == "_" and isinstance(before, str) and before.startswith("^") and len(found) > 1:
        found.insert(-1, made)  # x^2_1 is x_1^2
    else:
        found.append(made)


def _argument(tokens: list[str]) -> list[Piece] | None:
    """What TeX takes as an argument from the front of ``tokens``: a group, a command with its own, or one character."""
    while tokens[:1] == [" "]:
        del tokens[0]
    if not tokens or tokens[0] in ("}", "^", "_"):
        return None
    if tokens[0] == "{":
        inner = _group(tokens, "{", "}")
        return None if inner is None else _pieces(inner)
    if tokens[0] in ("\\frac", "\\sqrt") or tokens[0] in _ARGUMENTS:
        pieces: list[Piece] = []
        _take(pieces, tokens)
        return pieces
    token = tokens.pop(0)
    if re.match(r"\.?\d", token) and len(token) > 1:
        tokens.insert(0, token[1:])
        return [token[0]]
    return [token]


def _group(tokens: list[str], opening: str, closing: str) -> list[str] | None:
    """The tokens between a bracket at the front and the one that closes it, removed with both; None where none does."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token == opening) - (token == closing)
        if depth == 0:
            inner = tokens[1:at]
            del tokens[: at + 1]
            return inner
    return None


def _joined(pieces: list[Piece]) -> str:
    """Pieces as text."""
    text = ""
    for at, piece in enumerate(pieces):
        after = pieces[at + 1] if at + 1 < len(pieces) else ""
        if isinstance(piece, Quotient):
            text = _with_fraction(text, piece, bool(isinstance(after, str) and _PARTS.match(after)))
        elif piece == "*" and text[-1:].isdigit() and (isinstance(after, Quotient) or re.match(r"[a-zA-Z\\(]", after)):
            continue
        elif re.search(r"\\[a-zA-Z]+$", text) and re.match("[a-zA-Z]", piece):
            text += f" {piece}"
        elif re.search(r"\d$", text) and re.match(r"\.?\d", piece):  # 2{}1/4 is neither 21/4 nor the mixed number
            text += (" " if pieces[at - 1][0] in "^_ " else "{}") + piece
        elif piece != " ":
            text += piece
    return text


def _with_fraction(before: str, fraction: Quotient, last: bool) -> str:
    """``before`` and a fraction behind it, whose sign stands in front; in brackets where it is a factor. ``last``: of its term."""
    over, signs_over = _unsigned(fraction.over)
    under, signs_under = _unsigned(fraction.under)
    negative = signs_over != signs_under
    rest, sign = before[:-1], before[-1:]
    if negative and re.search(r"(?:^|[=<>,:;|&\n(\[])$", before):
        before, negative = f"{before}-", False
    elif negative and sign == "-" and re.search(r"(?:^|[=<>,:;|&\n(\[])$", rest):
        before, negative = rest, False
    elif negative and sign in ("-", "+") and re.search(r"[\w)\]}]$", rest):
        before, negative = rest + ("+" if sign == "-" else "-"), False
    over = f"({over})" if _has(over, "-+/=<>,") else over
    atom = re.fullmatch(r"\d+\.?\d*|(?:[a-zA-Z]|\\[a-zA-Z]+(?:\{[^{}]*\})?)(?:\^(?:\d+|[a-zA-Z]))?", under)
    whole = f"{'-' * negative}{over}/{under if atom else f'({under})'}"
    return before + (whole if last and not negative and (not before or _JOINS.search(before)) else f"({whole})")


def _unsigned(text: str) -> tuple[str, bool]:
    """A numerator or denominator without brackets around it and without the sign of its only term, and whether that is minus."""
    negative = False
    while True:
        opening, inner, closing = outer(text)
        if opening == "(" and closing == ")" and not _has(inner, ","):
            text = inner
        elif text[:1] == "-" and text[1:] and not _has(text[1:], "-+=<>,"):
            text, negative = text[1:], not negative
        else:
            return text, negative


def _has(text: str, characters: str) -> bool:
    """Whether one of ``characters`` stands in ``text`` outside of brackets and behind its first character."""
    return any(len(split(text[1:] if one in "-+" else text, one)) > 1 for one in characters)


def outer(text: str) -> tuple[str, str, str]:
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


def split(text: str, separator: str) -> list[str]:
    """The text at its separators outside of brackets; a separator that is a command ends where its letters do."""
    parts, depth, start = [], 0, 0
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token == separator and depth == 0:
            parts.append(text[start : found.start()])
            start = found.end()
        depth += token in ("(", "[", "{", "\\{", "\\begin")
        depth -= token in (")", "]", "}", "\\}", "\\end")
    return [*parts, text[start:]]
