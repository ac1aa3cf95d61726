"""WKM: knowledge and mixtures by hand, γ = 1 is the agent, equal budgets, and that the world knowledge model learns to describe states."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial

import pytest

from common.lab import run
from common.rng import generator
from common.types import Observation, Trajectory, Turn
from common.types import Step as Acted
from papers.wkm.knowledge import NOTHING, OWN, STATE, TASK, Knowing, Step, best, drawn, pairs_of, task_knowledge, triple, weights
from tests.papers.units import open_unit

ENV = "shop-v1"
ITEM = "goal: soft sofa with color: red\ndid: 2\nvega sofa $19\nabout: soft\ncolor: red blue\nchosen: none\nbuy now, < prev, back to search"



def chat(text: str = ITEM):
    return ({"role": "user", "content": text},)


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "wkm", ENV)


def test_task_knowledge_is_the_first_deed_that_the_failed_run_lacks():
    def run_of(*actions: str, invalid: str = "") -> Trajectory:
        return Trajectory("t", tuple(Acted(chat(), Turn(one, 0.0, 1), Observation("invalid action" if one == invalid else "")) for one in actions))

    expert = [f"click[{one}]" for one in ("2", "< prev", "red", "large", "buy now")]
    assert task_knowledge(expert, run_of("click[3]", "click[red]")) == "large"
    assert task_knowledge(expert, run_of("click[red]", "click[large]", invalid="click[red]")) == "red"
    assert task_knowledge(expert, run_of("click[large]", "click[red]", "click[buy now]")) == NOTHING


def test_what_experts_did_next():
    shown = [triple(Step("t", chat(page), f"click[{one}]"), now)
             for page, now, one in ((ITEM, "choose red", "4"), (ITEM, "choose red", "red"), (ITEM.replace("did: 2", "did: search"), "list", "next >"))]  # fmt: skip
    assert shown == [("choose red", "product", OWN), ("choose red", "product", "click[red]"), ("list", "search", OWN)]
    assert pairs_of([*shown, shown[1]]) == {("choose red", "product"): {OWN: 1 / 3, "click[red]": 2 / 3}, ("list", "search"): {OWN: 1.0}}


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
    """An agent and its engine: says "mine" at probability one half; whatever else is scored has log-probability −5."""

    def __init__(self, temperature: float) -> None:
        self.temperature, self.engine, self.seen = temperature, self, []

    def propose(self, prompts, keys, n):
        self.seen += [prompt[-1]["content"] for prompt in prompts]
        return [[Turn("mine", math.log(0.5), 1)] * n for _ in prompts]

    def score(self, prompts, actions):
        return [[math.log(0.5) if text == "mine" else -5.0 for text in texts] for texts in actions]


class World:
    """A world knowledge model that knows one thing of each kind, the first of it from a goal's first page."""

    def propose(self, prompts, keys, n):
        known = {f"{ITEM}\nstate?": "choose red", "goal: soft sofa with color: red\nsearch page\nknow?": "large"}
        return [[Turn(known[prompt[-1]["content"]], 0.0, 2)] for prompt in prompts]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_gamma_one_is_the_agent_and_zero_is_knowledge(temperature):
    agent, pairs, asked = Scripted(temperature), {("choose red", "product"): {"click[red]": 1.0}}, ([chat()] * 2, [1, 2], 1)
    own = agent.propose(*asked)
    assert Knowing(agent, World(), (), pairs, 1.0).propose(*asked) == own
    assert [turn.text for [turn] in Knowing(agent, World(), (), pairs, 0.0).propose(*asked)] == ["click[red]"] * 2
    assert Knowing(agent, World(), (), {}, 0.0).propose(*asked) == own
    for shows, page in (((TASK,), f"know: large\n{ITEM}"), ((TASK, STATE), f"know: large\nstate: choose red\n{ITEM}")):
        Knowing(agent, World(), shows).propose(*asked)
        assert agent.seen[-2:] == [page] * 2


def test_budgets_and_learning(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", expert__tasks=20, expert__known=20, expert__walks=2, sft__updates=20, world__updates=150, world__batch=16, world__lr=4e-3,
                    test__tasks=20)  # fmt: skip
    found = {(row.variant, row.metric): row for row in run(unit) if row.panel == f"{ENV}/test"}
    updates = {name: found[name, "success"].cost["updates"] for name in ("sft", "sft_long", "task", "explicit")}
    assert updates == {"sft": 20, "sft_long": 170, "task": 170, "explicit": 170}
    assert found["world", "state_right"].value > 0.4
    ways = {name for name, metric in found if metric == "greedy_invalid"} - {"base", *updates}
    assert ways == {"sft_long+gamma=0.4", "task+gamma=0.4", "task+gamma=0.7", "task+gamma=0", "task+shuffled"}
