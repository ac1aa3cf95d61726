"""Probe of metrics over several answers to a task: self-correction, votes, and sampled dialogues."""

from __future__ import annotations

import numpy as np

from common.evaluate import correction, dialogues, votes
from common.probes.game import SUMS, Adding, Sums, named


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    judged, first = dialogues.dialogues(Sums(), SUMS, Adding(), seed=4, draws=3)
    correction.turn_records(judged[0], SUMS, first)  # for people: they must be made and may change
    values = named("dialogues", correction.correction(votes.stacked(judged))) | {"dialogues.first": repr([one.task_id for one in first])}
    return values | _corrections() | _votes()


def _attempts(*rows: str) -> correction.Attempts:
    """Rows such as "3- 3+ 4-": an answer, and whether it is right."""
    answers = [[word[:-1] for word in row.split()] for row in rows]
    right = np.array([[word[-1] == "+" for word in row.split()] for row in rows])
    return correction.Attempts(right, tuple(map(tuple, answers)))


THREE = _attempts("a- b+ b+", "c+ c+ d-", "e- e- f-", "g+ h- g+", "i- j- j-", "k+ k+ k+", "l- l+ l+", "m- n- o+")


def _corrections() -> dict[str, float | str]:
    values = named("correction", correction.correction(THREE))
    values |= named("correction.right", correction.correction(_attempts("a+ a+", "b+ c-")))
    values |= named("correction.once", correction.correction(_attempts("a+", "b-")))
    scores = {(a, b): correction.relative_score(a, b) for a, b in ((0.3, 0.5), (0.0, 0.5), (1.0, 0.5), (0.6, 0.1))}
    return values | {f"rss.{a}.{b}": -1.0 if score is None else score for (a, b), score in scores.items()}


def _votes() -> dict[str, float | str]:
    draws = [_attempts("a-", "b+", "c-"), _attempts("a-", "d-", "c-"), _attempts("e+", "b+", "f+")]
    values = named("votes", votes.votes(votes.parallel(draws))) | named("votes.turns", votes.votes(THREE))
    return values | {"majority.tied": votes.majority(["x", "y", "y", "x", "z"], [True, False, False, True, True])}
