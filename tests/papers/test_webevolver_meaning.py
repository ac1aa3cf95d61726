"""Foresight of meanings, by hand."""

from __future__ import annotations

from common.evaluate.imagination import Walk
from common.evaluate.meaning import meanings
from common.search.experience import Tried


def walk(real: list[str], imagined: list[str]) -> Walk:
    return Walk("t", ({"role": "user", "content": "even or odd"},), tuple(Tried("x", text) for text in real), imagined)


def test_meanings_are_compared_depth_by_depth():
    def parity(prompt: str, state: str) -> str:
        assert prompt == "even or odd"
        return ("even", "odd")[int(state) % 2]

    walks = [walk(["1", "2", "3"], ["5", "3"]), walk(["1"], ["2"])]
    assert meanings(walks, parity) == {"meaning@1": 0.5, "meaning@2": 0.0, "meaning@3": 0.0}
    assert meanings([walk(["1", "2"], ["3", "4"])], parity) == {"meaning@1": 1.0, "meaning@2": 1.0}
    assert meanings([], parity) == {}
