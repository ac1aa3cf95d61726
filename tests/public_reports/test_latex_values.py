"""Answers in LaTeX that other checkers were reported to confuse, or to tell apart by spelling. A line a case."""

from __future__ import annotations

import pytest

from common.envs.latex_answer import declared_answer, normal_form, same_answer

HELD_OUT = "held-out check"

EQUAL = [
    # mixed numbers
    (r"2\ 1/4", "9/4", "huggingface/Math-Verify#34"),
    ("1 1/4", "5/4", "huggingface/Math-Verify#34"),
    (r"2\frac{1}{2}", "2.5", "huggingface/Math-Verify#34"),
    (r"2\frac14", r"2 \tfrac{1}{4}", HELD_OUT),
    ("11 5/6", r"\frac{71}{6}", "huggingface/Math-Verify#81"),
    ("-2 1/4", r"-\frac94", HELD_OUT),
    ("2½", "5/2", HELD_OUT),
    # the extent of exponents, indices and arguments
    (r"e^{2x}", r"e^{ 2 x }", HELD_OUT),
    (r"\log_2 3", r"\log_{2}{3}", HELD_OUT),
    ("x_{2}", "x_2", "run-llama/ParseBench#168"),
    ("2^{10}", "2^10", HELD_OUT),
    ("x^{-1}", "x^-1", HELD_OUT),
    ("x^2_1", "x_1^2", "MartinThoma/hwrt#31"),
    (r"\sqrt[3]2", r"\sqrt[3]{2}", "EleutherAI/lm-evaluation-harness#4036"),
    (r"\frac{1}\pi", r"1/\pi", "promptfoo/promptfoo#9142"),
    (r"\sin{x}", r"\sin x", HELD_OUT),
    ("√12", r"\sqrt{12}", HELD_OUT),
    (r"\dbinom{5}{2}", r"\binom52", HELD_OUT),
    # names before the answer
    (r"y = \sin x", r"\sin x", HELD_OUT),
    (r"f(x) = \ln x", r"\ln x", HELD_OUT),
    ("x=1, y=2", "y = 2, x = 1", HELD_OUT),
    (r"\theta = 30^\circ", "30", HELD_OUT),
    ("x = 1, x = 2", "1, 2", HELD_OUT),
    (r"x = 1 \text{ or } x = 2", "1,2", "modelscope/ms-swift#4541"),
    # signs
    (r"\frac{1}{-2}", "-0.5", HELD_OUT),
    (r"\frac{-a}{-b}", r"\frac{a}{b}", HELD_OUT),
    (r"\frac{a}{-b}", r"-\frac{a}{b}", HELD_OUT),
    (r"-\frac{-x}{2}", r"\frac{x}{2}", HELD_OUT),
    (r"\frac{-1}{2}x", r"-\frac12 x", HELD_OUT),
    (r"1 - \frac{-a}{b}", r"1 + \frac ab", HELD_OUT),
    ("-0", "0", HELD_OUT),
    (r"\frac{-0}{5}", "0", HELD_OUT),
    ("−5", "–5", "davedelong/DDMathParser#19"),
    # matrices
    (r"\left(\begin{array}{cc}1&2\\3&4\end{array}\right)", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", HELD_OUT),
    (r"\left[\begin{matrix} 1 \\ 2 \end{matrix}\right]", r"\begin{bmatrix}1\\2\end{bmatrix}", HELD_OUT),
    (r"(\begin{pmatrix}\frac{1}{2}\\0\end{pmatrix})", r"\begin{pmatrix}0.5\\0\\\end{pmatrix}", "huggingface/Math-Verify#3"),
    (r"\begin{pmatrix}(1,2)\\3\end{pmatrix}", r"\begin{pmatrix} (1, 2) \\ 3 \end{pmatrix}", HELD_OUT),
    # words and units behind a number
    (r"\text{13}", "13", "huggingface/Math-Verify#37"),
    (r"\textbf{6}", "6", "iDiagoValeta/localOllamaRAG#208"),
    (r"24\text{ students}", "24", "atomantic/PortOS#7304"),
    (r"10\text{ cm}^{2}", "10", HELD_OUT),
    (r"20^\circ\text{C}", "20", HELD_OUT),
    (r"5\text{ million}", "5,000,000", "iDiagoValeta/localOllamaRAG#208"),
    (r"\$2.5\text{ million}", r"2{,}500{,}000\text{ dollars}", HELD_OUT),
    (r"3{:}30\text{ p.m.}", "3:30 PM", HELD_OUT),
    (r"\infty", r"\left. \infty \right.", "EleutherAI/lm-evaluation-harness#4032"),
    # lists
    ("5 and 6", "5, 6", HELD_OUT),
    (r"19, 46, \text{ and } 82", "19, 46, 82", "huggingface/Math-Verify#14"),
    ("(1,4.5)", r"(1,\frac{9}{2})", "huggingface/Math-Verify#2"),
]

DIFFERENT = [
    # mixed numbers
    (r"2\ 1/4", "21/4", HELD_OUT),
    ("2 1/4", r"\frac{21}{4}", HELD_OUT),
    ("2 2/3", "2", "huggingface/Math-Verify#81"),
    ("4 10/3", "10/3", "huggingface/Math-Verify#81"),
    (r"4\frac{10}{3}", "22/3", "huggingface/Math-Verify#81"),
    (r"1\ 2", "12", HELD_OUT),
    ("1 2/3 4", "12/34", HELD_OUT),
    (r"\frac{1}{2}\ 3", r"\frac{1}{23}", HELD_OUT),
    # the extent of exponents, indices and arguments
    (r"e^{2x}", r"e^{2}x", HELD_OUT),
    (r"\log_{23}", r"\log_2 3", HELD_OUT),
    (r"\log_{23}", r"\log_23", HELD_OUT),
    ("x_{12}", "x_1 2", "run-llama/ParseBench#168"),
    ("x^{12}", "x^{1}2", HELD_OUT),
    ("x^{-12}", "x^{-1}2", HELD_OUT),
    (r"2^{3}4", "2^{34}", HELD_OUT),
    (r"a^{b+c}", "a^{b}+c", HELD_OUT),
    (r"\overline{AB}", r"\overline{A}B", HELD_OUT),
    (r"0.\overline{12}", r"0.\overline{1}2", HELD_OUT),
    (r"\sqrt{2}3", r"\sqrt{23}", HELD_OUT),
    (r"\sqrt[3]{8}", r"\sqrt{8}", "EleutherAI/lm-evaluation-harness#4036"),
    (r"\sin{2x}y", r"\sin{2}xy", HELD_OUT),
    (r"\left(\frac{2}{3}\right)^2", r"\frac{2}{3^2}", HELD_OUT),
    (r"f^{(2)}", "f^2", HELD_OUT),
    (r"4\sqrt(2)", "4", "huggingface/Math-Verify#41"),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", "huggingface/Math-Verify#14"),
    (r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}", r"\frac{1}{3 \cdot 2^{2006}}", "huggingface/Math-Verify#14"),
    (r"\frac{1}", r"\frac{2}", HELD_OUT),
    # names before the answer
    ("n=2, 3, 4", "n=1, 2, 3", "huggingface/Math-Verify#14"),
    ("D = (0, 1)", "D = (0, 1.5)", "huggingface/Math-Verify#14"),
    ("x=1, y=2", "x=2, y=1", HELD_OUT),
    (r"\sin x = 1", r"\cos x = 1", HELD_OUT),
    (r"\log b = 2", "2", HELD_OUT),
    ("(x,y) = (1,2)", "(y,x) = (1,2)", HELD_OUT),
    ("3*x-1*y+13=0", "3x + 4y + 14=0", "huggingface/Math-Verify#60"),
    # signs
    (r"2\frac{-1}{x}", r"2-\frac{1}{x}", HELD_OUT),
    (r"x\frac{-a}{b}", r"x-\frac{a}{b}", HELD_OUT),
    (r"\frac{-a+b}{c}", r"-\frac{a+b}{c}", HELD_OUT),
    (r"\frac{a}{-b}", r"\frac{a}{b}", HELD_OUT),
    (r"\pm 2021", "2021", "huggingface/Math-Verify#14"),
    (r"1 - \frac{1}{\mathrm{e}}", r"1 + \frac{1}{\mathrm{e}}", "huggingface/Math-Verify#14"),
    # matrices
    (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", HELD_OUT),
    (r"\left|\begin{array}{cc}1&2\\3&4\end{array}\right|", r"\left(\begin{array}{cc}1&2\\3&4\end{array}\right)", HELD_OUT),
    (r"\left(\begin{array}{c|c}1&2\end{array}\right)", r"\left(\begin{array}{cc}1&2\end{array}\right)", HELD_OUT),
    (r"\begin{pmatrix}1,2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}", HELD_OUT),
    # words behind a number that change it
    (r"5\text{ p.m.}", r"5\text{ a.m.}", HELD_OUT),
    (r"5\text{ p.m.}", "5", HELD_OUT),
    (r"5\text{ million}", "5", "iDiagoValeta/localOllamaRAG#208"),
    (r"5\text{ thousand}", "5", HELD_OUT),
    (r"2\text{ dozen}", "2", HELD_OUT),
    (r"6\text{B}", "6", "iDiagoValeta/localOllamaRAG#208"),
    (r"20\text{ feet below}", "20", HELD_OUT),
    (r"3\text{ or more}", "3", HELD_OUT),
    (r"110_{\text{two}}", "110", HELD_OUT),
    (r"\sin 30^\circ", r"\sin 30", HELD_OUT),
    ("12:00", "1:00", "huggingface/Math-Verify#14"),
    ("1:2:3", "1:4:9", "huggingface/Math-Verify#14"),
    # lists keep their order, and are no numbers
    ("1, 2", "2, 1", HELD_OUT),
    ("2 or 1", "1 or 2", HELD_OUT),
    (r"19, 46, \text{ and } 82", "21, 36, and 82", "huggingface/Math-Verify#14"),
    (r"1, 2, \ldots, n", r"1, 3, 5, \ldots, 2n-1", "huggingface/Math-Verify#14"),
    ("1, 250", "1,250", HELD_OUT),
    ("3{,}5", "3,5", HELD_OUT),
    ("(1,000)", "(1,0)", HELD_OUT),
    ("(5]", "5", HELD_OUT),
]

DECLARED = [
    ("The answer is\n\\[\n\\frac{1}{2}\n\\]", r"\frac{1}{2}", "huggingface/Math-Verify#25"),
    ("The answer is:\n\n$$\n5\n$$\nDone.", "5", HELD_OUT),
    ("The final answer is\n$$ x = 4 $$", "x = 4", HELD_OUT),
    ("The answer is \\[\nx\n= 4\\]", "x\n= 4", HELD_OUT),
    ("The answer is $3$ or $4$.", "$3$ or $4$", HELD_OUT),
    ("The answer is $5 and not $6.", "$5 and not $6", HELD_OUT),
    ("The answer is 5. Is the answer 6? The answer is not 6.", "5", HELD_OUT),
    ("The answer is\n\\[\n", None, HELD_OUT),
    ("Final Answer\n\\[\n\\boxed{m \\geq \\sqrt{2}}\n\\]", r"m \geq \sqrt{2}", "huggingface/Math-Verify#25"),
    ("{ the answer is " * 400, None, HELD_OUT),
    (r"\boxed{" * 400 + "5}", "5", HELD_OUT),
]


@pytest.mark.parametrize(("one", "other", "source"), EQUAL)
def test_one_answer_in_two_spellings(one, other, source):
    """A right answer counts as wrong because it is spelled otherwise: each case names the report."""
    assert same_answer(one, other) and same_answer(other, one), (normal_form(one), normal_form(other))


@pytest.mark.parametrize(("one", "other", "source"), DIFFERENT)
def test_two_answers_that_look_alike(one, other, source):
    """A wrong answer counts as right because a checker drops or joins what tells the two apart: each case names the report."""
    assert not same_answer(one, other), normal_form(one)


@pytest.mark.parametrize(("text", "answer", "source"), DECLARED)
def test_the_declared_answer_is_found(text, answer, source):
    """An answer on a line of its own is not found, or a piece of it is taken for the whole: each case names the report."""
    assert declared_answer(text) == answer


@pytest.mark.parametrize("answer", sorted({answer for *pair, _ in EQUAL + DIFFERENT for answer in pair}))
def test_a_normal_form_is_its_own(answer):
    """A checker's canonical spelling is read as something else when it meets it again. source: held-out check."""
    form = normal_form(answer)
    assert normal_form(form) == form and declared_answer(f"\\boxed{{{form}}}") == form
