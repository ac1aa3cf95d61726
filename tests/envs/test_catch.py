"""Catch: episodes by hand, exact repeats, and that every ball can be caught."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest

from common.envs import make
from common.envs.pixels import SIDE, where
from common.envs.versions import catch_streak_v1
from common.envs.versions.catch_v1 import ENV_ID, LEFT, NOTHING, RIGHT, SLOPES, CatchEnv, fallen, scripted
from common.rng import generator


@pytest.fixture
def env(tmp_path) -> CatchEnv:
    return make(ENV_ID, tmp_path)


def middle(planes: np.ndarray) -> int:
    cells = where(planes[0])
    return cells[-1][1] - (len(cells) == 3 or cells[0][1] == 0)


def landing(column: int, slope: int) -> int:
    for _ in range(SIDE - 1):
        column, slope = fallen(column, slope)
    return column


def test_an_episode_by_hand(env):
    """A ball from column 7 moves by two: 9 in the first row, back to 7, 5, 3, 1, then from 1 to -1, which is 1 again, 3, 5, 7."""
    planes, seen = env.start(7, 2, 4), []
    while True:
        seen.append((where(planes[2])[0], where(planes[1])[0], middle(planes)))
        frame = env.step(RIGHT)
        planes = frame.planes
        if frame.done:
            break
        assert frame.reward == 0.0
    assert [ball for _, ball, _ in seen] == [(1, 9), (2, 7), (3, 5), (4, 3), (5, 1), (6, 1), (7, 3), (8, 5)]
    assert [trail for trail, _, _ in seen] == [(0, 7), *(ball for _, ball, _ in seen[:-1])]
    assert [paddle for _, _, paddle in seen] == [4, 5, 6, 7, 8, 9, 9, 9]
    assert where(planes[1]) == [(9, 7)] and frame.reward == 0.0 and frame.terminated and not frame.truncated
    assert where(planes[0]) == [(9, 8), (9, 9)]  # one of its cells is behind the wall
    env.start(7, 2, 7)
    assert [env.step(NOTHING).reward for _ in range(env.max_steps)] == [0.0] * 7 + [1.0]


def test_an_episode_is_a_function_of_its_seed_and_its_actions(env, tmp_path):
    other, openings = make(ENV_ID, tmp_path), set()
    for seed in range(20):
        first = env.reset(seed)
        openings.add(first.tobytes())
        assert (first == other.reset(seed)).all() and first.shape == env.shape
        for action in (LEFT, RIGHT, RIGHT, NOTHING, LEFT, LEFT, RIGHT, NOTHING):
            one, two = env.step(action), other.step(action)
            assert (one.planes == two.planes).all() and one[1:] == two[1:]
        assert one.done
    assert len(openings) > 10


def test_an_action_that_is_none_and_a_step_after_the_end_are_refused(env):
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step(NOTHING)
    env.reset(0)
    with pytest.raises(IndexError, match="must be 0 to 2"):
        env.step(3)


def test_every_ball_can_be_caught_by_a_player_who_remembers(env):
    """It knows at each step the slopes that all frames so far allow, and goes to the middle of where they land."""
    missed = []
    for column in range(SIDE):
        for slope in SLOPES:
            for paddle in range(1, SIDE - 1):
                planes, possible, rows, done = env.start(column, slope, paddle), set(SLOPES), 1, False
                while not done:
                    possible = {one for one in possible if seen_at(column, one, rows) == where(planes[1])[0][1]}
                    ends = [landing(column, one) for one in possible]
                    goal, own = (min(ends) + max(ends)) // 2, middle(planes)
                    frame = env.step(NOTHING if goal == own else LEFT if goal < own else RIGHT)
                    planes, done, rows = frame.planes, frame.done, rows + 1
                if not frame.reward:
                    missed.append((column, slope, paddle))
    assert not missed


def seen_at(column: int, slope: int, rows: int) -> int:
    for _ in range(rows):
        column, slope = fallen(column, slope)
    return column


def test_known_players_have_known_scores(env):
    rng, found = generator("test", ENV_ID), {"scripted": [], "random": [], "still": []}
    players = {"scripted": scripted, "random": lambda planes: int(rng.integers(3)), "still": lambda planes: NOTHING}
    for name, act in players.items():
        for seed in range(1000):
            planes, done = env.reset(seed), False
            while not done:
                frame = env.step(act(planes))
                planes, done = frame.planes, frame.done
            found[name].append(frame.reward)
    assert fmean(found["scripted"]) > 0.95 and 0.22 < fmean(found["random"]) < 0.34 and 0.22 < fmean(found["still"]) < 0.36


def test_a_streak_pays_who_catches_all_balls_and_ends_with_the_first_miss():
    env, lengths, rewards = catch_streak_v1.make(None), [], []
    for seed in range(200):
        planes, steps = env.reset(seed), 0
        while True:
            frame = env.step(scripted(planes))
            planes, steps = frame.planes, steps + 1
            if frame.done:
                break
            assert frame.reward == 0.0
        assert steps % CatchEnv.max_steps == 0 and frame.terminated and (frame.reward == 0.0 or steps == env.max_steps)
        lengths.append(steps)
        rewards.append(frame.reward)
    assert fmean(rewards) > 0.8 and min(lengths) < env.max_steps == 40  # the rule misses a ball now and then
    first = env.reset(7)
    for _ in range(3):
        env.step(LEFT)
    assert (env.reset(7) == first).all()
    paddle = None
    while True:  # the paddle stays where it caught the ball
        frame = env.step(scripted(env._observe()))
        if where(frame.planes[1])[0][0] == 1 and paddle is not None:
            assert middle(frame.planes) == env._paddle
            break
        paddle = middle(frame.planes)
        if frame.done:
            break
