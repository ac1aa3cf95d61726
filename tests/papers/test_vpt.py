"""VPT: play as it was, what models see, losses by hand, equal budgets, and that a few labels go a long way."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from common.envs.panels import version
from common.lab import Lab, run
from papers.vpt import figures, method
from papers.vpt.playing import Play, acting, both_sides, causal, played, slipping
from tests.papers.units import open_unit, write_panels

ENV = "catch-streak-v1"


def new_env():
    return version(ENV).make(None)


@pytest.fixture(scope="module")
def new_unit(tmp_path_factory):
    world = tmp_path_factory.mktemp("streak")
    write_panels(world, ENV, version(ENV).build(0))
    return partial(open_unit, world, "vpt", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    return (unit := new_unit(tmp_path_factory.mktemp("whole") / "lab", shown__labels=(2, 4, 8))), run(unit)


def test_play_side_by_side_is_play_one_by_one_with_the_frames_around_each_step():
    seeds, rule = [3, 4, 5, 6], version(ENV).scripted
    together = played(new_env, seeds, lambda before, now, _: [rule(one) for one in now])
    for k, seed in enumerate(seeds):
        env, steps = new_env(), np.flatnonzero(together.episode == k)
        frames = [env.reset(seed)]
        for i in steps:
            frame = env.step(int(together.actions[i]))
            assert (together.now[i] == frames[-1]).all() and (together.before[i] == frames[max(len(frames) - 2, 0)]).all()
            assert (together.after[i] == frame.planes).all() and together.rewards[i] == frame.reward
            frames.append(frame.planes)
        assert frame.done
    first = together.first(2)
    assert set(first.episode) == {0, 1} and len(first.actions) == (together.episode < 2).sum()
    assert causal(together).shape[1] * 3 == both_sides(together).shape[1] * 2 == 3 * 2 * 300
    cut = played(new_env, seeds, lambda before, now, _: [0] * len(now), limit=10)
    assert 10 <= len(cut.actions) < 10 + len(seeds)


def test_a_player_slips_as_often_as_it_says():
    expert = SimpleNamespace(expert=lambda: 1)
    chosen = slipping(3, 0.3, "test")(np.zeros((30_000, 1)), np.zeros((30_000, 1)), [expert] * 30_000)
    assert np.bincount(chosen, minlength=3) / 30_000 == pytest.approx([0.1, 0.8, 0.1], abs=0.01)


def test_actions_are_drawn_from_the_policy_or_are_its_likeliest():
    policy = nn.Linear(6, 3)
    nn.init.zeros_(policy.weight)
    policy.bias.data = torch.log(torch.tensor([0.2, 0.5, 0.3]))
    frames = np.zeros((20_000, 3))
    drawn = np.bincount(acting(policy, np.random.default_rng(0))(frames, frames, []), minlength=3) / 20_000
    assert drawn == pytest.approx([0.2, 0.5, 0.3], abs=0.02) and set(acting(policy, None)(frames, frames, [])) == {1}


def test_the_objective_by_hand():
    """One step, two actions of ½ and ½; a prior of ¾ and ¼."""
    policy, prior = nn.Linear(4, 2), nn.Linear(4, 2)
    for one, chances in ((policy, [0.5, 0.5]), (prior, [0.75, 0.25])):
        nn.init.zeros_(one.weight)
        one.bias.data = torch.log(torch.tensor(chances))
    frame = np.zeros((1, 1, 1, 2))
    play = Play(frame, frame, frame, np.array([1]), np.array([1.0]), np.array([0]))
    settings = method.Reinforce(env_steps=1, starts=1, group=2, lr=0.1, kl=0.4, decay=0.5, entropy=0.1)
    plain = -2.0 * math.log(0.5)
    kl = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    advantages = torch.tensor([2.0])
    loss, found = method.objective(policy, prior, play, advantages, "kl", settings, 2)
    assert loss.item() == pytest.approx(plain + 0.4 * 0.5 * kl) and found["kl"] == pytest.approx(kl)
    loss, found = method.objective(policy, None, play, advantages, "entropy", settings, 2)
    assert loss.item() == pytest.approx(plain - 0.1 * math.log(2)) and found["entropy"] == pytest.approx(math.log(2))


def test_budgets(whole):
    unit, rows = whole
    p, cost = unit.params, {row.variant: row.cost for row in rows}
    for name in ("idm@labels=4", "causal@labels=8", "bc_labelled", "bc_pseudo", "bc_true"):
        assert cost[name]["updates"] == p.fit.updates and cost[name]["env_steps"] == 0, name
    most = p.rl.starts * p.rl.group
    assert all(p.rl.env_steps <= cost[name]["env_steps"] < p.rl.env_steps + most for name in ("rl_scratch", "rl_entropy", "rl_kl"))
    lab = Lab(unit, method)
    play = method.shown(lab)
    assert cost["idm@labels=4"]["samples"] == (play.episode < 4).sum() and cost["bc_true"]["samples"] == len(play.actions)


def test_labels_beyond_those_asked_for_are_never_read(new_unit, tmp_path):
    """With other actions in all episodes but the first ones nothing that is labelled by few changes; the upper bound does."""
    saved = {}
    for name in ("true", "false"):
        lab = Lab(new_unit(tmp_path / name, shown__labels=(2, 4, 8)), method)
        play = method.shown(lab)
        if name == "false":
            play.actions[play.episode >= 4] = 0
        by_name = {variant.name: variant for variant in method.variants(lab.p)}
        saved[name] = {one: (lab.folder(method.train(lab, by_name[one])) / "model.safetensors").read_bytes()
                       for one in ("bc_labelled", "bc_pseudo", "rl_kl", "bc_true")}  # fmt: skip
    same = {one: saved["true"][one] == saved["false"][one] for one in saved["true"]}
    assert same == {"bc_labelled": True, "bc_pseudo": True, "rl_kl": True, "bc_true": False}


def test_few_labels_teach_what_happened_and_not_what_to_do(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", hidden=64, shown__episodes=150, shown__labels=(8, 64), fit__updates=300, fit__batch=64,
                    only=("idm@labels=64", "causal@labels=64"))  # fmt: skip
    accuracy = {row.variant: row.value for row in run(unit) if row.metric == "accuracy"}
    assert accuracy["idm@labels=64"] > 0.75 > 0.65 > accuracy["causal@labels=64"] > 0.38


def test_the_notebook_s_parts(whole):
    text = "\n".join(part for part in figures.toy() if isinstance(part, str))
    assert text.count("###") == 3 and "ball in row" in text
    [_, picture] = figures.results(whole[1], figures.LADDER)
    assert len(picture.axes[0].get_lines()) >= 2 and picture.axes[0].get_xscale() == "log"
