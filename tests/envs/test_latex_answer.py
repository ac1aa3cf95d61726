"""Answers in LaTeX: what is declared, and what is the same. The pairs are hard cases of MATH's answers."""

import pytest

from common.envs.latex_answer import declared_answer, normal_form, same_answer

EQUAL = [
    # numbers
    ("0.5", r"\frac{1}{2}"), (".50", "1/2"), (r"\dfrac{1}{2}", r"\tfrac12"), (r"\frac{-1}{2}", r"-\frac{1}{2}"),
    (r"\frac{6}{4}", r"\frac{3}{2}"), (r"3\frac{1}{2}", "3.5"), (r"3\frac12", "7/2"), ("1,000", "1000"), (r"10,\!080", "10080"), ("12{,}345", "12,345"),
    ("-5", "−5"), ("+7", "7"), ("3.", "3"), ("2.0", "2"), (r"\frac{0.5}{2}", "1/4"), ("007", "7"),
    # units, currency, signs
    (r"5\text{ cm}", "5"), (r"10 \text{ cm}^2", "10"), ("12 square units", "12"), (r"\$32", "32 dollars"), (r"50\%", "50"),
    (r"90^\circ", "90"), (r"90^{\circ}", "90 degrees"), (r"3\sqrt{2}\text{ inches}", r"3\sqrt2"), ("1,200 dollars", "1200"),
    # spelling
    (r"$\frac{\pi}{2}$", r"\pi/2"), (r"\frac{\sqrt{3}}{2}", r"\frac{\sqrt3}2"), (r"\left( 1, \frac{1}{2} \right)", "(1,0.5)"),
    (r"x = 5", "5"), (r"x \in [0,1)", r"[0, 1)"), (r"(x,y) = (1,2)", "(1,2)"), (r"x^{2}+1", "x^2 + 1"), ("2516_{8}", "2516_8"),
    (r"2\cdot x", "2x"), (r"\frac{x+1}{2}", "(x+1)/2"), (r"x \le 5", r"x \leq 5"), ("√3", r"\sqrt{3}"), ("2π", r"2\pi"),
    (r"\frac{3}{2x}", "3/(2x)"), (r"\frac{1}{2}x", r"(1/2)x"), (r"\sqrt{\frac{1}{2}}", r"\sqrt{1/2}"), (r"\frac{\frac12}{3}", r"(1/2)/3"),
    # words and choices
    (r"\text{Monday}", "monday"), (r"\text{(C)}", "C"), ("(B)", "B"), (r"\text{even}.", "Even"), (r"\mathrm{no solution}", "no  solution"),
    # tuples, intervals, sets, lists, matrices
    (r"(-\infty, 2)\cup(3,\infty)", r"(-\infty,2) \cup (3,\infty)"), (r"\{1,2\}", r"\left\{2, 1\right\}"), ("1, 2, 3", "1,2,3"),
    (r"2 \text{ and } 3", "2,3"), ("(5)", "5"), (r"\begin{pmatrix} 1 \\ 1/2 \end{pmatrix}", r"\begin{bmatrix}1\\0.5\end{bmatrix}"),
    (r"[\frac{1}{2},\infty)", r"[.5, \infty)"), (r"\varnothing", r"\emptyset"),
]  # fmt: skip
DIFFERENT = [
    ("5", "6"), ("0.333", r"\frac{1}{3}"), ("(1,2)", "(2,1)"), ("[0,1]", "(0,1)"), ("1,2", "2,1"), (r"\{1,2\}", "(1,2)"),
    ("2516_8", "2516"), ("x", "5x"), ("5m", "5"), (r"\sqrt{2}", "2"), ("x^2", "x^3"), ("-3", "3"), ("1000", "1,00"), ("A", "B"),
    (r"\text{even}", "odd"), (r"\frac{1}{2x}", r"\frac{1}{2}x"), (r"2\frac{3}{x}", r"\frac{23}{x}"), ("50%", "0.5"), ("(1,000)", "1000"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"), ("1/0", "0"), ("9^9", "99"), ("", ""),
    (r"x\geq 5", r"x\leq 5"), ("AB", "ab"), (r"3\pi", "3"), (r"\frac{12}{3}", r"\frac{1}{23}"), ("x-1", "-1"),
]  # fmt: skip
DECLARED = [
    (r"So \boxed{42}.", "42"),
    (r"\boxed{\frac{1}{2}} is it", r"\frac{1}{2}"),
    (r"\boxed{1} wait, \boxed{2}", "2"),
    (r"\boxed{\left\{\frac{a}{b}\right\}}", r"\left\{\frac{a}{b}\right\}"),
    (r"\boxed {5}", "5"),
    (r"\boxed{5} so the answer is 6", "5"),  # a box counts before words
    (r"\boxed{5} or \boxed{", "5"),  # cut off: the last whole one
    (r"\boxed{} of \boxed{3}, \boxed{ }", "3"),
    ("#### 7\n#### 8", "8"),
    ("The answer is 5. I hope this helps.", "5"),
    ("The answer is: $\\frac{1}{2}$, since it is half.", r"\frac{1}{2}"),
    ("the answer is 3.5", "3.5"),
    ("The final answer is\n\\(x=4\\)", "x=4"),
    ("The answers are 1, 2", "1, 2"),
    ("**Answer is 12.** Good", "12"),
    ("The answer is 1. No, the answer is 2!", "2"),
    ("5", None),
    ("x = 5", None),
    ("", None),
    ("I cannot answer", None),
    (r"\boxed{\frac{1}{2}", None),
    ("the answer is {5", None),
    ("####", None),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_the_same_answer_in_two_spellings(one, other):
    assert same_answer(one, other) and same_answer(other, one), (normal_form(one), normal_form(other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_answers_that_differ(one, other):
    assert not same_answer(one, other), normal_form(one)


@pytest.mark.parametrize(("text", "answer"), DECLARED)
def test_the_last_declared_answer_is_read(text, answer):
    assert declared_answer(text) == answer


def test_a_normal_form_is_its_own_and_may_be_boxed():
    for one in {one for pair in EQUAL + DIFFERENT for one in pair}:
        form = normal_form(one)
        assert normal_form(form) == form, one
        assert not form or declared_answer(f"\\boxed{{{form}}}") == form


@pytest.mark.parametrize("text", ["9^{9^{9^9}}", "(" * 400, "\\frac" * 80, "\\frac{" * 300, "9" * 6000, "1e999999999", "\\", "{", "}",
                                  "\\boxed{" * 500, "$$", "\\sqrt", "1/" * 999, "a=" * 999, ",,,", "\\{\\}", "[)", "\\begin{pmatrix}"])  # fmt: skip
def test_whatever_a_model_writes_is_read_without_an_error(text):
    assert declared_answer(text) is None and declared_answer(f"The answer is {text}") in (None, text)
    assert same_answer(text, text) == bool(normal_form(text)) and "\n" not in normal_form(text)


def test_math_verify_agrees_but_where_this_module_says_otherwise():
    """An independent verifier: it finds equal what we do, and more; where it differs is listed with the reason."""
    verify = pytest.importorskip("math_verify", reason="math-verify is not installed: pip install -e '.[math-verify]'")
    theirs = {pair: verify.verify(verify.parse(f"${pair[0]}$"), verify.parse(f"${pair[1]}$")) for pair in EQUAL + DIFFERENT}
    # spellings that it does not read
    assert {pair for pair in EQUAL if not theirs[pair]} == {
        (r"\$32", "32 dollars"), ("1,200 dollars", "1200"), ("√3", r"\sqrt{3}"), (r"\text{even}.", "Even"), (r"\varnothing", r"\emptyset")}
    # lists as sets, brackets and bases dropped, a letter as a unit, percent as a hundredth or not, and capitals
    assert {pair for pair in DIFFERENT if theirs[pair]} == {
        ("1,2", "2,1"), (r"\{1,2\}", "(1,2)"), ("2516_8", "2516"), ("5m", "5"), ("50%", "0.5"), ("AB", "ab")}
