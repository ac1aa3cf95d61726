"""RISE's own part of the self-correction notebook: its weights and votes by hand, its figures, its examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from common.evaluate.stats import t_interval
from common.evaluate.votes import majority
from common.report.correction import panel_columns, seed_values
from common.report.examples import dialogue_table, recorded_dialogues
from common.report.figures import CYCLE, MARKERS
from common.report.show import code, source
from common.rows import MetricRow
from papers.rise.maths import reward_weight

LADDER = ("base", "rft", "rise_self_it1", "rise_self", "rise_filtered", "rise_once", "rise_distil")
COLUMNS = ("acc@1", "acc@5", "delta", "vote", "any", "parallel_vote", "parallel_any")
CURVES = ("loss", "logp", "grad_norm")
SHOWN = ("rft", "rise_self_it1", "rise_self", "rise_distil")
DIALOGUES = ("base", "rft", "rise_self", "rise_distil")


def toy() -> list[str]:
    """Weights at three values of τ, votes of five answers, and the accuracy turn by turn of two policies."""
    lines = []
    for tau in (0.1, 0.4, 10.0):
        ratio = reward_weight(1, tau) / reward_weight(0, tau)
        lines.append(f"τ = {tau:4.1f}: a right answer weighs {ratio:,.1f} times a wrong one")
    for answers in ("AAbcd", "AbbcA", "Abcde"):
        chance = majority(answers, [answer.isupper() for answer in answers])
        lines.append(f"votes {answers} (upper case is right): right with probability {chance:.2f}")
    for name, acc, cl, cs in (("forgets and guesses", 0.3, 0.6, 0.1), ("keeps, repairs little", 0.3, 0.95, 0.1)):
        path = [acc]
        for _ in range(4):
            path.append(path[-1] * cl + (1 - path[-1]) * cs)
        lines.append(f"{name:22s} {' → '.join(f'{p:.2f}' for p in path)}   limit {cs / (1 - cl + cs):.2f}")
    return [*map(source, (reward_weight, majority)), code("\n".join(lines))]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """All five turns, beside the votes of as many answers."""
    text = ("Five answers in a row against votes of as many answers: over the turns of one dialogue, and of "
            "independent first answers.")
    return [text, by_turn(rows, variants)]


def examples(artifacts: Path) -> list[Figure | str]:
    """Dialogues of five turns, first those on which the variants differ at the end."""
    return [dialogue_table({name: recorded_dialogues(artifacts, name) for name in DIALOGUES})]


def by_turn(rows: Sequence[MetricRow], variants: Sequence[str]) -> Figure:
    """Accuracy at each turn, a line for each variant with its t-intervals, a column for each panel.

    At the right of the last turn stand the votes of as many answers: over the turns (filled), in parallel (open).
    """
    figure, columns = panel_columns(rows, variants, "acc@1", 4.0)
    for axes, panel in columns:
        last = max(int(r.metric[4:]) for r in rows if r.panel == panel and r.metric.startswith("acc@"))
        for k, variant in enumerate(variants):
            colour, shift = CYCLE[k % 8], 0.05 * (k - len(variants) / 2)
            points = {t: seed_values(rows, panel, variant, f"acc@{t}") for t in range(1, last + 1)}
            shown = [t for t, values in points.items() if values]
            if not shown:
                continue
            axes.plot([t + shift for t in shown], [fmean(points[t]) for t in shown], MARKERS[k % 8], ls="-", lw=1.6,
                      color=colour, ms=5, label=variant)  # fmt: skip
            for t in shown:
                found = t_interval(points[t])
                if found.low is not None:
                    axes.plot([t + shift] * 2, [found.low, found.high], color=colour, lw=1.0)
            for at, metric, fill in ((last + 0.9, "vote", colour), (last + 1.8, "parallel_vote", "none")):
                values = seed_values(rows, panel, variant, metric)
                if values:
                    axes.plot([at + shift], [fmean(values)], MARKERS[k % 8], mfc=fill, mec=colour, ms=6)
        axes.set_xticks([*range(1, last + 1), last + 0.9, last + 1.8],
                        [*map(str, range(1, last + 1)), "vote\nof turns", "vote in\nparallel"])  # fmt: skip
        axes.set_xlabel(f"turn; at the right votes of {last} answers\n{panel}")
        axes.grid(axis="y", color="#e6e6e6", lw=0.8)
    if columns:
        columns[0][0].set_ylabel("accuracy (share of tasks)")
        handles, labels = columns[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure
