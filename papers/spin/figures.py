"""SPIN's own part of the tree-search notebook: its equilibrium by hand, its figures, its answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from common.report import figures
from common.report.examples import dialogue_table, recorded_dialogues
from common.report.show import code, source
from common.rows import MetricRow
from papers.spin.method import divergence, games, play_loss

LADDER = ("sft", "sft_more", "spin_it1", "spin_it2", "spin_it3", "spin_it1@beta=1", "self_only")
COLUMNS = ("success", "kl_data", "play_loss", "told_apart")
CURVES = ("loss", "reward_margin", "logratio_chosen", "logratio_rejected")
SHOWN = ("sft", "sft_more", "spin_it1", "spin_it2", "spin_it3", "low_it1", "self_only_it1")


def toy() -> list[str]:
    """Three answers, of which the demonstrator writes two: where the best reply to the opponent lies at three values of β."""
    data, opponent = np.array([0.5, 0.5, 0.0]), np.array([0.6, 0.1, 0.3])
    lines = [f"p_data {data}   opponent {opponent}   loss at the opponent {play_loss(0.0, 1.0):.3f} = ln 2"]
    for beta in (0.5, 1.0, 5.0):
        reply = opponent * ((data + 1e-4) / opponent) ** (1 / beta)  # π ∝ π_t · (p_data / π_t)^(1/β)
        lines.append(f"β = {beta:3.1f}: best reply {np.round(reply / reply.sum(), 2)}")
    return [*map(source, (play_loss, games, divergence)), code("\n".join(lines))]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """The divergence from the demonstrator and the game, on tasks that were not trained on."""
    played = [name for name in variants if name.startswith(("spin", "self"))]
    return ["KL from the demonstrator's distribution, in nats; lower is closer:",
            figures.ladder(rows, variants, metric="kl_data"),
            "How often the main player tells demonstrations from the answers of its last opponent; 0.5 is chance:",
            figures.ladder(rows, played, metric="told_apart")]  # fmt: skip


def examples(artifacts: Path) -> list[Figure | str]:
    """Answers to tasks on which the variants differ."""
    return [dialogue_table({name: recorded_dialogues(artifacts, name) for name in LADDER})]
