"""Deeds in the shop: what a prompt says was done, which actions mean the same for other goals, and what they get done."""

from __future__ import annotations

import pytest

from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.shop.deeds import called, deed, did, names, shared, start, state
from common.envs.shop.engine import ShopEnv


@pytest.mark.parametrize(
    ("action", "same", "done"),
    [
        ("search[soft sofa]", False, ""),
        ("click[3]", False, ""),
        ("click[red]", True, "red"),
        ("click[size 3]", True, "size 3"),
        ("click[buy now]", True, "buy now"),
        ("click[< prev]", True, ""),
        ("click[next >]", True, ""),
        ("click[back to search]", True, ""),
    ],
)
def test_deeds_and_what_other_goals_share(action, same, done):
    assert (shared(action), deed(action)) == (same, done)


def test_what_was_done_last_is_read_off_real_prompts():
    catalogue = build_catalogue(0, 120)
    env, task = ShopEnv(catalogue, page_size=5, numbered=True), build_panels(catalogue)["train"][0]
    env.reset(task)
    first = env.prompt()[-1]["content"]
    read = [did(first)]
    for action in (f"search[{task.data['queries'][0]}]", "click[1]", "click[nothing]", "click[< prev]"):
        env.step(action)
        read.append(did(env.prompt()[-1]["content"]))
        assert start(env.prompt()[-1]["content"]) == first
    assert read == ["", "search", "product", "invalid action", "< prev"]


def test_a_thing_has_the_names_that_goals_give_it():
    page = "vega soft sofa $19\nabout: soft warm\ncolor: red blue\nchosen: none\nbuy now, < prev, back to search"
    goals = {"soft throw couch": "click[buy now]", "warm day bed": "click[< prev]", "light bench": "click[buy now]", "slim soft sofa": "click[buy now]"}
    known = names((f"goal: {goal} with color: red\ndid: 2\n{page}", action) for goal, action in goals.items())
    assert called(page) == "sofa" and known == {"sofa": {"throw", "couch", "light", "bench"}}  # not bought; what it lacks is no name
    prompt = f"goal: soft throw couch with color: red\ndid: 2\n{page}"
    assert state(prompt, {}) == "lacks throw" and state(prompt, known) == "choose red"
    assert [state(f"goal: x\n{one}", known) for one in ("search page", "did: search\npage 1\n1 a $3\nback to search")] == ["search", "list"]
