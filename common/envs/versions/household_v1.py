"""household-v1: find a thing in a home, have it made hot, cold or clean, and bring it to a place, in at most nine steps.

    hot egg to desk
    been box shelf sink clean
    did go sink
    sink has cup pan makes clean
    have nothing

A home has eight places. Three of them make things hot, cold or clean; which, only a visit shows. A thing is at its usual place in ``USUAL`` of the tasks,
else at a random one. ``go PLACE`` leads anywhere; ``take THING`` takes what is wanted where it is; ``make hot`` works where hot is made and with the
thing in hand; ``put THING`` ends the task where it is wanted and when it is made, with reward 1. Nothing else can be done: *nothing happens*, and it
costs its step. No step is beyond repair.

**What there is to know.** The tasks of *train*, *validation* and *test* are set in one home: usual places and makers are the same in all, and no goal
of one panel is in another. Of the seven places that are not the goal's own, one has the thing and another one makes it hot: who knows nothing and searches in
the best way succeeds in ``UNINFORMED`` of all tasks, who knows the home in at least ``INFORMED``.

*demos* teach a base model to be a visitor: each task is another home, and in most somebody tells the usual place of the thing, or what makes it hot,
or both (``told egg shelf hot sink``, the first line). So a base model can use knowledge in its prompt, and has none of the home that it will be in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from math import comb
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.envs.contract import Demonstration
from common.rng import generator
from common.types import Message, Observation, Task

PLACES = ("fridge", "oven", "sink", "shelf", "desk", "bed", "box", "sofa")
MADE = ("hot", "cold", "clean")
THINGS = tuple(
    "egg cup pan pot mug jar fork spoon plate bowl apple bread rice milk tea soap towel shirt sock hat coat shoe pen book lamp key coin clock vase "
    "brush comb rope nail doll ball kite drum flute candle blanket".split()
)
USUAL = 0.75
OTHERS = 6
"""Other things in the home."""
SLIPS = 0.2
"""Share of a demonstrator's steps that go elsewhere."""
TOLD = {"": 0.2, "thing": 0.1, "maker": 0.1, "both": 0.6}
MAX_STEPS = 9
INVALID = "nothing happens"


def _searched(places: int, more: int) -> float:
    """Share of tasks that are done by looking into ``places`` places in any order, with ``more`` steps than of a shortest way. Of two places
    that are met as the i-th and the j-th, the thing's and the maker's, i < j costs j − 2 more, i > j costs i − 1."""
    return (comb(min(places, more + 2), 2) + comb(min(places, more + 1), 2)) / (places * (places - 1))


UNINFORMED = _searched(len(PLACES) - 1, MAX_STEPS - 6)
INFORMED = USUAL + (1 - USUAL) * (MAX_STEPS - 6) / (len(PLACES) - 3)
"""Of a misplaced thing: as many more places can be looked into as there are steps to spare, of the five that are left."""


class Home(NamedTuple):
    """All that a task hides, and its goal."""

    thing: str
    made: str
    to: str
    things: tuple[tuple[str, ...], ...]
    """What is at each place."""
    makers: tuple[str, ...]
    """Where things are made as MADE says."""
    told: str
    usual: str
    """Where the thing usually is."""

    @property
    def where(self) -> str:
        return next(place for place, here in zip(PLACES, self.things, strict=True) if self.thing in here)

    @property
    def maker(self) -> str:
        return self.makers[MADE.index(self.made)]

    def makes(self, place: str) -> str:
        """What ``place`` makes things; "" for most."""
        return MADE[self.makers.index(place)] if place in self.makers else ""


class State(NamedTuple):
    task_id: str
    home: Home
    place: str = ""
    been: tuple[str, ...] = ()
    held: bool = False
    ready: bool = False
    """Made as the goal says."""
    did: str = ""
    steps: int = 0
    over: bool = False


