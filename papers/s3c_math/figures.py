"""S³c-Math's own part of its family's notebook: an answer with a step taken back, and which steps are."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from common.envs.retracting import remaining, written
from common.report.figures import plane
from common.report.show import code, source
from common.rows import MetricRow

LADDER = ("base", "rft", "s3c_unmasked", "s3c_uniform", "s3c", "whole")
COLUMNS = ("success", "greedy_success", "caught", "false_alarm", "tokens")
CURVES = ("loss", "logp", "grad_norm")
SHOWN = ("rft", "s3c", "whole")


def toy() -> list[str]:
    """An answer to 14, 5, 3 → 16, step by step."""
    text = "14 - 5 = 9 , no , 14 + 5 = 19 , 19 - 3 = 16"
    lines = [f"{one.step:13s} {'right' if one.right else 'wrong'}{', taken back' * one.retracted}" for one in written(text, [14, 5, 3], 16)]
    return [f"In `{text}` the word *no* takes back the step before it. A step is right when a right answer can still follow it:",
            source(remaining), code("\n".join([*lines, f"what remains: {remaining(text)}"]))]  # fmt: skip


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """Wrong first steps that are taken back against right ones that are."""
    metrics = (("false_alarm_first", "right first steps taken back"), ("caught_first", "wrong first steps taken back"))
    return ["First steps taken back, at whatever point of the answer. Whoever cannot tell lies on the dotted line.",
            plane(rows, [name for name in LADDER if name in variants], metrics, guide=((0, 1), (0, 1)))]  # fmt: skip
