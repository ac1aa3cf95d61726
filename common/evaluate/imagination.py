"""How well a policy foresees: its own text of the next states beside the real ones, by depth.

A *walk* is a stretch of real actions with the real states they led to. Asked after the first action the policy
imagines a state; the next question starts from that imagined state, not from the real one, so errors compound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from statistics import fmean

from common.search.experience import OVER, Moment, Tried, asked
from common.search.policy import Policy, propose
from common.types import Message

Follow = Callable[[str, str, str], str]
"""``follow(prompt text, action, next state)``: the prompt text of the next state."""


@dataclass
class Walk:
    """Real actions from one real state, ``imagined`` being filled in as far as a policy foresees."""

    task_id: str
    prompt: tuple[Message, ...]
    real: tuple[Tried, ...]
    imagined: list[str] = field(default_factory=list)

    def record(self) -> dict:
        """JSON-able, to be read by people."""
        return {"task": self.task_id, "prompt": self.prompt[-1]["content"], "imagined": self.imagined,
                "actions": [one.action for one in self.real], "real": [one.after for one in self.real]}  # fmt: skip


def walks_of(played: Sequence[Moment], *, depth: int) -> list[Walk]:
    """From every state of one episode the next ``depth`` of its actions, fewer where it ends."""
    return [
        Walk(moment.task_id, moment.prompt, tuple(later.expert for later in played[i : i + depth]))
        for i, moment in enumerate(played)
    ]


def token_accuracy(imagined: str, real: str) -> float:
    """Share of words that agree in order: 2 · matching / (words of both), in [0, 1]; 1 exactly for equal words."""
    return SequenceMatcher(None, imagined.split(), real.split(), autojunk=False).ratio()


def imagine(walks: Sequence[Walk], policy: Policy, follow: Follow, *, seed: int) -> None:
    """Fill ``walk.imagined`` to the length of ``walk.real``, or up to the state imagined to end the episode or cut
    by the policy's token limit."""
    states = {i: walk.prompt for i, walk in enumerate(walks)}
    depth = 0
    while states:
        going = list(states)
        prompts = [asked(states[i], walks[i].real[depth].action) for i in going]
        for i, [turn] in zip(going, propose(policy, prompts, [seed] * len(going), 1), strict=True):
            walk = walks[i]
            walk.imagined.append(turn.text)
            if turn.text == OVER or not turn.finished or depth + 1 == len(walk.real):
                del states[i]
                continue
            text = follow(states[i][-1]["content"], walk.real[depth].action, turn.text)
            states[i] = ({"role": "user", "content": text},)
        depth += 1


def fidelity(walks: Sequence[Walk]) -> dict[str, float]:
    """For each depth d from 1: ``exact@d``, ``tokens@d`` and ``end@d`` over the walks that really go that far.

    ``exact``: share of states imagined word for word; ``tokens``: mean :func:`token_accuracy`; ``end``: share for
    which it was foreseen whether the episode is over. A walk that ended too early in imagination scores 0 there.
    """
    found = {}
    for d in range(max((len(walk.real) for walk in walks), default=0)):
        pairs = [(w.imagined[d] if d < len(w.imagined) else "", w.real[d].after) for w in walks if d < len(w.real)]
        found[f"exact@{d + 1}"] = fmean(one.split() == other.split() for one, other in pairs)
        found[f"tokens@{d + 1}"] = fmean(token_accuracy(one, other) for one, other in pairs)
        found[f"end@{d + 1}"] = fmean((one == OVER) == (other == OVER) for one, other in pairs)
    return found
