"""Confidence v.s. Critique's own part of the self-correction notebook: its rates by hand, its figures, its examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from common.evaluate.decompose import change
from common.report import correction
from common.report.examples import dialogue_table, recorded_dialogues
from common.report.show import code, source
from common.rows import MetricRow
from papers.confidence_critique.maths import levels

LADDER = ("base", "sft", "confidence", "critique", "mixture")
COLUMNS = ("acc@1", "acc@2", "cl", "cs", "rss", "prob_cl", "prob_cs", "prob_missing")
CURVES = ("loss", "logp", "grad_norm")
SHOWN = ("sft", "confidence", "critique", "mixture")
DIALOGUES = ("base", "confidence", "critique", "mixture")


def toy() -> list[str]:
    """Three questions, answered by a policy that is then tuned to keep its answers, or to replace them."""
    first = np.array([0.9, 0.5, 0.1])  # p_a of an easy, a middling and a hard question
    chances = {"base": ([0.9, 0.8, 0.5], [0.5, 0.3, 0.2]), "keeps": ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0]),
               "replaces": ([0.6, 0.5, 0.4], [0.7, 0.5, 0.3])}  # fmt: skip
    found = {name: levels(first, first * kept, (1 - first) * repaired) for name, (kept, repaired) in chances.items()}
    lines = [f"{name:9s} Acc₁ {one.acc_1:.2f}  CL {one.cl:.2f}  CS {one.cs:.2f}  Acc₂ {one.acc_1 + one.delta:.2f}  Δ "
             f"{one.delta:+.3f} = confidence {one.confidence:+.3f} and critique {one.critique:+.3f}"
             for name, one in found.items()]  # fmt: skip
    for name in ("keeps", "replaces"):
        moved = change(found["base"], found[name])
        lines.append(f"base → {name:9s} Δ changes by {moved.total:+.3f}: by CL {moved.confidence:+.3f}, by CS "
                     f"{moved.critique:+.3f}")  # fmt: skip
    return [*map(source, (levels, change)), code("\n".join(lines))]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """The rates of the probability mode, beside the sampled ones of the family."""
    text = ("Without sampling, from the policy's own probabilities of all listed answers (`prob_…`). At most "
            "`prob_missing` of its first answers are not listed.")
    return [text, correction.confidence_and_critique(rows, variants, prefix="prob_")]


def examples(artifacts: Path) -> list[Figure | str]:
    """Dialogues on which the variants differ at the end."""
    return [dialogue_table({name: recorded_dialogues(artifacts, name) for name in DIALOGUES})]
