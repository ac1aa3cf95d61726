"""SPO: rewards, steps and fits by hand, exact games, equal budgets, and that self-play finds what reward models cannot."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.optimize import linprog

from common.envs.duels import ARMS, MODES, DuelEnv, mode
from common.envs.panels import version
from common.lab import Lab, run
from papers.spo import figures, method
from papers.spo.maths import bradley_terry, exploitability, hedge, sigmoid, softmax, win_rates
from tests.papers.units import open_unit, write_panels

ENV = "duel-cyclic-v1"


@pytest.fixture(scope="module")
def new_unit(tmp_path_factory):
    world = tmp_path_factory.mktemp("duels")
    write_panels(world, ENV, version(ENV).build(0))
    return partial(open_unit, world, "spo", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    return (unit := new_unit(tmp_path_factory.mktemp("whole") / "lab")), run(unit)


def game(env_id: str) -> np.ndarray:
    env = version(env_id).make(None)
    return np.array([[(env.reset(b), env.step(a))[1].reward for b in range(ARMS)] for a in range(ARMS)])


def test_an_arm_s_reward_is_the_share_it_won_of_its_group():
    # pairs (0, 1), (0, 2), (1, 2): the first beat both, the second and third were a draw
    assert win_rates(np.array([[1.0, 1.0, 0.5]]), 3).tolist() == [[1.0, 0.25, 0.25]]
    many = win_rates(np.random.default_rng(0).random((50, 6)), 4)
    assert many.shape == (50, 4) and many.mean(1) == pytest.approx(np.full(50, 0.5))


def test_a_step_follows_each_arm_s_mean_advantage():
    logits = np.log([0.5, 0.25, 0.25])
    moved = hedge(logits, np.array([[0, 1]]), np.array([[-0.5, 0.5]]), lr=0.4, floor=0.01)
    assert moved - logits == pytest.approx([0.4 * -0.25 / 0.5, 0.4 * 0.25 / 0.25, 0.0])
    rare = hedge(np.array([0.0, -50.0]), np.array([[1, 1]]), np.array([[0.5, 0.5]]), lr=0.4, floor=0.1)
    assert rare[1] - -50.0 == pytest.approx(0.4 * 0.5 / 0.1)  # the floor, not 1e-22


def test_a_bradley_terry_model_is_found_from_its_own_probabilities():
    truth = np.array([0.7, -0.2, -0.5])
    first, second = np.array([0, 0, 1]), np.array([1, 2, 2])
    found = bradley_terry(np.zeros(3), first, second, sigmoid(truth[first] - truth[second]), steps=2000, lr=0.02, ridge=0.0)
    assert found - found.mean() == pytest.approx(truth - truth.mean(), abs=1e-3)


@pytest.mark.parametrize("env_id", ["duel-cyclic-v1", "duel-transitive-v1"])
def test_games_are_symmetric_and_their_winners_exact(env_id):
    """By linear programming: the winner mixes the best arms of all modes in the cycle, and is not beaten without it either."""
    preference = game(env_id)
    assert preference + preference.T == pytest.approx(np.ones((ARMS, ARMS)))
    solved = linprog([0.0] * ARMS + [-1.0], A_ub=np.hstack([-preference.T, np.ones((ARMS, 1))]), b_ub=np.zeros(ARMS),
                     A_eq=[[1.0] * ARMS + [0.0]], b_eq=[1.0], bounds=[(0, 1)] * ARMS + [(None, None)])  # fmt: skip
    assert -solved.fun == pytest.approx(0.5) and exploitability(preference, solved.x[:ARMS]) == pytest.approx(0.0, abs=1e-9)
    best = [arm for arm in range(ARMS) if arm % (ARMS // MODES) == ARMS // MODES - 1]
    assert solved.x[best].sum() == pytest.approx(1.0)
    if env_id == ENV:
        assert solved.x[best] == pytest.approx([1 / 3] * 3)
        assert [exploitability(preference, np.eye(ARMS)[arm]) for arm in best] == pytest.approx([sigmoid(3.0) - 0.5] * 3)
    env = version(env_id).make(None)
    replies = [version(env_id).scripted(env.reset(b)) for b in range(ARMS)]
    assert [preference[reply, b] for b, reply in enumerate(replies)] == pytest.approx(preference.max(0).tolist())


def test_a_duel_is_over_after_its_step():
    env = version(ENV).make(None)
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step(0)
    env.reset(0)
    with pytest.raises(IndexError, match="must be 0 to 29"):
        env.step(30)


def test_variants_compare_as_much_and_practise_outside_of_all_panels(whole):
    unit, rows = whole
    p, cost = unit.params.learn, {row.variant: row.cost for row in rows}
    for variant in method.variants(unit.params)[1:]:
        assert cost[variant.name]["env_steps"] == p.rounds * p.comparisons, variant.name
        assert cost[variant.name]["updates"] == p.rounds
    assert cost["start"]["env_steps"] == 0
    lab, asked, plain = Lab(unit, method), [], DuelEnv.reset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DuelEnv, "reset", lambda env, seed: asked.append(seed) or plain(env, seed))
        assert method.practice(lab) == pytest.approx(game(ENV))
    practised = {seed for seed in asked if seed >= ARMS}  # the others are those of ``game``
    assert min(practised) >= 2 * ARMS and len(practised) == ARMS
    assert {task.data["seed"] for panel in ("test", "validation") for task in lab.panel(panel)} == set(range(2 * ARMS))


def test_the_start_favours_a_mode(whole):
    unit, rows = whole
    start = softmax(method.starting(Lab(unit, method)))
    assert sum(p for arm, p in enumerate(start) if mode(arm) == 0) == pytest.approx(np.e / (np.e + 2))
    found = {row.metric: row.value for row in rows if row.variant == "start"}
    assert found["exploitability"] == found["exploitability_last"] == pytest.approx(exploitability(game(ENV), start))
    assert found["return"] == pytest.approx(0.5)  # against itself


def test_self_play_finds_what_a_reward_model_cannot(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", learn__rounds=200, only=("start", "spo", "rm"))
    found = {row.variant: row.value for row in run(unit) if row.metric == "exploitability"}
    assert found["spo"] < 0.1 < 0.2 < found["rm"]


def test_the_notebook_s_parts(whole, tmp_path):
    text = "\n".join(part for part in figures.toy() if isinstance(part, str))
    assert "a mixture of all: [0.33, 0.33, 0.33], exploitability 0.00" in text and "exploitability 0.40" in text
    assert figures.examples(tmp_path) == ["This unit kept no policies on this machine."]
    assert len(figures.examples(whole[0].run.artifacts)[1].axes) == 4
