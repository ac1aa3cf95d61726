"""SPR's own part of its family's notebook: losses by hand, learning curves, foresight by step, episodes as pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from common.envs import make
from common.envs.pixels import PixelEnv
from common.envs.panels import version
from common.evaluate.stats import t_interval
from common.report.figures import BLUE, CYCLE, GREEN, GREY, INK, MARKERS, ORANGE, PURPLE, RED, SKY, WIDTH
from common.report.show import code, source
from common.rows import Label, MetricRow
from papers.spr import maths

LADDER = ("random", "no_aug_rainbow", "no_aug_ema", "rainbow", "spr@K=1", "spr", "no_stop_grad", "scripted")
COLUMNS = ("return", "return_auc", "rank", "rank_projected", "match@1", "cosine@1")
CURVES = ("q_loss", "spr_loss", "grad_norm", "rank")
SHOWN = LADDER[1:-1]

PLANES = (BLUE, RED, ORANGE, SKY, GREEN, PURPLE)
"""Colour of each plane of a frame; where planes overlap, the first one is seen."""


def toy() -> list[Figure | str]:
    """The prediction loss of one window, effective ranks, and distributions put back onto the atoms."""
    foreseen = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [2.0, 2.0]]])
    came = torch.tensor([[[4.0, 3.0], [-5.0, 0.0], [0.1, 0.1]]])
    losses, ranks, moved = [], [], []
    for name, ended in (("no end", (0, 0, 0)), ("step 2 was the episode's last", (0, 1, 0))):
        mask = maths.within_episode(torch.tensor([ended]))
        losses.append(f"{name:30s} mask {mask[0].tolist()}   loss {maths.spr_loss(foreseen, came, mask).item():.2f}")
    noise = np.random.default_rng(0).normal(size=(200, 30))
    for name, matrix in (("30 directions, alike", noise), ("one large, 29 small", noise * ([10] + [0.3] * 29)),
                         ("the same for all states, and a little noise", 1 + 1e-3 * noise)):  # fmt: skip
        ranks.append(f"{name:45s} effective rank {maths.effective_rank(matrix):6.2f}")
    support, before = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([[0.2, 0.3, 0.5]])
    for reward, discount in ((0.0, 1.0), (0.5, 0.5), (0.25, 0.0), (2.0, 1.0)):
        after = maths.project(before, torch.tensor([reward]), torch.tensor([discount]), support)[0].tolist()
        moved.append(f"return {reward:4.2f}, discount {discount:.1f}: [0.2, 0.3, 0.5] on {support.tolist()} → "
                     f"{[round(p, 2) for p in after]}")  # fmt: skip
    game = make("catch-v1", "data")
    return [
        "The game: an observation is a stack of planes, where the paddle is, where the ball is and was. The steps of a "
        "rule written by hand:",
        film(scripted_play(game, 60), game.planes, game.actions, values="chosen (1) or not (0)"),
        *map(source, (maths.spr_loss, maths.within_episode)),
        "By hand, three steps of one window whose cosines are 24/25, −1 and 1:", code("\n".join(losses)),
        source(maths.effective_rank), code("\n".join(ranks)),
        "The Q-loss. A value is a distribution over 51 atoms, from −1 to 1 on Catch. Its target is the n-step return plus the "
        "discounted distribution of the state n steps on (the action chosen by the online weights, its distribution by "
        "the slow copy's), put back onto the atoms. An atom that falls between two gives to both:",
        *map(source, (maths.n_step, maths.project)), code("\n".join(moved)),
    ]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """Learning curves, and how far ahead each agent foresees."""
    lazy = [row.value for row in rows if (row.variant, row.metric) == ("random", "return")]
    lines = {"random": sum(lazy) / len(lazy)} if lazy else {}
    panels = {"return": "mean return (points an episode)", "rank": "effective rank of latents"}
    steps = "environment steps"
    return [
        "Mean return of greedy episodes along the environment steps, and the effective rank of the latents of the same "
        "256 states. First the ladder of depths, then the parts of SPR one by one.",
        along(rows, ("rainbow", "spr@K=1", "spr"), panels, xlabel=steps, references=lines),
        along(rows, ("spr", "no_stop_grad"), panels, xlabel=steps),
        along(rows, ("no_aug_rainbow", "no_aug_ema"), panels, xlabel=steps),
        "What is foreseen: the cosine of foreseen and true projection, k steps ahead, on stretches of play that no "
        "agent took part in. A high cosine proves nothing: after a collapse it is 1. Therefore beside it the share of "
        "the 256 foreseen that are nearest to *their own* future among all 256 (chance: 0.4 %). `rainbow` has a model "
        "as well, which was never trained.",
        along(rows, SHOWN, {"cosine": "cosine, foreseen and true", "match": "own future recognised (share)"},
              xlabel="steps ahead, k"),
    ]  # fmt: skip


def examples(artifacts: Path) -> list[Figure | str]:
    """The same episode, played greedily by three agents."""
    kept = {name: episodes(artifacts, name) for name in ("rainbow", "spr", "no_stop_grad")}
    if not all(kept.values()):
        return ["This unit kept no episodes on this machine."]
    game = make(json.loads((artifacts.parent / "unit.json").read_text(encoding="utf-8"))["env"], artifacts)
    parts: list[Figure | str] = [
        "The same episode seed, played greedily by three agents: the steps with reward and the last ones. Where bars "
        "are alike, the agent sees no difference between its actions. Does the one that loses the ball know that it is "
        "about to? (Its values should fall towards 0 before the end.)"]  # fmt: skip
    for name, (first, *_) in kept.items():
        parts.append(f"`{name}`: {sum(step['reward'] for step in first):g} points in the first {len(first)} steps")
        parts.append(film(first, game.planes, game.actions))
    return parts


# -- drawing -------------------------------------------------------------------------------------------------------


def by_number(rows: Sequence[MetricRow], variant: str, prefix: str) -> dict[int, list[float]]:
    """number → values over seeds of the metrics ``<prefix>@<number>`` of ``variant``, rising."""
    found: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: row.seed):
        label = Label.of(row.metric)
        if (row.variant, label.stem) == (variant, prefix) and label.at.isdecimal():
            found.setdefault(int(label.at), []).append(row.value)
    return dict(sorted(found.items()))


def along(
    rows: Sequence[MetricRow], variants: Sequence[str], panels: Mapping[str, str], *, xlabel: str,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """One line a variant along the number behind the @; a column for each entry of ``panels``, prefix → label of the
    y axis. Bands are 95 % t-intervals over seeds. ``references``, label → value, are drawn in the first column."""
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained", facecolor="white")
    columns = figure.subplots(1, len(panels), squeeze=False)[0]
    seeds = 0
    for axes, (prefix, label) in zip(columns, panels.items(), strict=True):
        for k, variant in enumerate(variants):
            points = by_number(rows, variant, prefix)
            if points:
                _band(axes, points, k, variant)
                seeds = max(seeds, *map(len, points.values()))
        axes.set_xlabel(xlabel)
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(color="#e6e6e6", lw=0.8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for name, value in (references or {}).items():
        columns[0].axhline(value, color=GREY, ls="--", lw=1)
        columns[0].annotate(name, (1.0, value), xycoords=("axes fraction", "data"), fontsize=8, color="#555555",
                            ha="right", va="bottom")  # fmt: skip
    handles, labels = columns[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=8)
    figure.supxlabel(f"mean and 95 % t-interval over {seeds} training seed{'s' * (seeds != 1)}" if seeds else
                     "nothing was measured yet", fontsize=8, color="#555555")  # fmt: skip
    return figure


def _band(axes: Axes, points: Mapping[int, Sequence[float]], k: int, label: str) -> None:
    found = {x: t_interval(values) for x, values in points.items()}
    xs, colour = list(found), CYCLE[k % len(CYCLE)]
    axes.plot(xs, [one.mean for one in found.values()], color=colour, marker=MARKERS[k % len(MARKERS)], ms=5, lw=1.6,
              ls="-" if k < len(CYCLE) else "--", label=label)  # fmt: skip
    whole = {x: one for x, one in found.items() if one.low is not None}
    if whole:
        axes.fill_between(list(whole), [one.low for one in whole.values()], [one.high for one in whole.values()],
                          color=colour, alpha=0.12, lw=0)  # fmt: skip


def scripted_play(game: PixelEnv, most: int) -> list[dict[str, Any]]:
    """Steps of one episode by the environment's rule, as :func:`film` draws them."""
    frame, seen, over = game.reset(1), [], False
    while not over and len(seen) < most:
        action = version(game.id).scripted(frame)
        after = game.step(action)
        seen.append({"cells": np.argwhere(frame).tolist(), "q": [float(a == action) for a in range(len(game.actions))],
                     "action": action, "reward": after.reward, "over": after.done})  # fmt: skip
        frame, over = after.planes, after.done
    return seen


