"""Where things usually belong: the game TextWorld Commonsense (``twc``), one thing of a home to be put away.

    told vase side table
    put vase away
    been pantry, living room
    did take it
    have vase
    living room: closed wastepaper basket, book case, tried sofa, side table
    west pantry been

The thing lies in one of the rooms. It is put away in any of its usual places, which the package lists (``twc_objects.folds.json``) and does
not tell. A wrong place costs the steps: the thing stays there until it is taken again. What stands in which room is the same in the
homes of the first 4,096 seeds (:data:`ROOMS`); which rooms a home has, and their ways, is not.

The package's fold is the set of things: no thing is in two.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from common.envs.contract import Demonstration
from common.envs.textworld.engine import Seen
from common.envs.textworld.game import SLIPS, TextState, TextWorldEnv
from common.envs.textworld.reading import Room, read_room
from common.envs.textworld.world import Place, World
from common.types import Message, Observation, Task

ROOMS = {
    "bathroom": ("dressing table", "sink", "wall hook", "toilet roll holder", "towel rack", "bath tub", "shower", "trash can", "bathroom cabinet"),
    "bedroom": ("dressing table", "desk chair", "desk", "chest of drawers", "wardrobe", "night stand", "bed"),
    "corridor": ("key holder", "shoe cabinet", "umbrella stand", "hat rack", "coat hanger"),
    "kitchen": ("fridge", "counter", "kitchen cupboard", "cutlery drawer", "trash can", "dishwasher", "dining chair"),
    "laundry room": ("bench", "work table", "clothes drier", "laundry basket", "washing machine"),
    "living room": ("wastepaper basket", "book case", "tv stand", "arm chair", "side table", "coffee table", "end table", "sofa"),
    "pantry": ("folding chair", "shelf"),
}
"""What things can be put into or on, by room."""
SEEDS = 4096
"""Homes of these first seeds have such rooms; the package draws what stands there, but its first draws are alike for so many seeds."""
TAKE, PUT = "take it", "put it in "
_CAPITALS = re.compile(r"\b(?:TV|Q-tip|T-shirt)")


@cache
def usual_places(fold: str) -> dict[str, tuple[str, ...]]:
    """Thing → its usual places in the package's order, of those that stand in a room; in small letters."""
    from textworld_express.constants import BASEPATH

    rows = json.loads((Path(BASEPATH) / "twc_objects.folds.json").read_text())[fold]
    known = {place for room in ROOMS.values() for place in room}
    return {name.lower(): tuple(one for one in map(str.lower, row["locations"]) if one in known) for name, row in rows.items()}


