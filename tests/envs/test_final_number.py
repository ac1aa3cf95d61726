"""The number that a worked solution declares."""

from fractions import Fraction

import pytest

from common.envs.final_number import final_number

CASES = [
    # announced, in the forms of GSM8K, MATH and chat models
    ("She has 16 - 3 = 13 eggs.\n#### 13", 13),
    ("#### $1,200.00", 1200),
    ("#### 18\nLet me check: 16 - 3 - 4 = 9, and 5 eggs remain.", 18),
    ("The answer is 20. No, the answer is 18.", 18),
    ("#### 18 eggs #### 20", 20),
    ("The answer is: 12", 12),
    ("**Answer**: 12", 12),
    ("Final answer = 7, since 3 + 4 = 7", 7),
    ("\\boxed{42}", 42),
    ("so \\(x = \\boxed{\\frac{3}{4}}\\)", Fraction(3, 4)),
    ("answer is about 1/2", Fraction(1, 2)),
    # an announced calculation means its result
    ("Answer: 16 - 3 = 13", 13),
    ("#### 4*5=20 eggs", 20),
    ("Answer: 2 + 3 = 5 = 5 dollars", 5),
    ("Answer: 12 (3*4 = 12)", 12),
    # nothing announced, or nothing behind the announcement: the last number
    ("She makes $18.", 18),
    ("The answer is clear.\nIt is 7", 7),
    ("1. We add 3 and 4.\n2. That is 7.", 7),
    ("16-3=13", 13),
    # spellings
    ("x = 3\n#### 1,234", 1234),
    ("1,000,000", 1_000_000),
    ("12, 13 and 14", 14),
    ("Answer: -5", -5),
    ("a loss of −5 dollars", -5),
    ("from 20 to -30", -30),
    ("20-30", 30),
    ("A 5-year-old", 5),
    ("It costs $ 2.50", Fraction(5, 2)),
    (".5", Fraction(1, 2)),
    ("50%", 50),
    ("the total is 3.", 3),
    # none
    ("no number", None),
    ("", None),
    ("1/0", None),
]


@pytest.mark.parametrize(("text", "number"), CASES)
def test_the_last_declared_answer_is_read(text, number):
    assert final_number(text) == number
