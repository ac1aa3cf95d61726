"""Votes over several answers to one task: by turn of one dialogue, or by independent first answers.

Answers are compared as they stand: two texts that mean the same are two candidates. In published
comparisons of RISE (arXiv 2407.18219, §5) ``m1@tk`` is the vote over k turns of one dialogue and ``maj@k``
the vote over k independent answers; both cost k samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from common.evaluate.correction import Attempts


def majority(answers: Sequence[str], correct: Sequence[bool]) -> float:
    """Expected correctness, in [0, 1], of the most frequent answer, ties broken uniformly at random.

    The expectation is exact, so neither the order of the answers nor a random number enters.
    """
    counts = Counter(answers)
    right = dict(zip(answers, map(bool, correct), strict=True))
    tied = [answer for answer, count in counts.items() if count == max(counts.values())]
    return sum(right[answer] for answer in tied) / len(tied)


def votes(attempts: Attempts) -> dict[str, float]:
    """Mean over tasks: ``vote``, correctness of the majority of each row, and ``any``, whether one is right."""
    rows = zip(attempts.answers, attempts.correct, strict=True)
    return {
        "vote": float(np.mean([majority(answers, right) for answers, right in rows])),
        "any": float(attempts.correct.any(1).mean()),
    }


def parallel(draws: Sequence[Attempts]) -> Attempts:
    """Independent draws of the same tasks as rows of first answers: [tasks, draws]."""
    answers = tuple(tuple(draw.answers[i][0] for draw in draws) for i in range(len(draws[0].answers)))
    return Attempts(np.stack([draw.correct[:, 0] for draw in draws], 1), answers)


def stacked(draws: Sequence[Attempts]) -> Attempts:
    """Draws concatenated, [draws · tasks, turns]: every dialogue is a row, those of one task are ``tasks`` rows apart."""
    return Attempts(np.concatenate([draw.correct for draw in draws]), tuple(a for draw in draws for a in draw.answers))
