"""Look-ahead before each step: actions are compared by the states that they would lead to, real or predicted.

A decision is made for all running episodes at once. Distinct actions are proposed, each is followed for ``depth``
steps in a :class:`World` (the first step is the action, the later ones are the policy's), a judge scores what was
seen, and the first of the best is executed (WebEvolver, arXiv 2504.21024, section on look-ahead; SimuRA,
arXiv 2507.23773, with one continuation for each action).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from common.envs.contract import Env, Snapshot
from common.evaluate.foresight import Follow
from common.lm.engine import Engine
from common.policy import Policy, propose
from common.rng import derive
from common.search.reader import Foreseer, reader_of
from common.search.transitions import asked, is_over
from common.types import Message, Step, Task, Trajectory, Turn


@dataclass(frozen=True)
class Seen:
    """A state, real or imagined: its prompt, and the environment's answer to the action that led to it."""

    prompt: tuple[Message, ...]
    action: str = ""
    """The action that led here; "" in the first state of an episode."""
    text: str = ""
    """What it was answered, as a :class:`~common.search.reader.Reader` shows it."""
    over: bool = False
    """The episode ended, or imagination broke off: then ``text`` is no end."""
    hidden: Snapshot | None = None
    """The environment's own state; None where the state is imagined."""


class World(Protocol):
    """Transition function for many states at once. ``keys``: one integer a state, for worlds that sample."""

    def then(self, states: Sequence[Seen], actions: Sequence[str], keys: Sequence[int]) -> list[Seen]: ...


class Real:
    """The real environment as a world, from snapshots; ``env_steps`` counts its steps."""

    def __init__(self, env: Env) -> None:
        self.env, self.env_steps, self.reader = env, 0, reader_of(env)

    def then(self, states: Sequence[Seen], actions: Sequence[str], keys: Sequence[int]) -> list[Seen]:  # noqa: ARG002
        found = []
        for state, action in zip(states, actions, strict=True):
            self.env.restore(state.hidden)
            answer = self.env.step(action)
            self.env_steps += 1
            prompt = state.prompt if answer.done else self.env.prompt()
            found.append(Seen(prompt, action, self.reader.shown(answer), answer.done, self.env.snapshot()))
        return found


@dataclass(frozen=True)
class Imagined:
    """A language model asked for the next page; no environment is touched.

    ``follow`` makes the next prompt from the one before, the action and the page. A page that the model's token limit
    cut ends the imagination.
    """

    model: Policy
    follow: Follow

    def then(self, states: Sequence[Seen], actions: Sequence[str], keys: Sequence[int]) -> list[Seen]:
        prompts = [asked(state.prompt, action) for state, action in zip(states, actions, strict=True)]
        found = []
        for state, action, [turn] in zip(states, actions, propose(self.model, prompts, list(keys), 1), strict=True):
            if not turn.finished or is_over(turn.text):
                found.append(Seen(state.prompt, action, turn.text, over=True))
                continue
            text = self.follow(state.prompt[-1]["content"], action, turn.text)
            found.append(Seen(({"role": "user", "content": text},), action, turn.text))
        return found


def imagined(model: Policy, env: Env, *, blind: bool = False) -> Imagined:
    """The world whose next pages ``model`` writes. ``blind``: it is not shown the page that an action is taken on."""
    return Imagined(Foreseer(model, reader_of(env, hidden=blind)), reader_of(env).follow)


Judge = Callable[[Sequence[Seen]], float]
"""Score of a path of states, the first of which is the present one; higher is better."""


def distinct(turns: Sequence[Turn], k: int) -> list[Turn]:
    """The first ``k`` turns of different text, cut ones left out; the first turn where all were cut."""
    found: dict[str, Turn] = {}
    for turn in turns:
        if turn.finished:
            found.setdefault(turn.text, turn)
    return list(found.values())[:k] or [turns[0]]


def voted(turns: Sequence[Turn]) -> Turn:
    """The turn whose text is most frequent, the first of these on ties; cut turns have no vote unless all were cut."""
    able = [turn for turn in turns if turn.finished] or list(turns)
    counts = Counter(turn.text for turn in able)
    return max(able, key=lambda turn: counts[turn.text])  # max keeps the first


def first_best(scores: Sequence[float]) -> int:
    """Index of the highest score, the first of equal ones: a judge that cannot tell leaves it to the policy."""
    return max(range(len(scores)), key=lambda i: scores[i])


def foresee(
    world: World, policy: Policy, starts: Sequence[Seen], actions: Sequence[str], keys: Sequence[int], *, depth: int
) -> list[list[Seen]]:
    """For each start the path [start, state after its action, …], ``depth`` states after the start, fewer where
    it is over. From the second step on ``policy`` acts, asked for one action a state; a cut one ends the path in
    a state without an answer."""
    paths, acts = [[start] for start in starts], list(actions)
    going = list(range(len(paths)))
    for level in range(depth):
        here = {i: derive(keys[i], "foresee", level) for i in going}
        if level:
            prompts = [paths[i][-1].prompt for i in going]
            turns = propose(policy, prompts, [here[i] for i in going], 1)
            for i, [turn] in zip(going, turns, strict=True):
                acts[i] = turn.text
                if not turn.finished:
                    paths[i].append(Seen(paths[i][-1].prompt, turn.text, over=True))
            going = [i for i in going if not paths[i][-1].over]
        now = [paths[i][-1] for i in going]
        after = world.then(now, [acts[i] for i in going], [here[i] for i in going])
        for i, state in zip(going, after, strict=True):
            paths[i].append(state)
        going = [i for i in going if not paths[i][-1].over]
    return paths


Decide = Callable[[list[Seen], list[int], int], list[Turn]]
"""``decide(states, keys, step)``: the turn to take in each state; ``step`` counts the episode's steps from 0."""

