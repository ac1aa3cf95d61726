"""VPT's own part of its family's notebook: what two and three frames tell, and what labels are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from common.envs import make
from common.evaluate.stats import t_interval
from common.report.figures import BLUE, ORANGE, WIDTH
from common.report.show import code, source
from common.rows import Label, MetricRow
from papers.vpt.playing import causal, played

LADDER = ("random", "bc_labelled", "bc_pseudo", "bc_true", "rl_scratch", "rl_entropy", "rl_kl", "scripted")
COLUMNS = ("return", "greedy_return", "accuracy")
CURVES = ("return", "entropy", "kl")
SHOWN = ("rl_scratch", "rl_entropy", "rl_kl")


def toy() -> list[str]:
    """Three frames of an episode, the paddle's rows alone."""
    play = played(lambda: make("catch-streak-v1", "data"), [1], lambda before, now: [2] * len(now))
    lines = []
    for name, frame in (("before", play.before[2]), ("now", play.now[2]), ("after", play.after[2])):
        lines.append(f"{name:7s} paddle {''.join('#' if cell else '.' for cell in frame[0, 9])}   ball in row {np.argwhere(frame[1])[0][0]}, column "
                     f"{np.argwhere(frame[1])[0][1]}")  # fmt: skip
    return ["Which action was taken *now*? From the frame after it anybody can tell: the paddle moved to the right. From the frames before it, "
            "only who knows where the ball will land, and what this player does about it.", source(causal), code("\n".join(lines))]  # fmt: skip


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """Accuracy over labelled episodes, causal and not."""
    return ["Share of a held-out player's actions that are told, by the number of labelled episodes. Three actions in ten are slips, of "
            "which nobody can know beforehand: a perfect causal model is right in eight cases of ten.", by_labels(rows)]  # fmt: skip


def by_labels(rows: Sequence[MetricRow]) -> Figure:
    """Means and 95 % t-intervals over seeds."""
    figure = Figure(figsize=(WIDTH * 0.6, 3.4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for kind, colour, name in (("idm", BLUE, "inverse dynamics: frames before and after"), ("causal", ORANGE, "behavioural cloning: frames before")):
        found: dict[int, list[float]] = {}
        for row in rows:
            label = Label.of(row.variant)
            if row.metric == "accuracy" and label.stem == kind:
                found.setdefault(int(label.at.removeprefix("labels=")), []).append(row.value)
        own = {n: t_interval(values) for n, values in sorted(found.items())}
        axes.errorbar(list(own), [one.mean for one in own.values()], color=colour, marker="o", label=name, capsize=3,
                      yerr=[0.0 if one.high is None else one.high - one.mean for one in own.values()])  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xlabel("labelled episodes")
    axes.set_ylabel("accuracy (share of actions)")
    axes.set_ylim(0.3, 1.0)
    axes.legend(frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
