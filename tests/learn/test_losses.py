"""Losses against hand-computed numbers, an independent slow loop and finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from common.learn.losses import dpo_losses, sequence_logps, sft_loss, turn_sums, value_mse


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [3, 6, 5], labels and a mask with padding on the left and scores on the right."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 6, 5, generator=rng, dtype=torch.float64)
    labels = torch.randint(0, 5, (3, 6), generator=rng)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1]], dtype=torch.bool)
    return logits, labels, mask


def test_sequence_logps_by_hand():
    # Position 0 predicts token 1 among three with odds 1 : 2 : 5, position 1 predicts token 2 with 4 : 1 : 3.
    logits = torch.log(torch.tensor([[[1.0, 2.0, 5.0], [4.0, 1.0, 3.0], [9.0, 9.0, 9.0]]], dtype=torch.float64))
    labels = torch.tensor([[0, 2, 0]])
    both = torch.tensor([[False, True, True]])
    last = torch.tensor([[False, False, True]])
    assert sequence_logps(logits, labels, both).item() == pytest.approx(math.log(5 / 8) + math.log(4 / 8), abs=1e-12)
    assert sequence_logps(logits, labels, last).item() == pytest.approx(math.log(0.5), abs=1e-12)


def test_sequence_logps_equals_a_slow_loop():
    logits, labels, mask = random_batch()
    for b, got in enumerate(sequence_logps(logits, labels, mask).tolist()):
        total = 0.0
        for t in range(1, 6):
            if mask[b, t]:
                row = [math.exp(x) for x in logits[b, t - 1].tolist()]
                total += math.log(row[labels[b, t]] / sum(row))
        assert got == pytest.approx(total, abs=1e-12)


def test_only_predictions_of_scored_tokens_get_a_gradient():
    logits, labels, mask = random_batch()
    logits.requires_grad_()
    sequence_logps(logits, labels, mask).sum().backward()
    predicts = torch.zeros_like(mask)
    predicts[:, :-1] = mask[:, 1:]
    assert (logits.grad[~predicts] == 0).all()
    assert (logits.grad[predicts].abs().sum(-1) > 1e-3).all()


def test_prompt_labels_and_broken_prompt_logits_change_nothing():
    logits, labels, mask = random_batch()
    expected = sequence_logps(logits, labels, mask)
    predicts = torch.zeros_like(mask)
    predicts[:, :-1] = mask[:, 1:]
    other = torch.where(mask, labels, (labels + 1) % 5)
    broken = logits.masked_fill(~predicts[..., None], math.nan).requires_grad_()
    got = sequence_logps(broken, other, mask)
    assert torch.equal(got, expected)
    got.sum().backward()
    assert torch.isfinite(broken.grad).all()


def test_half_precision_logits_are_summed_in_float32():
    logits, labels, mask = random_batch()
    got = sequence_logps(logits.bfloat16(), labels, mask)
    assert got.dtype == torch.float32
    assert torch.allclose(got.double(), sequence_logps(logits.bfloat16().double(), labels, mask), atol=1e-5)


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
    logits, labels, mask = random_batch(seed)
    weights, ref = tensor(1.0, 0.0, 2.5), tensor(-3.0, -1.0, -6.0)
    owner = torch.tensor([0, 1, 1])

    def sft(x):
        return sft_loss(sequence_logps(x, labels, mask), weights, int(mask.sum()))

    def dpo(x):
        chosen, rejected = sequence_logps(x, labels, mask), sequence_logps(x.flip(1), labels, mask)
        return dpo_losses(chosen, rejected, ref, ref - 1, beta=0.7, weights=weights)

    def trajectory(x):
        sides = turn_sums(sequence_logps(x, labels, mask), owner, 2)
        return dpo_losses(sides[:1], sides[1:], ref[:1], ref[1:2], beta=0.7, weights=weights[:1])

    for function in (sft, dpo, trajectory):
        assert torch.autograd.gradcheck(function, logits.clone().requires_grad_(), eps=1e-6, atol=1e-8)
    values = tensor(-1.0, 0.2, 2.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: value_mse(x, tensor(0.0, 0.3, 1.0)), values)
