"""Social deduction's unit: matched budgets, the terms of each variant; credit and losses by hand; that it learns.

The base is a small policy that was shown the language of the game for a few seconds.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from statistics import fmean

import pytest
import torch

from common.envs.deduction.belief import ideal
from common.envs.deduction.world import COLOURS, seen
from common.envs.versions.deduction_v1 import CREW, DeductionEnv, build_panels, role_of
from common.lab import BASE, Lab, Trained, run
from common.learn.policy_gradient import PolicyGradientSettings, adam, policy_gradient_step
from common.base import demonstrations
from common.lm.engine import Engine
from common.lm.models import load_model
from common.rng import derive
from common.types import Step, Trajectory, Turn
from papers.social_deduction import method
from papers.social_deduction.maths import Game, games, loss_of, questions, rate_at, spoken, step
from tests.papers.units import open_unit, teach, write_panels

ENV = "deduction-v1"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    root, panels = tmp_path_factory.mktemp("deduction"), build_panels(0)
    write_panels(root, ENV, {"train": panels["train"][:300], "test": panels["test"][:60], "demos": panels["demos"][:40]})
    teach(root, demonstrations(DeductionEnv(), panels["demos"], seed=0, repeats=3), vocab=440, context=144, updates=200)
    return root


@pytest.fixture(scope="module")
def new_unit(world):
    return partial(open_unit, world, "social_deduction", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab")
    return unit, run(unit)


def terms_of(p: method.Params) -> dict[str, method.Terms]:
    return {variant.name: variant.terms for variant in method.variants(p) if variant.terms}


def weights(unit, name: str) -> bytes:
    return (unit.run.stage_path(f"train.{name}") / "model.safetensors").read_bytes()


# -- the unit -------------------------------------------------------------------------------------------------


def test_budgets_are_matched(whole):
    unit, rows = whole
    costs = {row.variant: row.cost for row in rows if row.metric == "success"}
    turns = unit.params.rl.updates * unit.params.rl.games * 9
    for name in terms_of(unit.params):
        cost = costs[name]
        assert (cost["env_steps"], cost["samples"], cost["updates"]) == (turns, turns, unit.params.rl.updates)
        assert cost["sampled_tokens"] >= turns and cost["scored_tokens"] > 0
    for name in ("base", "silent", "honest"):
        assert set(costs[name].values()) == {0}
    assert {row.metric for row in rows if row.variant == "honest"} == {"success"}


def test_two_names_of_one_method_differ_in_nothing_and_the_impostor_stays_the_base(whole, new_unit, tmp_path):
    twin = new_unit(tmp_path / "twin")
    lab, terms = Lab(twin, method), terms_of(twin.params)["rl_listen_speak"]
    for name in ("one", "two"):
        method.train(lab, method.Condition(name, terms))
    before = (twin.base / "model.safetensors").read_bytes()
    assert weights(twin, "one") == weights(twin, "two") == weights(whole[0], "rl_listen_speak") != before
    assert weights(twin, "one") != weights(whole[0], "rl_listen")


def test_games_are_kept_to_be_read(whole):
    for name in ("base", "rl", "rl_listen_speak_wm"):
        text = (whole[0].run.artifacts / f"dialogues.{name}.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert len(lines) == 9 * whole[0].params.test.tasks and {line["kind"] for line in lines} == {"say", "vote"}


# -- credit by hand ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> tuple[DeductionEnv, list[Game]]:
    """Two games of one world, the first won, with beliefs that are written down."""
    env, task, found = DeductionEnv(), build_panels(0)["test"][0], []
    for won, rise in ((True, 0.1), (False, 0.0)):
        env.reset(task)
        steps, impostor = [], env.snapshot().world.impostor
        for k in range(9):
            text = "nobody" if k < 5 else impostor if won else ""
            prompt = env.prompt()
            steps.append(Step(prompt, Turn(text, -1.0, 2, finished=k != 8), env.step(text)))
        table = torch.full((4, 6), 0.2, dtype=torch.float64)
        table[:, 1:] += rise  # the first message alone changes anything
        found.append(Game(env.snapshot(), Trajectory(task.id, tuple(steps)), table))
    return env, found


def only(**given: float) -> method.Terms:
    return method.Terms(**{"win": 0.0, "listening": 0.0, "speaking": 0.0, "world": 0.0, "beta": 0.0} | given)


def test_a_win_is_credited_to_all_turns_and_a_speaking_reward_to_its_message(pair):
    env, found = pair
    speaking = [k for k, who in enumerate(found[0].state.order) if who != found[0].state.world.impostor]
    for terms, message, first, vote in (
        (only(win=1.0, beta=0.3), 1.0, 1.0, 1.0),
        (only(speaking=2.0), 0.0, 0.2 if speaking[0] == 0 else 0.0, 0.0),
        (only(win=1.0, speaking=2.0), 1.0, 1.2 if speaking[0] == 0 else 1.0, 1.0),
    ):
        won, lost = method.lessons(env, found, terms, [1, 2])
        share = [a / 8 for a in (first, *[message] * 3, *[vote] * 4)]  # a mean over eight turns, the last of them cut
        assert [turn.advantage for turn in won] == pytest.approx(share[:-1])
        assert [turn.advantage for turn in lost] == pytest.approx([-a for a in share[:-1]])
        assert {turn.beta for turn in won} == {terms.beta / 8} and all(role_of(t.prompt) == CREW for t in won)


def test_the_listening_questions_have_the_true_answer_and_share_the_weight(pair):
    env, found = pair
    turns = method.listened(env, found[0], 3.0)
    assert [turn.prompt for turn in turns] == questions(env, found[0].state) and len(turns) == 4 * 6
    assert {turn.answer for turn in turns} == {found[0].state.world.impostor}
    assert {turn.advantage for turn in turns} == {3.0 / 24} and {turn.beta for turn in turns} == {0.0}


def test_the_world_model_foretells_what_another_says_next(pair):
    env, found = pair
    turns = method.foretold(env, found[0], 1.0, 7)
    assert sum(t.advantage for t in turns) == pytest.approx(1.0)
    for who, turn in zip(found[0].state.voters, turns, strict=True):
        text = turn.prompt[0]["content"]
        k = text.count(" . ") - 1
        speaker = found[0].state.order[k]
        assert text.startswith(f"crew {who.title()} ") and text.endswith(f" . {speaker.title()} hear") and speaker != who
        assert turn.answer == "nobody"


def test_an_update_s_loss_by_hand_and_as_the_common_loop_has_it(pair, world):
    """Σ −w log π + β KL of all turns; KL is 0 where policy and reference are one."""
    env, found = pair
    made = method.lessons(env, found, only(win=1.0, listening=3.0, world=1.0, beta=0.3), [1, 2])
    model, tokenizer = load_model(world / "base")
    engine = Engine(model, tokenizer)
    turns = [turn for one in made for turn in one]
    logps = [engine.score([turn.prompt], [[turn.answer]])[0][0] for turn in turns]
    by_hand = -sum(turn.advantage * logp for turn, logp in zip(turns, logps, strict=True))
    assert float(loss_of(model, model, tokenizer, tuple(turns)).detach()) == pytest.approx(by_hand, abs=1e-3)

    other, _ = load_model(world / "base")
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.05)
    settings = PolicyGradientSettings(lr=1e-3, updates=1, max_length=144)
    done = policy_gradient_step(model, other, tokenizer, made, adam(model, settings), settings, 1, out_dir=world / "x")
    mine, _ = load_model(world / "base")
    crew = Engine(mine, tokenizer)
    seen = step(crew, other, made, torch.optim.Adam(mine.parameters(), lr=1.0), 1e-3)
    assert seen["loss"] == pytest.approx(done.metrics["loss"], rel=1e-4)
    assert seen["grad_norm"] == pytest.approx(done.metrics["grad_norm"], rel=1e-3)
    for one, two in zip(mine.parameters(), model.parameters(), strict=True):
        assert torch.allclose(one, two, atol=3e-4)


def test_games_without_a_finished_turn_move_nothing(world):
    model, tokenizer = load_model(world / "base")
    before = [weight.clone() for weight in model.parameters()]
    seen = step(Engine(model, tokenizer), model, [(), ()], torch.optim.Adam(model.parameters()), 1e-3)
    assert (seen["loss"], seen["grad_norm"]) == (0.0, 0.0)
    assert all(torch.equal(one, two) for one, two in zip(before, model.parameters(), strict=True))


def test_the_rate_rises_then_falls():
    rates = [rate_at(k, 20, 2.0) for k in range(1, 21)]
    assert rates[:3] == pytest.approx([0.4, 0.8, 1.2]) and max(rates) <= 2.0
    assert rates[10:] == pytest.approx([2 * k / 20 for k in range(10, 0, -1)])


def test_a_loss_that_is_no_number_stops_the_unit(pair, world):
    env, found = pair
    made = method.lessons(env, found, only(win=math.nan), [1, 2])
    model, tokenizer = load_model(world / "base")
    with pytest.raises(FloatingPointError, match="must be finite"):
        step(Engine(model, tokenizer), model, made, torch.optim.Adam(model.parameters()), 1e-3)


def test_each_variant_has_the_terms_of_its_name(whole):
    p = whole[0].params
    terms = {name: (t.win > 0, t.listening > 0, t.speaking > 0, t.world > 0, t.beta) for name, t in terms_of(p).items()}
    b = p.rl.beta
    assert terms == {
        "rl": (True, False, False, False, b), "listen": (False, True, False, False, b),
        "rl_listen": (True, True, False, False, b), "rl_listen_speak": (True, True, True, False, b),
        "rl_listen_speak_wm": (True, True, True, True, b),
    }  # fmt: skip


# -- does it learn? -----------------------------------------------------------------------------------------------


def evaluated(lab: Lab, trained: Trained = BASE) -> list[Game]:
    """Games of a crew on the test panel."""
    crew = lab.engine(trained)
    tasks, episodes = lab.sample(method.players(crew, lab.engine()), lab.panels["test"], "evaluate", group=4)
    return games(lab.env, tasks, episodes, crew)


def trained(unit, name: str, terms: method.Terms | None = None) -> list[Game]:
    """Games of the crew that a variant's training made."""
    lab = Lab(unit, method)
    return evaluated(lab, method.train(lab, method.Condition(name, terms or terms_of(unit.params)[name])))


def belief(found: list[Game]) -> float:
    return fmean(float(game.beliefs[:, -1].mean()) for game in found)


TOY = {"rl__updates": 24, "rl__games": 24, "rl__lr": 4e-3, "test__tasks": 60}


@pytest.fixture(scope="module")
def toy_unit(new_unit, tmp_path_factory):
    return new_unit(tmp_path_factory.mktemp("toy") / "lab", **TOY)


def test_listening_learns_what_reinforcement_learning_does_not_in_as_many_games(toy_unit):
    """Within two dozen updates: the impostor is one of the two whom one saw."""
    base = belief(evaluated(Lab(toy_unit, method)))
    listens, plain = belief(trained(toy_unit, "listen")), belief(trained(toy_unit, "rl"))
    assert base == pytest.approx(0.2, abs=0.06)
    assert listens > max(base, plain) + 0.04


def test_answers_of_other_games_teach_nothing(toy_unit, monkeypatch):
    """The same questions with somebody else's name, drawn at random for each game."""
    plain = method.listened

    def shuffled(env, game, weight):  # noqa: ANN001, ANN202
        wrong = COLOURS[derive("shuffled", *game.state.said, game.state.order) % len(COLOURS)]
        return [turn._replace(answer=wrong) for turn in plain(env, game, weight)]

    base = belief(evaluated(Lab(toy_unit, method)))
    monkeypatch.setattr(method, "listened", shuffled)
    assert belief(trained(toy_unit, "shuffled", terms_of(toy_unit.params)["listen"])) < base + 0.04


def test_paid_by_ideal_listeners_messages_become_true(toy_unit, monkeypatch):
    """The speaking reward alone, with beliefs as they should be in place of the policy's own."""

    def with_ideal_beliefs(env, tasks, episodes, engine):  # noqa: ANN001, ANN202
        found = []
        for game in games(env, tasks, episodes, engine):
            world = game.state.world
            table = [[ideal(who, seen(world, who), game.heard[:k])[world.impostor] for k in range(6)]
                     for who in game.state.voters]  # fmt: skip
            found.append(game._replace(beliefs=torch.tensor(table, dtype=torch.float64)))
        return found

    before = spoken(evaluated(Lab(toy_unit, method)))
    monkeypatch.setattr(method, "games", with_ideal_beliefs)
    after = spoken(trained(toy_unit, "paid", only(speaking=8.0, beta=0.05)))
    assert after["gain"] > before["gain"] + 0.015 and after["truthful"] > before["truthful"] + 0.1
    assert after["grammatical"] > 0.8
