"""States as text, and the question about the next one."""

from __future__ import annotations

from common.search.transitions import OVER, QUESTION, asked, shown
from common.types import Observation


def test_reward_is_no_part_of_what_is_kept():
    assert shown(Observation("bought r9h", 1.0, terminated=True)) == shown(Observation("x", truncated=True)) == OVER
    assert shown(Observation("a page")) == "a page"


def test_the_question_about_the_next_state():
    prompt = ({"role": "user", "content": "page"},)
    assert asked(prompt, "go") == (
        *prompt, {"role": "assistant", "content": "go"}, {"role": "user", "content": QUESTION}
    )
