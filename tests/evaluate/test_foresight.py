"""Foresight in numbers, by hand: agreement of words, errors that compound with depth, early ends."""

from __future__ import annotations

import pytest

from common.evaluate.foresight import Forecast, fidelity, forecasts, imagine, token_accuracy
from common.search.transitions import OVER, Transition, Tried
from common.types import Turn


def start(text: str):
    return ({"role": "user", "content": text},)


class Rule:
    """Imagines by a table: (state, action) → next state."""

    def __init__(self, table: dict, cut: str = "") -> None:
        self.table, self.cut, self.seen = table, cut, []

    def propose(self, prompts, keys, n):
        proposals = []
        for prompt in prompts:
            self.seen.append(prompt[0]["content"])
            text = self.table[prompt[0]["content"], prompt[1]["content"]]
            proposals.append([Turn(text, 0.0, 1, finished=text != self.cut)])
        return proposals


def follow(prompt: str, action: str, page: str) -> str:
    return page


def test_forecasts_start_at_every_state_and_end_with_the_episode():
    played = [Transition("t", start(str(i)), Tried(f"a{i}", f"s{i}")) for i in range(3)]
    found = forecasts(played, depth=2)
    assert [[tried.action for tried in one.real] for one in found] == [["a0", "a1"], ["a1", "a2"], ["a2"]]
    assert [one.prompt for one in found] == [start("0"), start("1"), start("2")]


def test_words_that_agree():
    assert token_accuracy("a b c", "a b c") == 1.0
    assert token_accuracy("a x c", "a b c") == pytest.approx(2 * 2 / 6)
    assert token_accuracy("a b", "a b c d") == pytest.approx(2 * 2 / 6)
    assert token_accuracy("", "a") == 0.0 and token_accuracy("b a", "a b") == 0.5


def test_an_error_at_the_first_depth_is_carried_to_the_second():
    right = Forecast("t", start("s"), (Tried("go", "p q"), Tried("on", "r s")))
    wrong = Forecast("t", start("z"), (Tried("go", "p q"), Tried("on", "r s")))
    rule = Rule({("s", "go"): "p q", ("p q", "on"): "r s", ("z", "go"): "p x", ("p x", "on"): "x y"})
    imagine([right, wrong], rule, follow, seed=0)
    assert rule.seen == ["s", "z", "p q", "p x"]
    assert fidelity([right, wrong]) == {
        "exact@1": 0.5, "tokens@1": pytest.approx((1 + 2 * 1 / 4) / 2), "end@1": 1.0,
        "exact@2": 0.5, "tokens@2": 0.5, "end@2": 1.0,
    }  # fmt: skip


def test_who_imagines_the_end_too_early_scores_nothing_beyond():
    one = Forecast("t", start("s"), (Tried("go", "p"), Tried("on", "q"), Tried("buy", OVER)))
    imagine([one], Rule({("s", "go"): OVER}), follow, seed=0)
    assert one.imagined == [OVER]
    found = fidelity([one])
    assert (found["end@1"], found["end@2"], found["end@3"]) == (0.0, 1.0, 0.0)
    assert found["exact@1"] == found["tokens@2"] == found["exact@3"] == 0.0


def test_a_cut_imagination_is_not_continued():
    one = Forecast("t", start("s"), (Tried("go", "p"), Tried("on", "q")))
    imagine([one], Rule({("s", "go"): "babble"}, cut="babble"), follow, seed=0)
    assert one.imagined == ["babble"]


def test_forecasts_of_different_lengths_count_where_they_go():
    short, long = Forecast("t", start("s"), (Tried("a", OVER),)), Forecast("t", start("s"), (Tried("b", "p"), Tried("a", OVER)))
    imagine([short, long], Rule({("s", "a"): OVER, ("s", "b"): "p", ("p", "a"): OVER}), follow, seed=0)
    assert set(fidelity([short, long]).values()) == {1.0} and fidelity([]) == {}
    assert long.record() == {"task": "t", "prompt": "s", "imagined": ["p", OVER], "actions": ["b", "a"],
                             "real": ["p", OVER]}  # fmt: skip
