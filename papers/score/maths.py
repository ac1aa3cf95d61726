"""Training data of SCoRe's supervised baselines, from sampled two-turn traces (paper §4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from common.evaluate.correction import Attempts
from common.learn.batches import SFTExample
from common.types import Trajectory


def star_examples(attempts: Attempts, episodes: Sequence[Trajectory]) -> list[SFTExample]:
    """Every right answer of the traces that end right: first ones that were kept or replaced by another right
    one, and second ones."""
    return [
        SFTExample(step.prompt, step.turn.text)
        for right, episode in zip(attempts.correct, episodes, strict=True)
        if right[-1]
        for good, step in zip(right, episode.steps, strict=True)
        if good and step.turn.finished
    ]


def pair_examples(
    attempts: Attempts, episodes: Sequence[Trajectory], *, most: int, turn: Callable[[str, str], str]
) -> list[SFTExample]:
    """Second turns after a wrong first answer, completed by a right first answer to the same task, as ``turn(right, wrong)`` says it.

    At most ``most`` per task; distinct wrong answers in the order sampled, right ones in turn.
    """
    wrong: dict[str, dict[str, Trajectory]] = {}
    right: dict[str, list[str]] = {}  # as they were written
    for said, good, episode in zip(attempts.answers, attempts.correct[:, 0], episodes, strict=True):
        if not good:
            wrong.setdefault(episode.task_id, {}).setdefault(said[0], episode)
        elif (text := episode.steps[0].turn.text) not in right.setdefault(episode.task_id, []):
            right[episode.task_id].append(text)
    return [
        SFTExample(episode.steps[1].prompt, turn(answers[i % len(answers)], answer))
        for task, answers in right.items()
        for i, (answer, episode) in enumerate(list(wrong.get(task, {}).items())[:most])
    ]
