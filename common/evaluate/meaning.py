"""What imagined states mean beside what the real ones mean: foresight by depth, of what decides actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from common.evaluate.imagination import Walk


def meanings(walks: Sequence[Walk], read: Callable[[str, str], str]) -> dict[str, float]:
    """``meaning@d`` for each depth d from 1: share of the states there that mean what the real ones mean.

    ``read(prompt text, state)`` says in a few words what a state means for the task of the walk's prompt. A walk that
    ended too early in imagination counts as wrong.
    """
    found: dict[int, list[bool]] = {}
    for walk in walks:
        prompt = walk.prompt[-1]["content"]
        for d, real in enumerate(walk.real):
            imagined = walk.imagined[d] if d < len(walk.imagined) else None
            same = imagined is not None and read(prompt, imagined) == read(prompt, real.after)
            found.setdefault(d + 1, []).append(same)
    return {f"meaning@{d}": fmean(same) for d, same in found.items()}
