"""WKM's own part of its family's notebook: what γ does."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from common.report.figures import ablation
from common.rows import MetricRow

LADDER = ("base", "base+told", "base+home", "sft", "sft_long", "sft_long+gamma=0.7", "explicit", "task", "task+shuffled", "task+gamma=0.7",
          "task+gamma=0.4", "task+gamma=0")  # fmt: skip
COLUMNS = ("greedy_success", "success", "greedy_invalid", "invalid", "greedy_length")
CURVES = ("loss", "logp", "grad_norm")
SHOWN = ("sft", "world", "task", "explicit")


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:  # noqa: ARG001
    """Success and inadmissible actions by γ."""
    series = {"task": {1.0: "task", 0.7: "task+gamma=0.7", 0.4: "task+gamma=0.4", 0.0: "task+gamma=0"}}
    return ["Greedy success, then the share of inadmissible actions, by γ: at 1 the agent acts alone, at 0 by what experts did in such states.",
            *(ablation(rows, series, xlabel="γ", metric=metric) for metric in ("greedy_success", "greedy_invalid"))]  # fmt: skip