class HomeWorld(World):
    """A layout of the game. A place records what was opened and where the thing is, if it was touched; ``steps_left`` needs no play."""

    listed = ("move", "open", "take", "put")

    def __init__(self, game: str, settings: str, seed: int, fold: str) -> None:
        self.thing, self._said = "", dict[str, str]()
        super().__init__(game, settings, seed, fold)
        self.rooms: dict[str, Room] = {}
        """Every room as it is at first."""
        queue = deque([self.start])
        while queue:
            place = queue.popleft()
            if place.room not in self.rooms:
                self.rooms[place.room] = room = read_room(self.at(place).look)
                if not {name for name, *_ in room.things}.issuperset(ROOMS[place.room]):
                    raise ValueError(f"TextWorldExpress: {game} has other things in the {place.room} of seed {seed}; take one below {SEEDS}")
                moves = [action for action in self.actions(place) if action.startswith("move ")]
                if TAKE in self.actions(place):
                    self.where = place.room
                queue.extend(self.after(place, action) for action in moves)
        self.usual = usual_places(fold)[self.thing]
        here = {name for room in self.rooms for name in ROOMS[room]}
        self.fact = next(name for name in self.usual if name in here)
        """The first usual place that this home has."""
        self.ways = {room: {f"move {way}": other for way, other in self.rooms[room].exits} for room in self.rooms}

    def done(self, place: Place, action: str) -> Place:
        if action.startswith("open "):
            return super().done(place, action)
        kept = {one for one in place.done if one.startswith("open ")}
        return Place(place.room, frozenset(kept | {TAKE if action == TAKE else f"{action} in {place.room}"}))

    def leads_to(self, here: Place, action: str, place: Place) -> bool:
        return action == TAKE or bool((self.done(here, action).done - here.done) & place.done)

    def steps_left(self, place: Place) -> int | None:
        if TAKE in place.done:
            return self._to_put(place.room, place.done)
        if any(f"{PUT}{name} in {room}" in place.done for room in self.rooms for name in ROOMS[room] if name in self.usual):
            return 0
        lies = lies_in(place) or self.where
        return len(way(self.ways, place.room, {lies})) + 1 + self._to_put(lies, place.done)

    def left_after(self, place: Place, action: str) -> int | None:
        ways = self.ways[place.room]
        return self.steps_left(Place(ways[action], place.done) if action in ways else self.done(place, action))

    def layout(self) -> Any:
        return [self.thing, self.start.room, self.where, self.ways]

    def _to_put(self, room: str, done: frozenset[str]) -> int:
        """The fewest steps from ``room``, the thing in hand."""
        return min(len(way(self.ways, room, {other})) + 1 + (self.closed(other, name) and f"open {name} in {other}" not in done)
                   for other in self.rooms for name in ROOMS[other] if name in self.usual)  # fmt: skip

    def closed(self, room: str, name: str) -> bool:
        """Whether it is closed at first."""
        return any(one == name and state for one, state, _ in self.rooms[room].things)

    def play(self, actions: tuple[str, ...]) -> Seen:
        """In small letters, as :class:`TextWorldEnv` takes actions, and the thing is "it" in actions."""
        seen = super().play(tuple(self._said.get(action, action) for action in actions))
        for action in seen.actions:
            small = action.lower()
            if small.startswith("take "):
                self.thing = small.removeprefix("take ")
            self._said[small.replace(f"take {self.thing}", TAKE).replace(f"put {self.thing} in ", PUT)] = action
        ours = {said: small for small, said in self._said.items()}
        look, inventory = (_CAPITALS.sub(lambda found: found[0].lower(), text) for text in (seen.look, seen.inventory))
        return seen._replace(look=look, inventory=inventory, actions=tuple(sorted(ours[action] for action in seen.actions)))


def lies_in(place: Place) -> str:
    """The room in which the thing was put; "" before and while it is carried."""
    return next((one.rpartition(" in ")[2] for one in place.done if one.startswith(PUT)), "")


def way(ways: dict[str, dict[str, str]], room: str, ends: set[str]) -> list[str]:
    """The moves of a shortest way from ``room`` to one of ``ends``; ``ways``: room → move → room, as far as it is known."""
    found: dict[str, list[str]] = {room: []}
    queue = deque([room])
    while queue:
        here = queue.popleft()
        if here in ends:
            return found[here]
        for move, other in ways.get(here, {}).items():
            if other not in found:
                found[other] = [*found[here], move]
                queue.append(other)
    raise ValueError(f"no way from {room} to {', '.join(sorted(ends))}")


