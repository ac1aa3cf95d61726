"""TextWorldExpress as an environment: one page of few words, and the contract of :mod:`common.envs.contract`.

Ours: the reward is 1 when the package says that the task is done and 0 at any other end (the package counts parts; ``score`` tells them),
an episode ends after ``max_steps`` actions, an action that is not listed costs a step and changes nothing, and the prompt repeats what the
player has seen and would have to remember: the rooms it was in, the last action, and what it read.

V* knows what the package hides, a player does not. It is γ^(n-1) where n steps are left of the shortest way and the limit leaves as many,
else 0.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from common.envs.textworld.engine import engine, package
from common.envs.textworld.reading import carried, page, read_map, read_recipe, read_room, read_task
from common.envs.textworld.world import Place, World
from common.types import Message, Observation, Task

INVALID = "invalid action"
KEPT = 2048
"""Layouts whose play is remembered."""
SLIPS = 0.2
"""Share of the demonstrator's steps that go elsewhere."""
NOWHERE = 10**6
"""Stands for the steps left where no way leads to the end."""


class Game(NamedTuple):
    """One game with its settings. ``aim``: what the prompt says of it; "" for the package's words of the task. ``reads``: the action that
    reads what must be known; "" for none. ``shown``: see :func:`common.envs.textworld.reading.page`."""

    name: str
    settings: str
    max_steps: int
    aim: str = ""
    reads: str = ""
    shown: tuple[str, ...] = ()
    world: Callable[[str, str, int, str], World] = World


class TextState(NamedTuple):
    """Everything that changes in an episode. ``been``: rooms in the order of their first visit; ``did``: the last action. Of the game of
    usual places: ``told``, what somebody said before, and ``tried``, where the thing was put in vain."""

    task_id: str
    seed: int
    fold: str
    place: Place
    been: tuple[str, ...]
    did: str = ""
    steps: int = 0
    over: bool = False
    won: bool = False
    truncated: bool = False
    told: str = ""
    tried: frozenset[str] = frozenset()


