"""What a decomposition of gains gives: levels by sampling and by a policy's own probabilities, and the parts of a change."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from common.evaluate import decompose
from common.evaluate.dialogues import dialogues
from common.probes.game import SUMS, Adding, Sums, named


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    judged, _ = dialogues(Sums(), SUMS, Adding(), seed=4, draws=3)
    return named("sampled", decompose.sampled_levels(judged).report()) | _levels()


def _levels() -> dict[str, float | str]:
    found, left_out = decompose.exact_levels(Sums(), SUMS, Adding(), floor=0.06)
    other = decompose.levels(np.array([0.2, 0.9]), np.array([0.1, 0.9]), np.array([0.3, 0.0]))
    numbers = named("levels", found.report()) | named("levels.other", other.report("x."))
    numbers |= {"levels.left_out": left_out, "levels.confidence": found.confidence, "levels.critique": found.critique}
    change, none = decompose.change(found, other), decompose.change(decompose.Levels(0.0, None, 0.5), other)
    return numbers | named("change", asdict(change)) | named("change.none", asdict(none)) | {"change.total": change.total}
