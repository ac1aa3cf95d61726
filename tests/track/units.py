"""A unit and a metric row for the tests of this folder."""

from dataclasses import replace

from common.rows import COST_FIELDS, MetricRow
from common.track.store import UnitSpec

UNIT = UnitSpec(
    paper="ladder", env="shop-v1", seed=3, profile="cpu", params='{"alpha":0.5,"search":{"depth":2}}', room="4003",
    layers={"engine": "e791e", "file:common/one.py": "f11e"}, data={"shop-v1/test": "da7a"}, base="ba5e", pins="9195", code="c0de",
    lock="10cc", digests={"engine": "d16e57", "room": "4003"})


def row(**changes) -> MetricRow:
    """A valid row of UNIT with some fields changed."""
    cost = {name: i for i, name in enumerate(COST_FIELDS)}
    return replace(MetricRow("ladder", "shop-v1", "cpu", "nano", "dpo", 3, "shop-v1/test", "success", 0.25, 40, cost),
                   **changes)
