"""Wraps Countdown step by step so that a step can be taken back, by the action ``undo``, and a wrong result is not the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.envs.contract import Snapshot
from common.envs.versions.countdown_v1 import CountdownEnv
from common.policy import Policy
from common.types import Message, Observation, Task, Turn

UNDO, SEPARATOR = "undo", ", "
REFUSED = "refused"


class State(NamedTuple):
    """``stack``: the states of plain Countdown that remain, the present one last. ``written``: all admissible actions so far."""

    stack: tuple[Snapshot, ...]
    written: tuple[str, ...] = ()
    steps: int = 0
    over: bool = False


class UndoEnv:
    """``plain`` Countdown in which ``undo`` takes back the last step that remains, and which goes on after a wrong result.

    An episode ends when the target is reached with all numbers, reward 1, or after ``max_steps`` actions. A prompt holds the numbers as
    they are now and, once a step was taken back, all admissible actions so far: before that it is the prompt of ``plain``, which base
    models know. An action that is not admissible costs a step and changes nothing else.
    """

    def __init__(self, plain: CountdownEnv, max_steps: int) -> None:
        self.plain, self.max_steps, self.id = plain, max_steps, plain.id

    def reset(self, task: Task, seed: int = 0) -> Observation:
        seen, self._state = self.plain.reset(task, seed), State((self.plain.snapshot(),))
        return seen

    def step(self, action: str) -> Observation:
        state, action = self._state, action.strip()
        if state.over:
            raise RuntimeError(f"{self.id}: the episode is over; call reset or restore first")
        stack, reward, here = list(state.stack), 0.0, self._here()
        if action == UNDO and len(stack) > 1:
            stack.pop()
        elif here.actions():
            reward = here.step(action).reward
            if len(here.snapshot().numbers) < len(stack[-1].numbers):
                stack.append(here.snapshot())
        refused = len(stack) == len(state.stack)
        truncated = state.steps + 1 == self.max_steps and not reward
        written = state.written if refused else (*state.written, action)
        self._state = State(tuple(stack), written, state.steps + 1, bool(reward) or truncated)
        return Observation(REFUSED if refused else self._text(), reward, terminated=bool(reward), truncated=truncated)

    def actions(self) -> list[str]:
        return [] if self._state.over else self._here().actions() + [UNDO] * (len(self._state.stack) > 1)

    def prompt(self) -> tuple[Message, ...]:
        told = self._state.written if UNDO in self._state.written else ()
        return ({"role": "user", "content": SEPARATOR.join([self._text(), *told])},)

    def snapshot(self) -> State:
        return self._state

    def restore(self, snapshot: State) -> None:
        self._state = snapshot

    def right(self, action: str) -> bool:
        """Whether the target can still be reached after ``action`` without taking it back."""
        return self._here().q(self._state.stack[-1], action) > 0

    def stuck(self) -> bool:
        """Whether nothing is left to combine, and the target is not reached."""
        return not self._state.over and not self._here().actions()

    def _here(self) -> CountdownEnv:
        self.plain.restore(self._state.stack[-1])
        return self.plain

    def _text(self) -> str:
        return self._here().prompt()[0]["content"]


def without_history(prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt of plain Countdown: the numbers as they are now."""
    return ({"role": "user", "content": prompt[0]["content"].split(SEPARATOR)[0]},)


def remaining(actions: Sequence[str]) -> tuple[str, ...]:
    """The steps of ``actions`` that are not taken back."""
    kept: tuple[str, ...] = ()
    for action in actions:
        kept = kept[:-1] if action == UNDO else (*kept, action)
    return kept


@dataclass
class Retrying:
    """``policy``, shown the numbers as they are now alone, with a fixed rule that takes all steps back after a wrong result."""

    policy: Policy

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        said = self.policy.propose([without_history(prompt) for prompt in prompts], keys, n)
        back = [takes_back(prompt) for prompt in prompts]
        return [[Turn(UNDO, 0.0, 1)] * n if rule else turns for rule, turns in zip(back, said, strict=True)]


def takes_back(prompt: tuple[Message, ...]) -> bool:
    """Whether nothing is left to combine, or the last action was ``undo`` and steps remain."""
    now, *done = prompt[0]["content"].split(SEPARATOR)
    return now.split().index("target") == 2 or bool(remaining(done) and done[-1] == UNDO)
