"""Early experience (arXiv 2510.08558): what other actions at an expert's states would have led to.

An expert plays; at each of its states other actions are drawn from a policy, executed from a snapshot, and what
they lead to is kept. No reward is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.envs.contract import Env, Snapshot
from common.rng import derive
from common.search.policy import Policy, propose
from common.types import Message, Observation, Task

OVER = "over"
"""What follows an action that ends the episode. What was earned is no part of it."""

QUESTION = "then?"
"""Asked after an action; the answer of a world model is the text of :func:`shown`."""


def shown(observation: Observation) -> str:
    """The next state as text: what the environment answers, or ``over``. The goal does not change and is left out."""
    return OVER if observation.done else observation.text


def asked(prompt: tuple[Message, ...], action: str) -> tuple[Message, ...]:
    """The chat that asks a policy for the state that follows ``action`` after ``prompt``."""
    return (*prompt, {"role": "assistant", "content": action}, {"role": "user", "content": QUESTION})


@dataclass(frozen=True)
class Tried:
    """An action and the text of the state it led to."""

    action: str
    after: str


@dataclass(frozen=True)
class Moment:
    """One state of a demonstration: what was shown, what the expert did, and what else was tried (may be empty)."""

    task_id: str
    prompt: tuple[Message, ...]
    expert: Tried
    others: tuple[Tried, ...] = ()
    sampled_tokens: int = 0
    """Spent on drawing the others, repetitions and cut turns included."""


def demonstrate(env: Env, task: Task, act: Callable[[], str]) -> list[tuple[Moment, Snapshot]]:
    """One episode of ``task`` played by ``act()``: its states, with a snapshot of each taken before the action."""
    observation, found = env.reset(task), []
    while not observation.done:
        state, prompt, action = env.snapshot(), env.prompt(), act()
        observation = env.step(action)
        found.append((Moment(task.id, prompt, Tried(action, shown(observation))), state))
    return found


def try_others(
    env: Env, played: Sequence[tuple[Moment, Snapshot]], policy: Policy, *, k: int, draws: int, seed: int
) -> list[Moment]:
    """Each moment with at most ``k`` other actions, the first distinct ones of ``draws`` that ``policy`` samples.

    The expert's own action and turns that were cut are no alternatives. Smaller ``k`` keeps the first of those
    that a larger one keeps. The environment is left in the state of the last execution.
    """
    prompts = [moment.prompt for moment, _ in played]
    keys = [derive(seed, "others", moment.task_id, i) for i, (moment, _) in enumerate(played)]
    found = []
    for (moment, state), turns in zip(played, propose(policy, prompts, keys, draws), strict=True):
        distinct = dict.fromkeys(turn.text for turn in turns if turn.finished and turn.text != moment.expert.action)
        others = []
        for action in list(distinct)[:k]:
            env.restore(state)
            others.append(Tried(action, shown(env.step(action))))
        spent = sum(turn.n_tokens for turn in turns)
        found.append(Moment(moment.task_id, moment.prompt, moment.expert, tuple(others), spent))
    return found
