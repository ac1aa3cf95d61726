"""Losses against hand-computed numbers, an independent slow loop and finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from common.learn.losses import dpo_losses, row_sums, sft_loss, turn_sums, value_mse


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_row_sums_by_hand():
    values = tensor(1.0, 10.0, 100.0, 1000.0, 1e4, 1e5).requires_grad_()
    sums = row_sums(values, [2, 1, 3])
    assert sums.tolist() == [11.0, 100.0, 111000.0]
    (sums * tensor(1.0, 2.0, 3.0)).sum().backward()
    assert values.grad.tolist() == [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_sft_loss_by_hand():
    logps, ones = tensor(-2.0, -3.0, -7.0), tensor(1.0, 1.0, 1.0)
    assert sft_loss(logps, ones, 6).item() == pytest.approx(12 / 6)  # the token mean
    assert sft_loss(logps, tensor(2.0, 1.0, 0.0), 6).item() == pytest.approx((4 + 3 + 0) / 6)


def test_turn_sums_by_hand():
    values = tensor(1.0, 10.0, 100.0, 1000.0)
    assert turn_sums(values, torch.tensor([2, 0, 2, 0]), 4).tolist() == [1010.0, 0.0, 101.0, 0.0]


def test_dpo_by_hand():
    # log-ratios +0.5 and −1, so the margin is 1.5; β·margin = 0.75 and −log σ(0.75) = log(1 + e^−0.75).
    losses = dpo_losses(
        tensor(-1.0, -1.0), tensor(-2.0, -2.0), tensor(-1.5, -1.5), tensor(-1.0, -1.0), beta=0.5, weights=tensor(1, 3)
    )
    assert losses.tolist() == pytest.approx([0.386871, 3 * 0.386871], abs=1e-6)
    assert losses[0].item() == pytest.approx(math.log(1 + math.exp(-0.75)), abs=1e-12)


def test_dpo_at_its_reference_is_log_two_and_falls_as_the_chosen_action_gains():
    at = dpo_losses(tensor(-4.0), tensor(-5.0), tensor(-4.0), tensor(-5.0), beta=0.1, weights=tensor(1.0))
    better = dpo_losses(tensor(-3.0), tensor(-5.0), tensor(-4.0), tensor(-5.0), beta=0.1, weights=tensor(1.0))
    swapped = dpo_losses(tensor(-5.0), tensor(-3.0), tensor(-5.0), tensor(-4.0), beta=0.1, weights=tensor(1.0))
    assert at.item() == pytest.approx(math.log(2), abs=1e-12)
    assert better.item() < at.item() < swapped.item()
    # σ(−x) and σ(x) add up to one: the swapped pair has the complementary probability.
    assert math.exp(-better.item()) + math.exp(-swapped.item()) == pytest.approx(1.0, abs=1e-12)


def test_dpo_gradient_by_hand():
    # ∂L/∂chosen = −w·β·(1 − σ(β·margin)), ∂L/∂rejected the opposite.
    chosen, rejected = tensor(-1.0).requires_grad_(), tensor(-2.0).requires_grad_()
    dpo_losses(chosen, rejected, tensor(-1.5), tensor(-1.0), beta=0.5, weights=tensor(2.0)).sum().backward()
    expected = 2.0 * 0.5 * (1 - 1 / (1 + math.exp(-0.75)))
    assert chosen.grad.item() == pytest.approx(-expected, abs=1e-12)
    assert rejected.grad.item() == pytest.approx(expected, abs=1e-12)


def test_dpo_stays_finite_far_from_the_reference():
    losses = dpo_losses(tensor(-5000.0), tensor(-1.0), tensor(-1.0), tensor(-5000.0), beta=1.0, weights=tensor(1.0))
    assert losses.item() == pytest.approx(9998.0)


def test_value_mse_by_hand():
    assert value_mse(tensor(0.0, math.log(3.0)), tensor(1.0, 0.25)).tolist() == pytest.approx([0.25, 0.25])


@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_equal_finite_differences(seed: int):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(9, 5, generator=rng, dtype=torch.float64)
    labels, lengths = torch.randint(0, 5, (9,), generator=rng), [3, 1, 5]
    weights, ref = tensor(1.0, 0.0, 2.5), tensor(-3.0, -1.0, -6.0)
    owner = torch.tensor([0, 1, 1])

    def logps(x):
        return row_sums(torch.log_softmax(x, -1).gather(1, labels[:, None])[:, 0], lengths)

    def sft(x):
        return sft_loss(logps(x), weights, len(labels))

    def dpo(x):
        return dpo_losses(logps(x), logps(x.flip(1)), ref, ref - 1, beta=0.7, weights=weights)

    def trajectory(x):
        sides = turn_sums(logps(x), owner, 2)
        return dpo_losses(sides[:1], sides[1:], ref[:1], ref[1:2], beta=0.7, weights=weights[:1])

    for function in (sft, dpo, trajectory):
        assert torch.autograd.gradcheck(function, logits.clone().requires_grad_(), eps=1e-6, atol=1e-8)
    values = tensor(-1.0, 0.2, 2.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: value_mse(x, tensor(0.0, 0.3, 1.0)), values)