def episodes(artifacts: Path, variant: str) -> list[list[dict[str, Any]]]:
    """The episodes that a run kept of ``variant``; empty when it kept none."""
    path = artifacts / f"episodes.{variant}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def chosen(steps: Sequence[Mapping[str, Any]], count: int) -> list[int]:
    """Indices of the steps to look at: those with reward first, then the last ones, in order."""
    order = sorted(range(len(steps)), key=lambda i: (steps[i]["reward"] == 0, -i))
    return sorted(order[:count])


def film(
    steps: Sequence[Mapping[str, Any]], planes: Sequence[str], actions: Sequence[str], *, count: int = 7,
    values: str = "Q-value\n(discounted points)",
) -> Figure:
    """Some steps of an episode, left to right: what the agent saw above, its Q-values below, the action taken dark.

    ``steps`` as :func:`episodes` reads them; ``planes`` and ``actions`` are the game's names; ``values`` says what
    the bars are.
    """
    picked = chosen(steps, count)
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained", facecolor="white")
    grid = figure.subplots(2, max(len(picked), 1), squeeze=False, height_ratios=[1.4, 1])
    if not picked:
        return figure
    colours = ListedColormap(["#f4f4f4", *PLANES[: len(planes)]])
    heights = [value for i in picked for value in steps[i]["q"]]
    low, high = min(0.0, *heights), max(0.0, *heights) * 1.1 + 1e-6
    for column, i in enumerate(picked):
        step, picture = steps[i], np.zeros((10, 10))
        for plane, y, x in sorted(step["cells"], reverse=True):
            picture[y, x] = plane + 1
        above, below = grid[0][column], grid[1][column]
        above.imshow(picture, cmap=colours, vmin=-0.5, vmax=len(planes) + 0.5, interpolation="nearest")
        above.set_title(f"step {i + 1}" + (f"\nreward {step['reward']:g}" if step["reward"] else
                                           "\nit ends" if step["over"] else "\n"), fontsize=8)  # fmt: skip
        above.set_xticks([0, 9])
        above.set_yticks([0, 9])
        above.tick_params(labelsize=7)
        bars = [INK if action == step["action"] else "#b5b5b5" for action in range(len(actions))]
        below.bar(range(len(actions)), step["q"], color=bars)
        below.set_xticks(range(len(actions)), actions, fontsize=8)
        below.set_ylim(low, high)
        below.tick_params(labelsize=7, labelleft=column == 0)
        for side in ("top", "right"):
            below.spines[side].set_visible(False)
    grid[0][0].set_ylabel("row (cells)")
    grid[0][0].set_xlabel("column (cells)", fontsize=8)
    grid[1][0].set_ylabel(values)
    grid[1][0].set_xlabel("action", fontsize=8)
    keys = [Patch(color=colour, label=name) for name, colour in zip(planes, PLANES, strict=False)]
    figure.legend(handles=keys, loc="outside upper left", ncols=len(keys), frameon=False, fontsize=8)
    return figure
