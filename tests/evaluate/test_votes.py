"""Votes, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from common.evaluate.correction import Attempts
from common.evaluate.votes import majority, parallel, stacked, votes


def attempts(*rows: str) -> Attempts:
    """Upper case is right; equal letters are equal answers."""
    return Attempts(np.array([[c.isupper() for c in row] for row in rows]), tuple(tuple(row) for row in rows))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [("AAb", 1.0), ("Abb", 0.0), ("Ab", 0.5), ("Abc", 1 / 3), ("AABBc", 1.0), ("AAbbC", 0.5), ("A", 1.0), ("aabbC", 0)],
)
def test_ties_count_by_their_expectation_in_any_order(answers, expected):
    for order in (answers, answers[::-1]):
        assert majority(order, [c.isupper() for c in order]) == pytest.approx(expected)


def test_votes_of_a_panel():
    assert votes(attempts("AAb", "Abb", "aab")) == pytest.approx({"vote": 1 / 3, "any": 2 / 3})
    assert votes(attempts("A", "b"))["vote"] == votes(attempts("A", "b"))["any"] == 0.5


def test_parallel_takes_first_answers_and_stacking_keeps_dialogues():
    draws = [attempts("Ab", "cd"), attempts("eF", "GH")]
    side = parallel(draws)
    assert side.answers == (("A", "e"), ("c", "G")) and side.correct.tolist() == [[True, False], [False, True]]
    assert stacked(draws).answers == (("A", "b"), ("c", "d"), ("e", "F"), ("G", "H"))
    assert stacked(draws).correct.shape == (4, 2)


def test_independent_votes_of_a_known_coin():
    """Three answers, right with p and all wrong ones alike: the vote is right with p³ + 3p²(1 − p)."""
    p, total = 0.3, 0.0
    for bits in np.ndindex(2, 2, 2):
        chance = np.prod([p if bit else 1 - p for bit in bits])
        total += chance * majority(["R" if bit else "w" for bit in bits], list(map(bool, bits)))
    assert total == pytest.approx(p**3 + 3 * p**2 * (1 - p))
