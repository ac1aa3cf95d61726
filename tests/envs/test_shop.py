"""The shop's engine and scoring: contract, hand-computed rewards, pages, malformed actions."""

from __future__ import annotations

import dataclasses

import pytest

from common.envs.contract import check_env
from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.shop.engine import INVALID, ShopEnv
from common.envs.shop.nouns import title_nouns
from common.envs.shop.products import NO_LIMIT, Goal, Product, price_limit
from common.envs.shop.scoring import normalise_color, option_matches, type_factor
from common.rng import generator
from common.types import Task


def row(id_: str, title: str, kind: str, price: float, attributes: list[str], options: dict, nouns: list[str]) -> dict:
    category = ["home", "table" if kind in ("mug", "bowl") else "garden", kind]
    return {"id": id_, "title": title, "indexed": title, "category": category, "query": kind, "price": price,
            "attributes": attributes, "options": options, "nouns": nouns}  # fmt: skip


TINY = [
    row("a1a", "acme quiet mug", "mug", 12, ["quiet", "round"], {"color": ["red", "blue"], "size": ["mini", "giant"]},
        ["acme", "mug"]),
    row("b2b", "zeta round mug", "mug", 30, ["round"], {"color": ["dark red", "green"]}, ["zeta", "mug"]),
    row("c3c", "acme quiet bowl", "bowl", 9, ["quiet", "round"], {}, ["acme", "bowl"]),
    row("d4d", "zeta quiet shovel", "shovel", 9, ["quiet"], {}, ["zeta", "shovel"]),
]  # fmt: skip
DATA = {
    "instruction": "find me quiet round mug with color: red, and size: giant, and price lower than 20 dollars",
    "product": "a1a",
    "wordings": ["mug", "cup"],
    "attributes": ["quiet", "round"],
    "options": {"color": "red", "size": "giant"},
    "price_limit": 20.0,
    "queries": ["quiet round mug", "mug", "acme", "nothing like it"],
}
TASK = Task("tiny/0", "shop-v1", "test", DATA)


@pytest.fixture(scope="module")
def shop():
    catalogue = build_catalogue(0)
    return catalogue, build_panels(catalogue, 0), ShopEnv(catalogue)


def play(env: ShopEnv, *actions: str):
    env.reset(TASK)
    return [env.step(action) for action in actions][-1]


@pytest.mark.parametrize(
    ("clicks", "reward"),
    [
        # (2 attributes + 2 options + price) of (2 + 2 + 1)
        (["click[a1a]", "click[red]", "click[giant]"], 1.0),
        (["click[a1a]", "click[red]"], 4 / 5),
        (["click[a1a]", "click[blue]", "click[mini]"], 3 / 5),
        (["click[a1a]", "click[blue]", "click[red]", "click[giant]"], 1.0),
        (["click[a1a]"], 3 / 5),
        # one attribute, "dark red" becomes "red", too dear: 2 of 5
        (["click[b2b]", "click[dark red]"], 2 / 5),
        (["click[b2b]", "click[green]"], 1 / 5),
        # another type of the same aisle that shares the noun "acme": half the nouns, so type factor 1
        (["click[c3c]"], 3 / 5),
        # no shared noun with "acme quiet mug"
        (["click[d4d]"], 0.0),
    ],
)
def test_rewards_by_hand(clicks, reward):
    observation = play(ShopEnv(TINY), "search[quiet round mug zeta acme]", *clicks, "click[buy now]")
    assert observation.terminated and not observation.truncated
    assert observation.reward == pytest.approx(reward, abs=1e-12)


def test_type_factor_steps():
    wanted = Product.from_json(TINY[0])
    strange = dataclasses.replace(wanted, query="other", category=("toys", "x", "y"))
    ten = dataclasses.replace(wanted, nouns=frozenset(f"n{k}" for k in range(20)))
    assert type_factor(wanted, wanted) == 1.0
    assert type_factor(strange, wanted) == 1.0  # all nouns shared
    few = dataclasses.replace(strange, nouns=frozenset(["n0", "n1", "n2"]))  # 3 / 20 = 0.15
    assert type_factor(few, ten) == 0.5
    assert type_factor(dataclasses.replace(few, query="mug"), ten) == 1.0  # same seed query
    assert type_factor(dataclasses.replace(few, category=wanted.category), ten) == 1.0
    one = dataclasses.replace(wanted, nouns=frozenset(["n0"]))  # 0.05, the same query does not help
    assert type_factor(one, ten) == 0.1
    assert type_factor(dataclasses.replace(wanted, nouns=frozenset(["z"])), ten) == 0.0
    bare = dataclasses.replace(wanted, nouns=frozenset())
    assert type_factor(strange, bare) == 0.5 and type_factor(wanted, bare) == 1.0  # share taken as 0.2


def test_colours_and_whole_option_values():
    assert normalise_color("a1-dusty blue") == "blue" and normalise_color("giant") == "giant"
    assert option_matches("wine red", "red") and option_matches("X-Large", "x-large")
    assert not option_matches("red", "blue") and not option_matches("large", "giant")


def test_price_limit_is_the_larger_of_two_of_the_next_four():
    seen = {price_limit(15.0, *generator("t", k).random(2)) for k in range(200)}
    assert seen == {30.0, 40.0, 50.0}  # ladder 20, 30, 40, 50: the larger of two distinct ones
    assert price_limit(985.0, 0.1, 0.9) == NO_LIMIT  # one ladder price left
    assert price_limit(975.0, 0.9, 0.9) == 990.0  # 980 and 990 left
    assert price_limit(20.0, 0.0, 0.0) == 40.0  # above the price, so 30 and 40 are drawn


