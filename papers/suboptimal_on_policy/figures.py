"""Suboptimal, on-policy data's own part of its family's notebook: what each loss does to three arms, and where policies end."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from matplotlib.figure import Figure

from common.envs import make
from common.report.figures import BLUE, CYCLE, GREY, WIDTH
from common.report.show import code, source
from papers.suboptimal_on_policy import maths

LADDER = ("start", "bon_offline", "dpo_offline", "bon", "dpo", "pg", "ppo", "bon_reuse", "pg_reuse", "ppo_reuse")
COLUMNS = ("return", "return_auc", "kl_reference")
CURVES = ("return", "loss")
SHOWN = LADDER[1:]
PLANE = (("bon_offline", "bon"), ("dpo_offline", "dpo"), ("pg", "ppo"), ("pg_reuse", "ppo_reuse"))


def toy() -> list[str]:
    """One step of each loss from the same policy over four arms, of which three were drawn."""
    arms, rewards, lines = torch.tensor([[0, 1, 2]]), torch.tensor([[0.2, 0.6, 0.3]]), []
    start = torch.log(torch.tensor([[0.6, 0.2, 0.1, 0.1]]))
    before = torch.log(torch.tensor([[0.6, 0.15, 0.1]]))  # π when they were drawn, had the second arm risen by a third since
    losses = {"best of N": lambda logp: maths.best_of_n(logp, rewards),
              "DPO": lambda logp: maths.dpo(logp, start.gather(1, arms), rewards, beta=1.0),
              "REINFORCE": lambda logp: maths.reinforce(logp, rewards),
              "PPO": lambda logp: maths.clipped(logp, before, rewards, clip=0.2)}  # fmt: skip
    for name, loss in losses.items():
        logits = start.clone().requires_grad_()
        [slope] = torch.autograd.grad(loss(torch.log_softmax(logits, 1).gather(1, arms)), logits)
        after = torch.softmax(start - slope / slope.norm(), 1)[0].tolist()  # a step of length 1
        lines.append(f"{name:10s} [0.60, 0.20, 0.10, 0.10] → [{', '.join(f'{p:.2f}' for p in after)}]")
    return ["A policy over four arms drew the first three, with rewards 0.2, 0.6 and 0.3. A step of length 1 in its logits, by each "
            "loss: maximum likelihood takes from all others by their probability, also from the arm that nobody drew; the rest leave that one "
            "where it was, or raise it. PPO stands where the second arm has risen by a third since it was drawn: its own logit is not "
            "raised any further, it gains by what is taken from the others.",
            *map(source, (maths.best_of_n, maths.dpo, maths.reinforce, maths.clipped)), code("\n".join(lines))]  # fmt: skip


def examples(artifacts: Path) -> list[Figure | str]:
    """Where the probability went: mean policies over the test contexts, and what each arm is worth."""
    kept = {name: policy_of(artifacts, name) for name in LADDER}
    if not all(kept.values()):
        return ["This unit kept no policies on this machine."]
    env = make(json.loads((artifacts.parent / "unit.json").read_text(encoding="utf-8"))["env"], artifacts)
    return ["Probability of each arm in the mean over the test contexts, on a logarithmic axis; in the grey band are the arms worth having. "
            "What rises outside of it was the best of few draws by chance.", where_it_went(kept, env.best)]  # fmt: skip


def policy_of(artifacts: Path, variant: str) -> list[float]:
    """Mean probabilities of all arms that a run kept of ``variant``; empty when it kept none."""
    path = artifacts / f"policies.{variant}.jsonl"
    return json.loads(path.read_text(encoding="utf-8").splitlines()[0])["arms"] if path.exists() else []


def where_it_went(policies: dict[str, list[float]], best: int) -> Figure:
    """A picture for each pair of :data:`PLANE` beside the start. ``policies``: variant → probabilities of all arms; ``best`` arm."""
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained", facecolor="white")
    for axes, pair in zip(figure.subplots(2, 2, sharex=True, sharey=True).flat, PLANE, strict=True):
        axes.axvspan(best - 10, best + 10, color=GREY, alpha=0.25, lw=0, label="worth 1/e and more")
        for name, colour, style in (("start", BLUE, ":"), *((name, CYCLE[k + 1], "-") for k, name in enumerate(pair))):
            axes.step(range(len(policies[name])), policies[name], where="mid", color=colour, ls=style, lw=1.4, label=name)
        axes.set_yscale("log")
        axes.set_ylim(1e-4, 1.5)
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, columnspacing=1.0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.supxlabel("arm", fontsize=9)
    figure.supylabel("probability", fontsize=9)
    return figure
