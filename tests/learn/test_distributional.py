"""n-step returns, the C51 projection, dueling and double targets against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from common.learn.distributional import cross_entropy, double_target, dueling, n_step, project, q_values

SUPPORT = torch.tensor([-1.0, 0.0, 1.0])


def row(*numbers: float) -> torch.Tensor:
    return torch.tensor([numbers])


@pytest.mark.parametrize(
    ("ended", "returned", "discount"),
    [((0, 0, 0, 0), 4.0, 0.0625), ((0, 1, 0, 0), 2.0, 0.0), ((1, 0, 0, 0), 1.0, 0.0), ((0, 0, 0, 1), 4.0, 0.0),
     ((0, 1, 0, 1), 2.0, 0.0)],
)  # fmt: skip
def test_rewards_behind_an_episode_s_end_do_not_count(ended, returned, discount):
    """γ = 1/2, rewards 1, 2, 4, 8: each is worth 1 today."""
    got = n_step(row(1, 2, 4, 8).float(), torch.tensor([ended], dtype=torch.bool), 0.5)
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
