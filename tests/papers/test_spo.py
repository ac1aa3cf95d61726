"""SPO: rewards, steps and fits by hand, exact games, equal budgets, and that self-play finds what reward models cannot."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from common.envs.duels import ARMS, DuelEnv, favouring, mode, practice
from common.envs.panels import version
from common.lab import Lab, run
from common.learn.preferences import exploitability, softmax
from papers.spo import figures, method
from papers.spo.method import hedge
from tests.envs.test_duels import game
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


def test_a_step_follows_each_arm_s_mean_advantage():
    logits = np.log([0.5, 0.25, 0.25])
    moved = hedge(logits, np.array([[0, 1]]), np.array([[-0.5, 0.5]]), lr=0.4, floor=0.01)
    assert moved - logits == pytest.approx([0.4 * -0.25 / 0.5, 0.4 * 0.25 / 0.25, 0.0])
    rare = hedge(np.array([0.0, -50.0]), np.array([[1, 1]]), np.array([[0.5, 0.5]]), lr=0.4, floor=0.1)
    assert rare[1] - -50.0 == pytest.approx(0.4 * 0.5 / 0.1)  # the floor, not 1e-22


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
        assert practice(lab.env, lab.seed) == pytest.approx(game(ENV))
    practised = {seed for seed in asked if seed >= ARMS}  # the others are those of ``game``
    assert min(practised) >= 2 * ARMS and len(practised) == ARMS
    assert {task.data["seed"] for panel in ("test", "validation") for task in lab.panel(panel)} == set(range(2 * ARMS))


def test_the_start_favours_a_mode(whole):
    unit, rows = whole
    start = softmax(favouring(unit.params.favour))
    assert sum(p for arm, p in enumerate(start) if mode(arm) == 0) == pytest.approx(np.e / (np.e + 2))
    found = {row.metric: row.value for row in rows if row.variant == "start"}
    assert found["exploitability"] == found["exploitability_last"] == pytest.approx(exploitability(game(ENV), start))
    assert found["return"] == pytest.approx(0.5)  # against itself


def test_self_play_finds_what_a_reward_model_cannot(new_unit, tmp_path, world_of):
    """In the cycle. Without it reward models find the best arm as well, as theory says."""
    only = ("start", "spo", "rm", "rm_iterated")
    for env_id, build in ((ENV, new_unit), ("duel-transitive-v1", partial(open_unit, world_of("duel-transitive-v1"), "spo", "duel-transitive-v1"))):
        unit = build(tmp_path / env_id, learn__rounds=200, reward__steps=200, only=only)
        found = {row.variant: row.value for row in run(unit) if row.metric == "exploitability"}
        if env_id == ENV:
            assert found["spo"] < 0.1 < 0.2 < min(found["rm"], found["rm_iterated"])
        else:
            assert max(found[name] for name in only[1:]) < 0.06 < found["start"]


def test_noise_flips_as_many_labels_as_it_says(new_unit, tmp_path, monkeypatch):
    """Where one arm always wins, every flipped label is a loss."""
    monkeypatch.setattr(method, "practice", lambda *_: np.triu(np.ones((ARMS, ARMS)), 1).T)  # a later arm is preferred, always
    kept, plain = [], method.bradley_terry
    monkeypatch.setattr(method, "bradley_terry", lambda rewards, a, b, won, **how: kept.append((a, b, won)) or plain(rewards, a, b, won, **how))
    lab = Lab(new_unit(tmp_path / "lab"), method)
    by_name = {variant.name: variant for variant in method.variants(lab.p)}
    for name, share in (("rm", 0.0), ("rm_noise", lab.p.learn.noise)):
        method.train(lab, by_name[name])
        a, b, won = kept.pop()
        told = (a != b) & ((a > b) != won.astype(bool))
        assert told.sum() / (a != b).sum() == pytest.approx(share, abs=0.06), name


def test_the_notebook_s_parts(whole, tmp_path):
    text = "\n".join(part for part in figures.toy() if isinstance(part, str))
    assert "a mixture of all: [0.33, 0.33, 0.33], exploitability 0.00" in text and "exploitability 0.40" in text
    assert figures.examples(tmp_path) == ["This unit kept no policies on this machine."]
    assert len(figures.examples(whole[0].run.artifacts)[1].axes) == 4
