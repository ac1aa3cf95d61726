"""MALT's own part of its family's notebook: credit by hand, a tree with its values, what each role does, dialogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from textwrap import wrap
from typing import Any

from matplotlib.figure import Figure

from common.envs.roles import ROLES
from common.learn import losses
from common.report import published, tables
from common.report.examples import by_task, dialogue_contrasts, dialogue_viewer, recorded_dialogues
from common.report.figures import BLUE, GREY, INK, MARKERS, RED, WIDTH, mean_on_line
from common.report.show import code, source
from common.rows import MetricRow
from common.types import Turn
from papers.malt import tree as credit
from papers.malt.tree import Branch, Expansion

NAMES = ("base", "trio", "rft", "star_trio", "malt_sft", "malt_sft_long", "malt_outcome", "malt")
LADDER = tuple(f"{name}{how}" for name in NAMES for how in ("+vote", "+vote_tok"))
COLUMNS = ("success", "agreement", "votes")
CURVES = ("loss", "reward_margin", "reward_accuracy", "logratio_chosen", "logratio_rejected", "grad_norm")
SHOWN = ("value.verifier.dpo", "value.refiner.dpo")

ALONE = ("success", "greedy_success", "delta", "copy")
TRIOS = ("trio", "star_trio", "malt_sft", "malt_outcome", "malt", "malt_base_g", "malt_base_v", "malt_base_r")
AUDIT = ("label_generator", "label_verifier", "pair_true", "pair_alike", "pairs_verifier", "pairs_refiner")
Branches = Sequence[Mapping[str, Any]]
"""One expansion: rows of :func:`papers.malt.tree.records`, parents before children."""
ASPECTS = {
    "acc@1": "generator\nanswer is right",
    "verifier_acc_right": "verifier\ncalls a right answer right",
    "verifier_acc_wrong": "verifier\ncalls a wrong answer wrong",
    "cl": "refiner\nkeeps a right answer right",
    "cs": "refiner\nrepairs a wrong answer",
    "success": "all\nfinal answer is right",
}
"""What is measured of each role, by metric."""


def toy() -> list[str]:
    """One generation, three critiques, nine last answers: three ways to label an utterance from outcomes."""
    one, lines = by_hand([[1, 1, 0], [1, 0, 0], [0, 0, 1]]), []  # rewards of the refinements, a row for each critique
    for branch, value, first in zip(one.branches, credit.values(one), credit.first_outcomes(one), strict=True):
        if branch.depth < 2:
            signs = {"value": value > 0.5, "one outcome": first == 1, "any": value > 0}
            lines.append(f"{'   ' * branch.depth}{branch.turn.text:11s} V = {value:.2f}   "
                         + "   ".join(f"{name}: {'+' if good else '-'}" for name, good in signs.items()))  # fmt: skip
    pairs = credit.sibling_pairs(one, [value > 0.5 for value in credit.values(one)], depth=1)
    lines.append(f"verifier's pairs by value: {[(pair.chosen, pair.rejected) for pair in pairs]}")
    return [
        *map(source, (credit.values, credit.first_outcomes, credit.sibling_pairs, losses.dpo_losses)),
        "By hand: one generation, three critiques, nine last answers. An utterance is labelled by its value above "
        "a half (MALT), by the outcome of the one trajectory that was followed, or by whether *any* trajectory "
        "through it ended right (what imitating all successful trajectories amounts to).",
        code("\n".join(lines)),
        "Critique 1 was lucky once: one outcome calls it good. The generation is right in 4 of 9, so V says no.",
    ]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """Single answers and chains, what each role does, and how true each rule of credit is."""
    train = [row for row in rows if row.panel.endswith("/train")]
    test = [row for row in rows if not row.panel.endswith("/train")]
    audited = [name for name in NAMES if any(row.variant == name for row in train)]
    return [
        "`+vote` elects one of equally many last answers; a trio's answer costs several times the tokens of a "
        "single agent's. With `+vote_tok` the single agent votes until it has spent as much. One answer, or one "
        "chain, each; `greedy_success` decodes greedily:",
        tables.summary_table(test, published.present(test, NAMES), ALONE),
        "Success mixes three roles. Does the generator answer better, does the verifier see more mistakes (or does "
        "it call everything right), does the refiner keep right answers and repair wrong ones? `malt_base_…` gives "
        "one role back to the base.",
        roles(test, published.present(test, TRIOS)),
        "How true is the credit? It knows outcomes; the environment knows which answers are right and which "
        "verdicts are true. `label_…`: share of labels that agree with the truth. `pair_true`: of the verifier's "
        "pairs whose verdicts differ in truth, the share that prefer the true one; `pair_alike`: the share in "
        "which both are equally true, noise for DPO.",
        tables.summary_table(train, audited, AUDIT),
    ]


def examples(artifacts: Path) -> list[Figure | str]:
    """The tree of one question, and three chains before and after training."""
    found = telling(list(by_task(artifacts / "trees.jsonl").values()))
    kept = {name: recorded_dialogues(artifacts, name) for name in ("trio", "malt_sft", "malt")}
    if not found or not all(kept.values()):
        return ["This unit kept no trees and chains on this machine."]
    parts: list[Figure | str] = [
        "One question's tree. Follow one answer to the right: what was said of it, what the refiners made of that, "
        "and the value that came back. A pair for DPO is a filled and a hollow mark under one parent. Look for a "
        "critique that is false and positive, or true and negative.",
        tree(found, ROLES),
        "Chains before and after training, ✓ right and ✗ wrong (of a critique: whether its verdict is true); all "
        "variants meet the same random numbers.",
    ]
    for kind, task in dialogue_contrasts(kept["trio"], kept["malt"]):
        parts += [f"**{kind}**", dialogue_viewer(kept, task)]
    return parts


# -- drawing -------------------------------------------------------------------------------------------------------


def telling(expansions: Sequence[Branches]) -> Branches | None:
    """The expansion to look at first: the one with most siblings of opposite labels, since from these DPO learns."""

    def split(branches: Branches) -> int:
        groups: dict[int, list[bool]] = {}
        for branch in branches:
            groups.setdefault(branch["parent"], []).append(branch["value"] > 0.5)
        return sum(any(labels) and not all(labels) for labels in groups.values())

    return max(expansions, key=split, default=None)


def tree(branches: Branches, roles: Sequence[str]) -> Figure:
    """An expansion from left to right, a column for each role; every utterance with its value V.

    Blue and a filled mark: positive (V > 0.5); red and a hollow one: not. Each branch is as high as its leaves.
    """
    heights = _heights(branches)
    leaves = sum(branch["depth"] == len(roles) - 1 for branch in branches)
    top = wrap(f"{branches[0]['prompt'] if branches else ''}   (filled: V > 0.5, imitated)", 100)
    height = 0.24 * max(leaves, 3) + 0.95 + 0.15 * len(top)
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    axes = figure.subplots()
    columns = (0.06, 0.30, 0.74)[: len(roles)]
    for i, branch in enumerate(branches):
        x, y, good = columns[branch["depth"]], heights[i], branch["value"] > 0.5
        left = columns[branch["depth"] - 1] if branch["depth"] else 0.0
        start = (left, heights[branch["parent"]])  # a parent of -1 is the root, whose height is the last
        axes.plot([start[0], x], [start[1], y], color=BLUE if good else "#c9c9c9", lw=1.0 if good else 0.7, zorder=1)
        axes.plot([x], [y], "o", color=BLUE if good else RED, mfc=BLUE if good else "white", ms=5, zorder=2)
        label = f"{_short(branch['text'], 44)}   V {branch['value']:.2f}"
        axes.annotate(label, (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=6.8, color=INK,
                      bbox={"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.85}, zorder=3)  # fmt: skip
    for x, role in zip(columns, roles):
        axes.annotate(role, (x, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 4), textcoords="offset points",
                      fontsize=9, fontweight="bold", color=INK)  # fmt: skip
    axes.set_xlim(-0.02, 1.0)
    axes.set_ylim(leaves - 0.4, -0.6)
    axes.axis("off")
    figure.suptitle("\n".join(top), fontsize=10, color=INK)
    return figure


def _heights(branches: Branches) -> list[float]:
    """Height of every branch, leaves at 0, 1, 2, … and others amid their children; the root's at the end."""
    children: dict[int, list[int]] = {}
    for i, branch in enumerate(branches):
        children.setdefault(branch["parent"], []).append(i)
    heights = [0.0] * (len(branches) + 1)  # the last entry is the root's, whose index is -1
    following = 0

    def place(i: int) -> float:
        nonlocal following
        below = children.get(i, [])
        if below:
            heights[i] = sum(map(place, below)) / len(below)
        else:
            heights[i], following = float(following), following + 1
        return heights[i]

    place(-1)
    return heights


