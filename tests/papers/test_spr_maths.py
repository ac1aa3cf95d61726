"""SPR's loss and what belongs to it, the distributional Q-loss, ranks and recognition: numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from common.rng import generator
from papers.spr.maths import (
    cosines, cross_entropy, double_target, dueling, effective_rank, follow, n_step, placed, project, q_values,
    recognised, renormalise, spr_loss, within_episode,
)  # fmt: skip


def test_the_mask_ends_with_the_episode():
    ended = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 1]], dtype=torch.bool)
    assert within_episode(ended).tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 0]]


def test_the_loss_by_hand():
    """cos((3, 4), (4, 3)) = 24/25; opposite vectors cost 4, equal directions 0 whatever their lengths."""
    predicted = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [2.0, 2.0]]])
    targets = torch.tensor([[[4.0, 3.0], [-5.0, 0.0], [0.1, 0.1]]])
    for mask, expected in (((1, 1, 1), 4.08), ((1, 0, 1), 0.08), ((0, 1, 0), 4.0), ((0, 0, 0), 0.0)):
        assert spr_loss(predicted, targets, torch.tensor([mask])).item() == pytest.approx(expected, abs=1e-5)
    unit = [one / one.norm(dim=-1, keepdim=True) for one in (predicted, targets)]
    assert ((unit[0] - unit[1]) ** 2).sum().item() == pytest.approx(4.08, abs=1e-5)  # equation 4 as a distance


def test_the_gradient_is_that_of_finite_differences():
    gen = torch.Generator().manual_seed(0)
    predicted, targets = (torch.randn(2, 3, 4, generator=gen, dtype=torch.float64) for _ in range(2))
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    predicted.requires_grad_()
    targets.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: spr_loss(a, b, mask), (predicted, targets))
    spr_loss(predicted, targets.detach(), mask).sum().backward()
    assert targets.grad is None and (predicted.grad[1, 1:] == 0).all() and (predicted.grad[0, :2] != 0).all()


def test_a_slow_copy_takes_a_share_of_new_weights():
    slow, fast = (nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)) for _ in range(2))
    with torch.no_grad():
        for weight in slow.parameters():
            weight.fill_(0.0)
        for weight in fast.parameters():
            weight.fill_(1.0)
    fast[1].running_mean.fill_(8.0)
    fast[1].num_batches_tracked.fill_(7)
    follow(slow, fast, 0.25)
    assert slow[0].weight.item() == 0.25 and slow[1].running_mean.item() == 2.0
    assert slow[1].num_batches_tracked.item() == 7
    follow(slow, fast, 0.25)
    assert slow[0].weight.item() == 0.4375 and fast[0].weight.item() == 1.0
    follow(slow, fast, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(slow.state_dict().values(), fast.state_dict().values(), strict=True))


def test_latents_are_renormalised_one_by_one():
    latents = torch.tensor([[[[1.0, 3.0], [2.0, 5.0]]], [[[-4.0, 0.0], [0.0, 4.0]]], [[[7.0, 7.0], [7.0, 7.0]]]])
    expected = torch.tensor([[[[0.0, 0.5], [0.25, 1.0]]], [[[0.0, 0.5], [0.5, 1.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    assert torch.allclose(renormalise(latents), expected, atol=1e-4)
    together = torch.stack([latents, latents + 1])
    assert torch.allclose(renormalise(together), torch.stack([expected, expected]), atol=1e-4)


def test_a_shifted_frame_loses_no_cell():
    frames = torch.zeros(3, 2, 4, 4, dtype=torch.bool)
    frames[:, 0, 3, 0] = frames[:, 1, 0, 3] = True
    shown = placed(frames, torch.tensor([[1, 1], [0, 2], [2, 0]]))
    assert shown.shape == (3, 2, 6, 6) and shown.dtype == torch.float32 and shown.sum() == 6
    assert [tuple(one) for one in shown.nonzero().tolist()] == [
        (0, 0, 4, 1), (0, 1, 1, 4), (1, 0, 3, 2), (1, 1, 0, 5), (2, 0, 5, 0), (2, 1, 2, 3)]  # fmt: skip


# -- the Q-loss ----------------------------------------------------------------------------------------------------

SUPPORT = torch.tensor([-1.0, 0.0, 1.0])


def row(*numbers: float) -> torch.Tensor:
    return torch.tensor([numbers])


GOES_ON = (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("terminated", "truncated", "returned", "discount"),
    [(GOES_ON, GOES_ON, 4.0, 0.0625), ((0, 1, 0, 0), GOES_ON, 2.0, 0.0), ((1, 0, 0, 0), GOES_ON, 1.0, 0.0),
     ((0, 0, 0, 1), GOES_ON, 4.0, 0.0), ((0, 1, 0, 1), GOES_ON, 2.0, 0.0),
     # cut by a step limit after one, two or four steps: the state it was cut in is worth γ, γ² or γ⁴
     (GOES_ON, (1, 0, 0, 0), 1.0, 0.5), (GOES_ON, (0, 1, 0, 0), 2.0, 0.25), (GOES_ON, (0, 0, 0, 1), 4.0, 0.0625),
     # the first end counts, whatever happens in the next episode
     ((0, 0, 1, 0), (0, 1, 0, 0), 2.0, 0.25), ((0, 1, 0, 0), (0, 0, 1, 0), 2.0, 0.0)],
)  # fmt: skip
def test_rewards_behind_an_episode_s_end_do_not_count(terminated, truncated, returned, discount):
    """γ = 1/2, rewards 1, 2, 4, 8: each is worth 1 today."""
    ends = (torch.tensor([one], dtype=torch.bool) for one in (terminated, truncated))
    got = n_step(row(1, 2, 4, 8).float(), *ends, 0.5)
    assert [one.item() for one in got] == [returned, discount]


@pytest.mark.parametrize(
    ("returned", "discount", "expected"),
    [(0.5, 0.5, (0.0, 0.35, 0.65)),  # atoms move to 0, ½ and 1; the one at ½ is shared
     (0.0, 1.0, (0.2, 0.3, 0.5)), (0.25, 0.0, (0.0, 0.75, 0.25)), (2.0, 1.0, (0.0, 0.0, 1.0)),
     (-7.0, 1.0, (1.0, 0.0, 0.0)), (0.0, 0.5, (0.1, 0.65, 0.25))],
)  # fmt: skip
def test_projection_by_hand(returned, discount, expected):
    found = project(row(0.2, 0.3, 0.5), torch.tensor([returned]), torch.tensor([discount]), SUPPORT)
    assert torch.allclose(found, row(*expected), atol=1e-6)


def test_projection_keeps_probability_and_inside_the_support_the_mean():
    gen = torch.Generator().manual_seed(0)
    support = torch.linspace(-10, 10, 51)
    probabilities = torch.rand(40, 51, generator=gen)
    probabilities[:, :10] = probabilities[:, -10:] = 0  # nothing is clipped
    probabilities /= probabilities.sum(1, keepdim=True)
    returns, discounts = torch.rand(40, generator=gen) * 2, torch.rand(40, generator=gen)
    moved = project(probabilities, returns, discounts, support)
    assert torch.allclose(moved.sum(1), torch.ones(40), atol=1e-5)
    assert torch.allclose(moved @ support, returns + discounts * (probabilities @ support), atol=1e-4)


def test_dueling_centres_the_advantages():
    value, advantages = row(1.0, 2.0), torch.tensor([[[3.0, 0.0], [1.0, 4.0]]])
    assert dueling(value, advantages).tolist() == [[[2.0, 0.0], [0.0, 4.0]]]


def test_the_online_network_chooses_and_the_target_network_says_what_it_is_worth():
    sure = 50.0
    online = torch.tensor([[[0.0, 0.0, sure], [sure, 0.0, 0.0]]])  # action 0 is worth 1, action 1 −1
    target = torch.tensor([[[0.0, sure, 0.0], [0.0, 0.0, sure]]])  # action 0 is worth 0, action 1 1
    assert q_values(online, SUPPORT).tolist() == [[1.0, -1.0]]
    found = double_target(online, target, torch.tensor([0.0]), torch.tensor([1.0]), SUPPORT)
    assert torch.allclose(found, row(0.0, 1.0, 0.0))
    ended = double_target(online, target, torch.tensor([1.0]), torch.tensor([0.0]), SUPPORT)
    assert torch.allclose(ended, row(0.0, 0.0, 1.0))


def test_cross_entropy_is_that_of_the_action_taken_and_least_at_the_target():
    logits = torch.tensor([[[0.0, 0.0, 0.0], [math.log(2), 0.0, math.log(5)]]])
    target = row(0.25, 0.125, 0.625)
    entropy = -sum(p * math.log(p) for p in target[0].tolist())
    assert cross_entropy(logits, torch.tensor([0]), target).item() == pytest.approx(math.log(3))
    assert cross_entropy(logits, torch.tensor([1]), target).item() == pytest.approx(entropy, abs=1e-6)


# -- what latents are worth ----------------------------------------------------------------------------------------


def test_effective_rank_by_hand():
    assert effective_rank(np.eye(5)) == pytest.approx(5.0)
    assert effective_rank(np.ones((7, 3))) == pytest.approx(1.0)
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(expected) == pytest.approx(1.7548, abs=1e-4)
    assert effective_rank(np.diag([30.0, 10.0])) == pytest.approx(expected)
    assert effective_rank(np.zeros((4, 4))) == 1.0


def test_a_collapse_has_rank_one_whatever_the_noise_in_its_last_bits():
    rng = generator("rank")
    spread = rng.normal(size=(100, 20))
    collapsed = np.ones((100, 20)) + 1e-6 * spread
    assert effective_rank(spread) > 15 and effective_rank(collapsed) < 1.001
    assert effective_rank(collapsed - collapsed.mean(0)) > 15  # why it is not centred


@pytest.mark.parametrize("wrong", [np.zeros((0, 3)), np.zeros(3), np.zeros((2, 0))])
def test_what_is_no_matrix_has_no_rank(wrong):
    with pytest.raises(ValueError, match="pass a matrix"):
        effective_rank(wrong)


def test_recognition_by_hand():
    rows = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    assert recognised(cosines(rows, 5 * rows)) == 1.0
    assert recognised(cosines(rows, rows[[1, 2, 0]])) == 0.0
    assert recognised(cosines(rows[[0, 1, 1]], rows)) == pytest.approx(2 / 3)
    assert recognised(cosines(np.ones((4, 2)), np.ones((4, 2)))) == pytest.approx(1 / 4)  # a collapse is at chance
    assert recognised(cosines(np.zeros((4, 2)), np.ones((4, 2)))) == pytest.approx(1 / 4)
    assert cosines(rows[:1], rows)[0].tolist() == pytest.approx([1.0, 0.0, math.sqrt(0.5)])
