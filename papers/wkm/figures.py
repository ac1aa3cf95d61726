"""WKM's own part of its family's notebook: a mixture by hand, and what γ does."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from common.report.figures import ablation
from common.report.show import code, source
from common.rows import MetricRow
from papers.wkm.knowledge import Pairs, ShopReader, weights

LADDER = ("base", "sft", "sft_long", "task_shuffled", "task", "explicit", "task+shuffled", "task+gamma=0.7", "task+gamma=0.4", "task+gamma=0")
COLUMNS = ("greedy_success", "success", "greedy_invalid", "invalid", "greedy_length")
CURVES = ("loss", "logp", "grad_norm")
SHOWN = ("sft", "world", "task", "explicit")


def toy() -> list[str]:
    """One page, its description, what was done in such states, and the mixture."""
    page = "goal: soft sofa with color: red\ndid: 2\nvega sofa $19\nabout: soft\ncolor: red blue\nchosen: none\nbuy now, < prev, back to search"
    state = ShopReader().state(page)
    known = Pairs([(state, "2", "click[red]")] * 3 + [(state, "2", "click[< prev]")], 1).retrieve(state, "2")
    lines = [page, f"\nstate: {state}", f"P_know: {known}"]
    lines += [f"γ = {gamma}: weight of P_agent, and what P_know adds: {weights(known, gamma)}" for gamma in (1.0, 0.4, 0.0)]
    return ["State knowledge of a page, and how it is mixed with what the agent would do:", source(weights), code("\n".join(lines))]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:  # noqa: ARG001
    """Success and inadmissible actions by γ."""
    series = {"task": {1.0: "task", 0.7: "task+gamma=0.7", 0.4: "task+gamma=0.4", 0.0: "task+gamma=0"}}
    return ["Greedy success by γ: at 1 the agent acts alone, at 0 by what experts did in such states.",
            ablation(rows, series, xlabel="γ", metric="greedy_success"),
            "The share of inadmissible actions.", ablation(rows, series, xlabel="γ", metric="greedy_invalid")]  # fmt: skip
