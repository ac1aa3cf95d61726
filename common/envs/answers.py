"""Answer environments: an action is a whole answer, an episode is several attempts at one task, and the last one counts.

The prompt is the dialogue so far, or the question with the last few attempts of it; between attempts the user
only asks to try again and never says whether the attempt was right (as in SCoRe §4 and RISE). All attempts are
always made. How many there are is no part of an environment's id, because neither a task nor a prompt of as many
attempts depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from common.types import Message, Observation, Task

GAMMA = 0.95


def declared(text: str) -> str:
    """The answer that a turn declares: its last non-blank line, stripped; "" for a blank turn."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


class AnswerState(NamedTuple):
    """State of an answer environment: the task's numbers and target, and the attempts made."""

    task_id: str
    target: int
    numbers: tuple[int, ...]
    attempts: tuple[str, ...]
    over: bool


class AnswerEnv:
    """Base class of answer environments; a task has ``Task.data["numbers"]`` and a target. Subclasses add ``id``,
    ``question``, ``start`` (numbers and target of a task), ``score``, ``actions``, ``solvable``, ``oracle``,
    ``expert`` and ``lazy``."""

    id: str
    RETRY = "check the answer and write it again"
    SLIP = 0.5
    """Error rate of the noisy demonstrator: chance that an attempt before the last is wrong, so that second turns show both
    a right answer kept and a wrong one replaced."""

    def __init__(self, *, turns: int = 2, gamma: float = GAMMA, window: int | None = None) -> None:
        if window is not None and window < 1:
            raise ValueError(f"window: {window} attempts in a prompt must be at least 1; or give None for all of them")
        self.gamma = gamma
        self.max_steps = turns
        self.window = window

    def dialogue(self, turns: int, *, window: int) -> AnswerEnv:
        """The same environment with ``turns`` attempts, of which a prompt shows the last ``window``."""
        return type(self)(turns=turns, gamma=self.gamma, window=window)

    def start(self, task: Task) -> tuple[tuple[int, ...], int]:
        raise NotImplementedError

    def question(self) -> str:
        raise NotImplementedError

    def declared(self, text: str) -> str:
        """The answer that a turn declares, in one spelling; "" for none."""
        return declared(text)

    def attempt(self, text: str, before: Sequence[str]) -> str:
        """What the dialogue holds of a turn ``text`` after the attempts ``before``: here the turn itself."""
        return text

    def turn(self, answer: str, before: str) -> str:
        """The turn after the attempt ``before`` by which the dialogue comes to hold ``answer``: here the answer itself."""
        return answer

    def score(self, action: str) -> float:
        """1 when ``action`` alone would solve the present task, else 0."""
        raise NotImplementedError

    def solvable(self, state: AnswerState) -> bool:
        return True

    def reset(self, task: Task, seed: int = 0) -> Observation:
        numbers, target = self.start(task)
        self._state = AnswerState(task.id, target, numbers, (), False)
        return Observation(self.question())

    def step(self, action: str) -> Observation:
        state = self._state
        if state.over:
            raise RuntimeError(f"{self.id}: the episode of task {state.task_id} is over; call reset or restore first")
        attempts = (*state.attempts, self.attempt(action, state.attempts))
        over = len(attempts) == self.max_steps
        self._state = state._replace(attempts=attempts, over=over)
        if not over:
            return Observation(self.RETRY)
        return Observation("", reward=self.score(attempts[-1]), terminated=True)

    def prompt(self) -> tuple[Message, ...]:
        messages: list[Message] = [{"role": "user", "content": self.question()}]
        shown = self._state.attempts if self.window is None else self._state.attempts[-self.window :]
        for attempt in shown:
            messages += [{"role": "assistant", "content": attempt}, {"role": "user", "content": self.RETRY}]
        return tuple(messages)

    def snapshot(self) -> AnswerState:
        return self._state

    def restore(self, snapshot: AnswerState) -> None:
        self._state = snapshot

    def value(self, snapshot: AnswerState) -> float:
        if snapshot.over or not self.solvable(snapshot):
            return 0.0
        return self.gamma ** (self.max_steps - len(snapshot.attempts) - 1)

    def q(self, snapshot: AnswerState, action: str) -> float:
        here = self._state
        self._state = snapshot
        try:
            observation = self.step(action)
            return observation.reward if observation.done else self.gamma * self.value(self._state)
        finally:
            self._state = here

    def slips(self, rng) -> bool:  # noqa: ANN001
        """Whether the noisy demonstrator errs at the present attempt (chance ``SLIP``); never at the last one, which counts."""
        return len(self._state.attempts) + 1 < self.max_steps and rng.random() < self.SLIP
