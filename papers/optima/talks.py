"""Optima's mathematics: talks with their rewards R, values of what was said so far, and preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np

from common.lm.engine import Engine
from common.types import PreferencePair, Step, Trajectory

class Weights(NamedTuple):
    """λ of the token term and of the likelihood term."""

    tokens: float
    likelihood: float


@dataclass(frozen=True)
class Talk:
    """The messages of one dialogue; ``nll`` is that of its least likely message, ``whole`` that none of them was cut."""

    steps: tuple[Step, ...]
    nll: float

    @property
    def right(self) -> bool:
        return self.steps[-1].observation.reward == 1.0

    @property
    def tokens(self) -> int:
        return sum(step.turn.n_tokens for step in self.steps)

    @property
    def whole(self) -> bool:
        return all(step.turn.finished for step in self.steps)


def rewards(talks: Sequence[Talk], weights: Weights) -> list[float]:
    """R of each of a task's talks (see the head of method.py); NLL is the mean per token of a message and its end."""
    most = max(talk.tokens for talk in talks)
    return [talk.right - weights.tokens * talk.tokens / most + weights.likelihood / talk.nll for talk in talks]


def judged(base: Engine, found: Sequence[Sequence[Step]]) -> list[Talk]:
    """Dialogues with the likelihood of their messages under the base model; each different message is read once."""
    asked = {(step.prompt[-1]["content"], step.turn.text): step for steps in found for step in steps}
    scores = base.score([step.prompt for step in asked.values()], [[step.turn.text] for step in asked.values()])
    nll = {name: -logp / len(base.action_ids(name[1])) for name, [logp] in zip(asked, scores, strict=True)}
    return [Talk(tuple(steps), max(nll[step.prompt[-1]["content"], step.turn.text] for step in steps)) for steps in found]


def best(talks: Sequence[Talk], weights: Weights, above: float) -> Talk | None:
    """The talk of largest R, the first of several, if its R is ``above`` or more. Talks with a message that was cut are not taken."""
    found = [(reward, talk) for reward, talk in zip(rewards(talks, weights), talks, strict=True) if reward >= above and talk.whole]
    return max(found, key=lambda one: one[0])[1] if found else None


# -- the talks of one task as a tree, whose nodes are what was said so far -----------------------------------------------

Node = tuple[str, ...]


def nodes(talk: Talk) -> list[Node]:
    """What had been said before each message, and in the end."""
    texts = tuple(step.turn.text for step in talk.steps)
    return [texts[:k] for k in range(len(texts) + 1)]


def values(talks: Sequence[Talk], weights: Weights) -> dict[Node, float]:
    """V of each node: the mean R of the talks through it."""
    through: dict[Node, list[float]] = {}
    for reward, talk in zip(rewards(talks, weights), talks, strict=True):
        for node in nodes(talk):
            through.setdefault(node, []).append(reward)
    return {node: fmean(found) for node, found in through.items()}


def selected(talks: Sequence[Talk], weights: Weights, most: int, rng: np.random.Generator) -> tuple[Step, ...]:
    """How the talk began that is to be gone on from: of the ``most`` nodes of highest value that ended no talk, one by a softmax of values."""
    if not talks:
        return ()
    worth = values(talks, weights)
    begun = {node: talk.steps[: len(node)] for talk in reversed(talks) for node in nodes(talk)[:-1]}
    best_ones = sorted(begun, key=lambda node: (-worth[node], node))[:most]
    odds = np.exp([worth[node] for node in best_ones])
    return begun[best_ones[int(rng.choice(len(best_ones), p=odds / odds.sum()))]]


def pairs(talks: Sequence[Talk], weights: Weights, above: float, gap: float, task_id: str) -> list[PreferencePair]:
    """After the same words the message of highest value before the one of lowest, where the first is above ``above`` and they differ by
    more than ``gap``; of these pairs of a tree the half whose first messages are worth most. Cut messages are left out."""
    worth, after = values(talks, weights), {}
    for talk in talks:
        for node, step in zip(nodes(talk), talk.steps):
            if step.turn.finished:
                after.setdefault(node, {})[step.turn.text] = (worth[(*node, step.turn.text)], step)
    found = []
    for messages in after.values():
        ranked = sorted(messages.values(), key=lambda one: (one[0], one[1].turn.text))
        (low, worse), (high, better) = ranked[0], ranked[-1]
        if high > above and high - low > gap:
            found.append(PreferencePair(better.prompt, better.turn.text, worse.turn.text, q_chosen=high, q_rejected=low, task_id=task_id))
    return sorted(found, key=lambda pair: -pair.q_chosen)[: (len(found) + 1) // 2]


def measured(episodes: Sequence[Trajectory], floor: int, guessed: Sequence[bool]) -> dict[str, float]:
    """``success``; ``success@k``, right within k messages; ``tokens`` and ``messages`` of a dialogue; ``ratio`` of its tokens to the
    floor; ``guessed``, the share that ends with an answer whose speaker had heard nothing that tells it."""
    found = {"success": fmean(one.success for one in episodes)}
    found |= {f"success@{k}": fmean(one.success and len(one.steps) <= k for one in episodes) for k in (1, 2, 4)}
    return found | {"tokens": fmean(one.n_tokens for one in episodes), "messages": fmean(len(one.steps) for one in episodes),
                    "ratio": fmean(one.n_tokens for one in episodes) / floor, "guessed": fmean(guessed)}  # fmt: skip
