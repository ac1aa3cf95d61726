"""SPO's own part of its family's notebook: a cycle by hand, and where each method's probability ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from common.learn.preferences import bradley_terry, exploitability, softmax, win_rates
from common.report.figures import CYCLE, INK, WIDTH
from common.report.show import code, source
from papers.spo.method import hedge

LADDER = ("start", "spo@k=2", "spo", "spo@k=8", "rm", "rm_iterated", "spo_noise", "rm_noise", "rm_iterated_noise")
COLUMNS = ("exploitability", "exploitability_last", "return")
CURVES = ("exploitability", "last")
SHOWN = ("spo", "rm", "rm_iterated", "spo_noise", "rm_noise")
DRAWN = ("start", "rm", "rm_iterated", "spo")


def toy() -> list[str]:
    """Rock, paper, scissors: what a reward model makes of it, and what self-play does."""
    preference = np.array([[0.5, 0.1, 0.9], [0.9, 0.5, 0.1], [0.1, 0.9, 0.5]])  # paper beats rock, scissors paper, rock scissors
    first, second = np.array([0, 0, 0, 0, 1, 2]), np.array([1, 1, 1, 2, 2, 0])  # rock was compared more often: it was played more
    rewards = bradley_terry(np.zeros(3), first, second, preference[first, second], steps=500, lr=0.1, ridge=1e-3)
    lines = [f"fitted rewards of rock, paper, scissors: {', '.join(f'{one:+.2f}' for one in rewards)}"]
    for name, policy in (("the reward model's favourite", np.eye(3)[rewards.argmax()]), ("a mixture of all", np.full(3, 1 / 3))):
        lines.append(f"{name}: [{', '.join(f'{p:.2f}' for p in policy)}], exploitability {exploitability(preference, policy):.2f}")
    group = np.array([[0, 1]])  # rock and paper were drawn; paper won
    moved = softmax(hedge(np.zeros(3), group, win_rates(np.array([[0.0]]), 2) - 0.5, lr=0.3, floor=0.01))
    lines.append(f"self-play after a round of rock against paper: [{', '.join(f'{p:.2f}' for p in moved)}]")
    return ["No reward explains a cycle. A Bradley–Terry model fits one anyway, and which arm it prefers depends on what it was shown:",
            *map(source, (win_rates, hedge, bradley_terry, exploitability)), code("\n".join(lines))]  # fmt: skip


def examples(artifacts: Path) -> list[Figure | str]:
    """The policies that this unit ended with."""
    kept = {name: policy_of(artifacts, name) for name in DRAWN}
    if not all(kept.values()):
        return ["This unit kept no policies on this machine."]
    return ["Mean policies over the rounds. Arms 0 to 9 are the first mode, 10 to 19 the second, which beats it, 20 to 29 the third, which beats "
            "the second and is beaten by the first; within a mode arms get better to the right. In the cyclic game the minimax winner has a third on each mode's last arm.",
            where_it_went(kept)]  # fmt: skip


def policy_of(artifacts: Path, variant: str) -> list[float]:
    """The mean policy that a run kept of ``variant``; empty when it kept none."""
    path = artifacts / f"policies.{variant}.jsonl"
    return json.loads(path.read_text(encoding="utf-8").splitlines()[0])["mean"] if path.exists() else []


def where_it_went(policies: dict[str, list[float]]) -> Figure:
    """Bars of probability over arms, a row for each policy."""
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained", facecolor="white")
    for k, (axes, (name, policy)) in enumerate(zip(figure.subplots(len(policies), 1, sharex=True, sharey=True), policies.items(), strict=True)):
        axes.bar(range(len(policy)), policy, color=CYCLE[k % len(CYCLE)])
        axes.set_title(name, fontsize=9, loc="left")
        for edge in (9.5, 19.5):
            axes.axvline(edge, color=INK, lw=0.6, ls=":")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.supxlabel("arm", fontsize=9)
    figure.supylabel("probability", fontsize=9)
    return figure
