"""Probe of the decomposition of gains: parts of one policy's accuracies, and of the change between two policies."""

from __future__ import annotations

from dataclasses import asdict

from common.evaluate import decompose
from common.probes.game import named


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    first, other = decompose.Levels(0.3, 0.8, 0.25), decompose.Levels(0.55, 0.9, 0.1)
    numbers = named("levels", first.report()) | named("levels.other", other.report("x."))
    numbers |= {"levels.confidence": first.confidence, "levels.critique": first.critique, "levels.delta": first.delta}
    change, none = decompose.change(first, other), decompose.change(decompose.Levels(0.0, None, 0.5), other)
    return numbers | named("change", asdict(change)) | named("change.none", asdict(none)) | {"change.total": change.total}