class HouseholdEnv:
    """V* knows what is hidden: γ^(n-1) where n steps are left of the shortest way and the limit leaves as many, else 0."""

    id = "household-v1"
    gamma = 0.95

    def __init__(self) -> None:
        self.max_steps = MAX_STEPS

    def reset(self, task: Task, seed: int = 0) -> Observation:
        data = task.data
        home = Home(data["thing"], data["made"], data["to"], tuple(map(tuple, data["things"])), tuple(data["makers"]), data["told"], data["usual"])
        self._state = State(task.id, home)
        return Observation(page(self._state))

    def step(self, action: str) -> Observation:
        state = self._state
        if state.over:
            raise RuntimeError(f"{self.id}: the episode of task {state.task_id} is over; call reset or restore first")
        action = " ".join(action.split())
        valid, verb, steps = action in self.actions(), action.partition(" ")[0], state.steps + 1
        won = valid and verb == "put"
        state = state._replace(did=action if valid else INVALID, steps=steps, over=won or steps >= self.max_steps)
        if valid and verb == "go":
            place = action.removeprefix("go ")
            state = state._replace(place=place, been=state.been if place in state.been else (*state.been, place))
        self._state = state._replace(held=state.held or (valid and verb == "take"), ready=state.ready or (valid and verb == "make"))
        text = "done" if won else page(self._state)
        return Observation(text if valid else f"{INVALID}\n{text}", float(won), terminated=won, truncated=state.over and not won)

    def actions(self) -> list[str]:
        """What has an effect here, moves first."""
        state, home = self._state, self._state.home
        if state.over:
            return []
        found = [f"go {place}" for place in PLACES if place != state.place]
        if not state.held and state.place == home.where:
            found.append(f"take {home.thing}")
        if state.held and not state.ready and state.place == home.maker:
            found.append(f"make {home.made}")
        if state.ready and state.place == home.to:
            found.append(f"put {home.thing}")
        return found

    def prompt(self) -> tuple[Message, ...]:
        """One user message: what is told, the goal, places visited and what they make, the last action, the place, what is carried."""
        told = self._state.home.told
        return ({"role": "user", "content": (f"told {told}\n" if told else "") + page(self._state)},)

    def snapshot(self) -> State:
        return self._state

    def restore(self, snapshot: State) -> None:
        self._state = snapshot

    def value(self, snapshot: State) -> float:
        left = steps_left(snapshot)
        return self.gamma ** (left - 1) if not snapshot.over and left <= self.max_steps - snapshot.steps else 0.0

    def q(self, snapshot: State, action: str) -> float:
        here, self._state = self._state, snapshot
        try:
            observation = self.step(action)
            return observation.reward if observation.done else self.gamma * self.value(self._state)
        finally:
            self._state = here

    def oracle(self) -> str:
        """The next step of a shortest way, by one who knows where all is."""
        home = self._state.home
        return next_step(self._state, home.where, home.maker)

    def lazy(self) -> str:
        """Goes to and fro between two places."""
        return self.actions()[0]

    # -- demonstrators -------------------------------------------------------------------------

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(action to imitate, action taken) of one who lives here: knows the usual place and what makes what, looks there first and then at places
        not visited yet. It slips (``SLIPS``): then another effective action is taken."""
        home = self._state.home
        return self._slipping(self._informed({home.thing: home.usual, home.made: home.maker}, rng), rng)

    def visitor(self, rng: np.random.Generator) -> str:
        """What one would do who knows what the prompt says."""
        return self._informed(dict(zip(*[iter(self._state.home.told.split())] * 2, strict=True)), rng)

    def _informed(self, known: Mapping[str, str], rng: np.random.Generator) -> str:
        """What one would do who knows these facts, of which a place can be wrong, and what was seen: else goes to a place not visited yet."""
        state, home = self._state, self._state.home
        seen = {home.makes(place): place for place in state.been} | ({home.thing: home.where} if home.where in state.been else {})
        new = [place for place in PLACES if place not in state.been] or list(PLACES)
        guess = new[int(rng.integers(len(new)))]
        where, maker = (seen.get(one) or (known[one] if known.get(one, "") in new else guess) for one in (home.thing, home.made))
        return next_step(state, where, maker)

    def demonstrations(self, task: Task, rng: np.random.Generator, critic: str) -> Iterator[Demonstration]:  # noqa: ARG002
        """The steps of a visitor, for the base model's warm start. Nobody is asked the critic's question."""
        observation = self.reset(task)
        while not observation.done:
            prompt, (action, taken) = self.prompt(), self._slipping(self.visitor(rng), rng)
            yield Demonstration((*prompt, {"role": "assistant", "content": action}), learned=len(prompt))
            observation = self.step(taken)

    def _slipping(self, action: str, rng: np.random.Generator) -> tuple[str, str]:
        others = [other for other in self.actions() if other != action]
        return action, others[int(rng.integers(len(others)))] if rng.random() < SLIPS else action


def page(state: State) -> str:
    """What a player sees."""
    home = state.home
    new = [place for place in PLACES if place not in state.been]
    seen = [f"{home.makes(place)} {place}" for place in state.been if home.makes(place)]
    has, makes = (home.things[PLACES.index(state.place)], home.makes(state.place)) if state.place else ((), "")
    lines = [f"{home.made} {home.thing} to {home.to}", *([" ".join(["new", *new])] if new else []), *([" ".join(["seen", *seen])] if seen else [])]
    lines += [state.did if state.did == INVALID else f"did {state.did}"] if state.did else []
    shown = [thing for thing in has if not (state.held and thing == home.thing)]
    lines += [" ".join([state.place, "has", *(shown or ["nothing"]), *(["makes", makes] if makes else [])])] if state.place else []
    return "\n".join([*lines, f"have {f'{home.made} ' * state.ready}{home.thing if state.held else 'nothing'}"])


def next_step(state: State, where: str, maker: str) -> str:
    """The next step of one who takes the thing to be at ``where`` and the goal's maker to be ``maker``."""
    home = state.home
    if state.ready:
        return f"put {home.thing}" if state.place == home.to else f"go {home.to}"
    if state.held:
        return f"make {home.made}" if state.place == maker else f"go {maker}"
    return f"take {home.thing}" if state.place == where else f"go {where}"