class HomeEnv(TextWorldEnv):
    """The game behind the contract. A task's ``told``: whether a prompt begins with the fact."""

    def reset(self, task: Task, seed: int = 0) -> Observation:
        super().reset(task)
        state = self._current()
        self._state = state._replace(told=told(self.home_of(state)) if task.data.get("told") else "")
        return Observation(self._page(self._state))

    def home_of(self, state: TextState) -> HomeWorld:
        world = self.world_of(state)
        assert isinstance(world, HomeWorld)
        return world

    def after(self, state: TextState, action: str) -> TextState:
        then = super().after(state, action)
        put = next((one for one in then.place.done - state.place.done if one.startswith(PUT)), "")
        return then._replace(tried=then.tried | {put.removeprefix(PUT)}) if put and not then.won else then

    def prompt(self) -> tuple[Message, ...]:
        """One user message: what is told, the goal, rooms visited, the last action, where the thing is, the room, its exits."""
        state = self._current()
        return ({"role": "user", "content": (f"told {state.told}\n" if state.told else "") + self._page(state)},)

    # -- demonstrators -------------------------------------------------------------------------

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(action to imitate, action taken) of one who knows the thing's first usual place and what stands in which room, and explores for the
        rest. It slips (``SLIPS``): then another listed action is taken."""
        return self._slipping(self._informed(self.home_of(self._current()).fact, rng), rng)

    def visitor(self, rng: np.random.Generator) -> str:
        """What one would do who knows what the prompt says, and what stands in which room."""
        state = self._current()
        return self._informed(self.home_of(state).fact if state.told else "", rng)

    def _informed(self, fact: str, rng: np.random.Generator) -> str:
        """What one would do who knows this usual place, or "" none: then all that is in a room is tried, in any order, and then the next room's."""
        state, home = self._current(), self.home_of(self._current())
        room, listed, have = state.place.room, self.actions(), TAKE in state.place.done
        if TAKE in listed:
            return TAKE
        known = {one: home.ways[one] for one in state.been}
        met = {room, *(other for ways in known.values() for other in ways.values())}
        worth = {one: [name for name in ROOMS[one] if f"{name} in {one}" not in state.tried and fact in ("", name)] for one in met}
        if have and worth[room]:
            name = worth[room][int(rng.integers(len(worth[room])))]
            return f"open {name}" if f"open {name}" in listed else f"{PUT}{name}"
        if not have and state.tried:  # it lies where it was put last
            ends = {lies_in(state.place)}
        else:
            ends = {one for one in met if have and fact and worth[one]} or met - set(state.been)
        ends = ends or {one for one in met if have and worth[one]} or met - {room}
        least = min(len(way(known, room, {one})) for one in ends)
        nearest = sorted(one for one in ends if len(way(known, room, {one})) == least)
        return way(known, room, {nearest[int(rng.integers(len(nearest)))]})[0]

    def demonstrations(self, task: Task, rng: np.random.Generator, critic: str) -> Iterator[Demonstration]:  # noqa: ARG002
        """The steps of a visitor, for the base model's warm start. Nobody is asked the critic's question."""
        observation = self.reset(task)
        while not observation.done:
            prompt, (action, taken) = self.prompt(), self._slipping(self.visitor(rng), rng)
            yield Demonstration((*prompt, {"role": "assistant", "content": action}), learned=len(prompt))
            observation = self.step(taken)

    def _slipping(self, action: str, rng: np.random.Generator) -> tuple[str, str]:
        others = [other for other in self.actions() if other != action]
        return action, others[int(rng.integers(len(others)))] if others and rng.random() < SLIPS else action

    def _page(self, state: TextState) -> str:
        home, room = self.home_of(state), state.place.room
        have, here = TAKE in state.place.done, TAKE in home.actions(state.place)
        names = []
        for name in ROOMS[room]:
            closed = home.closed(room, name) and f"open {name} in {room}" not in state.place.done
            names.append("tried " * (f"{name} in {room}" in state.tried) + "closed " * closed + name)
        ways = [f"{move.removeprefix('move ')} {other}{' been' * (other in state.been)}" for move, other in home.ways[room].items()]
        return "\n".join([f"put {home.thing} away", f"been {', '.join(state.been)}", *([f"did {state.did}"] if state.did else []),
                          f"{'have' if have else 'here' if here else 'no'} {home.thing}", f"{room}: {', '.join(names)}", ", ".join(ways)])  # fmt: skip


def told(home: HomeWorld) -> str:
    """What somebody can say of a game: the thing and its first usual place."""
    return f"{home.thing} {home.fact}"


def choose(settings: str, fold: str, others: str, things: int, seeds: int, alike: int) -> dict[tuple[str, str], list[int]]:
    """(Thing, its first usual place) → the first ``seeds`` seeds of different layouts, of the ``things`` things that come first to so many;
    ``alike``: most things of one place. Left out are homes that lack the first usual place, and places that no thing of the fold ``others`` has."""
    taught = {names[0] for names in usual_places(others).values() if names}
    found: dict[tuple[str, str], list[int]] = {}
    layouts, full = set(), Counter[str]()
    for seed in range(SEEDS):
        home = HomeWorld("twc", settings, seed, fold)
        layout = json.dumps(home.layout(), sort_keys=True)
        if layout in layouts or home.fact != home.usual[0] or home.fact not in taught or full[home.fact] == alike:
            continue
        layouts.add(layout)
        listed = found.setdefault((home.thing, home.fact), [])
        if len(listed) < seeds:
            listed.append(seed)
            full[home.fact] += len(listed) == seeds
        if sum(full.values()) == things:
            break
    return {key: listed for key, listed in sorted(found.items()) if len(listed) == seeds}
