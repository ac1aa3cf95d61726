"""Credit by hand, and what is measured of a discussion against a game worked out by hand."""

from __future__ import annotations

import math
import re

import pytest
import torch

from common.envs.deduction.belief import ideal, win_probability
from common.envs.deduction.world import COLOURS, World, seen, to_data
from common.envs.versions.deduction_v1 import DeductionEnv, build_panels
from common.learn.policy_gradient import policy_gradient_loss
from common.lm.engine import Engine
from common.lm.models import new_nano
from common.lm.tokenizer import train_tokenizer
from common.rng import generator
from common.types import Message, Step, Task, Trajectory, Turn
from papers.social_deduction import maths
from papers.social_deduction.maths import (
    bounds, final_state, games, ideal_gain, listening_weights, questions, records, report, speaking_rewards, spoken,
    suspicions,
)  # fmt: skip

BELIEFS = torch.tensor([[0.2, 0.3, 0.6], [0.4, 0.1, 0.5], [0.1, 0.7, 0.7]], dtype=torch.float64)


def test_a_message_earns_the_mean_change_of_the_others():
    # message 1 by listener 0: listeners 1 and 2 change by −0.3 and +0.6; message 2 by nobody of them: +0.3, +0.4, 0
    assert speaking_rewards(BELIEFS, [0, None]).tolist() == pytest.approx([0.15, 0.7 / 3])
    assert speaking_rewards(BELIEFS, [2, 1]).tolist() == pytest.approx([-0.1, 0.15])


def test_the_speaker_s_own_belief_does_not_count():
    changed = BELIEFS.clone()
    changed[0, 1:] = 0.9
    assert speaking_rewards(changed, [0, 0]).tolist() == speaking_rewards(BELIEFS, [0, 0]).tolist()


def test_with_the_same_listeners_rewards_of_all_messages_add_up_to_what_was_learned():
    total = speaking_rewards(BELIEFS, [None, None]).sum()
    assert float(total) == pytest.approx(float((BELIEFS[:, -1] - BELIEFS[:, 0]).mean()))
    assert speaking_rewards(BELIEFS[:, :1], []).tolist() == []


def test_wrong_shapes_and_lonely_speakers_are_refused():
    with pytest.raises(ValueError, match="beliefs at 3 times beside 1 messages"):
        speaking_rewards(BELIEFS, [0])
    with pytest.raises(ValueError, match="message 0 has no listener"):
        speaking_rewards(BELIEFS[:1, :2], [0])


def test_the_listening_loss_is_the_mean_cross_entropy_times_its_weight():
    """Two questions answered rightly with probabilities 1/2 and 1/8 in one game: 3 · (log 2 + log 8) / 2."""
    logps = torch.tensor([0.5, 0.125]).log()
    weights = torch.tensor(listening_weights(3.0, 2))
    zero = torch.zeros(2)
    assert float(policy_gradient_loss(logps, weights, zero, zero, 1)) == pytest.approx(6 * 0.6931471805599453)


# -- a game by hand -------------------------------------------------------------------------------------------------

WORLD = World("white", ("red", "pink", "green", "blue"))  # blue saw red, green pink, pink green, red blue, and white
TASK = Task("t", "deduction-v1", "test", to_data(WORLD) | {
    "order": ["green", "white", "red", "pink", "blue"], "turns": 5})  # fmt: skip
SAID = ("pink", "blue", "nobody", "blue", "hmm")
VOTES = ("white", "white", "red", "white")


@pytest.fixture(scope="module")
def engine() -> Engine:
    """A policy that was never trained."""
    env, rng, texts = DeductionEnv(), generator("texts"), []
    for task in build_panels(0)["demos"][:40]:
        observation = env.reset(task)
        while not observation.done:
            action = env.expert(rng)[0]
            texts.append(f"{env.prompt()[0]['content']} {action}")
            observation = env.step(action)
    tokenizer = train_tokenizer(texts, 440, split_digits=False)
    return Engine(new_nano(tokenizer, width=32, layers=2, heads=2, context=144, seed=0).eval(), tokenizer)


def named(_engine: None, prompts: list[tuple[Message, ...]]) -> torch.Tensor:
    """Suspects whom a prompt names: the odds of a colour are one more than how often."""
    counts = torch.tensor([[1.0 + re.findall(r"[a-z]+", one[0]["content"].lower()).count(c) for c in COLOURS] for one in prompts])
    return (counts / counts.sum(1, keepdim=True)).double()


@pytest.fixture(autouse=True)
def by_names(monkeypatch):
    monkeypatch.setattr(maths, "suspicions", named)


def played(messages=SAID, votes=VOTES) -> Trajectory:  # noqa: ANN001
    env, steps = DeductionEnv(), []
    env.reset(TASK)
    for text in (*messages, *votes):
        prompt = env.prompt()
        steps.append(Step(prompt, Turn(text, -1.0, 2), env.step(text)))
    return Trajectory("t", tuple(steps))


@pytest.fixture
def game():
    [found] = games(DeductionEnv(), [TASK], [played()], None)
    return found


