"""Episodes that a step limit cuts, which other replay memories were reported to store as ended. A line a case."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.envs.pixels import Frame
from papers.spr.agent import Memory
from papers.spr.maths import double_target, n_step

GAMMA, STEPS = 0.5, 3
SUPPORT = torch.tensor([-16.0, 0.0, 16.0])


def stored(terminated: tuple[int, ...] = (), truncated: tuple[int, ...] = ()) -> Memory:
    """Ten steps of reward 1. State i is i cells set, a cut leads to a state of 16 cells."""
    memory = Memory(10, (1, 4, 5))

    def state(number: int) -> np.ndarray:
        return (np.arange(20) < number).reshape(1, 4, 5)

    for i in range(10):
        memory.add(state(i), 0, Frame(state(16), 1.0, i in terminated, i in truncated))
    return memory


def worth(frames: torch.Tensor) -> torch.Tensor:
    """Logits [B, 1, Z] of a network for which a state is worth as much as it has cells."""
    cells = frames.flatten(1).sum(1).float() / 16.0
    return torch.stack([torch.zeros_like(cells), 1.0 - cells, cells], dim=1).clamp(min=1e-12).log()[:, None]


@pytest.mark.parametrize(
    ("terminated", "truncated", "by_hand", "source"),
    [
        # the state at 0: 1 + 1/2 + 1/4 and then state 3, worth 3, by 1/8
        ((), (), 1.75 + 3 / 8, "by hand"),
        # ended at step 1: two rewards, nothing behind
        ((1,), (), 1.5, "by hand"),
        # cut at step 1: two rewards, and the state it was cut in, worth 16, by 1/4
        ((), (1,), 1.5 + 16 / 4, "rail-berkeley/hil-serl#20"),
        # cut at step 0, and the next episode ends at once: that is none of this one's
        ((1,), (0,), 1.0 + 16 / 2, "Toni-SM/skrl#449"),
        # cut at the last step of the return
        ((), (2,), 1.75 + 16 / 8, "vwxyzjn/cleanrl#457"),
        # ended, and the next episode is cut
        ((0,), (1,), 1.0, "Toni-SM/skrl#449"),
    ],
)  # fmt: skip
def test_the_target_of_a_step_before_a_cut_is_that_by_hand(terminated, truncated, by_hand, source):
    """A time limit is taken for the end of the game, and what could still be won counts as nothing; or the return runs on
    into the next episode: each case names the report."""
    seen = stored(terminated, truncated).windows(np.random.default_rng(0), 64, ahead=1, steps=STEPS)
    returns, discounts = n_step(seen.rewards, seen.terminated, seen.truncated, GAMMA)
    target = double_target(worth(seen.frames[:, -1]), worth(seen.frames[:, -1]), returns, discounts, SUPPORT)
    first = (seen.frames[:, 0].sum((1, 2, 3)) == 0).nonzero()[0]
    assert (target[first] @ SUPPORT).tolist() == pytest.approx([by_hand], abs=1e-5)
