"""Reward weights, by value."""

from __future__ import annotations

import math

import pytest

from papers.rise.maths import reward_weight


def test_weights_by_hand():
    assert reward_weight(0.0, 0.4) == 1.0
    assert reward_weight(1.0, 0.4) == pytest.approx(12.182494, abs=1e-6)
    assert reward_weight(0.5, 0.25) == pytest.approx(math.e**2)


def test_weights_between_filtering_and_imitating_all():
    assert reward_weight(1.0, 0.05) / reward_weight(0.0, 0.05) > 1e8
    assert reward_weight(1.0, 1e6) / reward_weight(0.0, 1e6) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(tau):
    with pytest.raises(ValueError, match="tau"):
        reward_weight(1.0, tau)