class TextWorldEnv:
    """One game of TextWorldExpress. FileNotFoundError, with the next step, without the package or Java."""

    gamma = 0.95

    def __init__(self, env_id: str, game: Game) -> None:
        package()
        self.id, self.game, self.max_steps = env_id, game, game.max_steps
        self._worlds: OrderedDict[tuple[int, str], World] = OrderedDict()
        self._state: TextState | None = None

    # ---- the contract ---------------------------------------------------------------------------

    def reset(self, task: Task, seed: int = 0) -> Observation:
        """Start ``task``; nothing is random, so ``seed`` has no effect."""
        where = (task.data["seed"], task.data["fold"])
        start = self._world(*where).start
        self._state = TextState(task.id, *where, start, (start.room,))
        return Observation(self._page(self._state))

    def step(self, action: str) -> Observation:
        """Apply ``action``; RuntimeError when the episode is over or was never begun."""
        state = self._state = self.after(self._current(), action)
        text = "done" if state.won else "lost" if state.over and not state.truncated else self._page(state)
        return Observation(f"{INVALID}\n{text}" if state.did == INVALID else text, float(state.won),
                           terminated=state.over and not state.truncated, truncated=state.truncated)  # fmt: skip

    def actions(self) -> list[str]:
        return list(self._listed(self._current()))

    def prompt(self) -> tuple[Message, ...]:
        """One user message: the aim and what was read, rooms visited, the last action, what is carried, the room."""
        return ({"role": "user", "content": self._page(self._current())},)

    def snapshot(self) -> TextState:
        return self._current()

    def restore(self, snapshot: TextState) -> None:
        self._state = snapshot

    def value(self, snapshot: TextState) -> float:
        if snapshot.over:
            return 0.0
        left = self.steps_left(snapshot)
        return self.gamma ** (left - 1) if left <= self.max_steps - snapshot.steps else 0.0

    def q(self, snapshot: TextState, action: str) -> float:
        then = self.after(snapshot, action)
        return float(then.won) if then.over else self.gamma * self.value(then)

    def oracle(self) -> str:
        """The first listed action of a shortest way, whatever the limit leaves."""
        state = self._current()
        return min(self._listed(state), key=lambda action: self._left_after(state, action))

    def lazy(self) -> str:
        """The first listed action: to and fro between two rooms, most often."""
        return self._listed(self._current())[0]

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(action to imitate, action taken) of a noisy demonstrator. It reads what must be known, then follows the oracle; at rate
        :data:`SLIPS` it takes another listed action that does not lose instead. The oracle knows what the page hides, so imitation can
        only be right on average."""
        state = self._current()
        listed = self._listed(state)
        action = self.game.reads if self.game.reads in listed and self.game.reads not in state.place.done else self.oracle()
        if rng.random() < SLIPS:
            others = [one for one in listed if one != action and self._left_after(state, one) < NOWHERE]
            if others:
                return action, others[int(rng.integers(len(others)))]
        return action, action

    # ---- beyond it --------------------------------------------------------------------------------

    def steps_left(self, state: TextState) -> int:
        """The fewest steps to the end that is won, :data:`NOWHERE` where no way leads there. The limit has no part in it."""
        left = self.world_of(state).steps_left(state.place)
        return NOWHERE if left is None else left

    def score(self, snapshot: TextState) -> float:
        """The package's own score of a state, in [0, 1]: 1 when done, parts of it before (of a recipe: what is ready)."""
        return self.world_of(snapshot).at(snapshot.place).score

    def gold(self, task: Task) -> list[str]:
        """The package's way to the end, without actions that are not ours. It explores, so that the limit can cut it."""
        world = self._world(task.data["seed"], task.data["fold"])
        place, way = world.start, []
        for action in engine().gold(world.names):
            if action in world.actions(place):
                place, way = world.after(place, action), [*way, action]
        return way

    def after(self, state: TextState, action: str) -> TextState:
        """The state that ``action`` leads to; the running episode does not change."""
        if state.over:
            raise RuntimeError(f"{self.id} task {state.task_id}: the episode is over; call reset before step")
        world, action, steps = self.world_of(state), " ".join(action.lower().split()), state.steps + 1
        if action not in world.actions(state.place):
            return state._replace(did=INVALID, steps=steps, over=steps >= self.max_steps, truncated=steps >= self.max_steps)
        place = world.after(state.place, action)
        seen = world.at(place)
        ended, been = seen.won or seen.lost, state.been if place.room in state.been else (*state.been, place.room)
        truncated = steps >= self.max_steps and not ended
        return state._replace(place=place, been=been, did=action, steps=steps, over=ended or truncated, won=seen.won, truncated=truncated)

    def world_of(self, state: TextState) -> World:
        """What is known of the layout."""
        return self._world(state.seed, state.fold)

    def _world(self, seed: int, fold: str) -> World:
        known = self._worlds.get((seed, fold))
        if known is None:
            known = self._worlds[seed, fold] = self.game.world(self.game.name, self.game.settings, seed, fold)
            if len(self._worlds) > KEPT:
                self._worlds.popitem(last=False)
        return known

    def _left_after(self, state: TextState, action: str) -> int:
        left = self.world_of(state).left_after(state.place, action)
        return NOWHERE if left is None else left

    def _listed(self, state: TextState) -> tuple[str, ...]:
        return () if state.over else self.world_of(state).actions(state.place)

    def _current(self) -> TextState:
        if self._state is None:
            raise RuntimeError(f"{self.id}: no episode has begun; call reset first")
        return self._state

    def _page(self, state: TextState) -> str:
        world = self.world_of(state)
        seen, reads = world.at(state.place), self.game.reads
        lines = [self.game.aim or read_task(world.words)]
        if reads:
            text = world.read[reads] if reads in state.place.done else ""
            lines.append((read_recipe(text) or read_map(text)) if text else f"not read: {reads.removeprefix('read ')}")
        lines.append(f"been {', '.join(state.been)}")
        if state.did:
            lines.append(f"did {state.did}")
        have = carried(seen.inventory)
        if have:
            lines.append(f"have {', '.join(have)}")
        return "\n".join([*lines, page(read_room(seen.look), state.been, world.actions(state.place), self.game.shown)])


