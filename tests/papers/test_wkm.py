"""WKM: knowledge and mixtures by hand, γ = 1 is the agent, equal budgets, and that the world knowledge model learns to describe states."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial

import pytest

from common.envs.versions import household_v1 as pages
from common.envs.versions.household_v1 import INVALID, facts, first_page
from common.lab import run
from common.rng import generator
from common.types import Observation, Trajectory, Turn
from common.types import Step as Acted
from papers.wkm.knowledge import STATE, TASK, Knowing, Step, best, drawn, pairs_of, task_knowledge
from tests.papers.units import open_unit

ENV = "household-v1"
GOAL = "hot egg to desk"
PAGE = f"{GOAL}\nnew oven box\nseen cold sink\ndid go shelf\nshelf has cup egg\nhave nothing"


def chat(text: str = PAGE):
    return ({"role": "user", "content": text},)


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "wkm", ENV)


def page(here: str = "shelf has cup egg", have: str = "nothing", did: str = "did go shelf") -> str:
    return "\n".join([GOAL, "new oven", did, here, f"have {have}"])


def test_task_knowledge_is_what_the_expert_did_first_and_the_failed_run_did_not():
    shown = {"go shelf": first_page(GOAL), "go bed": page("shelf has cup"), "take egg": page(), "go sink": page(have="egg"),
             "make hot": page("sink has hat makes hot", "egg", "did go sink"), "go desk": page("sink has hat makes hot", "hot egg")}  # fmt: skip
    expert = [Step("t", chat(text), action) for action, text in shown.items()]

    def run_of(*actions: str, invalid: str = "") -> Trajectory:
        return Trajectory("t", tuple(Acted(chat(), Turn(one, 0.0, 1), Observation(f"{INVALID}\n" if one == invalid else "")) for one in actions))

    def shown_by(*actions: str) -> dict[str, str]:
        return facts((shown[action], action) for action in actions)

    assert shown_by(*shown) == {"take": "egg shelf", "make": "hot sink"} and shown_by("go bed", "take egg") == {"take": "egg bed"}
    assert shown_by("make hot", "go sink") == {"make": "hot sink"} and shown_by("take egg", "go desk") == {}  # a slip led to the maker
    won = Trajectory("t", (Acted(chat(), Turn("put egg", 0.0, 1), Observation("done", 1.0, terminated=True)),))
    assert task_knowledge(pages, expert, [run_of("go desk")]) == "egg shelf hot sink"
    assert task_knowledge(pages, expert, [run_of("take egg", "go desk")]) == "hot sink"
    assert task_knowledge(pages, expert, [run_of("take egg", "go desk"), run_of("make hot")]) == "egg shelf hot sink"
    assert task_knowledge(pages, expert, [run_of("take egg", "make hot", invalid="make hot")]) == "hot sink"
    assert task_knowledge(pages, expert, [run_of("take egg", "make hot")]) == "egg shelf hot sink"  # it came too late
    assert task_knowledge(pages, expert, [run_of("make hot"), won]) == "egg shelf"


def test_what_experts_did_next():
    triples = [("no egg", "", "go shelf"), ("no egg", "", "go box"), ("no egg", "", "go shelf"), ("no egg", "did go box", "go shelf")]
    assert pairs_of(triples) == {("no egg", ""): {"go shelf": 2 / 3, "go box": 1 / 3}, ("no egg", "did go box"): {"go shelf": 1.0}}


def test_the_mixture_by_hand():
    turn, known = Turn("mine", math.log(0.5), 2), {"a": 2 / 3, "b": 1 / 3}
    texts = Counter(drawn(turn, 0.7, known, generator("mix", i)).text for i in range(4000))
    assert [texts[one] / 4000 for one in ("mine", "a", "b")] == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    assert drawn(turn, 0.0, {}, generator("mix")) is turn
    logs = {"mine": math.log(0.5), "a": math.log(0.1)}
    assert best(turn, 0.6, {"a": 1.0}, logs).text == "a"  # .06 + .4 against .3
    assert best(turn, 0.8, {"a": 1.0}, logs) is turn  # .08 + .2 against .4
    assert best(turn, 0.7, {"a": 0.5, "mine": 0.5}, logs) is turn  # .07 + .15 against .35 + .15
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
        known = {f"{PAGE}\nstate?": "has egg", f"{first_page(GOAL)}\ntold?": "egg shelf"}
        return [[Turn(known[prompt[-1]["content"]], 0.0, 2)] for prompt in prompts]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_gamma_one_is_the_agent_and_zero_is_knowledge(temperature):
    agent, pairs, asked = Scripted(temperature), {("has egg", "did go shelf"): {"take egg": 1.0}}, ([chat()] * 2, [1, 2], 1)
    own = agent.propose(*asked)
    assert Knowing(agent, World(), pages, (), pairs, 1.0).propose(*asked) == own
    assert [turn.text for [turn] in Knowing(agent, World(), pages, (), pairs, 0.0).propose(*asked)] == ["take egg"] * 2
    assert Knowing(agent, World(), pages, (), {}, 0.0).propose(*asked) == own
    for shows, text in (((TASK,), f"told egg shelf\n{PAGE}"), ((TASK, STATE), f"state has egg\ntold egg shelf\n{PAGE}")):
        Knowing(agent, World(), pages, shows).propose(*asked)
        assert agent.seen[-2:] == [text] * 2
    Knowing(agent, World(), pages, (TASK,), tasks={GOAL: "hot sink"}).propose(*asked)
    assert agent.seen[-1] == f"told hot sink\n{PAGE}"


def test_budgets_and_learning(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", expert__tasks=30, sft__updates=20, task__updates=20, world__updates=300, world__batch=16, world__lr=4e-3, test__tasks=20)
    found = {(row.variant, row.metric): row for row in run(unit) if row.panel == f"{ENV}/test"}
    updates = {name: found[name, "success"].cost["updates"] for name in ("sft", "sft_long", "task", "explicit")}
    assert updates == {"sft": 20, "sft_long": 320, "task": 320, "explicit": 320}
    assert found["world", "state_right"].value > 0.2 and found["world", "maker_right"].value > 0.4  # words alone are never right
    ways = {name for name, metric in found if metric == "greedy_invalid"} - {"base", *updates}
    assert ways == {"base+told", "base+home", "sft_long+gamma=0.7", "task+gamma=0.4", "task+gamma=0.7", "task+gamma=0", "task+shuffled"}
