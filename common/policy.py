"""The policy interface: propose actions and score them, batched over prompts. Implementations live with the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from common.types import Message, Turn


class Policy(Protocol):
    """A batch of prompts in, a batch of answers out, in the same order.

    The answer to one prompt depends on that prompt, its key and ``n`` alone, never on its
    neighbours in the batch: this is what makes trees independent of how they are batched.
    Temperature, token limits and templates are the policy's matter.
    """

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        """``n`` sampled actions per prompt, with behaviour log-probabilities."""

    def critique(self, prompts: list[tuple[Message, ...]], actions: list[list[str]]) -> list[list[float]]:
        """One score per action of each prompt, higher is better. Used through ranks within a prompt,
        or (where settings say ``critic``) as an estimate in [0, 1] of the action's return."""


def propose(policy: Policy, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
    """``policy.propose`` with its shape checked: ValueError unless n turns came for every prompt."""
    answers = policy.propose(prompts, keys, n) if prompts else []
    _check("propose", [len(turns) for turns in answers], [n] * len(prompts))
    return answers


def critique(
    policy: Policy, prompts: list[tuple[Message, ...]], actions: list[list[str]], *, as_value: bool
) -> list[list[float]]:
    """``policy.critique`` with its shape checked and, for ``as_value``, that scores lie in [0, 1]."""
    scores = policy.critique(prompts, actions) if prompts else []
    _check("critique", [len(row) for row in scores], [len(row) for row in actions])
    bad = [score for row in scores for score in row if not 0.0 <= score <= 1.0] if as_value else []
    if bad:
        raise ValueError(f"critique score {bad[0]} is outside [0, 1]: to be used as a value it must be a probability.")
    return scores


def _check(name: str, got: Sequence[int], wanted: Sequence[int]) -> None:
    if list(got) != list(wanted):
        raise ValueError(f"policy.{name} answered with lengths {list(got)}, not {list(wanted)}: return all of them.")