def roles(rows: Sequence[MetricRow], variants: Sequence[str]) -> Figure:
    """What each role does (``ASPECTS``), one line a variant: mean and 95 % t-interval over seeds, small dots seeds."""
    figure = Figure(figsize=(WIDTH, 2 * (0.3 * len(variants) + 1.1)), layout="constrained", facecolor="white")
    grid = figure.subplots(2, 3, sharey=True)
    for k, (axes, (metric, title)) in enumerate(zip(grid.flat, ASPECTS.items(), strict=True)):
        for y, variant in enumerate(variants):
            values = [row.value for row in sorted(rows, key=lambda r: r.seed)
                      if (row.variant, row.metric) == (variant, metric)]  # fmt: skip
            if values:
                mean_on_line(axes, values, y, BLUE if y else GREY, MARKERS[0 if y else 1])
                axes.annotate(f"{fmean(values):.2f}", (1.0, y), xycoords=("axes fraction", "data"), xytext=(-2, 0),
                              textcoords="offset points", ha="right", va="center", fontsize=8, color="#444444")
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_xlim(0, 1.12)
        axes.set_yticks(range(len(variants)), variants, fontsize=8)
        axes.set_ylim(-0.6, len(variants) - 0.4)
        axes.grid(axis="x", color="#e6e6e6", lw=0.8)
        if k >= 3:
            axes.set_xlabel("share (rate in [0, 1])", fontsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    if not any(row.metric in ASPECTS and row.variant in variants for row in rows):
        grid[0][0].text(0.5, 0.5, "nothing was measured yet", ha="center", transform=grid[0][0].transAxes)
    seeds = len({row.seed for row in rows})
    note = f"mean ± 95 % t-interval over {seeds} training seed{'s' * (seeds != 1)}; small dots: single seeds"
    figure.supxlabel(f"{note}; square: before training", fontsize=8, color="#555555")
    return figure


def by_hand(rewards: Sequence[Sequence[float]]) -> Expansion:
    """An expansion of one generation without a model: a critique for each row, a refinement for each reward in it."""
    made = Expansion("toy")

    def add(depth: int, parent: int, text: str, reward: float | None) -> int:
        prompt = ({"role": "user", "content": "by hand"},)
        made.branches.append(Branch(depth, parent, prompt, Turn(text, -1.0, 1), reward))
        return len(made.branches) - 1

    top = add(0, -1, "generation", None)
    critiques = [add(1, top, f"critique {j}", None) for j in range(len(rewards))]
    for j, row in enumerate(rewards):
        for k, reward in enumerate(row):
            add(2, critiques[j], f"refinement {j}{k}", float(reward))
    return made


def _short(text: str, letters: int) -> str:
    flat = " ".join(text.split()).replace("$", "\\$")
    return flat if len(flat) <= letters else flat[: letters - 1] + "…"
