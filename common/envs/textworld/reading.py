"""Rooms, inventories and recipes of TextWorldExpress as data, and as few words as a nano model needs.

A room of the package takes a hundred words, most of them of furniture with nothing on it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

_EXIT = re.compile(r"To the (North|South|East|West) you see the ([^.]+)\.")
_LEAD = re.compile(r"^(?:In one part of the room you see|In another part of the room you see|There is also|You also see) ")
_ARTICLE = re.compile(r"^(?:an?|some) (?:open )?(?:raw )?", re.IGNORECASE)


class Room(NamedTuple):
    """A room as the package describes it. ``things``: name, "closed" or "", and what is in or on it."""

    name: str
    things: tuple[tuple[str, str, tuple[str, ...]], ...]
    exits: tuple[tuple[str, str], ...]
    """(direction, room) in the package's order."""


def bare(name: str) -> str:
    """A thing's name without article, "open" and "raw"."""
    return _ARTICLE.sub("", name.strip())


@lru_cache(maxsize=65_536)
def read_room(look: str) -> Room:
    """The room of the package's ``look``; ValueError for what is no room."""
    inside, _, outside = look.partition("\n")
    first, *rest = [part.strip() for part in re.split(r"\.(?: |$)", inside.strip()) if part.strip()]
    if not first.startswith("You are in the "):
        raise ValueError(f"TextWorldExpress: '{look[:60]}' is no room")
    things = tuple(_thing(_LEAD.sub("", part)) for part in rest)
    return Room(first.removeprefix("You are in the "), things, tuple((way.lower(), room) for way, room in _EXIT.findall(outside)))


def _thing(text: str) -> tuple[str, str, tuple[str, ...]]:
    name, _, state = text.partition(" that ")
    name = bare(name.rstrip(","))
    if state == "is closed":
        return name, "closed", ()
    held = re.match(r"(?:has (?!nothing)(.+) on it|contains (.+))$", state)
    return name, "", tuple(sorted(_list(held[1] or held[2]))) if held else ()


def _list(text: str) -> list[str]:
    return [bare(part) for part in re.split(r", and |, ", text)]


def carried(inventory: str) -> tuple[str, ...]:
    """Names of what is carried, sorted: the package's order tells which was taken first."""
    names = [bare(line) for line in inventory.splitlines()[1:] if line.strip()]
    return tuple(sorted(name for name in names if not name.startswith("Your inventory")))


def read_task(words: str) -> str:
    """The task of a map-reading game, short: ``coin in attic to box in alley``; other words as they are."""
    told = re.search(r"take the (.+?) that is located in the (.+?), and put it into the (.+?) found in the (.+?)\.", words)
    return "{} in {} to {} in {}".format(*told.groups()) if told else words


def read_recipe(text: str) -> str:
    """The cookbook's recipe, short: ``water; carrot dice roast``."""
    wanted, _, directions = text.partition("Ingredients:")[2].partition("Directions:")
    lines = [line.strip() for line in directions.splitlines()]
    parts = []
    for name in (line.strip() for line in wanted.splitlines() if line.strip()):
        verbs = [line.removesuffix(f" the {name}") for line in lines if line.endswith(f" the {name}")]
        parts.append(" ".join([name, *verbs]))
    return "; ".join(parts)


def read_map(text: str) -> str:
    """The map, short, each way once: ``alley-launderette, attic-parlor``."""
    ways = set()
    for one, others in re.findall(r"The (.+?) connects to the (.+?)\.", text):
        ways |= {"-".join(sorted((one, other))) for other in re.split(r", | and ", others)}
    return ", ".join(sorted(ways))


def page(room: Room, been: Collection[str], actions: Collection[str], shown: Collection[str]) -> str:
    """Two lines: what is in the room that can be used, and its exits, visited ones marked. ``shown``: things to name though they hold
    nothing and cannot be opened."""
    parts = []
    for name, state, held in room.things:
        if held:
            parts.append(f"{name} ({', '.join(held)})")
        elif state and f"open {name}" in actions:
            parts.append(f"closed {name}")
        elif name in shown:
            parts.append(name)
    ways = [f"{way} {name}{' been' * (name in been)}" for way, name in room.exits]
    return f"{room.name}: {', '.join(parts) or 'nothing'}\n{', '.join(ways)}"
