"""Agent Q's own part of the tree-search notebook: its equations by hand, its figures, its trees, pairs and episodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.envs.contract import Env
from common.learn.losses import dpo_losses
from common.report import examples as cases
from common.report import figures, published
from common.report.figures import CYCLE, MARKERS
from common.report.show import code, source
from common.rows import MetricRow
from common.search import steps
from common.search.draw import draw_tree
from common.search.tree import Tree, load
from common.types import Task
from papers.agent_q.maths import audit, step_pairs

LADDER = ("base", "rft", "traj_dpo", "agent_q", "agent_q+mcts")
COLUMNS = ("success", "score", "length")
CURVES = ("loss", "reward_margin", "logratio_chosen", "logratio_rejected")
SHOWN = ("traj_dpo_r1", "traj_dpo", "agent_q_r1", "agent_q")


def toy() -> list[Figure | str]:
    """Two actions: a was tried three times and won twice at once, b was tried once and lost; the critic prefers b."""
    (wins_a, n_a), (wins_b, n_b) = (2.0, 3), (0.0, 1)
    rank_a, rank_b = steps.rank_to_value([2, 1], 2)
    q_a, q_b = steps.mix_q(wins_a / n_a, rank_a, 0.5), steps.mix_q(wins_b / n_b, rank_b, 0.5)
    bounds = [steps.ucb1(q, n, 4, c=0.5) for q, n in ((q_a, n_a), (q_b, n_b))]
    lines = [f"Q(a) = ½·{wins_a / n_a:.3f} + ½·{rank_a:g} = {q_a:.3f}",
             f"Q(b) = ½·{wins_b / n_b:g} + ½·{rank_b:g} = {q_b:.3f}",
             f"UCB1: a {bounds[0]:.3f}, b {bounds[1]:.3f}: b is tried next, and wins one step later"]  # fmt: skip
    path = steps.backup([0, 1, 2], reward=1.0, gamma=0.95)
    q_b = steps.mix_q((wins_b + path[1][1]) / (n_b + 1), rank_b, 0.5)
    lines += [f"backup (node, return) from root to leaf: {[(node, round(value, 4)) for node, value in path]}",
              f"now Q(b) = {q_b:.4f}; Q(b) − Q(a) = {q_b - q_a:.4f}: a pair at every θ below that"]  # fmt: skip
    stored = torch.log(torch.tensor([0.2, 0.6]))  # π_gen(b), π_gen(a)
    for p in (0.2, 0.4):  # π(b) before and after an update that takes the difference from a
        now = torch.log(torch.tensor([p, 0.8 - p]))
        loss = dpo_losses(now[:1], now[1:], stored[:1], stored[1:], beta=0.1, weights=torch.ones(1))
        lines.append(f"π(b) = {p}: loss {loss.item():.4f}" + (" = ln 2, as at the start" if p == 0.2 else ""))
    return [*map(source, (steps.mix_q, steps.ucb1, steps.backup, dpo_losses)), code("\n".join(lines))]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """Search at test time, budgets, the accuracy of pairs by θ, and α."""
    alphas = {"one round": {0.0: "agent_q_alpha0", 0.5: "agent_q_r1", 1.0: "agent_q_alpha1"}}
    return [
        "What search at test time adds to each policy on the same tasks, beside the best of n by the same critic:",
        figures.ladder(rows, published.acting(rows, variants), metric="planned_success"),
        "What each variant spent:",
        budget(rows, published.present(rows, variants)),
        "Each pair can be checked by exact action values: is the chosen action worth more? A larger threshold θ leaves "
        "fewer pairs. Below, α: the weight of the search's value against the critique, after one round.",
        figures.audit(rows, "agent_q@theta="),
        figures.ablation(rows, alphas, xlabel="α: weight of the search value against the critique"),
        figures.ablation(rows, alphas, xlabel="α", metric="pair_accuracy"),
    ]


def examples(artifacts: Path) -> list[Figure | str]:
    """A search tree, tasks before and after training, and pairs that exact values contradict."""
    found, known = trees(artifacts), cases.world(artifacts)
    if not found or known is None:
        return [cases.NO_RUN]
    theta = json.loads((artifacts.parent / "config.resolved.json").read_text(encoding="utf-8"))["learn"]["theta"]
    return [
        "Of the trees that the run kept, the one whose first actions differ most in value. Colour is Q, size the "
        "number of visits; hollow nodes were proposed and never tried, squares are finished episodes, the bold path is "
        "the most visited.",
        draw_tree(telling(found), max_nodes=24),
        *cases.compare_episodes(artifacts, "base", "agent_q"),
        "Pairs of which the search is sure and which exact values contradict: too few simulations, a lucky rollout, or "
        "the critic?",
        wrong_pairs(found, *known, theta=theta),
    ]


def budget(rows: Sequence[MetricRow], variants: Sequence[str]) -> Figure:
    """Success of each variant against the environment steps that it spent, means over seeds."""
    found = figures.by_panel(rows, variants, "success")
    figure, columns = figures.panel_axes(found, 3.8)
    for axes, (panel, by_variant) in zip(columns, found.items()):
        spent = {v: sum(r.cost["env_steps"] for r in mine) / len(mine) for v, mine in by_variant.items()}
        for variant, mine in by_variant.items():
            k = variants.index(variant) % len(CYCLE)
            figures.line_of_means(axes, {spent[variant]: [row.value for row in mine]}, colour=CYCLE[k], marker=MARKERS[k],
                                  label=variant, seeds=True)  # fmt: skip
        axes.set_xlim(left=-0.03 * max(1, *spent.values()))
        axes.set_title(panel, fontsize=10)
        axes.set_xlabel("env steps a seed,\nlearning and acting")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(color="#e6e6e6", lw=0.8)
    if found:
        columns[0].set_ylabel("success")
    handles = {label: line for axes in columns for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        order = [variant for variant in variants if variant in handles]
        figure.legend([handles[v] for v in order], order, loc="outside right center", frameon=False, fontsize=8)
    return figure


def trees(artifacts: Path) -> list[Tree]:
    """The search trees that a run kept, in order of round and number; empty when it kept none."""
    return [load(path) for path in sorted(artifacts.glob("tree.*.json"))]


def telling(trees: Sequence[Tree]) -> Tree | None:
    """The tree to look at first: one whose actions differ most in value, since there a search decides."""
    def spread(tree: Tree) -> float:
        values = [tree.q(child) for child in tree.nodes[0].children if tree.nodes[child].visits]
        return max(values) - min(values) if values else -1.0

    return max(trees, key=spread, default=None)


def wrong_pairs(trees: Sequence[Tree], env: Env, tasks: Mapping[str, Task], *, theta: float, most: int = 6) -> str:
    """Pairs of these trees that exact Q* contradicts, the worst first, as a Markdown table."""
    lines = []
    for tree in trees:
        for pair in step_pairs(tree, theta, tree.alpha):
            exact = audit([pair], env, [tasks[tree.task_id]], [tree]).exact_margins[0]
            if exact < -1e-9:
                sides = (cases.code_cell(text, 50) for text in (pair.chosen, pair.rejected))
                margins = (f"{pair.q_chosen - pair.q_rejected:+.2f}", f"{exact:+.2f}")
                cells = (cases.table_cell(pair.prompt[-1]["content"], 160), *sides, *margins)
                lines.append((exact, f"| {' | '.join(cells)} |"))
    if not lines:
        return f"No pair of these {len(trees)} trees is wrong at θ = {theta:g}."
    head = ["| state | chosen | rejected | ΔQ of the search | exact ΔQ* |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(line for _, line in sorted(lines)[:most])])
