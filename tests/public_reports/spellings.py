"""Random values, each with what tells it from others, and random spellings of them in LaTeX.

    python -m tests.public_reports.spellings 50000       # pairs; prints every false match

A value is a tuple that equals another one's exactly when the two are the same answer; ranges are small, so that
different values often consist of the same characters.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction

from common.envs.answer_text import number as number_in_latex
from common.envs.answer_text import plain
from common.envs.final_number import final_number
from common.envs.latex_answer import same_answer
from tests.public_reports.answers import ANSWERS

Value = tuple


def number(rng: random.Random) -> Value:
    whole, under = rng.choice((0, 1, 2, 5, 12, 21, 23, 123, 250, 1250, 12250)), rng.choice((1, 1, 2, 4, 12))
    return "number", rng.choice((1, 1, -1)) * Fraction(rng.choice((whole, whole * under + 1)), under)


def say_number(value: Value, rng: random.Random) -> str:
    size, sign = abs(value[1]), "-" if value[1] < 0 else ""
    whole, rest = divmod(size.numerator, size.denominator)
    over, under = size.numerator, size.denominator
    frac = rng.choice(("\\frac", "\\dfrac", "\\tfrac"))
    if under == 1:
        grouped = f"{over:,}"
        plain = [str(over), grouped, grouped.replace(",", "{,}"), grouped.replace(",", "\\,"), grouped.replace(",", " "), f"{over}.0"]
        return sign + rng.choice([*plain, f"\\frac{{{over * 2}}}{{2}}"])
    ways = [f"{sign}{over}/{under}", f"{sign}{frac}{{{over}}}{{{under}}}"]
    ways += [f"{frac}{{{sign}{over}}}{{{under}}}", f"{frac}{{{over}}}{{{sign}{under}}}"]
    if over < 10 and under < 10:
        ways.append(f"{sign}{frac}{over}{under}")
    if whole:
        part = f"{frac}{{{rest}}}{{{under}}}"
        ways += [f"{sign}{whole}{part}", f"{sign}{whole} {rest}/{under}", f"{sign}{whole}\\ {part}"]
    if under in (2, 4):
        ways.append(f"{sign}{float(size)}")
    return rng.choice(ways)


def script(text: str, rng: random.Random) -> str:
    """``text`` as an exponent or index."""
    return rng.choice((text, f"{{{text}}}", f"{{ {text} }}")) if len(text) == 1 else f"{{{text}}}"


def power(rng: random.Random) -> Value:
    """base^exponent · factor."""
    return "power", rng.choice("xe2"), rng.choice(("1", "2", "12", "2x", "-1", "n+1")), rng.choice(("", "x", "2"))


def say_power(value: Value, rng: random.Random) -> str:
    _, base, exponent, factor = value
    return f"{base}^{script(exponent, rng)}{rng.choice((' ', '{}') if factor.isdigit() else ('', ' '))}{factor}"


def indexed(rng: random.Random) -> Value:
    return "indexed", rng.choice(("\\log", "a", "2516")), rng.choice(("2", "8", "23", "12", "n")), rng.choice(("", "3", "x", "12"))


def say_indexed(value: Value, rng: random.Random) -> str:
    _, base, index, argument = value
    return f"{base}_{script(index, rng)}{' ' if argument else ''}{rng.choice((argument, f'{{{argument}}}')) if argument else ''}"


def root(rng: random.Random) -> Value:
    return "root", rng.choice(("", "2", "12")), rng.choice(("", "3", "4")), rng.choice(("2", "3", "23", "x")), rng.choice(("", "3", "y"))


def say_root(value: Value, rng: random.Random) -> str:
    _, factor, degree, inner, after = value
    degree = f"[{degree}]" if degree else ""
    inner = rng.choice((f"{{{inner}}}", f" {inner}")) if len(inner) == 1 and not after.isdigit() else f"{{{inner}}}"
    return f"{factor}{rng.choice(('', ' '))}\\sqrt{degree}{inner}{after and ' '}{after}"


def quotient(rng: random.Random) -> Value:
    """(sign, numerator, denominator, factor behind it)."""
    over, under = rng.choice(("a", "x+1", "3x", "\\pi", "12x")), rng.choice(("b", "x-1", "2y", "\\sqrt{3}", "23y"))
    return "quotient", rng.choice((1, -1)), over, under, rng.choice(("", "", "x", "z"))


def say_quotient(value: Value, rng: random.Random) -> str:
    _, sign, over, under, after = value
    frac, minus = rng.choice(("\\frac", "\\dfrac")), "-" if sign < 0 else ""
    single = "+" not in over, "-" not in under
    ways = [f"{minus}{frac}{{{over}}}{{{under}}}"]
    if single[0]:
        ways.append(f"{frac}{{{minus}{over}}}{{{under}}}")
    if single[1]:
        ways.append(f"{frac}{{{over}}}{{{minus}{under}}}")
    if all(single):
        ways.append(f"{'' if minus else '-'}{frac}{{-{over}}}{{{under}}}")
    return rng.choice(ways) + after


def listed(rng: random.Random) -> Value:
    """Brackets and numbers; of a set without order."""
    opening, closing = rng.choice((("", ""), ("(", ")"), ("[", ")"), ("(", "]"), ("[", "]"), ("\\{", "\\}")))
    size = 2 if "[" in opening or "]" in closing else rng.choice((2, 3))
    elements = tuple(Fraction(rng.choice((0, 1, 2, 12, 250)), rng.choice((1, 1, 2))) for _ in range(size))
    return "list", opening, closing, tuple(sorted(elements)) if opening == "\\{" else elements


def say_listed(value: Value, rng: random.Random) -> str:
    _, opening, closing, elements = value
    said = [str(one) if rng.random() < 0.5 else say_number(("number", one), random.Random(0)) for one in elements]
    said = [str(one) if "," in text else text for one, text in zip(elements, said, strict=True)]
    if opening == "\\{":
        rng.shuffle(said)
    left, right = ("\\left", "\\right") if opening and rng.random() < 0.5 else ("", "")
    return f"{left}{opening}{', '.join(said)}{right}{closing}"


def matrix(rng: random.Random) -> Value:
    """(whether it is a determinant, rows)."""
    rows, columns = rng.choice(((1, 2), (2, 1), (2, 2)))
    return "matrix", rng.random() < 0.2, tuple(tuple(rng.choice((0, 1, 2, 12)) for _ in range(columns)) for _ in range(rows))


def say_matrix(value: Value, rng: random.Random) -> str:
    _, determinant, rows = value
    inner = rng.choice(("\\\\", " \\\\ ")).join(rng.choice(("&", " & ")).join(map(str, row)) for row in rows)
    if determinant:
        return f"\\begin{{vmatrix}}{inner}\\end{{vmatrix}}"
    array = f"\\begin{{array}}{{{'c' * len(rows[0])}}}{inner}\\end{{array}}"
    return rng.choice((f"\\begin{{pmatrix}}{inner}\\end{{pmatrix}}", f"\\begin{{bmatrix}}{inner}\\end{{bmatrix}}",
                       f"\\left({array}\\right)", f"\\left[\\begin{{matrix}}{inner}\\end{{matrix}}\\right]"))  # fmt: skip


def counted(rng: random.Random) -> Value:
    """A time of day, or a number of thousands or millions, which are numbers too."""
    size, word = rng.choice((1, 2, 5, 12)), rng.choice(("a.m.", "p.m.", "thousand", "million", "dozen"))
    scale = {"thousand": 1000, "million": 10**6}.get(word)
    return ("number", Fraction(size * scale)) if scale else ("counted", size, word)


def say_counted(value: Value, rng: random.Random) -> str:
    if value[0] == "number":
        scale, word = (10**6, "million") if value[1] >= 10**6 else (1000, "thousand")
        return f"{value[1] / scale}" + rng.choice((f"\\text{{ {word}}}", f" {word}"))
    _, size, word = value
    return f"{size}" + rng.choice((f"\\text{{ {word}}}", f"\\mbox{{ {word}}}", f" \\text{{{word}}}"))


def named(rng: random.Random) -> Value:
    return "named", rng.choice(("\\sin x", "\\cos x", "2x+1", "y^2", "\\ln x", "2x-1"))


def say_named(value: Value, rng: random.Random) -> str:
    return rng.choice(("", "y = ", "f(x) = ", "y=")) + value[1].replace(" ", rng.choice((" ", "  ", "{}")) if "\\" in value[1] else " ")


KINDS: tuple[tuple[Callable[[random.Random], Value], Callable[[Value, random.Random], str]], ...] = (
    (number, say_number), (number, say_number), (power, say_power), (indexed, say_indexed), (root, say_root), (quotient, say_quotient),
    (listed, say_listed), (matrix, say_matrix), (counted, say_counted), (named, say_named))  # fmt: skip


def spelled(rng: random.Random, kind: int) -> tuple[Value, str]:
    """A random value of a kind, and one of its spellings, with random wrapping."""
    draw, say = KINDS[kind]
    value = draw(rng)
    text = say(value, rng)
    return value, rng.choice((text, text, f"${text}$", f"{text}.", f"\\({text}\\)", f" {text} "))


def false_matches(pairs: int, seed: int, kinds: Sequence[int] = range(len(KINDS))) -> tuple[int, list[tuple[str, str]]]:
    """Of random pairs, most of one kind, how many differ in value, and those of them that count as the same answer."""
    rng, different, wrong = random.Random(seed), 0, []
    for _ in range(pairs):
        kind = rng.choice(kinds)
        one, other = spelled(rng, kind), spelled(rng, kind if rng.random() < 0.8 else rng.choice(kinds))
        if one[0] != other[0]:
            different += 1
            wrong += [(one[1], other[1])] * same_answer(one[1], other[1])
    return different, wrong


def missed_matches(pairs: int, seed: int) -> tuple[int, list[tuple[str, str]]]:
    """Of random pairs of spellings of one value, how many there are, and those that do not count as the same answer."""
    rng, missed = random.Random(seed), []
    for _ in range(pairs):
        draw, say = KINDS[rng.randrange(len(KINDS))]
        value = draw(rng)
        one, other = say(value, rng), say(value, rng)
        missed += [(one, other)] * (not same_answer(one, other))
    return pairs, missed


def misread_numbers(count: int, seed: int) -> list[tuple[str, Fraction, Fraction | None]]:
    """Random numbers in random announcements that are read as another number than they are."""
    rng, wrong = random.Random(seed), []
    for _ in range(count):
        value = number(rng)
        text = say_number(value, rng)
        money = "\\$" if rng.random() < 0.2 and value[1] >= 0 and text[0].isdigit() else ""
        before = rng.choice(("#### ", "The answer is ", "**Answer**: ", "\\boxed{", "The answer is $"))
        after = {"\\boxed{": "}", "The answer is $": "$"}.get(before, "") + rng.choice(("", ".", " eggs", "\nThat was step 3."))
        said = f"First 12 - 3 = 9.\n{before}{money}{text}{after}"
        if (read := final_number(said)) != value[1]:
            wrong.append((said, value[1], read))
    return wrong


TOKEN = re.compile(
    r"\\(?:text|begin|end)\s*\{[^{}]*\}(?:\{[lcr|]*\})?|\\[a-zA-Z]+|\\.|\d+(?:(?:,|,\\!|\{,\}|\.)\d+)*|\{[,:]\}|[a-zA-Z']+|.", re.DOTALL)
"""What must stay together where spaces are put in."""
UNITS = ("cm", "units", "square units", "inches", "dollars", "miles per hour", "students", "cubic feet", "m", "kg")


def spaced(text: str, rng: random.Random) -> str:
    """``text`` with spaces, of LaTeX too, where they mean nothing."""
    return "".join(token + rng.choice(("", "", " ", "  ", "\\,")) if token not in ("^", "_", "\\left", "\\right") else token
                   for token in TOKEN.findall(text)).removesuffix("\\,")  # fmt: skip


def sized(text: str, rng: random.Random) -> str:
    """``text`` with ``\\left`` and ``\\right`` before its brackets, or without."""
    bare = re.sub(r"\\(?:left|right)(?![a-z])", "", text)
    if rng.random() < 0.5 or "\\sqrt[" in bare:
        return bare
    return re.sub(r"\\\{|[(\[]", lambda found: f"\\left{found[0]}", re.sub(r"\\\}|[)\]]", lambda found: f"\\right{found[0]}", bare))


def rewritten(text: str, rng: random.Random) -> str:
    """``text`` in another spelling that any reader would take for the same."""
    text = sized(text, rng)
    text = re.sub(r"\\frac(?![a-z])", lambda found: rng.choice(("\\frac", "\\dfrac", "\\tfrac")), text)
    if rng.random() < 0.6:
        text = spaced(text, rng)
    if number_in_latex(plain(text.replace("\\,", " "))) is not None and rng.random() < 0.5:
        text += rng.choice(("\\text{ %s}", " \\text{%s}", "\\ \\text{%s}", "\\mbox{ %s}")) % rng.choice(UNITS)
    text = rng.choice(("%s", "$%s$", "\\(%s\\)", "\\[%s\\]", " %s ", "$ %s $", "\\displaystyle %s")) % text
    return text + rng.choice(("", "", ".", " ."))


def missed_rewrites(answers: tuple[str, ...], times: int, seed: int) -> tuple[int, list[tuple[str, str]]]:
    """Of random rewrites of each answer, how many there are, and those that do not count as the answer."""
    rng = random.Random(seed)
    pairs = [(answer, rewritten(answer, rng)) for answer in answers for _ in range(times)]
    return len(pairs), [pair for pair in pairs if not same_answer(*pair)]


if __name__ == "__main__":
    asked = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    compared, found = false_matches(asked, 1)
    print(f"{compared} pairs of different values, {len(found)} false matches", *found[:40], sep="\n")
    rewrites, unequal = missed_rewrites(ANSWERS, max(1, asked // 1000), 4)
    print(f"{rewrites} rewrites of {len(ANSWERS)} answers, {len(unequal)} missed", *unequal[:40], sep="\n")
    said, missing = missed_matches(asked // 5, 2)
    print(f"{said} pairs of one value in two spellings, {len(missing)} missed", *missing[:40], sep="\n")
    misread = misread_numbers(asked // 5, 3)
    print(f"{asked // 5} announced numbers, {len(misread)} misread", *misread[:40], sep="\n")
