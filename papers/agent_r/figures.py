"""Agent-R's own part of its family's notebook: a revision by hand."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from common.report.figures import plane
from common.report.show import code, source
from common.rows import MetricRow
from papers.agent_r.revision import splice

LADDER = ("base", "start", "sft", "sft+retry", "unmasked_it1", "agent_r_it1", "agent_r_it2", "agent_r", "agent_r_once", "shuffled", "exact", "end")
COLUMNS = ("success", "greedy_success", "recovery", "greedy_recovery", "caught", "false_alarm", "loops", "judged")
CURVES = ("loss", "logp", "grad_norm")
SHOWN = ("sft_it1", "agent_r_it1", "agent_r_it3", "shuffled_it3", "end_it3")


def toy() -> list[str]:
    """One failed attempt, cut at its first error and at its end."""
    bad, path = ("9 - 4", "5 + 2"), ("9 + 4", "13 + 2")
    lines = [f"{name}: {', '.join(bad[:cut])} (no loss) | {', '.join(splice(bad, cut, path)[cut:])}"
             for name, cut in (("at the first error", 1), ("at the end", 2))]  # fmt: skip
    return ["15 from 9, 4 and 2. The failed attempt is 9 - 4, 5 + 2; it is revised", source(splice), code("\n".join(lines))]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    return ["First steps taken back where they were wrong (up) and right (right); on the line the policy cannot tell them apart. The others never take back.",
            plane(rows, [name for name in LADDER[4:] if name in variants],
                  (("false_alarm", "right steps"), ("caught", "wrong steps")), guide=((0, 1), (0, 1)))]  # fmt: skip
