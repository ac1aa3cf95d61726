"""Hidden states of the deduction game (who is the impostor, who saw whom near the body) and its messages.

Each crew member saw two players near the body, the impostor and a passer-by of the crew, and cannot tell which is
which. So each by itself is left with two suspects. Only the impostor is in all four pairs, since nobody saw itself:
what all of them saw, taken together, names it.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any, NamedTuple

COLOURS = ("blue", "green", "pink", "red", "white")
Pair = tuple[str, str]


class World(NamedTuple):
    """A hidden state of the game: the impostor, and the pair that each crew member saw."""

    impostor: str
    passers: tuple[str, ...]
    """Whom each of the crew, in the order of ``COLOURS``, saw beside the impostor."""

    @property
    def crew(self) -> tuple[str, ...]:
        return crew_of(self.impostor)


@cache
def crew_of(impostor: str) -> tuple[str, ...]:
    """The four players beside one."""
    return tuple(colour for colour in COLOURS if colour != impostor)


@cache
def worlds() -> tuple[World, ...]:
    """All 5 · 3⁴ = 405 worlds, equally likely before anybody has seen anything."""
    return tuple(
        World(impostor, passers)
        for impostor in COLOURS
        for passers in product(*([c for c in crew_of(impostor) if c != one] for one in crew_of(impostor)))
    )


def seen(world: World, player: str) -> Pair | None:
    """The two whom ``player`` saw, in the order of ``COLOURS``; None for the impostor."""
    if player == world.impostor:
        return None
    one, two = sorted((world.impostor, world.passers[world.crew.index(player)]))
    return one, two


def renamed(world: World, names: dict[str, str]) -> World:
    """The same world with every colour called ``names[colour]``."""
    passers = {names[one]: names[other] for one, other in zip(world.crew, world.passers, strict=True)}
    impostor = names[world.impostor]
    return World(impostor, tuple(passers[one] for one in crew_of(impostor)))


def to_data(world: World) -> dict[str, Any]:
    """The world as ``Task.data`` holds it."""
    return {"impostor": world.impostor, "passers": list(world.passers)}


def from_data(data: dict[str, Any]) -> World:
    return World(data["impostor"], tuple(data["passers"]))


# -- messages ----------------------------------------------------------------------------------------------------

NOBODY = "nobody"


def messages(speaker: str) -> list[str]:
    """All 5 grammatical messages of ``speaker``, in order: a player it claims to have seen, never itself, or nobody."""
    return [*crew_of(speaker), NOBODY]


def true_messages(pair: Pair | None) -> tuple[str, ...]:
    """What is true of what somebody saw: a message has room for one of the two. Empty for who saw nobody."""
    return pair or ()
