"""How many steps a recipe still takes, exactly.

The places of a cooking game are too many to be played all: each container can be open, each thing carried. But only some of it
brings the meal nearer: to open what holds something needed, to take it, to cut and cook it as the recipe says, to prepare the meal in
the kitchen and to eat it. Over these few deeds and the rooms we search breadth first, knowing all that the package hides; no other
action is ever part of a shortest way, and none makes one longer unless it loses. A test holds the numbers against a search that plays
every action.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from sys import intern
from typing import Any, NamedTuple

from common.envs.textworld.engine import engine
from common.envs.textworld.world import Place, World, deed_of, steps_back

DEVICES = {"fried": "stove", "roasted": "oven", "grilled": "barbeque"}
CUTS = {"chopped": "chop", "sliced": "slice", "diced": "dice"}

WAYS = ("north", "south", "east", "west")
SPOILS = (*CUTS.values(), "cook", "eat")


class Deed(NamedTuple):
    """Something that must be done: as the place records it, where (None: anywhere), and after which deeds."""

    name: str
    room: str | None
    after: tuple[str, ...]


def deeds(tree: dict[str, Any]) -> tuple[Deed, ...]:
    """All deeds of a game from its things before the first step."""
    where: dict[str, tuple[str, str]] = {}
    needed: list[Deed] = []
    rooms = tree["locations"]
    devices = {thing: room for room, what in rooms.items() for thing, is_ in what["contents"].items() if is_["isCookingDevice"]}
    for room, what in rooms.items():
        for name, thing in what["contents"].items():
            closed = f"open {name} in {room}" if thing["isOpenable"] and not thing["isOpen"] else ""
            for held in thing["contents"]:
                where[held] = (room, closed)
            where[name] = (room, "")

    def take(name: str) -> str:
        room, closed = where[name]
        found = Deed(f"take {name}", room, (closed,) if closed else ())
        if closed and all(deed.name != closed for deed in needed):
            needed.append(Deed(closed, room, ()))
        if found not in needed:
            needed.append(found)
        return found.name

    ready = []
    for part in tree["recipe"]:
        cooked, cut = part["preparation"].split(", ")
        ready.append(take(part["name"]))
        if cut in CUTS:
            needed.append(Deed(f"{CUTS[cut]} {part['name']}", None, (take(part["name"]), take("knife"))))
            ready.append(needed[-1].name)
        if cooked in DEVICES:
            device = DEVICES[cooked]
            needed.append(Deed(f"cook {part['name']} in {device}", devices[device], (take(part["name"]),)))
            ready.append(needed[-1].name)
    return (*needed, Deed("prepare meal", "kitchen", tuple(ready)), Deed("eat meal", None, ("prepare meal",)))


class CookingWorld(World):
    """A layout of the cooking game. ``steps_left`` is that of the search over deeds."""

    def __init__(self, game: str, settings: str, seed: int, fold: str) -> None:
        super().__init__(game, settings, seed, fold)
        tree = engine().tree()
        self._layout = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
        self._deeds = deeds(tree)
        self._bit = {deed.name: 1 << i for i, deed in enumerate(self._deeds)}
        self._least_steps: dict[tuple[str, int], int] | None = None
        self._wanted = tuple(part["name"] for part in tree["recipe"])
        self._exits = {room: {f"move {way}": intern(what[f"location{way.title()}"]) for way in WAYS if what[f"location{way.title()}"]}
                       for room, what in tree["locations"].items()}  # fmt: skip

    def steps_left(self, place: Place) -> int | None:
        return None if self.at(place).lost else self._least(place)

    def left_after(self, place: Place, action: str) -> int | None:
        """Without playing the action: what is cut, cooked or eaten and should not be is lost."""
        if action in self._exits[place.room]:
            return self._least(Place(self._exits[place.room][action], place.done))
        deed = deed_of(place, action)
        if action.startswith(SPOILS) and deed not in self._bit and any(name in action for name in self._wanted):
            return None
        return self._least(Place(place.room, place.done | {deed}))

    def layout(self) -> Any:
        return self._layout

    def _least(self, place: Place) -> int | None:
        if self._least_steps is None:
            self._least_steps = self._count()
        return self._least_steps.get((place.room, sum(self._bit.get(deed, 0) for deed in place.done)))

    def _count(self) -> dict[tuple[str, int], int]:
        """The fewest steps left by room and what of the deeds is done."""
        moves = [(self._bit[deed.name], deed.room, sum(self._bit[name] for name in deed.after)) for deed in self._deeds]
        before: dict[tuple[str, int], list[tuple[str, int]]] = {(self.start.room, 0): []}
        queue = deque(before)
        while queue:
            room, done = here = queue.popleft()
            ways = [(other, done) for other in self._exits[room].values()]
            ways += [(room, done | bit) for bit, where, after in moves if not done & bit and where in (None, room) and done & after == after]
            for then in ways:
                if then not in before:
                    before[then] = []
                    queue.append(then)
                before[then].append(here)
        return steps_back([here for here in before if here[1] & self._bit["eat meal"]], before)
