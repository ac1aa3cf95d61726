"""WebEvolver's own part of the world-model notebook: dreams (imagined rollouts) by hand, its figures, its decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.evaluate.stats import t_interval
from common.report import figures, published, tables
from common.report.examples import compare_episodes, forecast_examples, read_records
from common.report.figures import CYCLE, GREY, MARKERS, WIDTH
from common.report.show import UNPRINTABLE, code, source
from common.rows import Label, MetricRow
from papers.webevolver import lookahead, maths
from papers.webevolver.judges import CountdownJudge
from papers.webevolver.method import PLANS

LADDER = ("start", "self_1", "self_2", "self_3", "blind", "webevolver", "webevolver+votes", "webevolver+d1", "webevolver+d2", "webevolver+real")
COLUMNS = ("success", "score", "invalid", "repeated", "truncated")
CURVES = ("loss", "grad_norm")
SHOWN = ("self_1", "self_3", "blind", "webevolver", "world_1", "world_3")
WORLDS = ("world_1", "world_2", "world_3", "world_blind")
LINES = {"imagined": {0: "webevolver", 1: "webevolver+d1", 2: "webevolver+d2"}, "blind": {2: "webevolver+blind"},
         "real pages": {0: "webevolver", 1: "webevolver+real_d1", 2: "webevolver+real"}}  # fmt: skip
BOUNDS = {"exact values": "webevolver+oracle", "votes": "webevolver+votes"}


def toy() -> list[Figure | str]:
    """Two dreams of a Countdown task, of which the judge accepts one, and what is learned from it."""
    judge, start = CountdownJudge(), "numbers 14 5 3 target 16"

    def seen(prompt: str, action: str = "", text: str = "") -> lookahead.Seen:
        return lookahead.Seen(({"role": "user", "content": prompt},), action, text, over=text.startswith("over"))

    paths = {"good": [seen(start), seen("numbers 19 3 target 16", "14 + 5", "numbers 19 3"), seen(start, "19 - 3", "over 16")],
             "poor": [seen(start), seen("numbers 9 3 target 16", "14 - 5", "numbers 9 3"), seen(start, "9 + 3", "over 12")]}  # fmt: skip
    lines = []
    for kind, path in paths.items():
        scores = [judge(path[: n + 1]) for n in range(1, len(path))]
        lines.append(f"{kind}: scores {scores}, learned {[row.completion for row in maths.dreamt_rows([path], judge)]}")
    return [
        *map(source, (CountdownJudge.standing, lookahead.foresee, maths.dreamt_rows)), code("\n".join(lines)),
        "A dream is only as good as its pages: where the world model writes that 9 + 3 makes 16, the dream is accepted, and what it "
        "teaches is wrong. That is why a *blind* model, trained as long with the page hidden, dreams too.",
    ]  # fmt: skip


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:  # noqa: ARG001
    """Foresight by depth beside success by depth of look-ahead; all ways of acting; what they cost."""
    acting = published.present(rows, ("webevolver", *(f"webevolver+{how}" for how in PLANS)), "planned_success")
    return [
        "A second step of look-ahead can only pay where the second page is foreseen; real pages are foreseen "
        "perfectly. All act with the same weights on the same tasks.",
        foresight_and_success(rows, WORLDS, LINES, BOUNDS),
        figures.ladder(rows, acting, metric="planned_success"),
        tables.cost_table(rows, acting),
        "Foresight by depth; `world_blind` shows how much can be written without seeing the page.",
        figures.depths(rows, published.present(rows, WORLDS, "tokens@1")),
    ]


def examples(artifacts: Path) -> list[Figure | str]:
    """What world models imagined beside what came, decisions that look-ahead changed, and tasks before and after."""
    parts: list[Figure | str] = forecast_examples(artifacts, ("world_3", "world_blind"))
    changed = telling(read_records(artifacts / "decisions.webevolver+d2.jsonl"))
    parts += ["Decisions that look-ahead changed, with what it imagined:", viewer(changed)] if changed else []
    return [*parts, *compare_episodes(artifacts, "self_3", "webevolver+d2")]


STYLE = """<style>.decisions{color:#222;background:#fff;border-collapse:collapse;font:13px/1.45 monospace;margin:.6em 0}
.decisions th,.decisions td{border:1px solid #ccc;padding:.4em .6em;text-align:left!important;vertical-align:top;
color:#222;background:#fff;white-space:pre-wrap;max-width:26em}
.decisions .taken td{background:#cfe8f7;font-weight:bold}</style>"""
"""White on both of JupyterLab's themes; the action taken is marked by weight as well as by colour."""


def foresight_and_success(
    rows: Sequence[MetricRow], worlds: Sequence[str], lines: Mapping[str, Mapping[int, str]],
    bounds: Mapping[str, str], *, metric: str = "meaning", success: str = "planned_success",
) -> Figure:
    """Left: ``<metric>@<depth>`` of each of ``worlds``; right: ``success`` by the depth of look-ahead.

    ``lines``: label → {depth: variant}, 0 being no look-ahead; ``bounds``: label → variant, drawn as dashed lines.
    Means with 95 % t-intervals over seeds; what was not run is left out.
    """
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    for k, world in enumerate(worlds):
        names = {int(Label.of(r.metric).at): r.metric for r in rows
                 if r.variant == world and Label.of(r.metric).stem == metric and r.metric != metric}  # fmt: skip
        _line(left, {d: _values(rows, world, name) for d, name in sorted(names.items())}, k, world)
    for k, (label, points) in enumerate(lines.items()):
        _line(right, {d: _values(rows, variant, success) for d, variant in points.items()}, k, label)
    for label, variant in bounds.items():
        values = _values(rows, variant, success)
        if values:
            level = t_interval(values).mean
            right.axhline(level, color=GREY, ls="--", lw=1)
            right.annotate(label, (1.01, level), xycoords=("axes fraction", "data"), ha="left", va="center", fontsize=8,
                           color="#555555")  # fmt: skip
    left.set(xlabel="depth: pages imagined one after the other", ylim=(0, 1.03),
             ylabel=f"pages whose {metric} for the\ngoal is foreseen (share)")  # fmt: skip
    right.set(xlabel="depth of look-ahead (0: none), steps", ylabel="success (share of tasks)")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color="#e6e6e6", lw=0.8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    figure.supxlabel("mean ± 95 % t-interval over training seeds", fontsize=8, color="#555555")
    return figure


def _values(rows: Sequence[MetricRow], variant: str, metric: str) -> list[float]:
    return [row.value for row in rows if (row.variant, row.metric) == (variant, metric)]


def _line(axes: Axes, points: Mapping[int, Sequence[float]], k: int, label: str) -> None:
    measured = {x: values for x, values in points.items() if values}
    if measured:
        figures.line_of_means(axes, measured, colour=CYCLE[k % 8], marker=MARKERS[k % 8], label=label, shift=0.03 * k)


def telling(decisions: Sequence[Mapping[str, Any]], *, most: int = 2) -> list[Mapping[str, Any]]:
    """The first decisions that the scores changed: another action than the first was taken; at most one a goal."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for one in decisions:
        if one["chosen"]:
            chosen.setdefault(one["prompt"].split("\n", 1)[0], one)
    return list(chosen.values())[:most]


def decision_html(decision: Mapping[str, Any]) -> str:
    """One decision as a table: a line for each action with what it was thought to lead to, and its score.

    ``decision``: prompt, options, scores, paths and chosen, as ``LookAhead.decisions`` has them. Nothing in the texts
    is interpreted as HTML.
    """
    lines = [f'<tr><th colspan="3">{_safe(decision["prompt"])}</th></tr>',
             "<tr><th>action</th><th>foreseen, action by action</th><th>score</th></tr>"]  # fmt: skip
    for i, (option, score, path) in enumerate(
        zip(decision["options"], decision["scores"], decision["paths"], strict=True)
    ):
        imagined = "\n".join(f"{'' if n == 0 else f'then {action}: '}{text}" for n, (action, text) in enumerate(path))
        mark = ' class="taken"' if i == decision["chosen"] else ""
        taken = " ← taken" if mark else ""
        lines.append(f"<tr{mark}><td>{_safe(option)}{taken}</td><td>{_safe(imagined)}</td><td>{score:g}</td></tr>")
    return f'<table class="decisions">{"".join(lines)}</table>'


def viewer(decisions: Sequence[Mapping[str, Any]]) -> str:
    """Several decisions, self-contained."""
    return STYLE + "".join(map(decision_html, decisions)) if decisions else "<p>No decision was kept.</p>"


def _safe(text: str) -> str:
    return escape(UNPRINTABLE.sub("", text))
