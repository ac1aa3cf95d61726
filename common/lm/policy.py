"""A language model as the policy and critic that rollouts and searches ask."""

from __future__ import annotations

from dataclasses import dataclass

from common.lm.engine import Engine
from common.types import Message, Turn


@dataclass
class LMPolicy:
    """Proposes by sampling and critiques by asking the same model whether an action is good.

    ``temperature`` 0 acts greedily. The critique is P(yes) ∈ [0, 1], see :meth:`Engine.judge`.
    """

    engine: Engine
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 24
    question: str = "good?"
    """What the critic is asked about an action; nano policies were warm-started with this one."""

    def __post_init__(self) -> None:
        # a policy's answers repeat to the last bit, whatever its engine was asked before: a unit that is resumed
        # gives the numbers of one that was never stopped
        if isinstance(self.engine, Engine):
            self.engine.forget()

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        return self.engine.sample(
            prompts, keys, n=n, temperature=self.temperature, top_p=self.top_p, max_new_tokens=self.max_new_tokens
        )

    def critique(self, prompts: list[tuple[Message, ...]], actions: list[list[str]]) -> list[list[float]]:
        return self.engine.judge(prompts, actions, question=self.question)
