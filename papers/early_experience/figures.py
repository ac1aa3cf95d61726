"""Early Experience's own part of the world-model notebook: its rows of training by hand, its figures, its examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from common.report import figures, published
from common.report.examples import compare_episodes, forecast_examples
from common.report.show import code, source
from common.rows import MetricRow
from common.search.reader import CountdownReader
from common.search.transitions import Transition, Tried
from papers.early_experience import maths
from papers.early_experience.method import FORESEEING

LADDER = ("start", "iwm_world", "star", "imitation", "iwm", "sr", "imitation_eighth", "iwm_eighth",
          "imitation_rl", "iwm_rl", "sr_rl")  # fmt: skip
COLUMNS = ("success", "score", "invalid", "repeated", "truncated")
CURVES = ("loss", "grad_norm", "reward", "kl_1")
SHOWN = ("imitation", "iwm_world", "iwm", "sr", "star", "imitation_rl", "iwm_rl", "sr_rl")


def toy() -> list[Figure | str]:
    """One state of a demonstration, two other actions tried there, and the rows that each variant learns from it."""
    reader, prompt = CountdownReader(), ({"role": "user", "content": "numbers 14 5 3 target 16"},)
    tried = (Tried("14 - 5", "numbers 9 3"), Tried("3 - 14", reader.invalid))
    states = [Transition("toy", prompt, Tried("14 + 5", "numbers 19 3"), tried)]
    lines = [f"imitation   {[row.completion for row in maths.imitation_rows(states)]}"]
    lines += [f"world model {[message['content'] for message in row.prompt]} → {row.completion}" for row in maths.world_rows(states, 2, reader)]
    for name, invent in (("sr", lambda real: real), ("star", lambda real: real[::-1])):
        rows = maths.reflection_rows(states, 2, reader, invent=invent)
        lines.append(f"{name:11s} {[row.completion for row in rows]}")
    return [
        *map(source, (maths.try_others, maths.world_rows, CountdownReader.outcome)), code("\n".join(lines)),
        "In the last line, the STaR-style control, sentences and actions are the same, and what the other action led "
        "to was taken from another one. If it matters that reflections are true, `star` must fall behind `sr`.",
    ]  # fmt: skip


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:  # noqa: ARG001
    """Success by the share of demonstrations, and foresight by depth."""
    series = {kind: {0.125: f"{kind}_eighth", 1.0: kind} for kind in ("imitation", "iwm")}
    return [
        "Success against the share of demonstrated tasks: by the paper the lines should be further apart on the left.",
        figures.ablation(rows, series, xlabel="share of the demonstrated tasks"),
        "Foresight by depth. `start` and `imitation` were never trained to foresee: they show what chance "
        "gives.",
        figures.depths(rows, published.present(rows, FORESEEING, "tokens@1")),
    ]


def examples(artifacts: Path) -> list[Figure | str]:
    """What world models imagined beside what came, and tasks by imitation and by self-reflection."""
    return [*forecast_examples(artifacts, ("iwm_world", "iwm")), *compare_episodes(artifacts, "imitation", "sr", last_line=True)]
