"""Self-correction metrics: accuracy of each attempt at a task, and what changes between the first and the last.

One report for every method of the family. Input is a matrix of correctness, tasks × turns, and the
answers themselves; each turn is judged by the last answer it declares, never by its best one. For two
turns, with N tasks, c_k the set solved at turn k and Acc_k = |c_k| / N, these hold exactly:

    delta = i2c − c2i                       (SCoRe, arXiv 2409.12917, Table 2)
    i2c   = (1 − Acc_1) · CS
    c2i   = Acc_1 · (1 − CL)
    Acc_2 = Acc_1 · CL + (1 − Acc_1) · CS   (Confidence v.s. Critique, arXiv 2412.19513)

Confidence (CL) is keeping right answers, critique (CS) repairing wrong ones. What is undefined (CL when
nothing was right, CS when nothing was wrong, RSS at Acc_1 of 0 or 1) is absent, never a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.envs.answers import AnswerEnv
from common.types import Task, Trajectory


@dataclass(frozen=True)
class Attempts:
    """``correct`` [tasks, turns] and ``answers`` [tasks][turns]: what each turn declared, and whether it is right."""

    correct: np.ndarray
    answers: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        shape = (len(self.answers), len(self.answers[0]) if self.answers else 0)
        if self.correct.shape != shape or self.correct.dtype != bool or 0 in shape:
            raise ValueError(
                f"attempts: correct is {self.correct.dtype} {self.correct.shape} but must be bool {shape}, one entry "
                f"for each answer of at least one task; build it with attempts_of"
            )


def attempts_of(env: AnswerEnv, tasks: Sequence[Task], trajectories: Sequence[Trajectory]) -> Attempts:
    """Judge what every turn of episodes of equal length declares by ``env.score``, alone and on its own task.

    A turn that the token limit cut is judged like any other: what it declared is what stands there.
    """
    correct, answers = [], []
    for task, trajectory in zip(tasks, trajectories, strict=True):
        env.reset(task)
        attempts: list[str] = []
        for step in trajectory.steps:
            attempts.append(env.attempt(step.turn.text, attempts))
        declared = tuple(map(env.declared, attempts))
        answers.append(declared)
        correct.append([env.score(answer) >= 1.0 for answer in declared])
    return Attempts(np.array(correct, dtype=bool), tuple(answers))


def correction(attempts: Attempts) -> dict[str, float]:
    """Self-correction metrics of the first against the last turn; shares of all tasks unless noted.

    ``acc@k`` for every turn k; with two turns or more also ``delta`` = acc@last − acc@1; ``i2c`` and
    ``c2i``, wrong then right and right then wrong; ``cl`` and ``cs``, P(right last | right first) and
    P(right last | wrong first); ``rss``; ``copy``, the share of later turns that repeat the turn before
    verbatim; ``copy_wrong``, the share of wrong answers so repeated.
    """
    correct, turns = attempts.correct, attempts.correct.shape[1]
    metrics = {f"acc@{k + 1}": float(correct[:, k].mean()) for k in range(turns)}
    if turns == 1:
        return metrics
    first, last = correct[:, 0], correct[:, -1]
    metrics["delta"] = (int(last.sum()) - int(first.sum())) / len(first)
    metrics["i2c"] = float((~first & last).mean())
    metrics["c2i"] = float((first & ~last).mean())
    if first.any():
        metrics["cl"] = float(last[first].mean())
    if not first.all():
        metrics["cs"] = float(last[~first].mean())
    score = relative_score(metrics["acc@1"], metrics[f"acc@{turns}"])
    if score is not None:
        metrics["rss"] = score
    same = np.array([[now == before for before, now in zip(answers, answers[1:])] for answers in attempts.answers])
    metrics["copy"] = float(same.mean())
    if not correct[:, :-1].all():
        metrics["copy_wrong"] = float(same[~correct[:, :-1]].mean())
    return metrics


def relative_score(acc_1: float, acc_2: float) -> float | None:
    """RSS = (Acc_2 − Acc_1²) / (2·Acc_1·(1 − Acc_1)), None at Acc_1 of 0 or 1 (arXiv 2412.19513 and its code).

    0 is what an independent second draw that must also confirm the first would give (both right), 1 what
    either of two independent draws being right would give; it is ½ when Acc_2 = Acc_1. Not confined to [0, 1].
    """
    if not (0.0 <= acc_1 <= 1.0 and 0.0 <= acc_2 <= 1.0):
        raise ValueError(f"rss: Acc_1 {acc_1} and Acc_2 {acc_2} must lie in [0, 1]; give shares, not percentages")
    if acc_1 in (0.0, 1.0):
        return None
    return (acc_2 - acc_1**2) / (2 * acc_1 * (1 - acc_1))


def turn_records(attempts: Attempts, tasks: Sequence[Task], trajectories: Sequence[Trajectory]) -> list[dict]:
    """JSON-able rows, one a turn, to be read by people."""
    return [
        {"task": task.id, "turn": k + 1, "prompt": step.prompt[-1]["content"], "answer": attempts.answers[i][k],
         "correct": bool(attempts.correct[i, k])}
        for i, (task, trajectory) in enumerate(zip(tasks, trajectories, strict=True))
        for k, step in enumerate(trajectory.steps)
    ]  # fmt: skip
