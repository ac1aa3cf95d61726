"""The pure steps against numbers worked out by hand."""

import math

import numpy as np
import pytest

from common.search.steps import (
    RULES,
    backup,
    best_index,
    child_score,
    final_choice,
    length_prior,
    mix_q,
    puct,
    rank_to_value,
    ranks_of,
    ucb1,
    uct,
)


def test_scores_by_hand():
    # ln 20 = 2.995732; /5 = 0.599146; sqrt = 0.774045; times 0.25 = 0.193511
    assert ucb1(0.5, 5, 20, 0.25) == pytest.approx(0.693511, abs=1e-6)
    # Agent Q: ln 20 / (1 + 5) = 0.499289; sqrt = 0.706604
    assert uct(0.5, 5, 20, c=1.0, child_plus=1.0) == pytest.approx(1.206604, abs=1e-6)
    # ReST-MCTS*: 2 · ln 20 / 5 = 1.198293; sqrt = 1.094666; times 0.7 = 0.766266
    assert uct(0.5, 5, 20, c=0.7, scale=2.0) == pytest.approx(1.266266, abs=1e-6)
    # MCTSr: ln 21 / 5.00001 = 0.608903; sqrt = 0.780322; times 1.4 = 1.092451
    assert uct(0.5, 5, 20, c=1.4, parent_plus=1.0, child_plus=1e-5) == pytest.approx(1.592451, abs=1e-5)
    # PUCT: 2 · 0.3 · sqrt(16) / 4 = 0.6
    assert puct(0.5, 0.3, 3, 16, 2.0) == pytest.approx(1.1)


def test_child_score_is_the_rule_it_names():
    given = dict(c=0.7, unvisited=None)
    assert child_score("ucb1", 0.5, 0.3, 5, 20, **given) == ucb1(0.5, 5, 20, 0.7)
    assert child_score("agent_q", 0.5, 0.3, 5, 20, **given) == uct(0.5, 5, 20, c=0.7, child_plus=1.0)
    assert child_score("rest_mcts", 0.5, 0.3, 5, 20, **given) == pytest.approx(1.266266, abs=1e-6)
    assert child_score("mctsr", 0.5, 0.3, 5, 20, c=1.4, unvisited=None) == pytest.approx(1.592451, abs=1e-5)
    assert child_score("puct", 0.5, 0.3, 3, 16, c=2.0, unvisited=None) == pytest.approx(1.1)
    with pytest.raises(ValueError, match="choose one of"):
        child_score("usb1", 0.5, 0.3, 5, 20, **given)


def test_unvisited_children():
    assert ucb1(0.9, 0, 20, 1.0) == math.inf
    assert child_score("ucb1", 0.9, 0.3, 0, 20, c=1.0, unvisited=0.0) == math.inf
    # with a critique the rule of Agent Q is finite: 0.75 + sqrt(ln 20 / 1) = 0.75 + 1.730818
    assert child_score("agent_q", 0.75, 0.3, 0, 20, c=1.0, unvisited=None) == pytest.approx(2.480818, abs=1e-6)
    assert child_score("rest_mcts", 0.4, 0.3, 0, 20, c=0.7, unvisited=None) == 1.4
    for rule in RULES:
        assert child_score(rule, None, 0.3, 0, 20, c=1.0, unvisited=None) == math.inf
    # first-play urgency 0.2: 0.2 + 1 · 0.3 · sqrt(4) / 1
    assert child_score("puct", None, 0.3, 0, 4, c=1.0, unvisited=0.2) == pytest.approx(0.8)


def test_parent_without_visits_counts_as_one():
    assert uct(0.5, 0, 0, c=1.0, child_plus=1.0) == 0.5  # ln 1 = 0: the critique alone decides
    assert puct(0.5, 0.3, 0, 0, 1.0) == puct(0.5, 0.3, 0, 1, 1.0) == 0.8


def test_best_index_ties():
    assert best_index([1.0, 3.0, 3.0]) == 1
    assert best_index([math.inf, 0.0, math.inf], ties=[0.1, 9.0, 0.2]) == 2
    picks = [best_index([3.0, 1.0, 3.0], rng=np.random.default_rng(seed)) for seed in range(50)]
    assert set(picks) == {0, 2}
    assert picks == [best_index([3.0, 1.0, 3.0], rng=np.random.default_rng(seed)) for seed in range(50)]
    with pytest.raises(ValueError, match="empty"):
        best_index([])


def test_mix_q():
    assert mix_q(0.8, 0.4, 0.25) == pytest.approx(0.25 * 0.8 + 0.75 * 0.4)
    assert mix_q(0.8, 0.4, 1.0) == 0.8 and mix_q(0.8, 0.4, 0.0) == 0.4
    assert mix_q(None, 0.4, 1.0) == 0.4
    assert mix_q(0.8, None, 0.0) == 0.8
    assert mix_q(None, None, 0.5) is None


def test_ranks_and_their_values():
    assert ranks_of([0.1, 0.9, 0.5]) == [3, 1, 2]
    assert ranks_of([0.5, 0.9, 0.5, 0.1]) == [2.5, 1, 2.5, 4]
    assert rank_to_value([1, 2, 3, 4, 5], 5) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert rank_to_value(ranks_of([0.3, 0.3, 0.3]), 3) == [0.5, 0.5, 0.5]
    rng = np.random.default_rng(0)
    for _ in range(50):  # the value is the share of rivals beaten, ties counting half, found by a slow loop
        scores = rng.integers(0, 4, size=int(rng.integers(2, 7))).tolist()
        values = rank_to_value(ranks_of(scores), len(scores))
        for i, value in enumerate(values):
            others = scores[:i] + scores[i + 1 :]
            assert value == pytest.approx(np.mean([(x < scores[i]) + (x == scores[i]) / 2 for x in others]))
    with pytest.raises(ValueError, match="cannot be ranked"):
        rank_to_value([1], 1)
    with pytest.raises(ValueError, match="leave"):
        rank_to_value([0, 1], 2)
    with pytest.raises(ValueError, match="NaN"):
        ranks_of([0.1, math.nan])


def test_backup_discounts_towards_the_root():
    # two rollout steps beyond the leaf, gamma one half: 1/4 at the leaf, 1/8, 1/16 above
    assert backup([0, 3, 7], 1.0, 0.5, 2) == [(0, 0.0625), (3, 0.125), (7, 0.25)]
    assert backup([0, 2], 0.6, 0.9) == [(0, pytest.approx(0.54)), (2, 0.6)]


def test_length_prior_by_hand():
    # 16^1.25 = 2^5 = 32, so exp(−16 / 32)
    assert length_prior(-16.0, 16) == pytest.approx(math.exp(-0.5))


def test_final_choice():
    assert final_choice([3, 7, 7], [0.9, 0.1, 0.2]) == 2
    assert final_choice([3, 7, 5], [0.9, 0.1, 0.9], "q") == 2  # equal Q: more visits
    assert final_choice([3, 0], [0.2, 1.0], "q") == 0  # a mere critique does not beat what was tried
    assert final_choice([0, 0], [None, 0.4], "q") == 1
    with pytest.raises(ValueError, match="choose 'visits' or 'q'"):
        final_choice([1], [0.5], "mean")
