"""WKM: knowledge and mixtures by hand, γ = 1 is the agent, equal budgets, and that the world knowledge model learns to describe states."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest

from common.lab import run
from common.learn.batches import SFTExample
from common.rng import generator
from common.types import Observation, Step, Task, Trajectory, Turn
from papers.wkm import figures, method
from papers.wkm.knowledge import (NOTHING, OWN, CookingReader, Mixed, Pairs, ShopReader, Stated, Told, WorldModel, asked, best, drawn, retrieve,
                                  task_knowledge, told, triples, weights)  # fmt: skip
from tests.papers.units import open_unit

ENV = "shop-v1"
ITEM = "goal: soft sofa with color: red\ndid: 2\nvega sofa $19\nabout: soft\ncolor: red blue\nchosen: none\nbuy now, < prev, back to search"
KITCHEN = "cook and eat the meal\nflour; red apple chop roast\nbeen pantry, kitchen\ndid take red apple\nhave flour, red apple\n" \
          "kitchen: oven, counter (cookbook, knife)\neast pantry been, west red room"  # fmt: skip


def chat(text: str):
    return ({"role": "user", "content": text},)


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "wkm", ENV)


def test_pages_in_a_few_words():
    shop, cooking = ShopReader(), CookingReader()
    assert (shop.state(ITEM), shop.did(ITEM), shop.did("goal: x\nsearch page")) == ("choose red", "2", "")
    assert [shop.general(ITEM, one) for one in ("search[soft sofa]", "click[3]", "click[red]")] == [OWN, OWN, "click[red]"]
    assert [shop.deed(ITEM, one) for one in ("search[sofa]", "click[3]", "click[< prev]", "click[red]", "click[buy now]")] == ["", "", "", "red", "buy now"]
    assert (cooking.state(KITCHEN), cooking.did(KITCHEN)) == ("chop red apple without knife in kitchen", "take red apple")
    for change, state in ((("flour, red apple", "chopped red apple, flour, knife"), "roast red apple with knife in kitchen"),
                          (("have flour, red apple", "have red apple"), "missing flour in kitchen"),
                          (("flour, red apple", "flour, roasted chopped red apple"), "ready in kitchen"), (("flour, red apple", "knife, meal"), "meal"),
                          (("flour; red apple chop roast", "not read: cookbook"), "unread in kitchen")):  # fmt: skip
        assert cooking.state(KITCHEN.replace(*change)) == state
    moved = cooking.general(KITCHEN, "move west")
    assert (moved, cooking.specific(KITCHEN, moved), cooking.specific(KITCHEN, "to garden")) == ("to red room", "move west", OWN)
    assert [cooking.general(KITCHEN, one) for one in ("chop red apple", "take salt", "take knife")] == ["chop red apple", OWN, "take knife"]
    assert [cooking.deed(KITCHEN, one) for one in ("move east", "take knife")] == ["pantry", "take knife"]


def test_task_knowledge_is_the_first_deed_that_the_failed_run_lacks():
    def run_of(*actions: str, invalid: str = "") -> Trajectory:
        return Trajectory("t", tuple(Step(chat(ITEM), Turn(one, 0.0, 1), Observation("invalid action" if one == invalid else "")) for one in actions))

    expert = [SFTExample(chat(ITEM), f"click[{one}]") for one in ("2", "red", "large", "buy now")]
    assert task_knowledge(ShopReader(), expert, run_of("click[3]", "click[red]")) == "large"
    assert task_knowledge(ShopReader(), expert, run_of("click[red]", "click[large]", invalid="click[red]")) == "red"
    assert task_knowledge(ShopReader(), expert, run_of("click[large]", "click[red]", "click[buy now]")) == NOTHING


def test_prompts_told_and_asked():
    prompt = told(chat("page"), "know", "red")
    assert prompt[0]["content"] == "page\nknow: red" and asked(prompt, "state")[0]["content"] == "page\nstate?"
    env = SimpleNamespace(id="e", max_steps=3, reset=lambda task, seed: Observation(task.id), prompt=lambda: chat("page"), snapshot=lambda: 7,
                          restore=lambda inner: None)  # fmt: skip
    both = Told(env, {"a": "red", "b": "blue"})
    both.reset(Task("a", "e", "", {}))
    state = both.snapshot()
    both.reset(Task("b", "e", "", {}))
    assert both.prompt()[0]["content"].endswith("know: blue")
    both.restore(state)
    assert both.prompt()[0]["content"].endswith("know: red")


def test_retrieval_takes_the_nearest_that_was_seen_often_enough():
    pairs = Pairs([("lacks a", "2", "back")] * 2 + [("lacks a", "3", "red"), ("lacks b", "2", OWN)], least=2)
    assert pairs.retrieve("lacks a", "2") == {"back": 1.0}
    assert pairs.retrieve("lacks a", "3") == {"back": 2 / 3, "red": 1 / 3}  # once is not often enough
    assert pairs.retrieve("lacks c", "2") == {"back": 1 / 2, "red": 1 / 4, OWN: 1 / 4} and pairs.retrieve("fits", "2") == {}
    assert triples(ShopReader(), [SFTExample(chat(ITEM), "click[4]")]) == [("choose red", "2", OWN)]
    assert retrieve(CookingReader(), Pairs([("x", "", "to pantry"), ("x", "", "to attic")], 1), "x", KITCHEN) == {"move east": 0.5, OWN: 0.5}


def test_the_mixture_by_hand():
    assert weights({"a": 0.5, OWN: 0.5}, 0.4) == (pytest.approx(0.7), {"a": pytest.approx(0.3)})
    assert weights({"a": 1.0}, 1.0) == (1.0, {}) and weights({}, 0.0) == (1.0, {})
    turn = Turn("mine", math.log(0.5), 2)
    texts = Counter(drawn(turn, 0.7, {"a": 0.2, "b": 0.1}, generator("mix", i)).text for i in range(4000))
    assert [texts[one] / 4000 for one in ("mine", "a", "b")] == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    logs = {"mine": math.log(0.5), "a": math.log(0.1)}
    assert best(turn, 0.7, {"a": 0.3}, logs).text == "a"  # .07 + .3 against .35
    assert best(turn, 0.8, {"a": 0.2}, logs) is turn  # .08 + .2 against .4
    assert best(turn, 1.0, {}, {}) is turn


class Scripted:
    """An agent and its engine: says "mine" at probability one half; whatever is scored has log-probability −5."""

    def __init__(self, temperature: float) -> None:
        self.temperature, self.engine, self.seen = temperature, self, []

    def propose(self, prompts, keys, n):
        self.seen += prompts
        return [[Turn("mine", math.log(0.5), 1)] * n for _ in prompts]

    def score(self, prompts, actions):
        return [[math.log(0.5) if text == "mine" else -5.0 for text in texts] for texts in actions]


class Describing:
    def propose(self, prompts, keys, n):
        return [[Turn("choose red", 0.0, 2)] for _ in prompts]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_gamma_one_is_the_agent_and_zero_is_knowledge(temperature):
    agent, world, pairs = Scripted(temperature), WorldModel(Describing()), Pairs([("choose red", "2", "click[red]")], 1)
    own = agent.propose([chat(ITEM)] * 2, [1, 2], 1)
    assert Mixed(agent, world, ShopReader(), pairs, 1.0).propose([chat(ITEM)] * 2, [1, 2], 1) == own
    assert [[turn.text] for [turn] in Mixed(agent, world, ShopReader(), pairs, 0.0).propose([chat(ITEM)] * 2, [1, 2], 1)] == [["click[red]"]] * 2
    assert Mixed(agent, world, ShopReader(), Pairs([], 1), 0.0).propose([chat(ITEM)], [1], 1) == own[:1]
    Stated(agent, world).propose([chat("page")], [1], 1)
    assert agent.seen[-1][0]["content"] == "page\nstate: choose red"


def test_budgets_and_learning(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", expert__tasks=40, expert__walks=2, sft__updates=20, world__updates=150, world__batch=16, world__lr=4e-3,
                    test__tasks=20)  # fmt: skip
    rows = run(unit)
    found = {(row.variant, row.metric): row for row in rows if row.panel == f"{ENV}/test"}
    updates = {name: found[name, "success"].cost["updates"] for name in ("sft", "sft_long", "task", "explicit", "task_shuffled")}
    assert updates == {"sft": 20, "sft_long": 190, "task": 190, "explicit": 190, "task_shuffled": 190}
    assert found["world", "state_right"].value > 0.4 and found["world", "retrieved"].value > 0.5
    ways = {name for name, metric in found if metric == "greedy_invalid"} - {"base", *updates}
    assert ways == {"sft+gamma=0.4", "sft_long+gamma=0.4", "task+gamma=0.4", "task+gamma=0.7", "task+gamma=0", "task+shuffled"}


def test_the_toy_by_hand():
    assert "choose red" in figures.toy()[-1]
