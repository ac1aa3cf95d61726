"""SPPO's own part of its family's notebook: where three losses want to go, by hand, and where iterations went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from common.report.figures import ablation
from common.report.show import code, source
from common.rows import MetricRow
from papers.sppo.method import Condition, Learn, pulls

LADDER = ("start", "sppo@third=1", "sppo@third=2", "sppo", "sppo_all", "ipo", "dpo", "dpo_strong", "sppo_bt", "dpo_bt")
COLUMNS = ("exploitability", "exploitability_last", "return", "chosen")
CURVES = ("exploitability", "last", "chosen")
SHOWN = ("sppo", "ipo", "dpo", "dpo_strong", "sppo_bt", "dpo_bt")


def toy() -> list[str]:
    """One pair that was moved apart already; what each loss still asks for."""
    p = Learn(rounds=3, groups=1, k=5, steps=1, lr=0.1, eta=1.0, beta=2.0, beta_strong=2.0, tau=1.0)
    wins, lines = np.array([[0.9, 0.1]]), []
    for gains in ([0.0, 0.0], [0.4, -0.4], [0.0, -0.8], [-1.0, -3.0]):
        found = [f"{loss} [{', '.join(f'{0 - one:+.2f}' for one in pulls(Condition(loss, loss, beta=p.beta), np.array([gains]), wins, p)[0])}]"
                 for loss in ("sppo", "dpo", "ipo")]  # fmt: skip
        lines.append(f"log π/π_t = [{gains[0]:+.1f}, {gains[1]:+.1f}]   " + "   ".join(found))
    return ["The chosen arm won nine of ten comparisons, the rejected one of ten. By how much each loss would raise their log-probabilities: SPPO stops "
            "where both are in their place, DPO never does, and IPO looks at the distance alone, wherever both have gone:",
            source(pulls), code("\n".join(lines))]  # fmt: skip


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """Exploitability after each third of the iterations."""
    points = {third: f"sppo@third={third}" if third < 3 else "sppo" for third in (1, 2, 3)}
    return ["Exploitability of the mean policy after each third of the iterations.",
            ablation(rows, {"sppo": points}, xlabel="thirds of the iterations", metric="exploitability")]  # fmt: skip