def steps_left(state: State) -> int:
    """The fewest steps to the end."""
    stops = [*([] if state.held or state.ready else [state.home.where]), *([] if state.ready else [state.home.maker]), state.home.to]
    return sum(1 + (stop != before) for before, stop in zip([state.place, *stops], stops))


# -- reading pages ------------------------------------------------------------------------------------


def goal_of(text: str) -> str:
    """What a page is about; it can begin with what is told."""
    lines = text.split("\n")
    return lines[lines[0].startswith("told ")]


def first_page(goal: str) -> str:
    """What is shown of a goal before anything is done."""
    return "\n".join([goal, f"new {' '.join(PLACES)}", "have nothing"])


def did(text: str) -> str:
    """The previous action, as the page tells it; "" at the start."""
    return next((line for line in text.split("\n") if line.startswith("did ") or line == INVALID), "")


def described(text: str) -> str:
    """The state that a page shows, in a few words that hold for other goals too; all of them are on pages."""
    lines = text.split("\n")
    made, thing, _, to = goal_of(text).split()
    here, have = lines[-2].split() if " has " in lines[-2] else [""], lines[-1].removeprefix("have ")
    if have == "nothing":
        return f"has {thing}" if thing in here[2:] else f"no {thing}"
    if have == thing:
        return f"makes {made}" if here[-2:] == ["makes", made] else f"to {made}"
    return f"{thing} to put" if here[0] == to else f"to {to}"


