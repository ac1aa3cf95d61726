"""What frontiers of reward against distance give, on points written here."""

from __future__ import annotations

from common.evaluate import frontier
from common.probes.game import named


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    one = [frontier.Point(0.5, 0.4), frontier.Point(1.0, 0.6), frontier.Point(2.0, 0.55), frontier.Point(3.0, 0.7)]
    two = [frontier.Point(0.4, 0.2), frontier.Point(1.5, 0.65)]
    corners = frontier.frontier(one, 0.3)
    found: dict[str, float | str] = {"frontier": repr(corners), "frontier.excess": frontier.excess(two[1], one, 0.3)}
    for name, numbers in frontier.compare({"one": one, "two": two}, 0.3).items():
        found |= named(f"frontier.{name}", numbers)
    apart = frontier.compare({"one": one, "two": [frontier.Point(5.0, 0.9)]}, 0.3)
    return found | {"frontier.apart": repr(apart), "frontier.below": repr(frontier.compare({"one": one, "two": two[:1]}, 0.3))}
