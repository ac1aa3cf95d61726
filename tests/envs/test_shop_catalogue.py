"""The generated shop: determinism, splits, difficulty, and players of known score."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest
from rapidfuzz import fuzz

from common.envs.contract import check_env
from common.envs.shop import lexicon
from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.shop.engine import ShopEnv
from common.envs.shop.products import Goal, words
from common.rng import generator


@pytest.fixture(scope="module")
def shop():
    catalogue = build_catalogue(0)
    return catalogue, build_panels(catalogue, 0), ShopEnv(catalogue)


def run(env, task, act) -> tuple[float, int]:
    env.reset(task)
    for step in range(1, env.max_steps + 1):
        observation = env.step(act())
        if observation.done:
            return observation.reward, step
    raise AssertionError("the episode never ended")


def test_same_seed_same_shop_in_another_process(shop):
    catalogue, panels, _ = shop
    text = json.dumps([catalogue, [[task.id, task.data] for name in sorted(panels) for task in panels[name]]])
    code = (
        "import json;from common.envs.shop.catalogue import *;c=build_catalogue(0);p=build_panels(c,0);"
        "print(json.dumps([c,[[t.id,t.data] for n in sorted(p) for t in p[n]]]))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == text
    assert build_catalogue(1) != catalogue and build_panels(catalogue, 1)["test"] != panels["test"]


def test_size_and_vocabulary(shop):
    catalogue, panels, _ = shop
    tasks = [task for panel in panels.values() for task in panel]
    assert len(catalogue) >= 1000 and len(tasks) >= 1000
    assert len({row["query"] for row in catalogue}) == 40
    assert all(4 <= len(row["title"].split()) <= 7 for row in catalogue)
    assert all(len(row["options"]) <= 2 and all(2 <= len(v) <= 4 for v in row["options"].values()) for row in catalogue)
    assert len({row["id"] for row in catalogue}) == len(catalogue)
    vocabulary = {word for row in catalogue for word in words(str([row["title"], row["attributes"], row["options"]]))}
    vocabulary |= {word for task in tasks for word in words(str([task.data["instruction"], task.data["queries"]]))}
    assert len(vocabulary) <= 500
    assert all(len(task.data["queries"]) <= 8 for task in tasks)


def test_split_by_goal_and_by_product(shop):
    _, panels, _ = shop
    ids = {name: {task.id for task in panel} for name, panel in panels.items()}
    products = {name: {task.data["product"] for task in panel} for name, panel in panels.items()}
    names = sorted(ids)
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            assert not ids[one] & ids[other]
    shared = products["train"] | products["validation"] | products["test"]
    assert not products["test_products"] & shared
    assert products["train"] & products["test"]  # split by goal: products are shared, on purpose
    instructions = {task.data["instruction"] for task in panels["train"]}
    assert statistics.mean(task.data["instruction"] in instructions for task in panels["test"]) < 0.02


def test_no_two_words_of_the_lexicon_match_by_accident():
    """Otherwise an attribute or option would count although another one was chosen."""
    attributes = {*lexicon.SHARED_ATTRIBUTES, *(a for pool in lexicon.DEPARTMENT_ATTRIBUTES.values() for a in pool)}
    values = [value for pool in lexicon.GROUPS.values() for value in pool]
    assert len(set(values)) == len(values)
    everything = sorted(attributes | set(values))
    close = [(a, b) for a in everything for b in everything if a < b and fuzz.token_set_ratio(a, b) > 85]
    assert close == []
    brands = [b for aisles in lexicon.DEPARTMENTS.values() for aisle in aisles for b in aisle.brands]
    kinds = [kind for aisles in lexicon.DEPARTMENTS.values() for aisle in aisles for kind in aisle.kinds]
    titles = [kind.title for kind in kinds]
    assert len(set(brands)) == len(brands) and len(set(titles)) == len(titles)
    type_words = {word for kind in kinds for text in (kind.title, kind.synonym) for word in words(text)}
    assert not (set(brands) | attributes | set(values)) & type_words


def test_search_is_as_hard_as_reported_for_the_real_shop(shop):
    _, panels, env = shop
    index = {product.id: k for k, product in enumerate(env.products)}
    ranks = []
    for task in (task for panel in panels.values() for task in panel):
        found = env.search(task.data["instruction"])
        target = index[task.data["product"]]
        ranks.append(found.index(target) if target in found else 50)
    assert statistics.mean(rank < 10 for rank in ranks) == pytest.approx(0.54, abs=0.05)
    assert statistics.mean(rank < 50 for rank in ranks) == pytest.approx(0.89, abs=0.03)


def test_oracle_solves_every_goal_and_earns_its_value(shop):
    _, panels, env = shop
    for task in panels["test"][:100] + panels["test_products"][:50]:
        env.reset(task)
        value = env.value(env.snapshot())
        reward, steps = run(env, task, env.oracle)
        assert reward == 1.0 and value == pytest.approx(env.gamma ** (steps - 1))


def test_lazy_earns_what_its_first_hit_is_worth(shop):
    """Known score: the first hit of the goal text, bought without options."""
    _, panels, env = shop
    earned, expected = [], []
    for task in panels["test"]:
        goal = Goal.from_task(task)
        first = env.search(task.data["instruction"])[0]
        bare = (-1,) * len(env.products[first].options)
        expected.append(env.scorer.reward(goal, first, bare))
        reward, steps = run(env, task, env.lazy)
        earned.append(reward)
        assert steps == 3
    assert earned == expected
    assert 0.35 < statistics.mean(earned) < 0.6 and statistics.mean(r == 1.0 for r in earned) < 0.05


def test_demonstrator_nearly_always_succeeds_errs_and_is_reproducible(shop):
    _, panels, env = shop
    errors = invalid = 0

    def episode(task):
        rng = generator("expert", task.id)

        def act():
            nonlocal errors, invalid
            state = env.snapshot()
            meant, taken = env.expert(rng)
            if state.recent:  # the first query is the goal's words, not the oracle's choice
                assert env.q(state, meant) == pytest.approx(env.value(state))
            errors, invalid = errors + (meant != taken), invalid + (not env.after(state, taken).valid)
            return taken

        return run(env, task, act)

    played = [episode(task) for task in panels["train"][:200]]
    assert 0.9 <= statistics.mean(score == 1.0 for score, _ in played)
    shortest = []
    for task in panels["train"][:200]:
        shortest.append(run(env, task, env.oracle)[1])
    assert 0.3 < statistics.mean(steps for _, steps in played) - statistics.mean(shortest) < 4  # errors cost steps
    assert errors > invalid > 20  # some lead to options that are not offered
    assert played[-20:] == [episode(task) for task in panels["train"][180:200]]


def test_numbered_pages_play_the_same_game_with_shorter_prompts(shop):
    rows, panels, env = shop
    short = ShopEnv(rows, page_size=5, numbered=True)
    check_env(short, panels["test"][:15])
    for task in panels["test"][:15]:
        env.reset(task), short.reset(task)
        query = env.listed(env.snapshot())[1]
        env.step(query), short.step(query)
        shown = short.shown(short.snapshot())
        assert shown == env.shown(env.snapshot())[:5]
        assert short.actions()[: len(shown)] == [f"click[{k + 1}]" for k in range(len(shown))]
        assert len(short.prompt()[0]["content"]) < len(env.prompt()[0]["content"])
        last = len(shown)
        short.step(f"click[{last}]"), env.step(f"click[{env.products[shown[-1]].id}]")
        assert short.snapshot().item == env.snapshot().item == shown[-1]


def test_prompts_are_short(shop):
    _, panels, env = shop
    sizes: dict[str, list[int]] = {}
    for task in panels["validation"][:60]:
        env.reset(task)
        rng = generator("sizes", task.id)
        while env.actions():
            content = env.prompt()[0]["content"]
            sizes.setdefault(env.snapshot().page, []).append(len(content.split()))
            env.step(env.expert(rng)[1])
    assert statistics.mean(sizes["results"]) <= 110 and statistics.mean(sizes["item"]) <= 70
