"""Talks of two agents: a first answer, what the partner says of it, and last answers, judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.envs.answers import declared
from common.envs.versions.countdown_roles_v1 import INVALID
from common.envs.versions.countdown_worked_roles_v1 import KEEP
from common.lab import Lab
from common.lm.engine import Engine
from common.rng import derive, generator
from common.types import Message, Task, Turn

OBJECTS, AGREES = "objects", "agrees"


@dataclass(frozen=True)
class Talk:
    """What an agent reads before its last answer: its own first ``answer``, ``right`` or not, and what its partner ``said``."""

    task: Task
    answer: str
    right: bool
    said: str
    prompt: tuple[Message, ...]


@dataclass(frozen=True)
class Last:
    """A last answer: whether it is ``right``, and whether the agent ``kept`` its first one, by the word for it: who writes it again has
    answered anew."""

    turn: Turn
    right: bool
    kept: bool


def at(lab: Lab, task: Task, *turns: str) -> tuple[Message, ...]:
    """What the next to speak reads after ``turns``."""
    lab.env.reset(task)
    for turn in turns:
        lab.env.step(turn)
    return lab.env.prompt()


def first_answers(lab: Lab, engine: Engine, tasks: Sequence[Task], n: int, *use: str) -> list[tuple[Task, str]]:
    """``n`` first answers to each task, but for those that were cut."""
    drawn = lab.policy(engine).propose([at(lab, task) for task in tasks], lab.keys(tasks, *use), n)
    return [(task, turn.text) for task, turns in zip(tasks, drawn, strict=True) for turn in turns if turn.finished]


def sampled_talks(lab: Lab, engine: Engine, answers: Sequence[tuple[Task, str]], *use: str) -> list[Talk]:
    """A talk about each answer, with what the base model says of it."""
    keys = lab.keys([task for task, _ in answers], *use)
    said = lab.policy(engine).propose([at(lab, task, answer) for task, answer in answers], keys, 1)
    return [talk_of(lab, task, answer, turn.text) for (task, answer), [turn] in zip(answers, said, strict=True)]


def agreements(lab: Lab, answers: Sequence[tuple[Task, str]]) -> list[Talk]:
    """One talk about each answer, with a partner who says of all that they are right."""
    return [talk_of(lab, task, answer, f"makes {task.data['target']} right") for task, answer in answers]


def objections(lab: Lab, answers: Sequence[tuple[Task, str]]) -> list[Talk]:
    """One talk about each answer, with a partner who says of all that they are wrong: of a wrong one what it makes, of a right one what
    another task's wrong one makes, as far from the target. So the words alone tell nothing: objections to right and to wrong answers
    are equally often the word for an invalid one, and equally far off."""
    misses: list[int | None] = []
    for task, answer in answers:
        at(lab, task, answer)
        if lab.env.score(answer) != 1.0:
            value = lab.env.worth(answer)
            misses.append(None if value is None else value - task.data["target"])
    found = []
    for task, answer in answers:
        at(lab, task, answer)
        said = lab.env.critique(answer)
        if lab.env.score(answer) == 1.0:
            possible = [miss for miss in misses or [-1, 1] if miss is None or task.data["target"] + miss > 0]
            miss = possible[generator(lab.seed, "objection", task.id, answer).integers(len(possible))]
            said = INVALID if miss is None else f"makes {task.data['target'] + miss} wrong"
        found.append(talk_of(lab, task, answer, said))
    return found


def talk_of(lab: Lab, task: Task, answer: str, said: str) -> Talk:
    prompt = at(lab, task, answer, said)
    return Talk(task, answer, lab.env.score(answer) == 1.0, said, prompt)


def last_answers(lab: Lab, engine: Engine, talks: Sequence[Talk], n: int, *use: str, temperature: float = 1.0) -> list[list[Last]]:
    """``n`` last answers to each talk, judged."""
    keys = [derive(lab.seed, *use, i, talk.task.id) for i, talk in enumerate(talks)]
    drawn = lab.policy(engine, temperature).propose([talk.prompt for talk in talks], keys, n)
    found = []
    for talk, turns in zip(talks, drawn, strict=True):
        lab.env.reset(talk.task)
        held = [lab.env.attempt(turn.text, (talk.answer, talk.said)) for turn in turns]
        found.append([Last(turn, lab.env.score(text) == 1.0, declared(turn.text) == KEEP) for turn, text in zip(turns, held, strict=True)])
    return found
