"""The one picture of all verdicts: a line for each paper, a cell for each of its claims, for README and the site's front page.

A cell holds the claim's id, the sign of its verdict, the effect, signed so that positive speaks for the claim, and its interval.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from common.evaluate.tables import NANO
from common.report.figures import BLUE, GREY, INK, NOTE, RED, WIDTH

SIGNS = {"supported": "▲", "contradicted": "▼", "no effect": "=", "undecided": "○", "not testable here": "–"}
FILLS = {"supported": BLUE, "contradicted": RED, "no effect": "#bfe3d6", "undecided": "#ffffff", "not testable here": "#ececec"}
"""Dark for what speaks for or against a claim, light for the rest; printed without colour the signs tell them apart."""
DARK = ("supported", "contradicted")
FAMILIES = {"self_correction": "Self-correction", "tree_search_dpo": "Tree-search DPO",
            "multi_agent": "Multi-agent training", "world_models": "World models"}  # fmt: skip
NAMES = 2.9
"""Width of the papers' names, in cells."""


def shown(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Mapping[str, Any]]]]:
    """family → paper → records of nano policies in the first environment that has results: one a claim (its first panel), primary
    claims first, in the order of ``claims.yaml``."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {family: {} for family in FAMILIES}
    measured = [one for one in records if one["scale"] == NANO and one["effect"] is not None]
    for paper, mine in groupby(sorted(measured, key=lambda one: one["paper"]), key=lambda one: one["paper"]):
        mine = list(mine)
        claims: dict[str, Mapping[str, Any]] = {}
        for one in mine:
            if one["env"] == mine[0]["env"]:
                claims.setdefault(one["id"], one)
        found.setdefault(mine[0]["family"], {})[paper] = sorted(claims.values(), key=lambda one: not one["primary"])
    return {family: papers for family, papers in found.items() if papers}


def draw(records: Sequence[Mapping[str, Any]]) -> Figure:
    """``records``: those of ``results/claims/``."""
    families = shown(records)
    lines = sum(len(papers) + 0.5 for papers in families.values())
    across = max((len(claims) for papers in families.values() for claims in papers.values()), default=1)
    figure = Figure(figsize=(WIDTH + 1, 0.46 * lines + 0.7), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set_xlim(-NAMES, across)
    axes.set_ylim(lines + 0.6, -0.1)
    axes.axis("off")
    y = 0.0
    for family, papers in families.items():
        axes.text(-NAMES, y + 0.3, FAMILIES.get(family, family), fontsize=9, weight="bold", color=INK, va="center")
        y += 0.5
        for paper, claims in papers.items():
            seeds = max(one["n_seeds"] for one in claims)
            axes.text(-NAMES, y + 0.36, paper, fontsize=9, color=INK, va="center")
            axes.text(-NAMES, y + 0.72, f"{claims[0]['env']}, {seeds} seeds", fontsize=6.5, color=NOTE["color"], va="center")
            for x, claim in enumerate(claims):
                _cell(axes, x, y, claim)
            y += 1
    for x, (verdict, sign) in zip(_spread(across), SIGNS.items()):
        axes.add_patch(FancyBboxPatch((x, y + 0.2), 0.22, 0.26, boxstyle="round,pad=0,rounding_size=0.05", fc=FILLS[verdict], ec=GREY, lw=0.7))
        axes.text(x + 0.11, y + 0.33, sign, fontsize=7, ha="center", va="center", color="white" if verdict in DARK else INK)
        axes.text(x + 0.32, y + 0.33, verdict, fontsize=8, va="center", color=INK)
    axes.text(-NAMES, y + 0.33, "bold frame: primary claims", fontsize=8, va="center", color=INK)
    return figure


def source(records: Sequence[Mapping[str, Any]]) -> str:
    """What the PNG text ``Source`` holds: the hash of what is drawn."""
    return hashlib.sha256(json.dumps(list(map(dict, _flat(records))), sort_keys=True).encode()).hexdigest()


def _flat(records: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for papers in shown(records).values():
        for claims in papers.values():
            yield from claims


def _spread(across: int) -> list[float]:
    return [i * across / len(SIGNS) for i in range(len(SIGNS))]


def _cell(axes: Any, x: float, y: float, claim: Mapping[str, Any]) -> None:
    verdict = claim["verdict"]
    ink = "white" if verdict in DARK else INK
    box = FancyBboxPatch((x + 0.04, y + 0.06), 0.92, 0.88, boxstyle="round,pad=0,rounding_size=0.06", fc=FILLS[verdict],
                         ec=INK if claim["primary"] else GREY, lw=1.6 if claim["primary"] else 0.6)  # fmt: skip
    axes.add_patch(box)
    interval = "" if claim["ci_low"] is None else f"[{_short(claim['ci_low'])}, {_short(claim['ci_high'])}]"
    for text, down, size in ((f"{SIGNS[verdict]} {claim['id']}", 0.27, 7.5), (_short(claim["effect"]), 0.54, 7.5), (interval, 0.79, 5.8)):
        axes.text(x + 0.5, y + down, text, fontsize=size, ha="center", va="center", color=ink)


def _short(value: float) -> str:
    """Two digits after the point where there is room: +.10, −.05, +2.5."""
    text = f"{value:+.2f}" if abs(value) < 1 else f"{value:+.1f}"
    return text.replace("+0.", "+.").replace("-0.", "−.").replace("-", "−")
