"""Early experience: other actions at an expert's states and what they lead to, the rows that are learned from them,
actions that follow a reflection, and policy gradient on whole episodes of equally many steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from common.envs.answers import declared
from common.envs.contract import Env, Snapshot
from common.envs.shop.instruction import FORESEE
from common.envs.shop.shorthand import touched
from common.learn.batches import SFTExample
from common.learn.policy_gradient import CreditedTurn, Dialogue, leave_one_out
from common.lm.engine import Engine
from common.policy import Policy, propose
from common.rng import derive
from common.search.reader import Reader
from common.search.transitions import Transition, Tried
from common.types import Cost, Message, Observation, Task, Trajectory


# -- 1. early experience: no reward is read ----------------------------------------------------------------------------


def demonstrate(env: Env, reader: Reader, task: Task, act: Callable[[], str]) -> list[tuple[Transition, Snapshot]]:
    """One episode of ``task`` played by ``act()``: its transitions, each with a snapshot of the state before it."""
    observation, found = env.reset(task), []
    while not observation.done:
        state, prompt, action = env.snapshot(), env.prompt(), act()
        observation = env.step(action)
        found.append((Transition(task.id, prompt, Tried(action, reader.shown(observation))), state))
    return found


def try_others(
    env: Env, reader: Reader, played: Sequence[tuple[Transition, Snapshot]], policy: Policy, *, k: int, draws: int, seed: int
) -> list[Transition]:
    """Each transition with at most ``k`` other actions, the first distinct ones of ``draws`` that ``policy`` samples,
    and what they led to.

    The expert's own action and turns that were cut are no alternatives. Smaller ``k`` keeps the first of those
    that a larger one keeps. The environment is left in the state of the last execution.
    """
    prompts = [one.prompt for one, _ in played]
    keys = [derive(seed, "others", one.task_id, i) for i, (one, _) in enumerate(played)]
    found = []
    for (one, state), turns in zip(played, propose(policy, prompts, keys, draws), strict=True):
        distinct = dict.fromkeys(turn.text for turn in turns if turn.finished and turn.text != one.taken.action)
        others = []
        for action in list(distinct)[:k]:
            env.restore(state)
            others.append(Tried(action, reader.shown(env.step(action))))
        spent = sum(turn.n_tokens for turn in turns)
        found.append(Transition(one.task_id, one.prompt, one.taken, tuple(others), spent))
    return found


def experience_cost(
    states: Sequence[Transition], k: int, engine: Engine, *, draws: int, executed: bool = True
) -> Cost:
    """What ``k`` alternatives a state cost: ``draws`` samples of ``engine`` each, and executing them unless their
    outcomes are invented; nothing where ``k`` is 0."""
    if not k:
        return Cost()
    return Cost(env_steps=sum(len(state.others[:k]) for state in states) if executed else 0, lm_calls=len(states),
                prompt_tokens=sum(len(engine.prompt_ids(state.prompt)) for state in states),
                sampled_tokens=sum(state.sampled_tokens for state in states), samples=len(states) * draws)  # fmt: skip


# -- 2. rows of training -----------------------------------------------------------------------------------------------


def imitation_rows(states: Sequence[Transition]) -> list[SFTExample]:
    """Training rows for p(a_i | s_i): imitation of the expert."""
    return [SFTExample(one.prompt, one.taken.action) for one in states]


def instructed_view(prompt: str, action: str) -> str:
    """The prompt by which a chat model predicts the next page."""
    return f"{FORESEE}\n\n{touched(prompt, action)}"


def world_rows(states: Sequence[Transition], k: int, reader: Reader) -> list[SFTExample]:
    """Training rows for p(s_i^j | s_i, a_i^j) for the first ``k`` alternatives of each state, the loss of IWM, in shorthand."""
    pairs = [(one.prompt[-1]["content"], tried) for one in states for tried in one.others[:k]]
    return [SFTExample(reader.question(text, tried.action), reader.written(text, tried.action, tried.after)) for text, tried in pairs]


def reflection_rows(
    states: Sequence[Transition], k: int, reader: Reader, *, invent: Callable[[list[str]], list[str]] = lambda real: real
) -> list[SFTExample]:
    """Training rows for p(c_i^j, a_i | s_i) for the first ``k`` alternatives of each state, the loss of SR.

    ``invent`` replaces what the alternatives at one kind of page led to, given in their order; the default keeps what
    was executed. Where the result reads like what the expert's action led to, there is nothing to reflect on.
    """
    pairs = [(one, tried) for one in states for tried in one.others[:k]]
    prompts = [one.prompt[-1]["content"] for one, _ in pairs]
    by_kind: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        by_kind.setdefault(reader.kind(prompt), []).append(i)
    led_to = [""] * len(pairs)
    for members in by_kind.values():
        real = [reader.outcome(prompts[i], pairs[i][1].after) for i in members]
        for i, text in zip(members, invent(real), strict=True):
            led_to[i] = text
    return [
        SFTExample(one.prompt, reflection(text, better, one.taken.action))
        for (one, _), prompt, text in zip(pairs, prompts, led_to, strict=True)
        if text != (better := reader.outcome(prompt, one.taken.after))
    ]


def reflection(led_to: str, better: str, action: str) -> str:
    """c_i^j and a_i as one turn: what came of the other action, what comes of the expert's, the expert's action."""
    return f"not {led_to} but {better}\n{action}"


# -- 3. acting after a reflection, and reinforcement learning ----------------------------------------------------------


class LastLine:
    """``env`` in which a turn of several lines acts by its last one that is not blank; one line acts as it is.

    It has the methods that :func:`~common.search.rollout.rollout` needs, and no others.
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


def within_budget(episodes: Sequence[Trajectory], *, group: int, env_steps: int) -> list[Trajectory]:
    """Whole groups of episodes, in order, until they hold ``env_steps`` or more, so that policies whose episodes differ
    in length learn from equally many steps. The group that reaches the number is kept."""
    kept: list[Trajectory] = []
    spent = 0
    for at in range(0, len(episodes), group):
        if spent >= env_steps:
            break
        kept += episodes[at : at + group]
        spent = sum(len(episode.steps) for episode in kept)
    return kept


def episode_dialogues(episodes: Sequence[Trajectory], *, group: int, beta: float) -> list[Dialogue]:
    """Every finished turn credited with its episode's reward beyond the mean of its task's other episodes.

    ``episodes``: ``group`` ≥ 2 of one task side by side. ``beta`` ≥ 0 is the weight of the KL at each turn. Turns that
    were cut are no part of what is learned from; the advantage of the others stays that of their episode.
    """
    rewards = torch.tensor([episode.reward for episode in episodes], dtype=torch.float64)
    advantages = leave_one_out(rewards.view(-1, group)).reshape(-1).tolist()
    return [
        tuple(CreditedTurn(s.prompt, s.turn.text, advantage, beta) for s in episode.steps if s.turn.finished)
        for episode, advantage in zip(episodes, advantages, strict=True)
    ]
