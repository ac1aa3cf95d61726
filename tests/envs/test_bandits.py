"""Bandits: a pull by hand."""

from __future__ import annotations

import math

import pytest

from common.envs.bandits import ARMS, BanditEnv
from common.envs.panels import version


def test_a_pull_by_hand():
    for best, env_id in ((70, "bandit-far-v1"), (20, "bandit-near-v1")):
        env = version(env_id).make(None)
        assert isinstance(env, BanditEnv) and env.best == best
        assert (env.reset(3) == env.reset(3)).all() and (env.reset(3) != env.reset(4)).any()
        seen = env.reset(3)
        frame = env.step(best + 10)
        assert frame.reward == pytest.approx(math.exp(-1)) and frame.terminated and (frame.planes == seen).all()
        with pytest.raises(RuntimeError, match="call reset first"):
            env.step(best)
        env.reset(3)
        with pytest.raises(IndexError, match="must be 0 to 99"):
            env.step(ARMS)
