"""Effective rank and recognition against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.evaluate.latents import cosines, effective_rank, recognised
from common.rng import generator


def test_effective_rank_by_hand():
    assert effective_rank(np.eye(5)) == pytest.approx(5.0)
    assert effective_rank(np.ones((7, 3))) == pytest.approx(1.0)
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(expected) == pytest.approx(1.7548, abs=1e-4)
    assert effective_rank(np.diag([30.0, 10.0])) == pytest.approx(expected)
    assert effective_rank(np.zeros((4, 4))) == 1.0


def test_a_collapse_has_rank_one_whatever_the_noise_in_its_last_bits():
    rng = generator("rank")
    spread = rng.normal(size=(100, 20))
    collapsed = np.ones((100, 20)) + 1e-6 * spread
    assert effective_rank(spread) > 15 and effective_rank(collapsed) < 1.001
    assert effective_rank(collapsed - collapsed.mean(0)) > 15  # why it is not centred


@pytest.mark.parametrize("wrong", [np.zeros((0, 3)), np.zeros(3), np.zeros((2, 0))])
def test_what_is_no_matrix_has_no_rank(wrong):
    with pytest.raises(ValueError, match="pass a matrix"):
        effective_rank(wrong)


def test_recognition_by_hand():
    rows = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    assert recognised(cosines(rows, 5 * rows)) == 1.0
    assert recognised(cosines(rows, rows[[1, 2, 0]])) == 0.0
    assert recognised(cosines(rows[[0, 1, 1]], rows)) == pytest.approx(2 / 3)
    assert recognised(cosines(np.ones((4, 2)), np.ones((4, 2)))) == pytest.approx(1 / 4)  # a collapse is at chance
    assert recognised(cosines(np.zeros((4, 2)), np.ones((4, 2)))) == pytest.approx(1 / 4)
    assert cosines(rows[:1], rows)[0].tolist() == pytest.approx([1.0, 0.0, math.sqrt(0.5)])