def test_kept_and_choices():
    env = ShopEnv(TINY)
    env.reset(TASK)
    assert env.actions() == [f"search[{query}]" for query in DATA["queries"]]
    page = env.step("search[quiet round mug]").text
    assert "a1a acme quiet mug $12" in page.splitlines() and page.splitlines()[-1] == "[back to search]"
    item = env.step("click[a1a]").text
    assert "about: quiet, round" in item and "color: red, blue" in item and "chosen: none" in item
    assert env.actions() == [
        "click[red]", "click[blue]", "click[mini]", "click[giant]",
        "click[buy now]", "click[< prev]", "click[back to search]",
    ]  # fmt: skip
    assert "chosen: blue" in env.step("click[Blue]").text
    assert "chosen: red" in env.step("click[red]").text
    assert "a1a acme quiet mug $12 seen" in env.step("click[< prev]").text
    assert "chosen: none" in env.step("click[a1a]").text  # leaving forgets the choices
    content = env.prompt()[0]["content"]
    assert content.startswith(f"goal: {DATA['instruction']}\ndid: click[red], click[< prev], click[a1a]\n")


def test_no_results_page():
    env = ShopEnv(TINY)
    assert play(env, "search[nothing like it]").text.startswith("no results")
    assert env.actions() == ["click[back to search]"]


@pytest.mark.parametrize(
    "action",
    ["", "buy", "click[", "click[]", "click[zzz]", "click[buy now]", "search[]", "search[ ]", "search", "click[< prev]",
     "search[x", "click[next >]", "CLICK[a1a]", "\x00", "search[" + "[" * 3],
)  # fmt: skip
def test_malformed_actions_cost_a_step_and_never_raise(action):
    env = ShopEnv(TINY)
    env.reset(TASK)
    observation = env.step(action)
    assert observation.text.startswith(INVALID) and not observation.done and observation.reward == 0.0
    assert env.snapshot().steps == 1 and env.snapshot().page == "search"
    assert env.actions()[0] == "search[quiet round mug]" and INVALID in env.prompt()[0]["content"]


def test_model_text_never_reaches_the_prompt_at_length():
    env = ShopEnv(TINY)
    play(env, "search[" + "mug " * 500 + "]")
    assert len(env.prompt()[0]["content"].split()) < 80


def test_truncation_is_not_termination():
    env = ShopEnv(TINY, max_steps=3)
    last = play(env, "search[mug]", "click[a1a]", "click[red]")
    assert last.truncated and not last.terminated and last.reward == 0.0 and env.actions() == []
    with pytest.raises(RuntimeError, match="over"):
        env.step("click[buy now]")
    bought = play(env, "search[mug]", "click[a1a]", "click[buy now]")
    assert bought.terminated and not bought.truncated and bought.reward == pytest.approx(3 / 5)


def test_contract(shop):
    _, panels, env = shop
    check_env(env, panels["test"][:25] + panels["test_products"][:25] + [panels["train"][0]])
    check_env(ShopEnv(TINY), [TASK])
    check_env(ShopEnv(TINY, detail_pages=True, page_words=3), [TASK])


def test_snapshots_move_between_tasks(shop):
    _, panels, env = shop
    env.reset(panels["test"][0])
    env.step(env.actions()[0])
    kept, prompt = env.snapshot(), env.prompt()
    env.reset(panels["test"][1])
    env.step("search[sofa]")
    env.restore(kept)
    assert env.prompt() == prompt and env.snapshot() == kept


def test_detail_pages():
    rows = [{**TINY[0], "features": ["keeps warm", "no lid"], "description": "one two three four five"}]
    env = ShopEnv(rows, detail_pages=True, page_words=3)
    item = play(env, "search[mug]", "click[a1a]").text
    assert "about" not in item and "[features] [description] [buy now]" in item
    assert env.step("click[description]").text == "description: one two three ...\n[< prev]"
    assert env.actions() == ["click[< prev]"]
    assert env.step("click[< prev]").text == item


def test_clear_errors():
    with pytest.raises(ValueError, match="catalogue is empty"):
        ShopEnv([])
    with pytest.raises(ValueError, match="repeat"):
        ShopEnv([TINY[0], TINY[0]])
    with pytest.raises(ValueError, match="nouns"):
        ShopEnv([{key: value for key, value in TINY[0].items() if key != "nouns"}])
    with pytest.raises(ValueError, match="'zzz'"):
        ShopEnv(TINY).reset(Task("t", "shop-v1", "test", {**DATA, "product": "zzz"}))
    with pytest.raises(ValueError, match="queries"):
        Goal.from_task(Task("t", "shop-v1", "test", {k: v for k, v in DATA.items() if k != "queries"}))
    with pytest.raises(RuntimeError, match="reset"):
        ShopEnv(TINY).actions()


def test_gold_purchase_scores_exactly_one_for_every_goal(shop):
    _, panels, env = shop
    index = {product.id: k for k, product in enumerate(env.products)}
    n = 0
    for task in (task for panel in panels.values() for task in panel):
        goal = Goal.from_task(task)
        options = dict(goal.options)
        item = index[goal.product]
        chosen = tuple(values.index(options[name]) for name, values in env.products[item].options)
        assert env.scorer.reward(goal, item, chosen) == 1.0, task.id
        n += 1
    assert n >= 1000


def test_search_is_deterministic_and_ties_go_to_the_lower_index():
    rows = [{**TINY[0], "id": f"x{k}x"} for k in range(8)] + TINY[1:]
    assert ShopEnv(rows).search("quiet mug")[:8] == tuple(range(8))
    assert ShopEnv(rows).search("quiet mug") == ShopEnv(rows).search("quiet mug")


def test_nouns_of_a_title():
    assert title_nouns("Acme Sofa with 2 soft Women's Pillows for the Home 30 oz") == frozenset(
        ["acme", "sofa", "women", "pillows", "home"]
    )
