"""An environment whose action is the last line of a turn, so that a policy may think on the lines before it."""

from __future__ import annotations

from common.envs.answers import declared
from common.envs.contract import Env, Snapshot
from common.types import Message, Observation, Task


class LastLine:
    """``env`` in which a turn of several lines acts by its last one that is not blank; one line acts as it is.

    What :func:`~common.search.rollout.rollout` asks of an environment, and no more.
    """

    def __init__(self, env: Env) -> None:
        self.env, self.id, self.max_steps = env, env.id, env.max_steps

    def reset(self, task: Task, seed: int = 0) -> Observation:
        return self.env.reset(task, seed)

    def step(self, action: str) -> Observation:
        return self.env.step(declared(action))

    def prompt(self) -> tuple[Message, ...]:
        return self.env.prompt()

    def snapshot(self) -> Snapshot:
        return self.env.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        self.env.restore(snapshot)
