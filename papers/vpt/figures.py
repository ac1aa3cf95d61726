"""VPT's own part of its family's notebook: what two and three frames tell, and what labels are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from common.envs import make
from common.report.figures import ablation
from common.report.show import code, source
from common.rows import Label, MetricRow
from papers.vpt.playing import causal, played

LADDER = ("random", "bc_labelled", "bc_pseudo", "bc_true", "rl_scratch", "rl_entropy", "rl_kl", "scripted")
COLUMNS = ("return", "greedy_return", "accuracy")
CURVES = ("return", "entropy", "kl")
SHOWN = ("rl_scratch", "rl_entropy", "rl_kl")


def toy() -> list[str]:
    """Three frames of an episode, the paddle's rows alone."""
    play = played(lambda: make("catch-streak-v1", "data"), [1], lambda before, now, _: [2] * len(now))
    lines = []
    for name, frame in (("before", play.before[2]), ("now", play.now[2]), ("after", play.after[2])):
        lines.append(f"{name:7s} paddle {''.join('#' if cell else '.' for cell in frame[0, 9])}   ball in row {np.argwhere(frame[1])[0][0]}, column "
                     f"{np.argwhere(frame[1])[0][1]}")  # fmt: skip
    return ["Which action was taken *now*? From the frame after it anybody can tell: the paddle moved to the right. From the frames before it, "
            "only who knows where the ball will land, and what this player does about it.", source(causal), code("\n".join(lines))]  # fmt: skip


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """Accuracy over labelled episodes, causal and not."""
    known = {int(at.removeprefix("labels=")) for row in rows if (at := Label.of(row.variant).at)}
    names = {"inverse dynamics: frames before and after": "idm", "behavioural cloning: frames before": "causal"}
    figure = ablation(rows, {name: {n: f"{kind}@labels={n}" for n in known} for name, kind in names.items()},
                      xlabel="labelled episodes", metric="accuracy")  # fmt: skip
    figure.axes[0].set_xscale("log", base=2)
    return ["Share of a held-out player's actions that are told, by the number of labelled episodes. Three actions in ten are slips, of "
            "which nobody can know beforehand: a perfect causal model is right in eight cases of ten.", figure]  # fmt: skip
