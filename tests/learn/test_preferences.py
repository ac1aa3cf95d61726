"""Preferences over finitely many arms: rewards in a group, draws, fits and exploitability by hand."""

from __future__ import annotations

import numpy as np
import pytest

from common.learn.preferences import arms_of, bradley_terry, exploitability, sigmoid, softmax, standing, win_rates


def test_an_arm_s_reward_is_the_share_it_won_of_its_group():
    # pairs (0, 1), (0, 2), (1, 2): the first beat both, the second and third were a draw
    assert win_rates(np.array([[1.0, 1.0, 0.5]]), 3).tolist() == [[1.0, 0.25, 0.25]]
    many = win_rates(np.random.default_rng(0).random((50, 6)), 4)
    assert many.shape == (50, 4) and many.mean(1) == pytest.approx(np.full(50, 0.5))


def test_a_bradley_terry_model_is_found_from_its_own_probabilities():
    truth = np.array([0.7, -0.2, -0.5])
    first, second = np.array([0, 0, 1]), np.array([1, 2, 2])
    found = bradley_terry(np.zeros(3), first, second, sigmoid(truth[first] - truth[second]), steps=2000, lr=0.02, ridge=0.0)
    assert found - found.mean() == pytest.approx(truth - truth.mean(), abs=1e-3)


def test_a_comparison_counts_as_often_as_it_is_said_to():
    first, second, labels = np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([1.0, 0.3, 0.6])
    how = {"steps": 50, "lr": 0.1, "ridge": 0.01}
    counted = bradley_terry(np.zeros(3), first, second, labels, counts=np.array([2.0, 1.0, 3.0]), **how)
    rows = np.array([0, 0, 1, 2, 2, 2])
    assert counted == pytest.approx(bradley_terry(np.zeros(3), first[rows], second[rows], labels[rows], **how))


def test_arms_are_drawn_by_their_probabilities():
    policy = np.array([0.25, 0.0, 0.75])
    assert arms_of(policy, np.array([[0.0, 0.2], [0.25, 0.999]])).tolist() == [[0, 0], [2, 2]]
    assert arms_of(np.array([0.5, 0.5 - 1e-12]), np.array([1.0 - 1e-16])).tolist() == [1]  # a sum short of 1


def test_exploitability_and_standing_by_hand():
    """Rock, paper, scissors, where the better one wins nine of ten times."""
    preference = np.array([[0.5, 0.1, 0.9], [0.9, 0.5, 0.1], [0.1, 0.9, 0.5]])
    third, rock = np.full(3, 1 / 3), np.array([1.0, 0.0, 0.0])
    assert exploitability(preference, third) == pytest.approx(0.0) and exploitability(preference, rock) == pytest.approx(0.4)
    found = standing(preference, third, rock, np.array([0.5, 0.5, 0.0]))
    assert found == pytest.approx({"exploitability": 0.0, "exploitability_last": 0.4, "return": 0.5})
    assert standing(preference, np.array([0.0, 1.0, 0.0]), rock, rock)["return"] == pytest.approx(0.9)
    assert softmax(np.log([1.0, 3.0])) == pytest.approx([0.25, 0.75]) and sigmoid(np.log(3.0)) == pytest.approx(0.75)
