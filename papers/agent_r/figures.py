"""Agent-R's own part of its family's notebook: a revision by hand."""

from __future__ import annotations

from common.report.show import code, source
from papers.agent_r.revision import splice

LADDER = ("base", "unmasked_it1", "sft", "sft+retry", "agent_r_it1", "agent_r_it2", "agent_r", "agent_r_once", "shuffled", "exact", "end")
COLUMNS = ("success", "greedy_success", "recovery", "greedy_recovery", "caught", "false_alarm", "loops", "judged")
CURVES = ("loss", "logp", "grad_norm")
SHOWN = ("sft", "agent_r", "exact", "end")


def toy() -> list[str]:
    """One failed attempt, cut at its first error and at its end."""
    bad, path = ("9 - 4", "5 + 2"), ("9 + 4", "13 + 2")
    lines = [f"{name}: {', '.join(bad[:cut])} (no loss) | {', '.join(splice(bad, cut, path)[cut:])}"
             for name, cut in (("at the first error", 1), ("at the end", 2))]  # fmt: skip
    return ["15 from 9, 4 and 2. The failed attempt is 9 - 4, 5 + 2; it is revised", source(splice), code("\n".join(lines))]
