"""B-STaR's own part of its family's notebook: the score by hand, and which temperatures were chosen."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from common.report.figures import ablation
from common.report.show import code, source
from common.rows import Label, MetricRow
from papers.b_star.method import balance

LADDER = ("base", "fixed_half", "fixed", "bstar_half", "bstar", "restart", "by_bs", "by_chance")
COLUMNS = ("success", "greedy_success", "distinct")
CURVES = ("loss", "logp", "grad_norm")
SHOWN = tuple(f"bstar.{iteration}" for iteration in range(1, 7))


def toy() -> list[str]:
    """bs of a question for which four right answers are wanted."""
    lines = [f"{kept} kept, {right} right: bs {balance(right, kept, 4):.2f}" for kept, right in ((4, 4), (8, 8), (1, 1), (8, 4), (8, 2), (0, 0))]
    return ["Four different right answers are wanted of each question. More than four are worth no more, and wrong ones among them make it worse:",
            source(balance), code("\n".join(lines))]  # fmt: skip


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """What one iteration reaches at each temperature."""
    known = {float(at.removeprefix("T=")) for row in rows if (at := Label.of(row.variant).at).startswith("T=")}
    return ["One iteration of fine-tuning on right answers sampled at each temperature: how often the model is right afterwards.",
            ablation(rows, {"one iteration": {t: f"one@T={t:g}" for t in known}}, xlabel="temperature of sampling")]  # fmt: skip
