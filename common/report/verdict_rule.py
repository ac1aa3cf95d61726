"""The picture of ``docs/verdicts.md``: how often the rule of verdicts is wrong, and how often it decides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from common.files import storage
from common.report.figures import BLUE, CYCLE, GREEN, INK, MARKERS, blank, despine

PICTURE = "docs/images/verdict_rule.png"


def draw(found: Mapping[str, Any]) -> Figure:
    """``found``: what ``common.evaluate.simulate.simulate`` returns."""
    figure = blank(3.6)
    wrong, supported, none = figure.subplots(1, 3)
    despine(figure)
    rates, cases = found["false_statements"], list(next(iter(found["false_statements"].values())))
    for i, (name, by_case) in enumerate(rates.items()):
        wrong.plot([x + 0.13 * (i - 1.5) for x in range(len(cases))], list(by_case.values()), MARKERS[i], color=CYCLE[i], ms=7, mec="white", mew=0.6, label=name)
    wrong.axhline(found["alpha"], color=INK, lw=0.8, ls="--")
    wrong.set_yscale("log")
    wrong.set_yticks([0.02, 0.05, 0.1, 0.2, 0.4], ["2 %", "5 %", "10 %", "20 %", "40 %"])
    wrong.minorticks_off()
    wrong.set_xticks(range(len(cases)), cases, fontsize=8)
    wrong.set_xlim(-0.5, len(cases) - 0.5)
    wrong.set_xlabel("true effects of the family")
    wrong.set_title("families with a false statement", fontsize=10)
    wrong.legend(fontsize=8, frameon=False, ncols=2, title="differences over seeds", title_fontsize=8, loc="center", bbox_to_anchor=(0.5, 0.58))
    for axes, key, colour, about, title in (
        (supported, "supported", BLUE, "effect / standard deviation", "says supported"),
        (none, "no_effect", GREEN, "margin / standard deviation", "says no effect, where there is none"),
    ):
        for look, (n, style) in enumerate(zip(found["looks"], ("--", "-"))):
            axes.plot(found["sizes"], [shares[look] for shares in found[key]], style, color=colour, lw=1.8, label=f"{n} seeds")
        axes.axhline(0.8, color="#bbbbbb", lw=0.8)
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1], ["0", "20 %", "40 %", "60 %", "80 %", "100 %"])
        axes.set_xlabel(about)
        axes.set_title(title, fontsize=10)
        axes.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def source(found: Mapping[str, Any]) -> str:
    """What the PNG text ``Source`` holds: it shows when a picture no longer follows from the numbers."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def write_picture(root: Path, found: Mapping[str, Any]) -> Path:
    path = root / PICTURE
    with storage(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(found).savefig(path, dpi=110, metadata={"Source": source(found), "Software": None})
    return path
