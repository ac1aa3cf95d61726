"""CORY's mathematics: credit by hand and by enumeration; corners, areas and comparisons of frontiers by hand; what
mixing policies rests on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from common.rng import generator
from common.types import Observation, Step, Trajectory, Turn
from papers.cory.maths import (
    Point, credited, excess, frontier, mean_reward, progress, readable, report, reward_at,
)

POINTS = [Point(3, 0.45), Point(1, 0.4), Point(2, 0.5)]
CORNERS = [(0, 0.2), (1, 0.4), (2, 0.5)]


# -- credit -----------------------------------------------------------------------------------------------------


def episode(task: str, *answers: str, cut: int | None = None) -> Trajectory:
    steps = tuple(
        Step(({"role": "user", "content": f"{task}:{'/'.join(answers[:k])}"},),
             Turn(text, -1.0, 2, finished=k != cut), Observation(""))
        for k, text in enumerate(answers)
    )  # fmt: skip
    return Trajectory(task, steps)


def test_both_agents_get_the_sum_beyond_what_they_know_and_the_others_of_their_question():
    episodes = [episode("a", "X", "Y"), episode("a", "x", "Y"), episode("a", "x", "y"),
                episode("b", "X", "y"), episode("b", "x", "Y", cut=0), episode("b", "X", "Y", cut=1)]  # fmt: skip
    correct = np.array([[step.turn.text.isupper() for step in one.steps] for one in episodes])

    def advantages(lesson: list) -> list[list[float]]:
        return [[turn.advantage for turn in one] for one in lesson]

    pioneer, observer = credited(episodes, correct, group=3, eta=0.1)
    # question a: sums 2, 1, 0, the others' means ½, 1, 3/2; question b: sums 1, 1, 2
    assert advantages(pioneer) == [[1.5], [0.0], [-1.5], [-0.5], [], [1.0]]
    # its sum minus r(a₁), which it has read, and the others' means of r(a₂): a 1, 1, 0 and ½, ½, 1; b 0, 1, 1
    assert advantages(observer) == [[0.5], [0.5], [-1.0], [-1.0], [0.5], []]
    # the blind observer has read the question alone
    same, blind = credited(episodes, correct, group=3, eta=0.1, blind=True)
    assert same == pioneer and advantages(blind) == [[1.5], [0.0], [-1.5], [-0.5], [-0.5], []]
    for one, answers in ((pioneer, [("X", "a:"), ("x", "a:")]), (observer, [("Y", "a:X"), ("Y", "a:x")])):
        assert [(turn.answer, turn.prompt[0]["content"]) for [turn] in one[:2]] == answers
    assert {turn.beta for one in (*pioneer, *observer) for turn in one} == {0.1}
    [alone] = credited(episodes, correct[:, :1], group=3, eta=0.0)
    assert advantages(alone)[:4] == [[1.0], [-0.5], [-0.5], [0.5]]


def test_the_shared_reward_teaches_the_pioneer_what_helps_the_observer_and_the_observer_nothing_of_the_first_answer():
    """Expected gradients by enumeration: two answers a turn, answer 1 is right, the second depends on the first."""
    first = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    second = torch.tensor([[0.1, 0.5], [-0.4, 0.9]], dtype=torch.float64, requires_grad=True)
    log_1, log_2 = torch.log_softmax(first, -1), torch.log_softmax(second, -1)

    def expected(parameter: torch.Tensor, reward) -> torch.Tensor:
        total = torch.zeros_like(parameter)
        for a, b in itertools.product(range(2), repeat=2):
            own = log_1[a] if parameter is first else log_2[a, b]
            [grad] = torch.autograd.grad(own, parameter, retain_graph=True)
            total += (log_1[a] + log_2[a, b]).exp().item() * reward(a, b) * grad
        return total

    value = sum((log_1[a] + log_2[a, b]).exp() * (a + b) for a in range(2) for b in range(2))
    for parameter, exact in zip((first, second), torch.autograd.grad(value, (first, second), retain_graph=True)):
        assert torch.allclose(expected(parameter, lambda a, b: a + b), exact, atol=1e-12)
    assert torch.allclose(expected(second, lambda a, b: a + b), expected(second, lambda a, b: b), atol=1e-12)
    assert not torch.allclose(expected(first, lambda a, b: a + b), expected(first, lambda a, b: a))


def test_progress_names_each_agent_s_kl_and_takes_the_rest_from_the_pioneer():
    pioneer = {"loss": 1.0, "kl_1": 0.1}
    for observer in ({"loss": 2.0, "kl_2": 0.2}, {"loss": 2.0, "kl_1": 0.2}):  # the blind one's is a first turn
        assert progress([pioneer, observer]) == {"loss": 1.0, "kl_1": 0.1, "kl_2": 0.2}
    assert progress([pioneer]) == pioneer


# -- frontiers --------------------------------------------------------------------------------------------------


def test_corners_by_hand():
    assert frontier(POINTS, 0.2) == CORNERS
    assert frontier([Point(1, 0.25), Point(2, 0.5)], 0.2) == [(0, 0.2), (2, 0.5)]  # below the straight line
    assert frontier([Point(1, 0.1), Point(2, 0.2)], 0.2) == [(0, 0.2)]  # nothing gained
    assert frontier([Point(1, 0.3), Point(1, 0.4)], 0.2) == [(0, 0.2), (1, 0.4)]
    assert frontier([], 0.2) == [(0, 0.2)]


def test_values_and_areas_by_hand():
    corners = frontier(POINTS, 0.2)
    assert [reward_at(corners, k) for k in (0, 0.5, 1, 1.5, 2, 9)] == pytest.approx([0.2, 0.3, 0.4, 0.45, 0.5, 0.5])
    assert mean_reward(corners, 1) == pytest.approx(0.3)
    assert mean_reward(corners, 2) == pytest.approx((0.3 + 0.45) / 2)
    assert mean_reward(corners, 1.5) == pytest.approx((0.3 + 0.5 * 0.425) / 1.5)
    assert mean_reward(corners, 4) == pytest.approx((0.3 + 0.45 + 2 * 0.5) / 4)
    assert mean_reward([Point(0, 0.2)], 3) == pytest.approx(0.2)


def test_the_frontier_is_the_best_that_two_policies_mixed_can_do():
    rng = generator("frontier")
    for _ in range(50):
        points = [Point(float(k), float(r)) for k, r in rng.random((4, 2))]
        corners, everyone = frontier(points, 0.3), [Point(0.0, 0.3), *points]
        slopes = [(b.reward - a.reward) / (b.kl - a.kl) for a, b in zip(corners, corners[1:])]
        assert slopes == sorted(slopes, reverse=True) and all(slope > 0 for slope in slopes)
        for k in (0.0, 0.2, 0.5, 0.9, 1.5):
            best = -1.0
            for one, two in itertools.product(everyone, repeat=2):
                for share in np.linspace(0, 1, 401):
                    if share * one.kl + (1 - share) * two.kl <= k:
                        best = max(best, share * one.reward + (1 - share) * two.reward)
            assert best <= reward_at(corners, k) + 1e-9 and reward_at(corners, k) - best < 0.01


def test_mixing_two_policies_costs_no_more_kl_than_the_straight_line():
    rng = generator("mixture")
    for _ in range(50):
        one, two, base = rng.dirichlet([0.5] * 4, 3) + 1e-9
        for share in (0.1, 0.5, 0.8):
            mixed = share * one + (1 - share) * two
            kls = [float((p * np.log(p / base)).sum()) for p in (mixed, one, two)]
            assert kls[0] <= share * kls[1] + (1 - share) * kls[2] + 1e-12


def test_two_methods_by_hand():
    single, cory = [Point(1, 0.3), Point(3, 0.5)], [Point(0.5, 0.3), Point(2, 0.5)]
    found = report({"single": single, "cory": cory}, 0.2, upto=3)
    assert found["single"] == pytest.approx({"frontier_reward": 0.35, "kl": 3, "success": 0.5})
    assert found["cory"] == pytest.approx({"frontier_reward": (0.5 * 0.25 + 1.5 * 0.4 + 0.5) / 3, "kl": 2, "success": 0.5})


def test_a_method_that_gains_nothing_keeps_the_base_s_reward():
    assert report({"a": [Point(1.5, 0.1)]}, 0.2, upto=1.0)["a"] == {"frontier_reward": 0.2, "kl": 0.0, "success": 0.2}


def test_what_is_not_finite_is_refused():
    for bad in ([Point(-0.1, 0.3)], [Point(1, math.nan)], [Point(math.inf, 0.3)]):
        with pytest.raises(ValueError, match="must be finite"):
            frontier(bad, 0.2)


def test_excess_by_hand():
    single = [Point(1, 0.3), Point(3, 0.5)]
    assert excess(Point(1.5, 0.5), single, 0.2) == pytest.approx(0.15)
    assert excess(Point(9, 0.6), single, 0.2) == pytest.approx(0.1)
    assert [excess(point, single, 0.2) for point in single] == pytest.approx([0, 0])
    assert excess(Point(0.0, 0.2), single, 0.2) == 0.0


# -- dialogues --------------------------------------------------------------------------------------------------


def test_rows_to_be_read_name_role_and_truth():
    rows = readable([episode("a", "X", "y")], np.array([[True, False]]), ("pioneer", "observer"))
    assert [(row["task"], row["turn"], row["role"], row["text"], row["right"]) for row in rows] == [
        ("a", 1, "pioneer", "X", True), ("a", 2, "observer", "y", False)]  # fmt: skip
    assert {row["prompt"] for row in rows} == {"a:"}
