"""MinAtar: episodes are functions of seed and actions, panels are seeds, and known agents have known scores."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest

from common.envs import ENV_IDS, load_panel, make
from common.envs.build import build_all
from common.envs.minatar import EPISODES, MAX_STEPS, SIDE
from common.envs.panels import version
from common.rng import generator

GAMES = [env_id for env_id in ENV_IDS if env_id.startswith("minatar-")]
LETTERS = {"minatar-breakout-v1": tuple("nlr"), "minatar-space-invaders-v1": tuple("nlrf")}
RANDOM = {"minatar-breakout-v1": (0.2, 0.9), "minatar-space-invaders-v1": (3.0, 5.5)}
"""Bands of the random player's mean return over the game's own actions: 0.4 and 4.2 in 200 episodes."""


def play(env, seed: int, act) -> tuple[float, int, list[bytes]]:
    planes, total, steps, seen = env.reset(seed), 0.0, 0, []
    while True:
        seen.append(planes.tobytes())
        frame = env.step(act(planes, steps))
        planes, total, steps = frame.planes, total + frame.reward, steps + 1
        if frame.done:
            return total, steps, seen


def at_random(env, *name):
    rng = generator("test", env.id, *name)
    return lambda planes, step: int(rng.integers(len(env.actions)))


def test_there_are_two_games():
    assert set(GAMES) == set(LETTERS)


@pytest.mark.parametrize("env_id", GAMES)
def test_observations_are_planes(env_id, tmp_path):
    env = make(env_id, tmp_path)
    first = env.reset(3)
    assert first.shape == env.shape == (len(env.planes), SIDE, SIDE) and first.dtype == bool
    assert env.actions == LETTERS[env_id]
    assert first[env.planes.index("paddle" if "breakout" in env_id else "cannon")].sum() == 1
    frame = env.step(0)
    assert frame.planes.shape == env.shape and not frame.done and isinstance(frame.reward, float)
    kept = first.copy()
    for _ in range(5):
        env.step(1)
    assert (first == kept).all()  # an observation is the caller's


@pytest.mark.parametrize("env_id", GAMES)
def test_an_episode_repeats_bit_for_bit_whatever_was_played_before(env_id, tmp_path):
    """A sticky step repeats the last action; the package would take it from the episode before."""
    fresh, used = make(env_id, tmp_path), make(env_id, tmp_path)
    for seed in (0, 1, 2**32 - 1):
        play(used, 1000 + seed, lambda planes, step: 2)
        assert play(fresh, seed, at_random(fresh, seed)) == play(used, seed, at_random(used, seed))
    assert play(fresh, 5, at_random(fresh, 5))[2] != play(fresh, 6, at_random(fresh, 5))[2]


def test_the_action_before_an_episode_is_the_first_of_the_list(tmp_path):
    env = make("minatar-breakout-v1", tmp_path)
    env.reset(0)
    env.step(1)
    assert env._game.last_action == 1
    env.reset(0)
    assert env._game.last_action == 0


def test_a_wrong_step_is_refused(tmp_path):
    env = make("minatar-breakout-v1", tmp_path)
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step(0)
    env.reset(0)
    for wrong in (-1, 3):
        with pytest.raises(IndexError, match="must be 0 to 2"):
            env.step(wrong)
    while not env.step(0).done:
        pass
    with pytest.raises(RuntimeError, match="the episode is over"):
        env.step(0)


def test_a_player_who_does_not_miss_is_cut_at_the_limit(tmp_path):
    env, scripted = make("minatar-breakout-v1", tmp_path), version("minatar-breakout-v1").scripted
    env._game.sticky_action_prob = 0.0
    total, steps, _ = play(env, 0, lambda planes, step: scripted(planes))
    assert steps == MAX_STEPS and total > 20


@pytest.mark.parametrize("env_id", GAMES)
def test_the_random_agent_s_score_is_in_its_band_and_the_scripted_one_s_far_above(env_id, tmp_path):
    env, scripted = make(env_id, tmp_path), version(env_id).scripted
    lazy = fmean(play(env, seed, at_random(env, seed))[0] for seed in range(200))
    good = fmean(play(env, seed, lambda planes, step: scripted(planes))[0] for seed in range(20))
    print(env_id, lazy, good)
    low, high = RANDOM[env_id]
    assert low < lazy < high and good > 3 * high


@pytest.mark.parametrize("env_id", GAMES)
def test_panels_are_distinct_seeds(env_id, tmp_path):
    build_all(tmp_path)
    seeds = {name: [task.data["seed"] for task in load_panel(tmp_path, f"{env_id}/{name}")] for name in EPISODES}
    assert {name: len(found) for name, found in seeds.items()} == EPISODES
    everything = [seed for found in seeds.values() for seed in found]
    assert len(set(everything)) == len(everything) and all(0 <= seed < 2**32 for seed in everything)


def test_a_ball_that_falls_is_met_where_it_lands():
    """Breakout's rule by hand: ball in row 6, column 8, moving right and down, reflected at the wall."""
    planes = np.zeros((4, SIDE, SIDE), dtype=bool)
    planes[0, 9, 9] = planes[1, 6, 8] = planes[2, 5, 7] = True
    scripted = version("minatar-breakout-v1").scripted
    assert scripted(planes) == 1  # columns 9, 9 (the wall), 8: one to the left
    planes[0, 9] = False
    planes[0, 9, 8] = True
    assert scripted(planes) == 0
    planes[2] = False
    planes[2, 7, 7] = True  # it rises: stay below it
    assert scripted(planes) == 0
