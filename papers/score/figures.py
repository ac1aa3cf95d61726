"""SCoRe's own part of the self-correction notebook: its stages by hand, its figures, its examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from common.learn import policy_gradient as pg
from common.report import correction
from common.report.examples import dialogue_table, recorded_dialogues
from common.report.show import code, source
from common.rows import MetricRow

LADDER = ("base", "self_refine", "star", "pair_sft", "single_turn_rl", "stage2_only", "no_bonus", "score")
COLUMNS = ("acc@1", "acc@2", "delta", "i2c", "c2i", "copy")
CURVES = ("acc_1", "acc_2", "kl_1", "kl_2", "copy", "grad_norm")
SHOWN = ("base", "star", "single_turn_rl", "score")


def toy() -> list[str]:
    """Four samples of one task: what the stages pay, and what the baseline leaves of it."""
    lines = []
    correct = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    for name, weights, bonus in (("I", (0, 1), 0.0), ("II, α = 0", (1, 1), 0.0), ("II, α = 2", (1, 1), 2.0)):
        rewards = pg.turn_rewards(correct, weights=weights, bonus=bonus)
        advantages = pg.leave_one_out(rewards[None])[0]
        lines.append(f"stage {name}")
        for kind, reward, advantage in zip(("wrong, wrong", "repaired", "broken", "right, right"), rewards.tolist(),
                                           advantages.tolist(), strict=True):  # fmt: skip
            cells = [f"turn {k + 1}: reward {reward[k]:+.0f}, advantage {advantage[k]:+.2f}" for k in (0, 1)]
            lines.append(f"   {kind:13s} {'   '.join(cells)}")
    return [*map(source, (pg.turn_rewards, pg.leave_one_out, pg.policy_gradient_loss)), code("\n".join(lines))]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """The paper decodes greedily; beside the sampled results of the family."""
    return ["SCoRe reports greedy decoding; everything above was sampled, as the policies were trained. The same, decoded greedily:",
            correction.turns(rows, variants, prefix="greedy_")]  # fmt: skip


def examples(artifacts: Path) -> list[Figure | str]:
    """Dialogues on which the variants differ at the end."""
    return [dialogue_table({name: recorded_dialogues(artifacts, name) for name in SHOWN})]
