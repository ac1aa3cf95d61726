"""Reading shop pages: goals taken apart, what a page means for them, and prompts rebuilt from pages alone."""

from __future__ import annotations

import pytest

from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.shop.engine import ShopEnv
from common.envs.shop.reading import follow, goal_of, outcome, page_of, wanted
from common.rng import generator

GOAL = "portable safe stroller with color: white, and size: large, and price lower than 70 dollars"
ITEM = "nidoo portable stroller $33\nabout: colorful safe\ncolor: green white\nsize: large\nchosen: {}\nbuy now, < prev"


@pytest.fixture(scope="module")
def shop():
    catalogue = build_catalogue(0, 120)
    return ShopEnv(catalogue, page_size=5, numbered=True), build_panels(catalogue)["train"]


def test_a_goal_is_taken_apart():
    assert wanted(GOAL) == (["portable", "safe", "stroller"], ["white", "large"], 70.0)
    assert wanted("soft lamp") == (["soft", "lamp"], [], float("inf"))
    assert wanted("soft lamp, and price lower than 40 dollars") == (["soft", "lamp"], [], 40.0)
    assert goal_of(f"goal: {GOAL}\nsearch page") == GOAL
    assert page_of(f"goal: {GOAL}\nsearch page") == "search page"
    assert page_of("goal: x\ndid: back to search\nsearch page") == "search page"


@pytest.mark.parametrize(
    ("page", "means"),
    [
        ("invalid action\nsearch page", "invalid"),
        ("search page", "search"),
        ("over", "over"),
        ("page 1\n1 a b $3\nnext >, back to search", "list"),
        (ITEM.format("none"), "choose white"),
        (ITEM.format("white"), "choose large"),
        (ITEM.format("white, large"), "fits"),
        (ITEM.format("none").replace("safe", "soft"), "lacks safe"),
        (ITEM.format("none").replace("green white", "green"), "lacks white"),
        (ITEM.format("none").replace("$33", "$75"), "dear"),
    ],
)
def test_what_a_page_means(page, means):
    assert outcome(GOAL, page) == means


def test_goals_of_the_shop_are_read_as_they_were_written(shop):
    _, tasks = shop
    for task in tasks:
        attributes, options, limit = wanted(task.data["instruction"])
        assert " ".join(attributes) == " ".join([*task.data["attributes"], task.data["wordings"][0]])
        assert options == list(task.data["options"].values())
        assert limit == task.data["price_limit"] or task.data["price_limit"] > 1e5


def test_following_real_pages_gives_the_real_prompts(shop):
    env, tasks = shop
    for task in tasks[:20]:
        rng, seen = generator("follow", task.id), env.reset(task)
        while not seen.done:
            before = env.prompt()[-1]["content"]
            action = "click[nothing of the kind]" if rng.random() < 0.2 else env.expert(rng)[1]
            seen = env.step(action)
            if not seen.done:
                assert follow(before, action, seen.text) == env.prompt()[-1]["content"]


def test_the_demonstrated_purchase_fits_unless_the_type_is_a_synonym(shop):
    env, tasks = shop
    for task in tasks[:20]:
        rng, seen, page = generator("fits", task.id), env.reset(task), ""
        while not seen.done:
            page, seen = page_of(env.prompt()[-1]["content"]), env.step(env.expert(rng)[0])
        if seen.reward == 1.0:
            synonym = task.data["wordings"][0].split()
            assert outcome(task.data["instruction"], page) in ("fits", *(f"lacks {word}" for word in synonym))
