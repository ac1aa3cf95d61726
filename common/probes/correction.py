"""What is measured of answers, several to a task: corrections, votes, and dialogues that are sampled for them."""

from __future__ import annotations

import numpy as np

from common.evaluate import correction, dialogues, votes
from common.probes.game import SUMS, Adding, Sums, named


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    judged, first = dialogues.dialogues(Sums(), SUMS, Adding(), seed=4, draws=3)
    correction.records(judged[0], SUMS, first)  # for people: they must be made and may change
    found = named("dialogues", correction.correction(votes.stacked(judged))) | {"dialogues.first": repr([one.task_id for one in first])}
    return found | _corrections() | _votes()


def _attempts(*rows: str) -> correction.Attempts:
    """Rows such as "3- 3+ 4-": an answer, and whether it is right."""
    said = [[word[:-1] for word in row.split()] for row in rows]
    right = np.array([[word[-1] == "+" for word in row.split()] for row in rows])
    return correction.Attempts(right, tuple(map(tuple, said)))


THREE = _attempts("a- b+ b+", "c+ c+ d-", "e- e- f-", "g+ h- g+", "i- j- j-", "k+ k+ k+", "l- l+ l+", "m- n- o+")


def _corrections() -> dict[str, float | str]:
    found = named("correction", correction.correction(THREE))
    found |= named("correction.right", correction.correction(_attempts("a+ a+", "b+ c-")))
    found |= named("correction.once", correction.correction(_attempts("a+", "b-")))
    return found | {f"rss.{a}.{b}": -1.0 if (score := correction.relative_score(a, b)) is None else score for a, b in ((0.3, 0.5), (0.0, 0.5), (1.0, 0.5), (0.6, 0.1))}


def _votes() -> dict[str, float | str]:
    draws = [_attempts("a-", "b+", "c-"), _attempts("a-", "d-", "c-"), _attempts("e+", "b+", "f+")]
    found = named("votes", votes.votes(votes.parallel(draws))) | named("votes.turns", votes.votes(THREE))
    return found | {"majority.tied": votes.majority(["x", "y", "y", "x", "z"], [True, False, False, True, True])}
