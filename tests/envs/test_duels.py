"""Duels: symmetric games whose winners are found by linear programming."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from common.envs.duels import ARMS, MODES
from common.envs.panels import version
from common.learn.preferences import exploitability, sigmoid

ENV = "duel-cyclic-v1"


def game(env_id: str) -> np.ndarray:
    env = version(env_id).make(None)
    return np.array([[(env.reset(b), env.step(a))[1].reward for b in range(ARMS)] for a in range(ARMS)])


@pytest.mark.parametrize("env_id", ["duel-cyclic-v1", "duel-transitive-v1"])
def test_games_are_symmetric_and_their_winners_exact(env_id):
    """By linear programming: the winner mixes the best arms of all modes in the cycle, and is not beaten without it either."""
    preference = game(env_id)
    assert preference + preference.T == pytest.approx(np.ones((ARMS, ARMS)))
    solved = linprog([0.0] * ARMS + [-1.0], A_ub=np.hstack([-preference.T, np.ones((ARMS, 1))]), b_ub=np.zeros(ARMS),
                     A_eq=[[1.0] * ARMS + [0.0]], b_eq=[1.0], bounds=[(0, 1)] * ARMS + [(None, None)])  # fmt: skip
    assert -solved.fun == pytest.approx(0.5) and exploitability(preference, solved.x[:ARMS]) == pytest.approx(0.0, abs=1e-9)
    best = [arm for arm in range(ARMS) if arm % (ARMS // MODES) == ARMS // MODES - 1]
    assert solved.x[best].sum() == pytest.approx(1.0)
    if env_id == ENV:
        assert solved.x[best] == pytest.approx([1 / 3] * 3)
        assert [exploitability(preference, np.eye(ARMS)[arm]) for arm in best] == pytest.approx([sigmoid(3.0) - 0.5] * 3)


def test_a_duel_is_over_after_its_step():
    env = version(ENV).make(None)
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step(0)
    env.reset(0)
    with pytest.raises(IndexError, match="must be 0 to 29"):
        env.step(30)
