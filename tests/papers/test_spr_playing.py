"""Episodes played side by side are the episodes played one by one; stretches stay within episodes."""

from __future__ import annotations

import numpy as np
import pytest

from common.envs.minatar import MinAtarEnv
from common.envs.versions.minatar_breakout_v1 import scripted
from common.rng import derive
from papers.spr.agent import Memory
from papers.spr.playing import experience, play, stretches

GAME = ("minatar-breakout-v1", "breakout")


def rule(frames: np.ndarray) -> list[int]:
    return [scripted(frame) for frame in frames]


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
def test_side_by_side_is_one_by_one(epsilon):
    seeds = list(range(11, 27))
    together = play(lambda: MinAtarEnv(*GAME), seeds, rule, epsilon=epsilon)
    alone = [play(lambda: MinAtarEnv(*GAME), [seed], rule, epsilon=epsilon)[0] for seed in seeds]
    assert together == alone and [one.seed for one in together] == seeds
    assert len({one.length for one in together}) > 1
    if epsilon == 1.0:
        assert all(one.length < 60 and not one.truncated for one in together)


def test_an_episode_by_hand():
    """An agent that stands still: what the game itself adds up."""
    [found] = play(lambda: MinAtarEnv(*GAME), [3], lambda frames: [0], epsilon=0.0)
    env, total, length, over = MinAtarEnv(*GAME), 0.0, 0, False
    env.reset(3)
    while not over:
        frame = env.step(0)
        total, length, over = total + frame.reward, length + 1, frame.done
    assert (found.total, found.length, found.truncated) == (total, length, False)


def test_stretches_replay_within_an_episode():
    env = MinAtarEnv(*GAME)
    seen = stretches(env, range(50), scripted, count=40, steps=4, epsilon=0.3)
    assert seen.frames.shape == (40, 5, *env.shape) and seen.actions.shape == (40, 4)
    again = stretches(MinAtarEnv(*GAME), range(50), scripted, count=40, steps=4, epsilon=0.3)
    assert (seen.frames == again.frames).all() and (seen.actions == again.actions).all()
    ball = seen.frames[:, :, 1]
    assert (ball.sum((2, 3)) == 1).all()
    rows = ball.any(3).argmax(2)
    assert (np.abs(np.diff(rows, axis=1)) <= 1).all()  # no jump to another episode's beginning
    assert (seen.frames[1:, 0] == seen.frames[:-1, 3]).all((1, 2, 3)).sum() > 20  # three steps apart


def test_too_few_episodes_are_named():
    with pytest.raises(ValueError, match="pass more seeds"):
        stretches(MinAtarEnv(*GAME), [1], scripted, count=10**6, steps=4, epsilon=1.0)


def test_experience_is_random_at_first_then_the_agent_s_and_is_stored_as_it_was_met():
    env, asked = MinAtarEnv(*GAME), []

    def act(frames: np.ndarray) -> list[int]:
        asked.append(frames)
        return [2]

    memory = Memory(200, env.shape)
    steps = list(experience(env, act, memory, 7, 50, (100, 0.0)))
    assert steps == list(range(1, 201)) and memory.size == 200
    late = memory.actions[100:]
    assert (late == 2).all() and len(set(memory.actions[:50].tolist())) == 3  # no random step is left after the fall
    assert 100 < len(asked) < 150 and memory.terminated.sum() > 2
    env.reset(derive(7, "train", 0))
    for i in range(int(memory.terminated.argmax()) + 1):  # the first episode, replayed
        frame = env.step(int(memory.actions[i]))
        assert frame.reward == memory.rewards[i] and frame.terminated == memory.terminated[i]


class Short(MinAtarEnv):
    """The same game, cut after seven steps."""

    max_steps = 7


def test_an_episode_that_the_limit_cuts_is_stored_as_truncated_with_the_state_it_was_cut_in():
    env = Short(*GAME)
    memory = Memory(21, env.shape)
    list(experience(env, lambda frames: [0], memory, 3, 0, (1, 0.0)))
    cut = memory.truncated.nonzero()[0].tolist()
    assert sorted(memory.cut) == cut and cut and not (memory.terminated & memory.truncated).any()
    first, game = cut[0], MinAtarEnv(*GAME)  # the episode that was cut, played again without a limit
    begun = int(memory.terminated[:first].nonzero()[0].max(initial=-1)) + 1
    game.reset(derive(3, "train", int(memory.terminated[:first].sum())))
    frames = [game.step(int(action)) for action in memory.actions[begun : first + 1]]
    assert first - begun + 1 == 7 and not frames[-1].done
    assert (frames[-1].planes == memory.cut[first]).all() and (memory.cut[first] != memory.frames[first + 1]).any()
