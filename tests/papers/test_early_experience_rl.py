"""Credit of whole episodes and budgets in steps, by hand."""

from __future__ import annotations

import pytest

from common.learn.episodes import episode_dialogues, within_budget
from common.types import Observation, Step, Trajectory, Turn


def episode(reward: float, *texts: str, cut: int | None = None) -> Trajectory:
    last = len(texts) - 1
    return Trajectory("t", tuple(
        Step(({"role": "user", "content": f"{text} {k}"},), Turn(text, -1.0, 1, finished=k != cut),
             Observation("", reward if k == last else 0.0, terminated=k == last))
        for k, text in enumerate(texts)
    ))  # fmt: skip


def test_every_finished_turn_has_its_episode_s_advantage():
    told = [episode(1.0, "a", "b"), episode(0.0, "c"), episode(0.5, "d", "e", cut=0), episode(0.5, "f")]
    found = episode_dialogues(told, group=2, beta=0.1)
    assert [[(turn.answer, turn.advantage, turn.beta) for turn in one] for one in found] == [
        [("a", 1.0, 0.1), ("b", 1.0, 0.1)], [("c", -1.0, 0.1)], [("e", 0.0, 0.1)], [("f", 0.0, 0.1)]
    ]
    with pytest.raises(ValueError, match="at least 2"):
        episode_dialogues(told, group=1, beta=0.1)


def test_a_budget_keeps_whole_groups_and_overshoots_by_less_than_one():
    told = [episode(0.0, *"abc") for _ in range(8)]
    assert [len(within_budget(told, group=2, env_steps=n)) for n in (1, 6, 7, 12, 24)] == [2, 2, 4, 4, 8]
