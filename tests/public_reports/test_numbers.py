"""Numbers in solutions that other checkers were reported to misread. A line a case."""

from __future__ import annotations

from fractions import Fraction

import pytest

from common.envs.final_number import announces_number, final_number

HELD_OUT = "held-out check"

READ = [
    # grouped by thousands
    (r"\boxed{$9{,}500}", 9500, "open-compass/opencompass#2647"),
    (r"\boxed{8,000}", 8000, "open-compass/opencompass#2647"),
    ("The answer is $9{,}500.", 9500, "open-compass/opencompass#2647"),
    (r"#### 1\,250", 1250, HELD_OUT),
    (r"#### 10,\!080", 10080, HELD_OUT),
    ("#### 1 250", 1250, HELD_OUT),
    ("#### 1\u202f250\u202f000", 1_250_000, HELD_OUT),
    ("The total is 72 clips, altogether.", 72, "jundot/omlx#3484"),
    ("The answer is 72, in total, so the farmer earns that much.", 72, "stanford-crfm/helm#4337"),
    # fractions and mixed numbers
    (r"\boxed{2\frac14}", Fraction(9, 4), HELD_OUT),
    ("#### 2 1/4", Fraction(9, 4), "huggingface/Math-Verify#34"),
    (r"#### \tfrac{3}{4}", Fraction(3, 4), HELD_OUT),
    (r"#### \frac12", Fraction(1, 2), HELD_OUT),
    (r"\boxed{\dfrac{-7}{2}}", Fraction(-7, 2), HELD_OUT),
    (r"\boxed{-\frac{7}{-2}}", Fraction(7, 2), HELD_OUT),
    ("#### 1/2", Fraction(1, 2), "greynewell/matchspec#306"),
    ("#### 2½", Fraction(5, 2), HELD_OUT),
    ("the value is 13.20%", Fraction(66, 5), "mbzuai-nlp/finchain#3"),
    # signs and currency
    (r"#### -\$18", -18, HELD_OUT),
    (r"#### \$-18", -18, HELD_OUT),
    ("#### –18", -18, "grobidOrg/grobid#980"),
    ("#### −18", -18, "letehaha/budget-tracker#572"),
    ("- 3 apples\n- 5 apples", 5, HELD_OUT),
    ("from 3–5", 5, HELD_OUT),
    # calculations
    ("The answer is 5 x 4 = 20", 20, HELD_OUT),
    (r"The answer is $5 \times 4 = 20$", 20, HELD_OUT),
    ("#### 6·7=42", 42, HELD_OUT),
    ("#### 5x4=20", 20, HELD_OUT),
    ("Answer: 16 – 3 = 13", 13, HELD_OUT),
    ("Answer: 16 -3 = 13", 13, HELD_OUT),
    ("Answer: 3 boxes x 4 eggs = 12 eggs", 12, HELD_OUT),
    ("Answer: (3 + 4) x $5 = $35", 35, HELD_OUT),
    ("Answer:\n5 x 4\n= 20", 20, HELD_OUT),
    ("#### 18 eggs - 3 of them are broken", 18, HELD_OUT),
    ("#### 18 - that is all", 18, HELD_OUT),
    # words
    ("#### 5 million", 5_000_000, "iDiagoValeta/localOllamaRAG#208"),
    (r"\boxed{2.5\text{ million}}", 2_500_000, HELD_OUT),
    (r"$N = \textbf{6}$ identical layers", 6, "iDiagoValeta/localOllamaRAG#208"),
    (r"\boxed{5 \text{ m}^2}", 5, HELD_OUT),
    ("#### _5_", 5, HELD_OUT),
    # which announcement counts
    ("I think the answer: 5 is wrong.\nAnswer: 10", 10, "PrimeIntellect-ai/verifiers#1336"),
    ("#### 4\nno\n#### 6", 6, "bojieli/ai-agent-book#699"),
    ("The answer is 6. The answer is not 5.", 6, HELD_OUT),
    (r"\fbox{42} after 3 tries", 42, HELD_OUT),
]

UNREAD = [
    ("#### 4 10/3", "huggingface/Math-Verify#81"),
    (r"\boxed{1\ 2}", HELD_OUT),
    ("#### 1 2", HELD_OUT),
    (r"\boxed{3, 4}", HELD_OUT),
    ("#### 1,5", HELD_OUT),
    ("#### 1,0000", "raullenchai/Rapid-MLX#3071"),
    ("#### 1e2", "raullenchai/Rapid-MLX#3071"),
    ("#### 5:30", HELD_OUT),
    ("#### 1.234.567", HELD_OUT),
    ("#### 1'250", HELD_OUT),
    ("#### 5k", HELD_OUT),
    (r"\boxed{6\text{B}}", "iDiagoValeta/localOllamaRAG#208"),
    (r"\boxed{2^5}", HELD_OUT),
    (r"\boxed{2\sqrt{3}}", HELD_OUT),
    (r"\boxed{\sqrt{16}}", HELD_OUT),
    (r"\boxed{2\pi}", HELD_OUT),
    (r"#### \pm 5", HELD_OUT),
    ("#### --5", HELD_OUT),
    ("#### 5x = 20", HELD_OUT),
    ("#### 2 and 1/2", HELD_OUT),
    ("#### 2 + 3", HELD_OUT),
    (r"#### 5 \times 4", HELD_OUT),
    ("#### 10-20", HELD_OUT),
    ("#### 2 * 3 = 6 = 1 * 6", HELD_OUT),
    ("so it is 99 - 1", HELD_OUT),
    ("#### 1 250/500", HELD_OUT),
    ("9" * 5000, HELD_OUT),
]


@pytest.mark.parametrize(("text", "number", "source"), READ)
def test_a_number_is_read_whole(text, number, source):
    """A number's sign, group, fraction or calculation is cut off, and a piece of it is graded: each case names the report."""
    assert final_number(text) == number


@pytest.mark.parametrize(("text", "source"), UNREAD)
def test_what_may_mean_several_numbers_is_none(text, source):
    """A piece of an expression happens to be the right number, and counts: each case names the report."""
    assert final_number(text) is None


@pytest.mark.parametrize("times", [1, 800, 20_000])
def test_an_announcement_said_again_and_again_is_read_once(times):
    """A solution that repeats itself holds a checker up for seconds. source: held-out check."""
    said = "the answer is " * times
    assert final_number(said) is None and final_number(f"{said}7") == 7 and final_number(f"5 {said}") == 5
    assert not announces_number(said) and announces_number(f"{said}7") and not announces_number(f"5 {said}")


@pytest.mark.parametrize("filler", ["a", " ", "ab ", "(", "x ", "\\text{", "1 234 ", "1,", "^", "{", "\\frac{", "= ", "- "])
def test_a_long_solution_of_one_thing_is_read(filler):
    """A solution that degenerates into repetition holds a checker up for hours. source: held-out check."""
    assert final_number(f"{filler * 5000}\n#### 7") == final_number(f"#### 7\n{filler * 5000}") == 7
    assert announces_number(f"#### 7{filler * 5000}7")


@pytest.mark.parametrize(
    ("line", "announces"),
    [("The answer is 5 x 4 = 20", True), ("The answer is 5 x 4 =", False), ("5 x 4 = 20", False), ("#### 1 2", True), ("#### soon", False)],
)
def test_a_line_that_breaks_off_announces_nothing(line, announces):
    """An episode ends with a line that had no answer yet. source: held-out check."""
    assert announces_number(line) == announces
