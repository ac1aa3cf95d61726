"""The tree of a question, its credit, and the training data from it (MALT, arXiv:2412.01928, §4).

From the task's start the policy is sampled n times, after each of these actions n times again, and so on to the
end of the episode. Unlike a search tree nothing is merged, ranked or revisited: equal actions sampled twice are two
branches, so that a mean over branches is a mean over what the policy does. Credit is without discount:

    V(leaf)   = r, the episode's final reward
    V(branch) = mean of V over its children = share of the leaves below it that won, weighted equally
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from common.envs.contract import Env
from common.learn.batches import SFTExample
from common.lm.engine import Engine
from common.policy import Policy, propose
from common.rng import derive
from common.search.rollout import rollout
from common.types import Message, PreferencePair, Step, Task, Trajectory, Turn

NO_PARENT = -1


@dataclass(frozen=True, slots=True)
class Branch:
    """One sampled action. ``depth`` counts from 0, ``parent`` is -1 at depth 0; ``reward`` is None unless the action
    ended the episode."""

    depth: int
    parent: int
    prompt: tuple[Message, ...]
    turn: Turn
    reward: float | None


@dataclass
class Expansion:
    """All branches of one task; a child's index is larger than its parent's, siblings stand side by side."""

    task_id: str
    branches: list[Branch] = field(default_factory=list)

    def children(self) -> list[list[int]]:
        """Indices of the children of every branch."""
        found: list[list[int]] = [[] for _ in self.branches]
        for i, branch in enumerate(self.branches):
            if branch.parent != NO_PARENT:
                found[branch.parent].append(i)
        return found

    def siblings(self, depth: int) -> list[list[int]]:
        """Groups of indices at ``depth`` that share a parent."""
        groups: dict[int, list[int]] = {}
        for i, branch in enumerate(self.branches):
            if branch.depth == depth:
                groups.setdefault(branch.parent, []).append(i)
        return list(groups.values())


def expand(
    env: Env, tasks: Sequence[Task], policy: Policy, *, branching: Sequence[int], keys: Sequence[int]
) -> list[Expansion]:
    """Expand ``tasks``, all together, depth by depth; ``branching[d]`` actions are sampled at each state of depth d.

    ``keys``: one integer per task. A branch's sample depends on weights, prompt, key and its place in its own
    expansion, so a task expanded alone or with others gives the same.

    Raises:
        ValueError: when an episode goes on after the last depth, so that its leaves would have no reward.
    """
    made = [Expansion(task.id) for task in tasks]
    open_states = []  # (task, index of the branch that led here, snapshot)
    for k, task in enumerate(tasks):
        env.reset(task)
        open_states.append((k, NO_PARENT, env.snapshot()))
    for depth, n in enumerate(branching):
        prompts = []
        for _, _, state in open_states:
            env.restore(state)
            prompts.append(env.prompt())
        places = [derive(keys[k], "expand", depth, parent) for k, parent, _ in open_states]
        sampled = propose(policy, prompts, places, n)
        before, open_states = open_states, []
        for (k, parent, state), prompt, turns in zip(before, prompts, sampled, strict=True):
            for turn in turns:
                env.restore(state)
                observation = env.step(turn.text)
                reward = observation.reward if observation.done else None
                made[k].branches.append(Branch(depth, parent, prompt, turn, reward))
                if not observation.done:
                    open_states.append((k, len(made[k].branches) - 1, env.snapshot()))
    if open_states:
        where = f"branching {tuple(branching)}: the episode of task {tasks[open_states[0][0]].id}"
        raise ValueError(f"{where} goes on after {len(branching)} actions; give one number for each of its actions")
    return made


def values(expansion: Expansion) -> list[float]:
    """V of every branch: the mean of its children's, a leaf's reward (equation in the module's docstring)."""
    found, below = [0.0] * len(expansion.branches), expansion.children()
    for i in range(len(found) - 1, -1, -1):  # children come after their parents
        branch = expansion.branches[i]
        found[i] = branch.reward if branch.reward is not None else fmean(found[c] for c in below[i])
    return found


def first_outcomes(expansion: Expansion) -> list[float]:
    """The reward of the first leaf below every branch: one trajectory's outcome copied to all who took part in it.

    What is known of a branch when nothing was expanded below it but a single continuation.
    """
    found, below = [0.0] * len(expansion.branches), expansion.children()
    for i in range(len(found) - 1, -1, -1):
        branch = expansion.branches[i]
        found[i] = branch.reward if branch.reward is not None else found[below[i][0]]
    return found


Labelled = tuple[Expansion, Sequence[bool]]
"""An expansion with a label for each branch: whether it is positive."""


def labels(expansion: Expansion, credit: str, threshold: float) -> list[bool]:
    """Whether each branch is positive by a credit rule: ``value`` (V > threshold), ``any`` (V > 0: some trajectory
    through it ends right), ``outcome`` (the one trajectory that was followed from it does)."""
    if credit == "outcome":
        return [outcome >= 1.0 for outcome in first_outcomes(expansion)]
    return [value > (threshold if credit == "value" else 0.0) for value in values(expansion)]


# -- what is learned -----------------------------------------------------------------------------------------------


def as_sampled(steps: Iterable[Branch | Step]) -> list[SFTExample]:
    """Finished utterances to be imitated, as often as they were sampled: their frequencies are the policy's own, so
    that likelihood is moved from what failed to what did not."""
    return [SFTExample(one.prompt, one.turn.text) for one in steps if one.turn.finished]


def positives(found: Sequence[Labelled], depth: int) -> list[SFTExample]:
    """Training data of one role: the utterances at its ``depth`` whose label is positive, in the order sampled."""
    return as_sampled(
        branch
        for expansion, labels in found
        for branch, label in zip(expansion.branches, labels, strict=True)
        if label and branch.depth == depth
    )


def sibling_pairs(expansion: Expansion, labels: Sequence[bool], *, depth: int) -> list[PreferencePair]:
    """Siblings at ``depth`` of opposite labels, all combinations, the positive one preferred. ``q_*`` are V whatever
    the labels are; ``path`` is "positive/negative" branch; the reference log-probabilities are still 0.

    Left out: turns that were cut, and siblings of the same text, whose labels differ by the luck of what followed.
    Of several pairs of the same two texts below one parent the first is kept.
    """
    pairs, worth = [], values(expansion)
    for group in expansion.siblings(depth):
        seen: set[tuple[str, str]] = set()
        usable = [i for i in group if expansion.branches[i].turn.finished]
        for good in (i for i in usable if labels[i]):
            for bad in (i for i in usable if not labels[i]):
                better, worse = expansion.branches[good], expansion.branches[bad]
                texts = (better.turn.text, worse.turn.text)
                if texts[0] != texts[1] and texts not in seen:
                    seen.add(texts)
                    pairs.append(PreferencePair(better.prompt, *texts, 0.0, 0.0, worth[good], worth[bad],
                                                expansion.task_id, path=f"{good}/{bad}"))  # fmt: skip
    return pairs


def referenced(pairs: Sequence[PreferencePair], engine: Engine) -> list[PreferencePair]:
    """The pairs with both sides' log-probabilities under ``engine``, the policy that DPO starts from."""
    if not pairs:
        return []
    scored = engine.score([pair.prompt for pair in pairs], [[pair.chosen, pair.rejected] for pair in pairs])
    return [replace(pair, ref_chosen=a, ref_rejected=b) for pair, (a, b) in zip(pairs, scored, strict=True)]


def records(expansion: Expansion, found: Sequence[float]) -> list[dict[str, Any]]:
    """An expansion and its values as JSON-able rows, one a branch, to be drawn (:mod:`papers.malt.figures`)."""
    return [
        {"task": expansion.task_id, "branch": i, "depth": b.depth, "parent": b.parent, "text": b.turn.text,
         "prompt": b.prompt[-1]["content"], "value": value}
        for i, (b, value) in enumerate(zip(expansion.branches, found, strict=True))
    ]  # fmt: skip


# -- what a single agent samples for the same tokens -----------------------------------------------------------------


def play_within(
    env: Env, tasks: Sequence[Task], policy: Policy, *, tokens: int, seed: int
) -> tuple[list[Task], list[Trajectory]]:
    """Tasks and first answers to them, as episodes of one turn, round after round over ``tasks`` until ``tokens`` are
    sampled.

    A round that would overspend is cut to as many tasks as the rest pays for at the mean price so far, so that at
    most the price of one answer and its variation is spent too much. Every round has other random numbers.
    """
    asked: list[Task] = []
    played: list[Trajectory] = []
    spent = number = 0
    while spent < tokens:
        price = spent / len(played) if played else 0.0
        room = int((tokens - spent) / price) if price else len(tasks)
        chosen = list(tasks[: max(1, min(len(tasks), room))])
        keys = [derive(seed, "round", number, task.id) for task in chosen]
        played += rollout(env, chosen, policy, keys=keys, max_steps=1)
        asked, spent, number = asked + chosen, sum(episode.n_tokens for episode in played), number + 1
    return asked, played
