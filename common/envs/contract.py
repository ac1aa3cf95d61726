"""The environment interface ``Env``, and ``check_env``, which names the rule that an implementation breaks.

An environment holds one episode. Everything that can change during an episode is in the state
that ``snapshot`` returns: an immutable value, cheap to take and to restore (O(state), not
O(history)), so one environment object serves all nodes of many search trees.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from common.types import Message, Observation, Task

Snapshot = Any
"""Immutable and hashable; equal snapshots are the same state of the same task."""


@dataclass(frozen=True)
class Demonstration:
    """A dialogue to imitate. Messages from index ``learned`` on carry loss, the user's among them too."""

    messages: tuple[Message, ...]
    learned: int


class Env(Protocol):
    """Text environment. ``id`` carries a version: a changed rule or prompt is a new id."""

    id: str
    max_steps: int

    def reset(self, task: Task, seed: int = 0) -> Observation:
        """Start ``task``. Deterministic in (task, seed)."""

    def step(self, action: str) -> Observation:
        """Apply one action. A malformed or inadmissible action costs a step and says so in the
        observation; it never raises. Stepping a finished episode raises RuntimeError."""

    def actions(self) -> list[str]:
        """Admissible actions of the present state, a finite list without duplicates, in a
        deterministic order; empty when the episode is over. Free-text actions (search[...])
        may be valid without being listed; the listed ones always are."""

    def prompt(self) -> tuple[Message, ...]:
        """The chat messages a policy sees in the present state."""

    def snapshot(self) -> Snapshot: ...

    def restore(self, snapshot: Snapshot) -> None: ...

    def value(self, snapshot: Snapshot) -> float:
        """Exact step-discounted value V*(state) with ``self.gamma``; 0 for finished episodes."""

    def q(self, snapshot: Snapshot, action: str) -> float:
        """Exact Q*(state, action): the reward if the action ends the episode, otherwise
        γ·V*(next state). Leaves the current episode untouched."""

    def oracle(self) -> str:
        """An action with maximal exact Q in the present state (scores 1 where that is possible)."""

    def lazy(self) -> str:
        """The laziest legal action; its expected score is known and low."""


class Pages(Protocol):
    """What the module of an environment says of its pages, where it hides facts that many tasks share: the usual places of a home."""

    INVALID: str
    """How an observation begins after an action that cannot be taken."""

    def goal_of(self, text: str) -> str:
        """What a page is about; it can begin with what is told."""

    def first_page(self, goal: str) -> str:
        """What is shown of a goal before anything is done."""

    def did(self, text: str) -> str:
        """The previous action, as the page tells it; "" at the start."""

    def described(self, text: str) -> str:
        """The state that a page shows, in a few words that hold for other goals too; all of them are on pages."""

    def facts(self, steps: Iterable[tuple[str, str]]) -> dict[str, str]:
        """What (page, action) pairs of an expert show that it knows: the verb for which it needs a fact → the fact."""

    def told_facts(self, task: Task) -> dict[str, str]:
        """All facts that can be told of a task, by their names."""

    def told_of_home(self, task: Task) -> tuple[str, str]:
        """The goal of a task as a page begins, and all that can be told of it."""


def check_env(env: Env, tasks: list[Task], max_steps: int = 50) -> None:
    """Raise AssertionError, naming the rule, when ``env`` breaks the contract on any of ``tasks``.

    Checks: reset is deterministic; actions are listed, unique and accepted; snapshots restore
    exactly (act, restore, act again, compare observation, actions, prompt); rewards stay in
    [0, 1] and 0 before the end; junk actions do not raise; the oracle attains V*; q is
    consistent with value (V* = max over listed actions of Q*, up to free-text actions).
    """
    for task in tasks:
        where = f"{env.id} task {task.id}"
        first, second = env.reset(task), env.reset(task)
        assert first == second, f"{where}: reset is not deterministic"
        assert not first.done and first.reward == 0.0, f"{where}: the episode is over at reset"
        start = env.snapshot()
        hash(start)
        junk = env.step("no such action")
        assert 0.0 <= junk.reward <= 1.0, f"{where}: reward {junk.reward} outside [0, 1]"
        env.restore(start)
        discounted, scale = 0.0, 1.0
        for _ in range(max_steps):
            before, actions, prompt = env.snapshot(), env.actions(), env.prompt()
            assert actions and len(set(actions)) == len(actions), f"{where}: actions empty or repeated: {actions}"
            value = env.value(before)
            best = max(env.q(before, action) for action in actions)
            assert best <= value + 1e-9, f"{where}: Q* {best} above V* {value}"
            assert env.snapshot() == before, f"{where}: value or q changed the state"
            probe = actions[len(actions) // 2]
            seen = (env.step(probe), env.snapshot())
            env.restore(before)
            assert (env.actions(), env.prompt()) == (actions, prompt), f"{where}: restore lost state"
            assert (env.step(probe), env.snapshot()) == seen, f"{where}: step is not deterministic"
            env.restore(before)
            action = env.oracle()
            assert abs(env.q(before, action) - value) < 1e-9, f"{where}: the oracle's action has Q* below V* {value}"
            observation = env.step(action)
            assert 0.0 <= observation.reward <= 1.0, f"{where}: reward {observation.reward} outside [0, 1]"
            if observation.done:
                discounted = scale * observation.reward
                break
            assert observation.reward == 0.0, f"{where}: reward before the end"
            scale *= env.gamma  # type: ignore[attr-defined]
        assert env.actions() == [], f"{where}: actions listed after the end"
        try:
            env.step(actions[0])
        except RuntimeError:
            pass
        else:
            raise AssertionError(f"{where}: stepping a finished episode did not raise RuntimeError")
        env.restore(start)
        promised = env.value(start)
        assert abs(promised - discounted) < 1e-9, f"{where}: the oracle earned {discounted}, V* says {promised}"
