"""Accuracy of a world model: predicted states against real ones, by the number of steps ahead.

From a real state, along actions that were really taken, the model predicts the state after the first action, then from
this predicted state the one after the second, and so on: errors compound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from statistics import fmean

from common.policy import Policy, propose
from common.search.transitions import Transition, Tried, asked, is_over
from common.types import Message

Follow = Callable[[str, str, str], str]
"""``follow(prompt text, action, next state)``: the prompt text of the next state."""


@dataclass
class Forecast:
    """Actions taken from a real state, the states they led to (``real``), and a model's predictions of these (``imagined``)."""

    task_id: str
    prompt: tuple[Message, ...]
    real: tuple[Tried, ...]
    imagined: list[str] = field(default_factory=list)

    def record(self) -> dict:
        """JSON-able, to be read by people."""
        return {"task": self.task_id, "prompt": self.prompt[-1]["content"], "imagined": self.imagined,
                "actions": [one.action for one in self.real], "real": [one.after for one in self.real]}  # fmt: skip


def forecasts(episode: Sequence[Transition], *, depth: int) -> list[Forecast]:
    """One forecast for each state of an episode, over its next ``depth`` actions (fewer at the end), without predictions yet."""
    return [
        Forecast(one.task_id, one.prompt, tuple(later.taken for later in episode[i : i + depth]))
        for i, one in enumerate(episode)
    ]


def token_accuracy(imagined: str, real: str) -> float:
    """Share of words that agree in order: 2 · matching / (words of both), in [0, 1]; 1 exactly for equal words."""
    return SequenceMatcher(None, imagined.split(), real.split(), autojunk=False).ratio()


def imagine(unfilled: Sequence[Forecast], policy: Policy, follow: Follow, *, seed: int) -> None:
    """Fill ``imagined`` with the policy's predictions, to the length of ``real``, or up to a state predicted to end the episode
    or cut by the policy's token limit."""
    states = {i: one.prompt for i, one in enumerate(unfilled)}
    depth = 0
    while states:
        going = list(states)
        prompts = [asked(states[i], unfilled[i].real[depth].action) for i in going]
        for i, [turn] in zip(going, propose(policy, prompts, [seed] * len(going), 1), strict=True):
            one = unfilled[i]
            one.imagined.append(turn.text)
            if is_over(turn.text) or not turn.finished or depth + 1 == len(one.real):
                del states[i]
                continue
            text = follow(states[i][-1]["content"], one.real[depth].action, turn.text)
            states[i] = ({"role": "user", "content": text},)
        depth += 1


def fidelity(predicted: Sequence[Forecast]) -> dict[str, float]:
    """Accuracy at each depth d from 1: ``exact@d``, ``tokens@d`` and ``end@d`` over the forecasts whose episodes go that far.

    ``exact``: share of states predicted word for word; ``tokens``: mean :func:`token_accuracy`; ``end``: share for
    which it was predicted whether the episode is over. A forecast that ended too early scores 0 there.
    """
    values = {}
    for d in range(max((len(one.real) for one in predicted), default=0)):
        pairs = [(f.imagined[d] if d < len(f.imagined) else "", f.real[d].after) for f in predicted if d < len(f.real)]
        values[f"exact@{d + 1}"] = fmean(one.split() == other.split() for one, other in pairs)
        values[f"tokens@{d + 1}"] = fmean(token_accuracy(one, other) for one, other in pairs)
        values[f"end@{d + 1}"] = fmean(is_over(one) == is_over(other) for one, other in pairs)
    return values
