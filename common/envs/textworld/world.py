"""What is known of one layout: places, and where actions lead, each played once.

A place is the room and what was done that stays done. In the games here nothing is put down or closed, so that this pair decides all
that the package can still do (tests hold it against episodes that reach a place on different ways). The package saves no states: it is
played again from the start to a place whose next step is not known yet.
"""

from __future__ import annotations

from collections import deque
from sys import intern
from typing import Any, NamedTuple, TypeVar

from common.envs.textworld.engine import Seen, engine
from common.envs.textworld.reading import read_room

T = TypeVar("T")

LISTED = ("move", "open", "take", "read", "chop", "slice", "dice", "cook", "prepare", "eat", "put coin")
UNLISTED = ("take cookbook", "take map")
"""Actions begin like LISTED and not like UNLISTED. Looking, examining and the inventory are on every page; closing and putting down, but for
the coin into its box, help nobody."""


class Place(NamedTuple):
    """The room, and the actions done for good; an opened container with its room, since names repeat."""

    room: str
    done: frozenset[str]


class World:
    """One layout of one game, played as far as it was asked for."""

    listed = LISTED

    def __init__(self, game: str, settings: str, seed: int, fold: str) -> None:
        self.names = (game, settings, seed, fold)
        first = self.play(())
        self.words = engine().words()
        self.start = Place(read_room(first.look).name, frozenset())
        self.seen: dict[Place, Seen] = {self.start: self._kept(first)}
        self._ways: dict[Place, tuple[str, ...]] = {self.start: ()}
        self._after: dict[tuple[Place, str], Place] = {}
        self._left: dict[Place, int] | None = None
        self.read: dict[str, str] = {}
        """What reading said, by action."""

    def play(self, actions: tuple[str, ...]) -> Seen:
        return engine().play(self.names, actions)

    def at(self, place: Place) -> Seen:
        """What the package tells at a place; one that was met elsewhere is first looked for, by what was done there."""
        if place not in self.seen:
            queue, met = deque([self.start]), {self.start}
            while place not in met:
                here = queue.popleft()
                for action in self.actions(here):
                    if action.startswith("move ") or self.leads_to(here, action, place):
                        then = self.after(here, action)
                        if then not in met:
                            met.add(then)
                            queue.append(then)
        return self.seen[place]

    def actions(self, place: Place) -> tuple[str, ...]:
        """What can be done at a place, none where the game is over; sorted."""
        seen = self.at(place)
        return () if seen.won or seen.lost else seen.actions

    def after(self, place: Place, action: str) -> Place:
        """Where one of ``actions`` leads."""
        then = self._after.get((place, action))
        if then is None:
            self.at(place)
            seen = self.play((*self._ways[place], action))
            moved = action.startswith("move ")
            then = Place(read_room(seen.look).name, place.done) if moved else self.done(place, action)
            if action.startswith("read "):
                self.read[action] = seen.text
            self._after[place, action] = then
            self.seen.setdefault(then, self._kept(seen))
            self._ways.setdefault(then, (*self._ways[place], action))
        return then

    def done(self, place: Place, action: str) -> Place:
        """What an action that is no move makes of a place."""
        return Place(place.room, place.done | {deed_of(place, action)})

    def leads_to(self, here: Place, action: str, place: Place) -> bool:
        """Whether an action that is no move can be on a way from ``here`` to ``place``."""
        return deed_of(here, action) in place.done

    def steps_left(self, place: Place) -> int | None:
        """The fewest steps from a place to the end that is won, by breadth-first search of all places; None where there is no way.
        Reading is left out: it leads nowhere."""
        if self._left is None:
            self._left = self._search()
        return self._left.get(Place(place.room, frozenset(one for one in place.done if not one.startswith("read "))))

    def left_after(self, place: Place, action: str) -> int | None:
        """``steps_left`` of where one of ``actions`` leads."""
        return self.steps_left(self.after(place, action))

    def layout(self) -> Any:
        """The rooms, their ways and the task, to compare layouts by."""
        if self._left is None:
            self._left = self._search()
        ways = {(place.room, action, then.room) for (place, action), then in self._after.items() if place.done == frozenset()}
        return [self.words, sorted(ways)]

    def _search(self) -> dict[Place, int]:
        before: dict[Place, list[Place]] = {self.start: []}
        queue = deque([self.start])
        while queue:
            place = queue.popleft()
            for action in self.actions(place):
                if not action.startswith("read "):
                    then = self.after(place, action)
                    if then not in before:
                        before[then] = []
                        queue.append(then)
                    before[then].append(place)
        return steps_back([place for place in before if self.seen[place].won], before)

    def _kept(self, seen: Seen) -> Seen:
        """What is worth its memory: our actions, and texts that other places have too only once."""
        ours = tuple(intern(one) for one in seen.actions if one.startswith(self.listed) and not one.startswith(UNLISTED))
        return seen._replace(text="", look=intern(seen.look), inventory=intern(seen.inventory), actions=ours)


def deed_of(place: Place, action: str) -> str:
    """What a place records of an action that is no move."""
    return f"{action} in {place.room}" if action.startswith("open ") else action


def steps_back(goals: list[T], before: dict[T, list[T]]) -> dict[T, int]:
    """The fewest steps to one of ``goals`` from every place that leads there; ``before``: the places one step earlier."""
    left = dict.fromkeys(goals, 0)
    queue = deque(goals)
    while queue:
        place = queue.popleft()
        for earlier in before.get(place, ()):
            if earlier not in left:
                left[earlier] = left[place] + 1
                queue.append(earlier)
    return left