def facts(steps: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What (page, action) pairs of an expert show that it knows: "take" → "egg shelf", where it looked for the thing first, "make" → "hot sink",
    where it went first to have it made so."""
    found: dict[str, str] = {}
    for text, action in steps:
        (made, thing, *_), (*_, here, have) = goal_of(text).split(), text.split("\n")
        verb, _, what = action.partition(" ")
        if have == "have nothing" and verb == "go":
            found.setdefault("take", f"{thing} {what}")
        elif have == f"have {thing}" and verb in ("go", "make"):
            found.setdefault("make", f"{made} {what if verb == 'go' else here.partition(' ')[0]}")
    return found


# -- tasks ---------------------------------------------------------------------------------------------


def told_facts(task: Task) -> dict[str, str]:
    """All that can be told of a task: "place" → "egg shelf", where the thing usually is, "maker" → "hot sink"."""
    data = task.data
    return {"place": f"{data['thing']} {data['usual']}", "maker": f"{data['made']} {data['makers'][MADE.index(data['made'])]}"}


def told_of_home(task: Task) -> tuple[str, str]:
    """The goal of a task as a page begins, and all that can be told of it."""
    return f"{task.data['made']} {task.data['thing']} to {task.data['to']}", " ".join(told_facts(task).values())


SIZES = {"test": 400, "validation": 200, "train": 400, "demos": 4000}
GOALS = {"test": 0.4, "validation": 0.2, "train": 0.4}
"""Shares of the goals of the one home."""


def build_panels(seed: int = 0) -> dict[str, list[Task]]:
    """The one home's goals are split between panels; a goal comes with more than one arrangement of things."""
    rng, panels = generator(seed, HouseholdEnv.id, "panels"), {}
    usual, makers = _home(rng)
    goals = [goal for thing in THINGS for made in MADE for to in PLACES if _possible(goal := (thing, made, to), usual, makers)]
    order, start = rng.permutation(len(goals)), 0
    for split, share in GOALS.items():
        chosen = order[start : start + int(share * len(goals))]
        start += len(chosen)
        panels[split] = [_task(split, i, goals[chosen[i % len(chosen)]], usual, makers, "", rng) for i in range(SIZES[split])]
    panels["demos"] = []
    while len(panels["demos"]) < SIZES["demos"]:
        usual, makers = _home(rng)
        goal = tuple(str(rng.choice(one)) for one in (THINGS, MADE, PLACES))
        if _possible(goal, usual, makers):
            told = str(rng.choice(list(TOLD), p=list(TOLD.values())))
            facts = {"thing": f"{goal[0]} {usual[goal[0]]}", "maker": f"{goal[1]} {makers[MADE.index(goal[1])]}"}
            text = " ".join(fact for name, fact in facts.items() if told in (name, "both"))
            panels["demos"].append(_task("demos", len(panels["demos"]), goal, usual, makers, text, rng))
    return panels


def _home(rng: np.random.Generator) -> tuple[dict[str, str], list[str]]:
    """Usual places of all things, and makers."""
    usual = {thing: str(rng.choice(PLACES)) for thing in THINGS}
    return usual, [PLACES[i] for i in rng.permutation(len(PLACES))[: len(MADE)]]


def _possible(goal: tuple[str, ...], usual: dict[str, str], makers: list[str]) -> bool:
    """Whether thing, maker and end are at three places."""
    return len({usual[goal[0]], makers[MADE.index(goal[1])], goal[2]}) == 3


def _task(split: str, number: int, goal: tuple[str, ...], usual: dict[str, str], makers: list[str], told: str, rng: np.random.Generator) -> Task:
    thing, made, to = goal
    things: dict[str, list[str]] = {place: [] for place in PLACES}
    others = [THINGS[i] for i in rng.permutation(len(THINGS)) if THINGS[i] != thing][:OTHERS]
    for one in [thing, *others]:
        place = usual[one]
        if rng.random() >= USUAL:
            barred = {place, *((makers[MADE.index(made)], to) if one == thing else ())}
            place = str(rng.choice([other for other in PLACES if other not in barred]))
        things[place].append(one)
    data = {"thing": thing, "made": made, "to": to, "things": [sorted(things[place]) for place in PLACES], "makers": makers, "told": told,
            "usual": usual[thing]}  # fmt: skip
    return Task(f"{HouseholdEnv.id}/{split}/{number:04d}", HouseholdEnv.id, split, data)


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    return {name: list(map(asdict, tasks)) for name, tasks in build_panels(seed).items()}


def make(data_dir: Path) -> HouseholdEnv:
    return HouseholdEnv()
