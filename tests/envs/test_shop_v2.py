"""shop-v2: shop-v1 as it was, what is disjoint from what, and a demonstrator who reads pages and forgets at the rates that are written."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from common.base import CRITIC_QUESTION, demonstrations
from common.envs import check_env
from common.envs.shop import shopper
from common.envs.shop.catalogue import build_catalogue
from common.envs.shop.engine import ShopEnv
from common.envs.shop.shopper import FORGETS_ON_LIST, FORGETS_ON_PRODUCT, SLIPS, decide, slipped, wish_of
from common.envs.versions import shop_v1
from common.envs.versions.shop_v2 import ENV_ID, MAX_STEPS, SIZES, build, shop, split
from common.lm.bases import settings_for
from common.lm.tokenizer import train_tokenizer
from common.rng import generator
from common.types import Task

V1_PANELS = {  # SHA-256 of the rows at commit f8a4c5d, before the catalogue's departments and goals a product were arguments
    "catalogue": "191e8b9f8fe830b5bd731a927cb93ee246a8d48290e7086f9b83c1091ccfebae",
    "demos": "f6c024f7d3b2f9dcd757101eb81add17c8b6892f889bfe1168485665ce9ed07a",
    "test": "3cd54c606b8671f7d73457161ac715784274afab755d9109fbc689ddd09c79b2",
    "test_products": "6e813a23b08c9ab3ab699f5f49dada5e427ea7986f2026fcd598b19cd079eba4",
    "train": "e3e4f65dbcbd6faf651c81a2fdf3f7472582dd3f302f78000380bb663c6e71a6",
    "validation": "8bb34b1c6e43ed89ca40542379c91a2305c9c0a703c1a60eef860010a91d8a89",
}
GOAL = "goal: soft round mug with color: red, and size: big, and price lower than 20 dollars"
LIST = "page 1\n1 acme round bowl $9\n2 zeta mug $12\n3 acme soft round mug $30\n4 zeta round mug $14 seen\n5 acme round mug $14"
ITEM = "acme round mug $14\nabout: soft round\ncolor: blue red\nsize: big tiny\nchosen: none"
LIST_BUTTONS, ITEM_BUTTONS = "next >, back to search", "buy now, < prev, back to search"


@pytest.fixture(scope="module")
def built():
    return build(0)


@pytest.fixture(scope="module")
def panels(built):
    return {name: [Task(**row) for row in rows] for name, rows in built.items() if name != "catalogue"}


@pytest.fixture(scope="module")
def env(built):
    return shop(built["catalogue"])


class Careful:
    """Draws of one who forgets nothing: 1 for a chance, 0 for a choice."""

    def random(self, size=None):
        return 1.0 if size is None else np.ones(size)

    def integers(self, _):
        return 0


def listed(text: str = LIST, *, goal: str = GOAL, buttons: str = LIST_BUTTONS) -> str:
    return f"{goal}\ndid: search\n{text}\n{buttons}"


def opened(text: str = ITEM, *, did: str = "5") -> str:
    return f"{GOAL}\ndid: {did}\n{text}\n{ITEM_BUTTONS}"


# -- shop-v1 and the panels --------------------------------------------------------------------------------


def test_shop_v1_is_what_it_was():
    rows = shop_v1.build(0)
    text = {name: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in panel) for name, panel in rows.items()}
    assert {name: hashlib.sha256(blob.encode()).hexdigest() for name, blob in text.items()} == V1_PANELS
    assert ShopEnv(rows["catalogue"][:5]).max_steps == 15


def test_sizes(built, panels):
    assert {name: len(tasks) for name, tasks in panels.items() if name != "demos"} == SIZES and 3700 <= len(panels["demos"]) <= 3900
    assert len(built["catalogue"]) == 1200 and len({row["category"][0] for row in built["catalogue"]}) == 5
    assert all((task.env, task.split) == (ENV_ID, name) for name, tasks in panels.items() for task in tasks)


def test_what_is_disjoint_from_what(panels):
    """Goals and their sentences everywhere; products of test and validation; products of test_products and all others."""
    everything = [task for tasks in panels.values() for task in tasks]
    assert len({task.id for task in everything}) == len({task.data["instruction"] for task in everything}) == len(everything)
    products = {name: {task.data["product"] for task in tasks} for name, tasks in panels.items()}
    assert products["test"].isdisjoint(products["validation"])
    assert products["test_products"].isdisjoint(set().union(*(own for name, own in products.items() if name != "test_products")))
    assert products["test"] & products["demos"] and products["validation"] & products["train"]  # shared on purpose


def test_the_split_follows_from_its_arguments_and_drops_a_repeated_sentence():
    rows = build_catalogue(1, 40, ("home", "office"))
    sizes = {"test": 20, "validation": 15, "test_products": 10, "train": 30}
    first = split(rows, 1, sizes)
    assert first == split(rows, 1, sizes) != split(rows, 2, sizes)
    assert {name: len(goals) for name, goals in first.items() if name != "demos"} == sizes
    # one attribute, no options and one price each: some products are asked for in the same words
    bare = [row | {"options": {}, "attributes": row["attributes"][:1], "price": 94} for row in rows]
    sentences = [data["instruction"] for goals in split(bare, 1, sizes | {"test_products": 2, "train": 3}).values() for _, data in goals]
    assert len(set(sentences)) == len(sentences) < len(rows)


def test_departments_are_an_argument_with_a_sentence_for_wrong_ones():
    assert {row["category"][0] for row in build_catalogue(0, 50, ("kids",))} == {"kids"}
    with pytest.raises(ValueError, match=r"departments: \['toys'\] must name departments .* take some of home, kitchen"):
        build_catalogue(0, 50, ("home", "toys"))
    with pytest.raises(ValueError, match="departments: an empty list must"):
        build_catalogue(0, 50, ())


def test_first_queries_of_test_were_demonstrated_and_of_test_products_were_not(panels):
    """As the module says: .97 and .12."""
    queries = {name: [" ".join([*task.data["attributes"], task.data["wordings"][0]]) for task in tasks] for name, tasks in panels.items()}
    shown = set(queries["demos"])
    assert np.mean([query in shown for query in queries["test"]]) == pytest.approx(0.97, abs=0.01)
    assert np.mean([query in shown for query in queries["test_products"]]) == pytest.approx(0.12, abs=0.01)


# -- the environment -----------------------------------------------------------------------------------------


def test_the_contract_holds(env, panels):
    check_env(env, panels["test"][:15] + panels["test_products"][:10] + panels["demos"][:5])


def test_the_oracle_scores_1_wherever_the_listed_queries_lead_there(env, panels):
    """Which they do but for one goal in a hundred; a free query leads to those."""
    missed = 0
    for task in panels["test"][:100] + panels["test_products"][:50]:
        seen, steps = env.reset(task), 0
        state = env.snapshot()
        while not seen.done:
            seen, steps = env.step(env.oracle()), steps + 1
        assert env.value(state) == pytest.approx(env.gamma ** (steps - 1) * seen.reward)
        assert seen.reward == max(env.solver.frontier(state))
        missed += seen.reward < 1.0
    assert missed <= 2


def test_an_episode_has_25_steps(env, panels):
    env.reset(panels["test"][0])
    assert [env.step("nothing").truncated for _ in range(MAX_STEPS)] == [False] * (MAX_STEPS - 1) + [True] and MAX_STEPS == 25


def test_examples_fit_the_context_with_room_for_an_answer(env, panels):
    examples = demonstrations(env, panels["demos"][:60], seed=0, repeats=1)
    tokenizer = train_tokenizer([f"{one.prompt[0]['content']} {one.completion}" for one in examples] + [CRITIC_QUESTION] * 50, 1400,
                                split_digits=False)  # fmt: skip
    longest = max(len(tokenizer(one.prompt[0]["content"])["input_ids"]) for one in examples)
    assert longest + 24 + 24 < settings_for(ENV_ID, "cpu").context


# -- the demonstrator, by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(("sentence", "attributes", "wording", "kind", "options", "limit"), [
    ("soft round mug with color: red, and size: big, and price lower than 20 dollars", ("soft", "round"), "mug", "mug", ("red", "big"), 20),
    ("nonstick frying pan", ("nonstick",), "frying pan", "skillet", (), float("inf")),
    ("soft couch with color: blue", ("soft",), "couch", "sofa", ("blue",), float("inf")),
    ("soft round gizmo", ("soft", "round"), "gizmo", "gizmo", (), float("inf")),  # a word that the lexicon lacks
])
def test_a_goal_sentence_is_read(sentence, attributes, wording, kind, options, limit):
    wish = wish_of(sentence)
    assert (wish.attributes, wish.wording, wish.type, wish.options, wish.limit) == (attributes, wording, kind, options, limit)


def test_the_first_query_copies_the_goal_and_a_later_one_does_not():
    first = decide("goal: soft plush couch with color: blue\nsearch page", Careful())
    assert first == "search[soft plush couch]"
    again = "goal: soft plush couch with color: blue\ndid: back to search\nsearch page"
    assert {decide(again, generator(k)) for k in range(60)} == {f"search[{text}sofa]" for text in ("soft plush ", "soft ", "plush ", "")}
    own = "goal: soft sofa\ndid: back to search\nsearch page"
    assert {decide(own, generator(k)) for k in range(20)} == {"search[sofa]"}
    assert decide("goal: sofa\ndid: back to search\nsearch page", generator(0)) == "search[sofa]"  # there are no other words


@pytest.mark.parametrize(("text", "buttons", "action"), [
    (LIST, LIST_BUTTONS, "5"),  # 1 is a bowl, 3 is dear, 4 was seen; 5 names one attribute, 2 none
    (LIST.replace("2 zeta mug", "2 zeta soft round mug"), LIST_BUTTONS, "2"),
    (LIST.replace("$12", "$40").replace("5 acme round mug $14", "5 acme round mug $21"), LIST_BUTTONS, "next >"),
    ("page 1\n1 acme round bowl $9", "back to search", "back to search"),
    ("page 3\n1 acme round bowl $9", "next >, < prev, back to search", "back to search"),
    ("no results", "[back to search]", "back to search"),
])
def test_on_a_list_he_opens_what_may_fit(text, buttons, action):
    assert decide(listed(text, buttons=buttons), Careful()) == f"click[{action}]"


@pytest.mark.parametrize(("text", "did", "action"), [
    (ITEM, "5", "red"),
    (ITEM.replace("chosen: none", "chosen: red"), "red", "big"),
    (ITEM.replace("chosen: none", "chosen: red, big"), "big", "buy now"),
    (ITEM.replace("chosen: none", "chosen: blue, big"), "big", "red"),
    (ITEM.replace("about: soft round", "about: round"), "5", "< prev"),
    (ITEM.replace("about: soft round", "about: round"), "red", "red"),  # he has begun to choose and looks no more
    (ITEM.replace("about: soft round", "about: round"), "blue", "< prev"),  # a slip: not what he wants
    (ITEM.replace("$14", "$21"), "5", "< prev"),
    (ITEM.replace("color: blue red", "color: blue"), "5", "< prev"),
    (ITEM.replace("round mug $", "round bowl $"), "5", "< prev"),
    ("acme soft round mug $14\nabout: soft round", "5", "< prev"),  # no options at all
])
def test_on_a_product_s_page_he_checks_and_chooses(text, did, action):
    assert decide(opened(text, did=did), Careful()) == f"click[{action}]"


def test_what_a_page_hides_changes_nothing(built):
    """Two shops with the same titles and prices, in which all attributes, options and rewards differ: the same decisions on every
    search page and list; and the same page of a product with other goods behind the list: the same decision there."""
    rows = [row for row in built["catalogue"] if row["query"] == "sofa"][:12]
    other = [row | {"attributes": ["vegan", "slim"], "options": {"pack": ["single", "double"]}} for row in rows]
    shops = [shop(rows), shop(other)]
    data = {"product": rows[5]["id"], "wordings": ["sofa", "couch"], "attributes": ["padded", "classic"], "options": {"color": "red"},
            "price_limit": 60.0, "queries": ["sofa"], "instruction": "padded classic sofa with color: red, and price lower than 60 dollars"}  # fmt: skip
    twin = data | {"product": rows[6]["id"], "attributes": ["modern"], "options": {"size": "giant"}, "price_limit": 1.0}
    one, two = Task("a", ENV_ID, "t", data), Task("b", ENV_ID, "t", twin)  # unlike goals behind one sentence
    compared = 0
    for k in range(40):
        for own, task in zip(shops, (one, two), strict=True):
            own.reset(task)
        for action in ("", "search[padded classic sofa]", "click[next >]", "click[back to search]"):
            if action:
                assert [own.step(action).text for own in shops][0] == shops[1].prompt()[0]["content"].split("\n", 2)[2]
            assert shops[0].prompt() == shops[1].prompt()
            assert shops[0].expert(generator(k, action)) == shops[1].expert(generator(k, action))
            compared += 1
    assert compared == 160
    for task in (one, two):  # and on a product's page unlike goals behind one sentence change nothing
        shops[0].reset(task), shops[0].step("search[sofa]"), shops[0].step("click[1]")
        prompt, intended = shops[0].prompt()[0]["content"], shops[0].expert(generator(7, "page"))[0]
        assert intended == decide(prompt, generator(7, "page")) == "click[< prev]"


# -- the demonstrator's rates --------------------------------------------------------------------------------

N = 4000


def share(prompt: str, action: str, name: str) -> float:
    return sum(decide(prompt, generator(name, k)) == f"click[{action}]" for k in range(N)) / N


def test_checks_of_a_list_are_forgotten_at_their_rate():
    """Standard error .006."""
    bowl = listed("page 1\n1 acme soft round bowl $9\n2 zeta mug $12")
    assert share(bowl, "1", "type") == pytest.approx(FORGETS_ON_LIST, abs=0.02)  # it names more: opened when the type is forgotten
    dear = listed("page 1\n1 acme soft round mug $30\n2 zeta mug $12")
    assert share(dear, "1", "price") == pytest.approx(FORGETS_ON_LIST, abs=0.02)
    both = listed("page 1\n1 acme soft round bowl $30\n2 zeta mug $12")
    assert share(both, "1", "both") == pytest.approx(FORGETS_ON_LIST**2, abs=0.01)


@pytest.mark.parametrize(("right", "wrong"), [
    ("about: soft round", "about: round"), ("$14", "$30"), ("round mug $", "round bowl $"), ("size: big tiny", "size: small tiny")])
def test_checks_of_a_product_are_forgotten_at_their_rate(right, wrong):
    wrong = opened(ITEM.replace(right, wrong))
    assert 1 - share(wrong, "< prev", right) == pytest.approx(FORGETS_ON_PRODUCT, abs=0.02)


def test_a_value_is_forgotten_at_its_rate():
    assert share(opened(ITEM.replace("none", "red"), did="red"), "buy now", "left") == pytest.approx(FORGETS_ON_PRODUCT, abs=0.02)
    assert share(opened(ITEM.replace("none", "red, big"), did="big"), "buy now", "all") == 1.0


def test_slips_press_another_button_at_their_rate_and_buy_nothing():
    buttons = ["click[red]", "click[big]", "click[buy now]", "click[< prev]", "click[back to search]"]
    taken = [slipped("click[red]", buttons, generator("slip", k)) for k in range(N)]
    assert np.mean([one != "click[red]" for one in taken]) == pytest.approx(SLIPS, abs=0.015)
    assert set(taken) == {"click[red]", "click[big]", "click[< prev]", "click[back to search]"}
    assert {slipped("search[a]", ["search[a]", "search[b]"], generator("slip", k)) for k in range(200)} == {"search[a]"}
    assert (FORGETS_ON_LIST, FORGETS_ON_PRODUCT, SLIPS) == (0.15, 0.15, 0.1)


def test_he_succeeds_now_and_then_and_slips_are_not_imitated(env, panels):
    wins, steps, slips, meant = 0, 0, 0, []
    for task in panels["demos"][:200]:
        rng, seen = generator("success", task.id), env.reset(task)
        while not seen.done:
            prompt, (intended, taken) = env.prompt()[0]["content"], env.expert(rng)
            meant.append((prompt, intended))
            steps, slips = steps + 1, slips + (intended != taken)
            seen = env.step(taken)
            assert not seen.text.startswith("invalid")
        wins += seen.reward == 1.0
    assert 0.3 < wins / 200 < 0.55 and 8 < steps / 200 < 15  # standard error .035
    assert 0.06 < slips / steps < SLIPS  # searches and lists with one button cannot slip
    clicks = [match[1] for prompt, action in meant if (match := re.fullmatch(r"click\[(\d)\]", action)) and f"\n{match[1]} " not in prompt]
    assert clicks == []  # every product that he means to open stands on the page


def test_a_careful_shopper_succeeds_more_often(env, panels, monkeypatch):
    """What the rates cost: without them, wrong purchases end, and what is left is goals not found in time."""
    for name in ("FORGETS_ON_LIST", "FORGETS_ON_PRODUCT", "SLIPS"):
        monkeypatch.setattr(shopper, name, 0.0)
    rewards = []
    for task in panels["demos"][:100]:
        rng, seen = generator("careful", task.id), env.reset(task)
        while not seen.done:
            seen = env.step(env.expert(rng)[1])
        rewards.append(seen.reward)
    assert set(rewards) == {0.0, 1.0} and np.mean(rewards) > 0.7


def test_steps_of_an_episode_become_examples(env, panels):
    task = replace(panels["demos"][0], id="t")
    examples = demonstrations(env, [task], seed=3, repeats=1)
    acted = [one for one in examples if len(one.prompt) == 1]
    assert acted[0].prompt[0]["content"].endswith("search page") and acted[0].completion.startswith("search[")
    assert all(one.prompt[1]["role"] == "assistant" and one.completion == "no" for one in examples if len(one.prompt) > 1)
