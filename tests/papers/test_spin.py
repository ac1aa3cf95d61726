"""SPIN's equations by value, and that the method learns. What every paper must satisfy is tests/papers/test_conformance.py."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from common import lab
from common.lab import Collected
from common.learn.losses import dpo_losses
from common.types import Cost, PreferencePair, Task
from papers.spin import method
from tests.papers.units import open_unit

ENV = "countdown-worked-v1"
LEARN = {"demonstrations": 50, "draws": 2, "sft__updates": 4, "more__updates": 20, "play__beta": 1.0, "play__updates": 20, "play__batch": 32,
         "more__batch": 32, "test__tasks": 30, "test__draws": 4}  # fmt: skip
"""Large enough that the method learns something in the small world of the tests."""


@pytest.fixture
def work(world_of, tmp_path) -> lab.Lab:
    return lab.Lab(open_unit(world_of(ENV), "spin", ENV, tmp_path / "lab"), method)


class Scores:
    """An engine whose log-probabilities are those of ``table``."""

    def __init__(self, table: dict[str, float]) -> None:
        self.table, self.cost = table, Cost()

    def score(self, prompts, actions):
        return [[self.table[action] for action in own] for own in actions]


def game(real: str, own: str) -> PreferencePair:
    return PreferencePair((), real, own, task_id="t")


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_the_loss_is_log_2_at_the_opponent_and_falls_with_the_margin():
    assert method.play_loss(0.0, 0.1) == pytest.approx(math.log(2))
    assert method.play_loss(10.0, 0.1) == pytest.approx(math.log(1 + math.exp(-1)))
    assert method.play_loss(-10.0, 0.1) == pytest.approx(1 + math.log(1 + math.exp(-1)))
    assert method.play_loss(-1e5, 1.0) == pytest.approx(1e5)  # no overflow


def test_the_divergence_is_exact_and_0_for_the_demonstrator_itself():
    two, one = ((), ["a", "b"]), ((), ["c"])
    assert method.divergence(Scores({"a": math.log(0.5), "b": math.log(0.5), "c": 0.0}), [two, one])["kl_data"] == pytest.approx(0)
    # ½·ln(½ / ½) + ½·ln(½ / ⅛) = ln 2, and ln(1 / ¼) = 2·ln 2: mean 1.5·ln 2
    skewed = Scores({"a": math.log(0.5), "b": math.log(0.125), "c": math.log(0.25)})
    assert method.divergence(skewed, [two, one, ((), [])])["kl_data"] == pytest.approx(1.5 * math.log(2))
    assert method.divergence(skewed, [((), [])]) == {}


def test_margins_are_log_ratios_to_the_opponent_and_ties_count_half(work, monkeypatch):
    monkeypatch.setattr(method, "games", lambda *_: Collected([game("a", "b"), game("b", "a"), game("a", "a"), game("a", "c")]))
    engine, opponent = Scores({"a": -1.0, "b": -2.0, "c": -7.0}), Scores({"a": -3.0, "b": -2.5, "c": -1.0})
    found = method.told_apart(work, engine, opponent, [], method.Condition("spin_it1"))  # log-ratios a: 2, b: 0.5, c: −6
    low = method.told_apart(work, engine, opponent, [], method.Condition("spin_it1@beta=0.1", beta=0.1))
    assert found["told_apart"] == low["told_apart"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    for one, beta in ((found, work.p.play.beta), (low, 0.1)):
        assert one["play_loss"] == pytest.approx(sum(math.log(1 + math.exp(-beta * m)) for m in (1.5, -1.5, 0.0, 8.0)) / 4)


def test_an_iteration_learns_from_the_last_two_opponents_and_refers_to_the_last(work, monkeypatch):
    monkeypatch.setattr(work, "engine", lambda trained: trained)
    monkeypatch.setattr(method, "games", lambda lab, opponent, tasks, real, use, s: Collected([game(f"r{s}", opponent)], Cost(samples=1)))
    engine = Scores({f"r{s}": -1.0 - s for s in range(3)} | {f"o{s}": -5.0 - s for s in range(3)})
    seen = [method.pairs(work, "data", t, ("o0", "o1", "o2")[: t + 1], engine) for t in range(3)]
    assert [[pair.rejected for pair in one.rows] for one in seen] == [["o0"], ["o0", "o1"], ["o1", "o2"]]
    assert [(pair.ref_chosen, pair.ref_rejected) for pair in seen[2].rows] == [(-2.0, -6.0), (-3.0, -7.0)]
    assert [one.cost.samples for one in seen] == [1, 1, 1]  # an old game is not sampled again


def test_demonstrations_are_right_answers_drawn_alike(work):
    task = Task("t", ENV, "train", {"numbers": [3, 14, 5], "target": 16})
    prompt, right = method.right_answers(work.env, task)
    assert prompt[0]["content"] == "numbers 14 5 3 target 16"
    assert sorted(right) == ["14 + 5 = 19 , 19 - 3 = 16", "14 - 3 = 11 , 11 + 5 = 16", "5 - 3 = 2 , 14 + 2 = 16"]
    drawn = Counter(method.drawn(work, Task(f"t{i}", ENV, "train", task.data), right, 0) for i in range(600))
    assert set(drawn) == set(right) and min(drawn.values()) > 150
    assert method.drawn(work, task, right, 1) == method.drawn(work, task, right, 1)
    assert {method.drawn(work, task, right, draw) for draw in range(30)} == set(right)


def test_every_draw_is_another_game_and_another_demonstration(work):
    tasks = work.batch(0, 12)
    object.__setattr__(work.p, "draws", 3)
    rows = method.games(work, work.engine(), tasks, "data", "play", 0).rows
    assert len(rows) == 36 and len({(str(game.prompt), game.rejected) for game in rows}) > 12
    right = [method.right_answers(work.env, task)[1] for task in tasks]
    assert all([game.chosen for game in rows[draw * 12 : draw * 12 + 12]] == [method.drawn(work, task, own, draw) for task, own in zip(tasks, right)]
               for draw in range(3))  # fmt: skip


def test_games_leave_out_cut_answers_and_pay_for_them(work):
    engine, tasks = work.engine(), work.batch(0, 12)
    played = method.games(work, engine, tasks, "own", "play", 0)
    assert 0 < len(played.rows) <= 12 and played.cost.samples == 24
    assert any(pair.chosen != pair.rejected for pair in played.rows)
    object.__setattr__(work.p, "answer_tokens", 1)
    cut = method.games(work, engine, tasks, "data", "play", 0)
    assert not cut.rows and cut.cost.samples == 12


def test_against_own_answers_the_expected_gradient_is_0():
    """By enumeration of three answers: real and generated both from π_t, at π = π_t (D2.16)."""
    logits = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64, requires_grad=True)

    def gradient(real: torch.Tensor) -> torch.Tensor:
        logp = torch.log_softmax(logits, 0)
        own, (i, j) = logp.detach().exp(), torch.cartesian_prod(torch.arange(3), torch.arange(3)).T
        losses = dpo_losses(logp[i], logp[j], logp[i].detach(), logp[j].detach(), beta=0.5, weights=real[i] * own[j])
        assert losses.sum().item() == pytest.approx(math.log(2))
        return torch.autograd.grad(losses.sum(), logits)[0]

    own = torch.softmax(logits.detach(), 0)
    assert gradient(own).abs().max() < 1e-12
    data = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert torch.allclose(gradient(data), -0.25 * (data - own))  # −β/2·(p_data − π_t)


# -- does it learn? ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcome(world_of, tmp_path_factory) -> dict[tuple[str, str], float]:
    """(variant, metric) → value on tasks that were not trained on."""
    unit = open_unit(world_of(ENV), "spin", ENV, tmp_path_factory.mktemp("learn") / "lab", **LEARN)
    return {(row.variant, row.metric): row.value for row in lab.run(unit)}


def test_it_learns_from_demonstrations_and_not_from_itself(outcome):
    assert outcome["spin_it3", "kl_data"] < outcome["sft", "kl_data"] - 0.5 < outcome["self_only", "kl_data"] - 0.3
    assert outcome["spin_it1", "play_loss"] < math.log(2) - 0.05 < outcome["self_only", "play_loss"]
    assert outcome["spin_it1", "told_apart"] > 0.6 > outcome["self_only", "told_apart"]
