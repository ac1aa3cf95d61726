"""The shop with instructions for chat models: the same shop, other prompts, which keep to their version."""

from __future__ import annotations

import hashlib
import json

import pytest

from common.config import ConfigError
from common.envs.contract import check_env
from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.shop.engine import ShopEnv
from common.envs.shop.instruction import BEFORE, EXAMPLE, VERSION, instructed
from common.envs.versions.countdown_v1 import CountdownEnv
from common.types import Task


@pytest.fixture(scope="module")
def shop():
    catalogue = build_catalogue(0, 60)
    return ShopEnv(catalogue, page_size=5, numbered=True), build_panels(catalogue)["test"][:3]


def test_it_is_the_same_shop_behind_an_instruction(shop):
    env, tasks = shop
    check_env(instructed(env), tasks)
    env.reset(tasks[0])
    assert instructed(env).prompt() == (*BEFORE, *env.prompt()) and BEFORE[0]["role"] == "system"
    assert instructed(env).id == env.id and instructed(env).prompt()[-1]["content"].startswith("goal: ")


def test_the_example_is_what_the_engine_shows_of_a_shop_of_two_scarves():
    def scarf(maker: str, price: int) -> dict:
        title = f"{maker} warm woolen scarf"
        return {"id": maker, "title": title, "indexed": title, "category": ["clothing", "scarf"], "query": "scarf",
                "price": price, "attributes": ["warm", "woolen", "light"], "options": {"color": ["red", "white"]},
                "nouns": [maker, "scarf"]}  # fmt: skip

    env = ShopEnv([scarf("arlo", 25), scarf("brisa", 14)], page_size=5, numbered=True)
    goal = "warm woolen scarf with color: red, and price lower than 20 dollars"
    observation = env.reset(Task("t", "shop-v1", "test", {
        "instruction": goal, "product": "brisa", "wordings": ["scarf"], "attributes": ["warm", "woolen"],
        "options": {"color": "red"}, "price_limit": 20.0, "queries": [goal]}))  # fmt: skip
    for page, action in EXAMPLE:
        assert not observation.done and env.prompt()[-1]["content"] == page
        observation = env.step(action)
    assert observation.terminated and observation.reward == 1.0


def test_changed_words_are_a_new_version():
    """Whoever changes them counts VERSION up and writes the new hash here."""
    words = hashlib.sha256(json.dumps(BEFORE).encode()).hexdigest()[:16]
    assert {VERSION: words} == {"shop-instruction-1": "55d006b5b54141d4"}


def test_environments_without_an_instruction_are_refused():
    with pytest.raises(ConfigError, match="countdown-v1 has no instruction .* use shop-v1"):
        instructed(CountdownEnv())
