"""The pixel agent's shapes and parts, and the memory's windows by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.learn.pixels import MARGIN, Memory, PixelAgent


@pytest.fixture(scope="module")
def agent() -> PixelAgent:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PixelAgent((4, 10, 10), 3, channels=6, hidden=8, atoms=5)


def test_shapes(agent):
    latents = agent.latents(torch.rand(7, 4, 10 + 2 * MARGIN, 10 + 2 * MARGIN))
    assert latents.shape == (7, 6, 5, 5) and latents.min() == 0.0 and latents.max() <= 1.0
    assert agent.project(latents).shape == (7, 8) and agent.logits(latents).shape == (7, 3, 5)
    ahead = agent.ahead(latents, torch.zeros(7, 4, dtype=torch.long))
    assert ahead.shape == (7, 4, 6, 5, 5) and agent.project(ahead).shape == (7, 4, 8)


def test_what_is_foreseen_depends_on_the_actions_taken_so_far_only(agent):
    agent.eval()
    latents = agent.latents(torch.rand(1, 4, 12, 12, generator=torch.Generator().manual_seed(1)))
    one, two = (agent.ahead(latents, torch.tensor([actions]))[0] for actions in ((0, 1, 2), (0, 1, 0)))
    agent.train()
    assert torch.equal(one[:2], two[:2]) and not torch.equal(one[2], two[2])


def test_no_q_gradient_reaches_the_model_and_the_predictor(agent):
    agent.zero_grad()
    agent.logits(agent.latents(torch.rand(2, 4, 12, 12))).square().sum().backward()
    reached = {name.split(".")[0] for name, weight in agent.named_parameters() if weight.grad is not None}
    assert reached == {"encoder", "hidden", "value", "advantages"}


def filled(size: int) -> Memory:
    """State i is i cells set; episodes end at 3 and 6."""
    memory = Memory(20, (1, 4, 5))
    for i in range(size):
        memory.add((np.arange(20) < i).reshape(1, 4, 5), i % 3, float(i), i in (3, 6))
    return memory


def test_windows_are_stretches_as_stored():
    seen = filled(12).windows(np.random.default_rng(0), 200, ahead=2, steps=3)
    starts = seen.frames[:, 0].sum((1, 2, 3))
    assert set(starts.tolist()) == set(range(9))  # state 11 is the last that can be three steps on
    for k, apart in enumerate((0, 1, 2, 3)):
        assert torch.equal(seen.frames[:, k].sum((1, 2, 3)), starts + apart)
    assert torch.equal(seen.actions, torch.stack([starts, starts + 1], 1) % 3) and torch.equal(seen.taken, starts % 3)
    steps = torch.stack([starts, starts + 1, starts + 2], 1)
    assert torch.equal(seen.rewards, steps.float()) and torch.equal(seen.ended, (steps == 3) | (steps == 6))


def test_without_prediction_the_window_is_the_state_and_the_one_it_is_valued_by():
    one, two = (filled(12).windows(np.random.default_rng(4), 6, ahead=k, steps=3) for k in (0, 3))
    assert one.frames.shape == (6, 2, 1, 4, 5) and one.actions.shape == (6, 0)
    assert torch.equal(one.frames[:, 0], two.frames[:, 0])  # the same starts
    assert torch.equal(one.frames[:, 1], two.frames[:, 4]) and torch.equal(one.taken, two.taken)


@pytest.mark.parametrize(("size", "ahead", "steps"), [(3, 1, 3), (12, 4, 3), (0, 0, 1)])
def test_what_is_not_stored_is_not_drawn(size, ahead, steps):
    with pytest.raises(ValueError, match="stored"):
        filled(size).windows(np.random.default_rng(0), 1, ahead=ahead, steps=steps)


def test_a_full_memory_says_so():
    memory = filled(20)
    with pytest.raises(IndexError):
        memory.add(np.zeros((1, 4, 5), dtype=bool), 0, 0.0, False)
