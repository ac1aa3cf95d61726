"""Talks of two agents: a first answer, what the partner says of it, and last answers, judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """A last answer: whether it is ``right``, and whether it is the first one ``kept``."""

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


def scripted_talks(lab: Lab, answers: Sequence[tuple[Task, str]], manner: str) -> list[Talk]:
    """One talk about each answer, with a partner who always ``OBJECTS`` or always ``AGREES``, truly or falsely."""
    found = []
    for task, answer in answers:
        at(lab, task, answer)
        right, wanted = lab.env.score(answer) == 1.0, manner == AGREES
        options = [lab.env.critique(answer)] if right == wanted else lab.env.false_critiques(answer)
        options = [one for one in options if lab.env.verdict(one) == wanted]
        rng = generator(lab.seed, manner, task.id, answer)
        found.append(talk_of(lab, task, answer, options[rng.integers(len(options))]))
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
        found.append([Last(turn, lab.env.score(text) == 1.0, text == talk.answer) for turn, text in zip(turns, held, strict=True)])
    return found
