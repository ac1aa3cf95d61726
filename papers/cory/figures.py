"""CORY's own part of the multi-agent notebook: its credit and frontiers by hand, its figures, its examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.evaluate.stats import t_interval
from common.learn.policy_gradient import leave_one_out
from common.report import tables
from common.report.examples import dialogue_contrasts, dialogue_viewer, recorded_dialogues
from common.report.figures import CYCLE, INK, MARKERS, WIDTH
from common.report.show import code, source
from common.rows import Label, MetricRow
from papers.cory.maths import Point, frontier, report

ABLATIONS = ("cory_reset", "cory_no_exchange", "cory_blind")
LADDER = ("base", "single", "single@eta=0.2", "single@eta=0.5", "cory", "cory@eta=0.2", "cory@eta=0.5", *ABLATIONS)
COLUMNS = ("success", "kl", "excess")
CURVES = ("acc_1", "acc_2", "kl_1", "kl_2")
SHOWN = ("single", "cory", *ABLATIONS)
DIALOGUES = ("base", "cory_no_exchange", "cory")


def toy() -> list[str]:
    """The credit of four dialogues of one question, and the frontiers of two methods."""
    lines = []
    rewards = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])  # r(a₁), r(a₂)
    pioneer, observer = (leave_one_out(rewards[:, k:].sum(1)[None])[0].tolist() for k in (0, 1))
    for both, first, second in zip(rewards.tolist(), pioneer, observer, strict=True):
        lines.append(f"r(a₁) = {both[0]:.0f}, r(a₂) = {both[1]:.0f}: both get {sum(both):.0f}; advantage of the "
                     f"pioneer {first:+.2f}, of the observer, who has read a₁, {second:+.2f}")  # fmt: skip
    methods = {"near": [Point(0.5, 0.3), Point(2, 0.5)], "far": [Point(1, 0.3), Point(3, 0.5)]}
    for name, found in report(methods, 0.2, upto=2.0).items():
        lines.append(f"{name:4s}: mean reward at equal KL, from 0 to 2 nats, {found['frontier_reward']:.3f}")
    return [*map(source, (leave_one_out, frontier, report)), code("\n".join(lines))]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """Reward against distance, the frontiers in numbers, and both agents of every pair."""
    curves = {method: [name for name in variants if Label.of(name).stem == method] for method in ("single", "cory")}
    others = [name for name in variants if name in ABLATIONS]
    both = ("success", "observer_success", "kl", "observer_kl", "acc@2", "cl", "cs", "copy")
    return [
        "Each mark is a trained policy: left is nearer to the base, up is better. A line is all that mixing a method's "
        "policies can reach. CORY's line should lie to the left of single-agent RL's; its ablations are single marks. "
        "One and the same η holds a summed reward half as firmly, so compare lines, not marks of equal η.",
        against_kl(rows, curves, others),
        tables.summary_table(rows, ("single_frontier", "cory_frontier"), ("frontier_reward",)),
        "`observer_…` is the agent that ended as observer, asked the question alone; `acc@2` is what it answers after "
        "the pioneer: it keeps right answers (`cl`), repairs wrong ones (`cs`) or copies.",
        tables.summary_table(rows, [name for name in ("base", *curves["cory"], *others) if name in variants], both),
    ]  # fmt: skip


def examples(artifacts: Path) -> list[Figure | str]:
    """Up to three dialogues before and after training: one repaired by the observer, one broken, one of the pioneer."""
    kept = {name: recorded_dialogues(artifacts, name) for name in DIALOGUES}
    chosen = dialogue_contrasts(kept["base"], kept["cory"])
    if not chosen:
        return ["No dialogues to show: this unit was not run on this machine, or training changed none of those kept."]
    return [part for kind, task in chosen for part in (f"**{kind}**", dialogue_viewer(kept, task))]


def against_kl(
    rows: Sequence[MetricRow], curves: Mapping[str, Sequence[str]], others: Sequence[str] = (), *, base: str = "base"
) -> Figure:
    """Success over KL to the base, a column for each panel; ``curves``: method → its variants, joined by their
    frontier (that of the means, from the base on), ``others``: variants that are points only.

    Marks are means over seeds with 95 % t-intervals both ways, small dots single seeds.
    """
    panels = sorted({row.panel for row in rows if row.metric == "kl" and row.variant != base})  # the base alone is no curve
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained", facecolor="white")
    columns = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    if not panels:
        columns[0].text(0.5, 0.5, "nothing was measured yet", ha="center", transform=columns[0].transAxes)
    for axes, panel in zip(columns, panels):
        mine = [row for row in rows if row.panel == panel]
        origin = Point(0.0, _mean(_values(mine, base, "success")))
        axes.plot(*origin, "o", color=INK, ms=7, label=base, ls="")
        for k, (method, variants) in enumerate(curves.items()):
            points = [point for variant in variants if (point := _mark(axes, mine, variant, k, method))]
            corners = frontier(points, origin.reward)
            if points:
                corners.append(Point(max([corners[-1].kl, *(p.kl for p in points)]), corners[-1].reward))
            axes.plot([p.kl for p in corners], [p.reward for p in corners], color=CYCLE[k], lw=1.6, zorder=1)
        for k, variant in enumerate(others, start=len(curves)):
            _mark(axes, mine, variant, k, variant)
        seeds = len({row.seed for row in mine})
        axes.set_title(f"{panel}, {seeds} seed{'s' * (seeds != 1)}", fontsize=10)
        axes.set_xlabel("KL to the base (nats an answer)")
        axes.grid(color="#e6e6e6", lw=0.8)
        axes.set_xlim(left=0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    columns[0].set_ylabel("success of one agent alone (share of tasks)")
    figure.legend(*columns[0].get_legend_handles_labels(), loc="outside upper left", ncols=6, frameon=False, fontsize=9)
    note = "mean ± 95 % t-interval over training seeds, both ways; small dots: single seeds; lines: frontiers"
    figure.supxlabel(note, fontsize=8, color="#555555")
    return figure


def _mark(axes: Axes, rows: Sequence[MetricRow], variant: str, k: int, label: str) -> Point | None:
    """One variant's mean with its intervals; its place, None where it was not run."""
    kls, rewards = (_values(rows, variant, metric) for metric in ("kl", "success"))
    if not kls:
        return None
    colour, label = CYCLE[k % 8], None if label in axes.get_legend_handles_labels()[1] else label
    across, up = t_interval(kls), t_interval(rewards)
    axes.plot(kls, rewards, "o", color=colour, alpha=0.35, ms=3, mew=0)
    if across.low is not None and up.low is not None:
        axes.plot([across.low, across.high], [up.mean] * 2, color=colour, lw=1.0)
        axes.plot([across.mean] * 2, [up.low, up.high], color=colour, lw=1.0)
    axes.plot([across.mean], [up.mean], MARKERS[k % 8], color=colour, ms=7, mec="white", mew=0.6, label=label, ls="")
    return Point(across.mean, up.mean)


def _values(rows: Sequence[MetricRow], variant: str, metric: str) -> list[float]:
    """By seed."""
    found = [row for row in rows if (row.variant, row.metric) == (variant, metric)]
    return [row.value for row in sorted(found, key=lambda row: row.seed)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