Score = Callable[[list[Seen], list[str], list[int]], list[tuple[float, list[Seen]]]]
"""``score(states, actions, keys)``: what each action is worth in its state, and the path that told so."""


@dataclass(frozen=True)
class Exact:
    """Scores an action by its exact value in the environment."""

    env: Env

    def __call__(self, states: list[Seen], actions: list[str], _: list[int]) -> list[tuple[float, list[Seen]]]:
        return [(self.env.q(state.hidden, action), []) for state, action in zip(states, actions, strict=True)]


@dataclass(frozen=True)
class Simulation:
    """Scores an action by what ``judge`` says of the path that ``depth`` steps in ``world`` lead along, ``policy``
    acting from the second step on."""

    world: World
    policy: Policy
    judge: Judge
    depth: int

    def __call__(self, states: list[Seen], actions: list[str], keys: list[int]) -> list[tuple[float, list[Seen]]]:
        paths = foresee(self.world, self.policy, states, actions, keys, depth=self.depth)
        return [(self.judge(path), path[1:]) for path in paths]


@dataclass(frozen=True)
class Alone:
    """Takes the turn that ``policy`` samples, without looking ahead."""

    policy: Policy

    def __call__(self, states: list[Seen], keys: list[int], _: int) -> list[Turn]:
        return [turn for [turn] in propose(self.policy, [state.prompt for state in states], keys, 1)]


@dataclass
class LookAhead:
    """Takes the best of the first ``k`` distinct actions of ``draws`` that ``policy`` samples, the first on ties.

    Where all draws agree there is nothing to decide and nothing is scored. ``decisions``: what was weighed, a
    record for each decision between several actions.
    """

    policy: Policy
    score: Score
    k: int
    draws: int
    decisions: list[dict] = field(default_factory=list)

    def __call__(self, states: list[Seen], keys: list[int], step: int) -> list[Turn]:
        drawn = propose(self.policy, [state.prompt for state in states], keys, self.draws)
        options = [distinct(turns, self.k) for turns in drawn]
        open_ = [(i, turn.text) for i, turns in enumerate(options) for turn in turns if len(turns) > 1]
        inner = [derive(keys[i], "option", text) for i, text in open_]
        told = self.score([states[i] for i, _ in open_], [text for _, text in open_], inner) if open_ else []
        weighed: dict[int, list[tuple[float, list[Seen]]]] = {}
        for (i, _), one in zip(open_, told, strict=True):
            weighed.setdefault(i, []).append(one)
        chosen = []
        for i, turns in enumerate(options):
            scores = [score for score, _ in weighed.get(i, [])]
            best = first_best(scores) if scores else 0
            chosen.append(turns[best])
            if scores:
                paths = [[[state.action, state.text] for state in path] for _, path in weighed[i]]
                self.decisions.append({"prompt": states[i].prompt[-1]["content"], "step": step, "chosen": best,
                                       "options": [turn.text for turn in turns], "scores": scores, "paths": paths})
        return chosen


@dataclass
class Votes:
    """Takes the most frequent of as many samples as ``allowance`` pays for: sampled tokens for all decisions of
    step 0, 1, … together; what one step leaves over or overdraws goes to the next ones. At least one sample.

    ``turn_tokens``: tokens a turn is expected to have before any was sampled.
    """

    policy: Policy
    allowance: Sequence[int]
    turn_tokens: float = 8.0
    spent: int = 0
    samples: int = 0

    def __call__(self, states: list[Seen], keys: list[int], step: int) -> list[Turn]:
        each = self.spent / self.samples if self.samples else self.turn_tokens
        left = sum(self.allowance[: step + 1]) - self.spent
        n = max(1, round(left / (each * len(states))))
        drawn = propose(self.policy, [state.prompt for state in states], keys, n)
        self.spent += sum(turn.n_tokens for turns in drawn for turn in turns)
        self.samples += n * len(states)
        return [voted(turns) for turns in drawn]


@dataclass
class Metered:
    """``decide``; ``tokens``: what ``engines`` sampled at step 0, 1, … for all decisions together."""

    decide: Decide
    engines: Sequence[Engine]
    tokens: list[int] = field(default_factory=list)

    def __call__(self, states: list[Seen], keys: list[int], step: int) -> list[Turn]:
        before = sum(engine.cost.sampled_tokens for engine in self.engines)
        turns = self.decide(states, keys, step)
        self.tokens.append(sum(engine.cost.sampled_tokens for engine in self.engines) - before)
        return turns


def act(env: Env, tasks: Sequence[Task], decide: Decide, *, keys: Sequence[int]) -> list[Trajectory]:
    """One episode a task, decided step by step for all that still run; episode i decides with ``derive(keys[i],
    "step", t)``. A decision that looks ahead by snapshots leaves no trace in the episodes."""
    states, reader = [], reader_of(env)
    for task in tasks:
        env.reset(task)
        states.append(Seen(env.prompt(), hidden=env.snapshot()))
    steps: list[list[Step]] = [[] for _ in tasks]
    going, t = list(range(len(states))), 0
    while going:
        turns = decide([states[i] for i in going], [derive(keys[i], "step", t) for i in going], t)
        for i, turn in zip(going, turns, strict=True):
            env.restore(states[i].hidden)
            answer = env.step(turn.text)
            steps[i].append(Step(states[i].prompt, turn, answer))
            if not answer.done:
                states[i] = Seen(env.prompt(), turn.text, reader.shown(answer), hidden=env.snapshot())
        going, t = [i for i in going if not steps[i][-1].observation.done], t + 1
    return [Trajectory(task.id, tuple(own)) for task, own in zip(tasks, steps, strict=True)]
