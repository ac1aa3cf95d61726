"""SPR's loss, mask, slow copies, renormalisation and shifts against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.learn.self_prediction import follow, placed, renormalise, spr_loss, within_episode


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
