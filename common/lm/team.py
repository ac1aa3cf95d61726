"""Several models as one policy: every prompt is answered by the model of the role it addresses.

Roles may share a model or have their own weights; all live in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.types import Cost, Message, Turn


@dataclass
class TeamPolicy:
    """``members``: role → policy; ``role_of``: a prompt → its role.

    An answer depends on its role's weights, its prompt, key and ``n`` alone, as with one model.

    Raises:
        KeyError: for a prompt of a role that has no member.
    """

    members: Mapping[str, LMPolicy]
    role_of: Callable[[tuple[Message, ...]], str]

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        def ask(policy: LMPolicy, mine: list[int]) -> list[list[Turn]]:
            return policy.propose([prompts[i] for i in mine], [keys[i] for i in mine], n)

        return self._each(prompts, ask)

    def critique(self, prompts: list[tuple[Message, ...]], actions: list[list[str]]) -> list[list[float]]:
        def ask(policy: LMPolicy, mine: list[int]) -> list[list[float]]:
            return policy.critique([prompts[i] for i in mine], [actions[i] for i in mine])

        return self._each(prompts, ask)

    def _each(self, prompts: list[tuple[Message, ...]], ask: Callable) -> list:
        """One call for each role that is addressed; answers in the order of the prompts."""
        owned: dict[str, list[int]] = {}
        for i, prompt in enumerate(prompts):
            owned.setdefault(self.role_of(prompt), []).append(i)
        answers: list = [None] * len(prompts)
        for role, mine in owned.items():
            for i, answer in zip(mine, ask(self.members[role], mine), strict=True):
                answers[i] = answer
        return answers

    def cost(self) -> Cost:
        """What all models spent together, each counted once however many roles it plays."""
        engines: list[Engine] = list({id(member.engine): member.engine for member in self.members.values()}.values())
        return sum((engine.cost for engine in engines), Cost())