def test_beliefs_are_the_policy_s_answers_before_the_first_message_and_after_each(game):
    assert game.beliefs.shape == (4, 6) and game.speakers == [0, None, 1, 2, 3]
    env = DeductionEnv()
    asked = questions(env, final_state(env, TASK, played()))
    assert len(asked) == 24
    assert asked[0][0]["content"] == "crew Green saw:pink:white . vote"
    assert asked[7][0]["content"] == "crew Red saw:blue:white . Green:pink . vote"
    # red, before anything is said, reads red, blue and white once: their odds are 2 and those of the others 1
    assert float(game.beliefs[1, 0]) == pytest.approx(2 / 8)
    assert float(game.beliefs[1, 2]) == pytest.approx(3 / 12)  # two messages named green, pink, white and blue
    flat = [float(named(None, [one])[0, COLOURS.index("white")]) for one in asked]
    assert game.beliefs.flatten().tolist() == pytest.approx(flat)


def test_a_policy_s_belief_is_its_share_of_votes_for_each_colour(engine, monkeypatch):
    env = DeductionEnv()
    asked = questions(env, final_state(env, TASK, played()))
    found = suspicions(engine, asked)
    assert found.sum(1).tolist() == pytest.approx([1.0] * 24)
    for prompt, belief in zip(asked[::5], found[::5], strict=True):
        with torch.no_grad():
            logits = engine.model(torch.tensor([engine.prompt_ids(prompt)])).logits[0, -1].double()
        scores = torch.stack([logits[engine.action_ids(colour)[0]] for colour in COLOURS])
        assert belief.tolist() == pytest.approx(torch.softmax(scores, 0).tolist(), abs=1e-5)
    monkeypatch.setattr(maths, "ROWS", 7)
    assert torch.allclose(suspicions(engine, asked), found, atol=1e-5)


def test_votes_of_more_than_a_token_are_refused():
    tokenizer = train_tokenizer(["blue"] * 9, 300, split_digits=False)
    model = new_nano(tokenizer, width=32, layers=1, heads=2, context=64, seed=0)
    with pytest.raises(ValueError, match="must be one each"):
        suspicions(Engine(model, tokenizer), [({"role": "user", "content": "x"},)])


def test_the_report_by_hand(game):
    found = report([game])
    assert (found["success"], found["vote_acc"]) == (1.0, 0.75)
    assert found["belief@0"] == pytest.approx(float(game.beliefs[:, 0].mean()))
    # of four crew messages: one true report, one false, one "nobody"; "hmm" is outside the grammar
    assert (found["truthful"], found["grammatical"]) == (0.25, 0.75)
    assert found["form_entropy"] == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))
    assert found["gain"] == pytest.approx(sum(ideal_gain(game, k) for k in (0, 2, 3, 4)) / 4)
    assert 0 <= found["ideal_success"] <= 1 and found["belief@5"] == pytest.approx(float(game.beliefs[:, 5].mean()))


def test_the_gain_of_a_message_is_that_of_the_others(game):
    before = [ideal(who, seen(WORLD, who))["white"] for who in ("blue", "pink", "red")]
    heard = game.heard[:1]
    after = [ideal(who, seen(WORLD, who), heard)["white"] for who in ("blue", "pink", "red")]
    assert before == pytest.approx([1 / 2] * 3)
    # "pink" by green tells blue, who suspects red or white, nothing, and makes red, who suspects blue or white,
    # no wiser; pink suspects green or white: an impostor green would say it by chance, 1/5, a witness in one of six reports
    own = 0.1 / 5 + 0.9 / 6
    assert after == pytest.approx([1 / 2, own / (own + 1 / 5), 1 / 2])
    assert ideal_gain(game, 0) == pytest.approx((after[1] - 1 / 2) / 3) and ideal_gain(game, 4) == 0.0


def test_messages_of_the_impostor_are_not_the_crew_s(game):
    [other] = games(DeductionEnv(), [TASK], [played(("pink", "?", *SAID[2:]))], None)
    same = ("truthful", "grammatical", "form_entropy")
    assert {k: spoken([other])[k] for k in same} == {k: spoken([game])[k] for k in same}


def test_bounds_bracket_what_ideal_listeners_can_win():
    found = bounds([final_state(DeductionEnv(), TASK, played())])
    assert found["silent"] == pytest.approx(win_probability([{"white": 0.5, c: 0.5} for c in WORLD.passers], "white"))
    assert found["honest"] > found["silent"]
    assert bounds([final_state(DeductionEnv(), TASK, played())]) == found


def test_records_tell_who_said_what_and_what_it_changed(game):
    rows = records([game])
    assert [row["who"] for row in rows] == ["green", "white", "red", "pink", "blue", "green", "red", "pink", "blue"]
    assert [row["right"] for row in rows] == [True, False, False, False, False, True, True, False, True]
    assert [row["role"] for row in rows[:3]] == ["crew", "impostor", "crew"] and rows[5]["kind"] == "vote"
    assert rows[0]["before"] == game.beliefs[:, 0].tolist() and rows[0]["after"] == game.beliefs[:, 1].tolist()
    assert rows[8]["before"] == rows[8]["after"] == game.beliefs[:, 5].tolist()
    assert {row["impostor"] for row in rows} == {"white"}
    assert torch.tensor(rows[0]["after"]).shape == (4,)
