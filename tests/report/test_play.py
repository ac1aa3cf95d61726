"""Asking a policy a task of one's own: what is shown, and what is refused with the next step."""

from __future__ import annotations

import pytest

from common.config import ConfigError
from common.report import play
from tests.papers.sums import ENV, build


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture
def shown(monkeypatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(play, "say", lambda *more: texts.extend(more))
    return texts


def test_each_different_answer_is_shown_with_how_often_and_whether_it_is_right(world, shown):
    play.ask(ENV, weights="base", samples=12, root=world, numbers=[9, 4], target=13)
    question, table, counted = shown
    lines = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    assert "9 4 target 13" in question and sum(int(times) for _, times, _ in lines) == 12
    right = sum(int(times) for _, times, reward in lines if reward.strip() == "1")
    assert counted == f"{right} of 12 right." and len({answer for answer, *_ in lines}) == len(lines)
    assert all((reward.strip() == "1") == (answer.strip() in ("`9 + 4`", "`(9 + 4)`", "`4 + 9`")) for answer, _, reward in lines)


def test_greedily_it_is_asked_once(world, shown):
    play.ask(ENV, weights="base", temperature=0.0, root=world, numbers=[9, 4], target=13)
    assert shown[-1] in ("1 of 1 right.", "0 of 1 right.")


@pytest.mark.parametrize(("env", "given", "words"), [
    ("countdown-answr-v1", {"numbers": [1, 2], "target": 3}, 'is no environment; did you mean "countdown-answer-v1"'),
    (ENV, {"numbers": [1, 2]}, r"a task of countdown-answer-v1 has numbers, target, and numbers was given; for example \{"),
    (ENV, {"numbers": [1, 2], "target": 3, "weights": "absent"}, "there is no model in absent; make data fetches base models"),
])  # fmt: skip
def test_what_cannot_be_asked_is_said(world, env, given, words):
    with pytest.raises(ConfigError, match=words):
        play.ask(env, root=world, **given)


# -- playing beside a policy -----------------------------------------------------------------------------------------------


def test_each_action_stands_beside_its_probability_and_exact_value(world):
    game = play.play(ENV, weights="base", root=world, numbers=[9, 4], target=13)
    actions, probabilities, values = zip(*game.table, strict=True)
    assert set(game.env.actions()) <= set(actions) and len(set(actions)) == len(actions)
    assert list(probabilities) == sorted(probabilities, reverse=True) and 0.5 < sum(probabilities) <= 1 + 1e-6
    assert values == tuple(game.env.q(game.env.snapshot(), action) for action in actions) and max(values) == game.env.value(game.env.snapshot())
    text = game._repr_markdown_()
    assert "9 4 target 13" in text and all(f"| {k} | `{action}` |" in text for k, action in enumerate(actions[:2], start=1))


def test_an_action_is_taken_by_number_or_text_until_the_episode_ends(world):
    first = play.play(ENV, weights="base", root=world)
    with pytest.raises(ConfigError, match="there is no action 99"):
        first.step(99)
    best = max(range(len(first.table)), key=lambda k: first.table[k][2])
    name = first.table[best][0]
    second = play.play(ENV, weights="base", root=world)
    for game, action in ((first, best + 1), (second, name)):
        while not game.seen.done:
            game.step(action)
            action = game.env.oracle() if not game.seen.done else ""
        assert game.played[0] == name and game.table == [] and f"reward {game.seen.reward:g}" in game._repr_markdown_()
