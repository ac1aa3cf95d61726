"""Random spellings of random values: no two values count as one, and plain rewrites of an answer count as the answer."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from common.envs import latex_answer
from common.envs.latex_answer import normal_form, same_answer
from tests.public_reports import spellings
from tests.public_reports.answers import ANSWERS
from tests.public_reports.spellings import false_matches, misread_numbers, missed_matches, missed_rewrites

PAIRS = 6000
"""``python -m tests.public_reports.spellings 50000`` takes more."""


def test_no_two_values_count_as_one():
    """A wrong answer counts as right: random values, most pairs of one kind and of the same characters. source: held-out check."""
    different, wrong = false_matches(PAIRS, seed=1)
    assert different > 0.9 * PAIRS and wrong == []


def test_a_value_counts_in_each_of_its_spellings():
    """A right answer counts as wrong because it is spelled otherwise. source: held-out check."""
    assert missed_matches(1500, seed=2)[1] == []


def test_plain_rewrites_of_an_answer_count_as_the_answer():
    """Spaces, sizes of brackets and fractions, delimiters, a full stop or a unit make a right answer wrong. source: held-out check."""
    rewrites, missed = missed_rewrites(ANSWERS, 4, seed=3)
    assert rewrites > 1200 and len(missed) <= 0.001 * rewrites, missed


def test_an_announced_number_is_read_in_each_of_its_spellings():
    """A number is read as another one. source: held-out check."""
    assert misread_numbers(1500, seed=4) == []


def test_no_two_answers_by_hand_count_as_one():
    """A wrong answer of the same kind counts as right. source: held-out check."""
    forms = {answer: normal_form(answer) for answer in ANSWERS}
    assert len(ANSWERS) > 300 and [(one, other) for one, other in combinations(ANSWERS, 2) if forms[one] == forms[other]] == []


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_normal_form_of_an_answer_by_hand_is_its_own(answer):
    """A checker's canonical spelling is read as something else when it meets it again. source: held-out check."""
    assert normal_form(normal_form(answer)) == normal_form(answer) != ""


@pytest.mark.parametrize(
    ("blind", "say"),
    [
        (lambda text: normal_form(text).replace("{", "").replace("}", ""), spellings.say_power),
        (lambda text: normal_form(text).partition("/")[0], spellings.say_number),
        (lambda text: "".join(sorted(normal_form(text))), spellings.say_listed),
        (lambda text: normal_form(text.replace("-", "")), spellings.say_quotient),
        (lambda text: normal_form(text.replace("array", "pmatrix").replace("vmatrix", "pmatrix")), spellings.say_matrix),
    ],
)
def test_the_random_pairs_can_fail(blind, say, monkeypatch):
    """A checker that drops braces, denominators, order, signs or the kind of a matrix is found out."""
    monkeypatch.setattr(spellings, "same_answer", lambda one, other: blind(one) == blind(other))
    kind = next(at for at, (_, one) in enumerate(spellings.KINDS) if one is say)
    assert spellings.false_matches(1500, seed=1, kinds=[kind])[1]


SOUP = (*r"\frac { } { } ( ) [ ] ^ _ 1 2 3 12 250 x y a b + - * / , = \sqrt \pi \sin \log \cdot \left( \right) \{ \} \binom \overline . $ & \\".split(),
        *r"\begin{pmatrix} \end{pmatrix} \cup \in % ^\circ \, | !".split(), " ")  # fmt: skip


def test_of_whatever_a_model_writes_no_digit_is_lost():
    """A malformed answer loses a part of what it says, and equals another one. source: held-out check."""
    rng = random.Random(5)
    for _ in range(3000):
        text = "".join(rng.choice(SOUP) + rng.choice(("", "", " ")) for _ in range(rng.randint(1, 9)))
        form = normal_form(text)
        assert normal_form(form) == form, text
        shorter = [text[:at] + text[at + 1 :] for at, char in enumerate(text) if char in "123" and "=" not in text and "\\in" not in text]
        assert not form or form not in map(normal_form, shorter), text


def test_an_answer_of_many_groups_is_compared_as_it_stands():
    """Deeply nested braces exhaust the stack. source: held-out check."""
    nested = "{" * 240 + "x" + "}" * 240
    assert same_answer(nested, f" {nested} ") and not same_answer(nested, nested.replace("x", "y"))
    groups = (("(", ")"), ("\\{", "\\}"), ("\\frac{1}{", "}"), ("\\sqrt{", "}"), ("(1,", ")"), ("x^{", "}"), ("\\frac", ""))
    for opening, closing in groups:
        times = (latex_answer.LONGEST - 1) // len(opening + closing)
        one, other = (opening * times + letter + closing * times for letter in "xy")
        assert same_answer(one, one) and not same_answer(one, other)
