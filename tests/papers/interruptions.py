"""Ending a unit in the middle: at any of its stages, or inside one while it trains. Works on the run store alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from common.track.store import Run


@dataclass
class UnitRecord:
    """What a unit computed: its ``stages`` in the order in which they were saved, one inside another before that, and how many
    ``events`` were logged while each was computed."""

    stages: list[str] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)

    def trainings(self, most: int) -> list[str]:
        """At most ``most`` of the stages that log several events, spread over the unit."""
        able = [name for name in self.stages if self.events[name] > 1]
        return [able[i * len(able) // most] for i in range(most)] if len(able) > most else able


def record_unit(patch: pytest.MonkeyPatch) -> UnitRecord:
    """Record what is computed from now on."""
    seen, open_ = UnitRecord(), []

    def computed(name: str, compute: Callable) -> object:
        open_.append(name)
        value = compute()
        seen.stages.append(open_.pop())
        return value

    def logged() -> None:
        if open_:
            seen.events[open_[-1]] += 1

    _through(patch, computed, logged)
    return seen


def interrupt_stage(patch: pytest.MonkeyPatch, name: str, *, computed: bool) -> None:
    """KeyboardInterrupt(name) when the stage ``name`` is about to be computed, or was ``computed`` and is about to be saved."""

    def failing(stage: str, compute: Callable) -> object:
        if stage == name and not computed:
            raise KeyboardInterrupt(name)
        value = compute()
        if stage == name:
            raise KeyboardInterrupt(name)
        return value

    _through(patch, failing, lambda: None)


def interrupt_event(patch: pytest.MonkeyPatch, name: str, after: int) -> None:
    """KeyboardInterrupt(name) at the first event beyond ``after`` that is logged while the stage ``name`` is computed."""
    open_, left = [], [after]

    def computed(stage: str, compute: Callable) -> object:
        open_.append(stage)
        try:
            return compute()
        finally:
            open_.pop()

    def logged() -> None:
        if open_ and open_[-1] == name:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt(name)

    _through(patch, computed, logged)


def _through(patch: pytest.MonkeyPatch, computed: Callable[[str, Callable], object], logged: Callable[[], None]) -> None:
    """Let every stage that is not saved yet be computed by ``computed(name, compute)``, and call ``logged`` before each event."""
    stage, log = Run.stage, Run.log

    def through(run: Run, name: str, compute: Callable, **how) -> object:
        return stage(run, name, lambda: computed(name, compute), **how)

    def before(run: Run, *event) -> None:
        logged()
        log(run, *event)

    patch.setattr(Run, "stage", through)
    patch.setattr(Run, "log", before)
