"""Habits of a policy, counted by hand."""

from __future__ import annotations

import pytest

from common.evaluate.habits import habits
from common.types import Observation, Step, Trajectory, Turn


def episode(*turns: tuple[str, str]) -> Trajectory:
    return Trajectory("t", tuple(Step((), Turn(text, 0.0, 1), Observation(seen)) for text, seen in turns))


def test_shares_are_counted_over_turns():
    one = episode(("a", "page"), ("b: bad, better: good\na", "invalid action\npage"), ("a: fits, better: fits\na", "x"))
    two = episode(("c", "invalid action\npage"), ("d", "over"))
    assert habits([one, two], invalid="invalid action") == {
        "invalid": pytest.approx(2 / 5), "repeated": pytest.approx(2 / 3), "reflected": pytest.approx(2 / 5)
    }  # fmt: skip


def test_what_is_undefined_is_absent():
    assert habits([episode(("a", "page"))], invalid="invalid") == {"invalid": 0.0, "reflected": 0.0}
