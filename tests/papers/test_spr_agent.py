"""The pixel agent's shapes and parts, and the memory's windows by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.envs.pixels import Frame
from papers.spr.agent import MARGIN, Memory, PixelAgent, descend


@pytest.fixture(scope="module")
def agent() -> PixelAgent:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PixelAgent((4, 10, 10), 3, channels=6, hidden=8, atoms=5, limit=10.0)


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


def test_an_agent_is_saved_and_read_with_the_atoms_of_its_values(agent, tmp_path):
    assert agent.support.tolist() == [-10.0, -5.0, 0.0, 5.0, 10.0]
    other = PixelAgent((4, 10, 10), 3, channels=6, hidden=8, atoms=5, limit=10.0)
    agent.save(tmp_path)
    other.load(tmp_path)
    for one, two in zip(agent.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_a_step_clips_the_transition_model_apart_and_stops_at_a_loss_that_is_no_number(agent):
    stem, model = agent.stem(), list(agent.transition.parameters())
    assert len(stem) + len(model) == len(list(agent.parameters())) and not set(map(id, stem)) & set(map(id, model))
    optimiser = torch.optim.SGD(agent.parameters(), lr=0.0)
    loss = sum(weight.sum() for weight in agent.parameters())  # every gradient is 1
    assert descend(agent, loss, optimiser, clip=1.0) == pytest.approx(sum(weight.numel() for weight in stem) ** 0.5)
    for own in (stem, model):
        assert torch.cat([weight.grad.flatten() for weight in own]).norm().item() == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(FloatingPointError, match="the loss is nan, .*; lower learn.lr"):
        descend(agent, loss * float("nan"), optimiser, clip=1.0)


def cells(number: int) -> np.ndarray:
    """A state: so many of its cells are set."""
    return (np.arange(20) < number).reshape(1, 4, 5)


def filled(size: int, terminated: tuple[int, ...] = (3, 6), truncated: tuple[int, ...] = ()) -> Memory:
    """State i is i cells set, the reward of a step its number; a truncated step leads to a state of 20 cells."""
    memory = Memory(20, (1, 4, 5))
    for i in range(size):
        memory.add(cells(i), i % 3, Frame(cells(20), float(i), i in terminated, i in truncated))
    return memory


def test_windows_are_stretches_as_stored():
    seen = filled(12).windows(np.random.default_rng(0), 200, ahead=2, steps=3)
    starts = seen.frames[:, 0].sum((1, 2, 3))
    assert set(starts.tolist()) == set(range(9))  # state 11 is the last that can be three steps on
    for k, apart in enumerate((0, 1, 2, 3)):
        assert torch.equal(seen.frames[:, k].sum((1, 2, 3)), starts + apart)
    assert torch.equal(seen.actions, torch.stack([starts, starts + 1], 1) % 3) and torch.equal(seen.taken, starts % 3)
    steps = torch.stack([starts, starts + 1, starts + 2], 1)
    assert torch.equal(seen.rewards, steps.float()) and torch.equal(seen.terminated, (steps == 3) | (steps == 6))
    assert not seen.truncated.any() and torch.equal(seen.ended, seen.terminated)


def test_the_return_of_a_truncated_episode_goes_on_from_its_last_state():
    """Step 4 is cut, step 7 the last of the next episode. By hand: which state a window's return goes on from."""
    seen = filled(12, terminated=(7,), truncated=(4,)).windows(np.random.default_rng(0), 300, ahead=1, steps=3)
    starts, last = seen.frames[:, 0].sum((1, 2, 3)).tolist(), seen.frames[:, -1].sum((1, 2, 3)).tolist()
    goes_on_from = {0: 3, 1: 4, 2: 20, 3: 20, 4: 20, 5: 8, 6: 9, 7: 10, 8: 11}
    assert dict(zip(starts, last, strict=True)) == goes_on_from
    assert torch.equal(seen.ended, seen.terminated | seen.truncated) and seen.truncated.any() and seen.terminated.any()


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
        memory.add(cells(0), 0, Frame(cells(0), 0.0, False, False))
