"""Social deduction's own part of the multi-agent notebook: beliefs and credit by hand, what was believed after how many
messages, what messages are, games.

HTML takes its text and background colours from the page, so that it is legible in light and dark.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from common.envs.deduction import belief
from common.evaluate.stats import t_interval
from common.report import published
from common.report.examples import one_line, recorded_dialogues
from common.report.figures import BLUE, CYCLE, GREY, INK, MARKERS, RED, WIDTH
from common.report.show import code, source
from common.rows import MetricRow
from papers.social_deduction.maths import speaking_rewards

CREWS = ("base", "rl", "listen", "rl_listen", "rl_listen_speak", "rl_listen_speak_wm")
LADDER = ("silent", *CREWS, "honest")
COLUMNS = ("success", "greedy_success", "vote_acc", "ideal_success", "gain")
CURVES = ("reward", "belief", "truthful")
SHOWN = CREWS

Game = Sequence[Mapping[str, Any]]
"""Turns of one game: rows of :func:`papers.social_deduction.maths.records`."""
SPEECH = {
    "truthful": "reports a true sighting",
    "grammatical": "is grammatical",
    "ideal_success": "games ideal listeners\nof it would win",
}
"""What is measured of the crew's messages, by metric; shares."""


def toy() -> list[str]:
    """What an ideal listener makes of messages, and what two messages earn by the beliefs of three listeners."""
    heard, lines = [("green", "pink"), ("white", "blue"), ("blue", "pink")], []
    for k in range(4):
        thinks = belief.ideal("red", ("blue", "pink"), heard[:k])
        lines.append(f"{' names '.join(heard[k - 1]) if k else 'red saw blue and pink':22s}"
                     + "   ".join(f"{who} {p:.2f}" for who, p in thinks.items() if p))  # fmt: skip
    table = torch.tensor([[0.2, 0.3, 0.6], [0.4, 0.1, 0.5], [0.1, 0.7, 0.7]])
    lines.append(f"the two messages earn {[round(value, 2) for value in speaking_rewards(table, [0, 1]).tolist()]}")
    return [
        *map(source, (belief.ideal, speaking_rewards)),
        "By hand: what an ideal listener makes of messages (it trusts a crew member in nine of ten messages, and an "
        "impostor in none), then what two messages earn by the beliefs of three listeners, the first of whom speaks "
        "first, then the second.",
        code("\n".join(lines)),
    ]


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    """What the crew believe, and what their messages are worth to ideal listeners."""
    crews = published.present(rows, CREWS)
    return [
        "`silent` and `honest` are yardsticks: ideal listeners who hear nothing, and who hear every crew member name "
        "one of the two it saw. Does the crew believe the truth more after every message (listening), and are its "
        "messages such that an *ideal* listener would win (speaking)? Where the two differ, messages were not "
        "understood.",
        beliefs(rows, crews),
        speech(rows, crews),
    ]


def examples(artifacts: Path) -> list[Figure | str]:
    """Three games before and after training."""
    kept = {name: recorded_dialogues(artifacts, name) for name in ("base", "rl_listen", "rl_listen_speak")}
    if not all(kept.values()):
        return ["This unit kept no games on this machine."]
    parts: list[Figure | str] = [
        "Games before and after training, ✓ true and ✗ not (of a vote: for the impostor or not), and what each crew "
        "member believed of the true impostor after each message; `change` is the mean over the others, what the "
        "speaking reward pays. All variants meet the same random numbers.",
    ]
    for kind, task in contrasts(kept["base"], kept["rl_listen_speak"]):
        parts += [f"**{kind}**", viewer(kept, task)]
    return parts


# -- drawing -------------------------------------------------------------------------------------------------------


def beliefs(rows: Sequence[MetricRow], variants: Sequence[str], *, alone: float = 1 / 2) -> Figure:
    """Mean belief of the crew in the true impostor after 0, 1, … messages: a line a variant, 95 % t-intervals over
    seeds. Dashed: ``alone``, what an ideal listener believes who hears nothing."""
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained", facecolor="white")
    axes = figure.subplots()
    last = 0
    for number, variant in enumerate(variants):
        colour, points = CYCLE[number % len(CYCLE)], {}
        for row in rows:
            if row.variant == variant and row.metric.startswith("belief@"):
                points.setdefault(int(row.metric.removeprefix("belief@")), []).append(row.value)
        if not points:
            continue
        shift = 0.03 * (number - (len(variants) - 1) / 2)
        found = {k: t_interval(values) for k, values in sorted(points.items())}
        axes.plot([k + shift for k in found], [one.mean for one in found.values()], color=colour, lw=1.6, ms=5,
                  marker=MARKERS[number % len(MARKERS)], mec="white", mew=0.5, label=variant)
        for k, one in found.items():
            if one.low is not None:
                axes.plot([k + shift] * 2, [one.low, one.high], color=colour, lw=1.2)
        last = max(last, *found)
    if last:
        axes.axhline(alone, color=GREY, ls="--", lw=1)
        axes.annotate("own sightings alone, ideally", (0, alone), xytext=(2, 3), textcoords="offset points", fontsize=8,
                      color="#555555")
        figure.legend(loc="outside right center", frameon=False, fontsize=9)
    else:
        axes.text(0.5, 0.5, "nothing was measured yet", ha="center", transform=axes.transAxes)
    axes.set_xticks(range(last + 1))
    axes.set_ylim(0, 1)
    axes.set_xlabel("messages heard (number)")
    axes.set_ylabel("crew's belief in the\ntrue impostor (probability)")
    axes.grid(color="#e6e6e6", lw=0.8)
    return _plain(figure, rows)


def speech(rows: Sequence[MetricRow], variants: Sequence[str]) -> Figure:
    """What a message of the crew is (``SPEECH``), one line a variant: mean and 95 % t-interval over seeds."""
    figure = Figure(figsize=(WIDTH, 0.3 * len(variants) + 1.5), layout="constrained", facecolor="white")
    grid = figure.subplots(1, len(SPEECH), sharey=True)
    for axes, (metric, title) in zip(grid, SPEECH.items(), strict=True):
        for y, variant in enumerate(variants):
            values = [row.value for row in rows if (row.variant, row.metric) == (variant, metric)]
            if values:
                found, colour = t_interval(values), BLUE if y else GREY
                if found.low is not None:
                    axes.plot([found.low, found.high], [y, y], color=colour, lw=1.8, solid_capstyle="round")
                axes.plot([found.mean], [y], MARKERS[0 if y else 1], color=colour, ms=6, mec="white", mew=0.6)
                axes.annotate(f"{found.mean:.2f}", (1.0, y), xycoords=("axes fraction", "data"), xytext=(-2, 0),
                              textcoords="offset points", ha="right", va="center", fontsize=8, color="#444444")
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_xlim(0, 1.25)
        axes.set_xticks([0, 0.5, 1])
        axes.set_xlabel("share (rate in [0, 1])", fontsize=8)
        axes.set_yticks(range(len(variants)), variants, fontsize=8)
        axes.grid(axis="x", color="#e6e6e6", lw=0.8)
    return _plain(figure, rows)


def _plain(figure: Figure, rows: Sequence[MetricRow]) -> Figure:
    for axes in figure.axes:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    seeds = len({row.seed for row in rows})
    note = f"mean ± 95 % t-interval over {seeds} training seed{'s' * (seeds != 1)}"
    figure.supxlabel(note, fontsize=8, color="#555555")
    return figure


# -- games -----------------------------------------------------------------------------------------------------------


def contrasts(before: Mapping[str, Game], after: Mapping[str, Game]) -> list[tuple[str, str]]:
    """(what happened, task id), at most three, each task once: votes that training turned to the impostor, and votes
    that it turned away; the largest fall of belief by one message after training."""
    common = [task for task in after if task in before]

    def won(game: Game) -> bool:
        votes = [turn["right"] for turn in game if turn["kind"] == "vote"]
        return 2 * sum(votes) > len(votes)

    kinds = (
        ("most voted for somebody else before training, most for the impostor after",
         [task for task in common if not won(before[task]) and won(after[task])], 1),
        ("most voted for the impostor before training, not after",
         [task for task in common if won(before[task]) and not won(after[task])], -1),
        ("after training, the message that misled most", common, -1),
    )  # fmt: skip
    chosen: list[tuple[str, str]] = []
    for name, tasks, sign in kinds:
        rest = [task for task in tasks if task not in {other for _, other in chosen}]
        if rest:
            chosen.append((name, max(rest, key=lambda task: max(sign * change(turn) for turn in after[task]))))
    return chosen


def change(turn: Mapping[str, Any]) -> float:
    """Mean change of the other crew members' belief in the true impostor that a turn brought about."""
    moved = [after - before for who, before, after in zip(turn["listeners"], turn["before"], turn["after"], strict=True)
             if who != turn["who"]]  # fmt: skip
    return sum(moved) / len(moved)


def viewer(games: Mapping[str, Mapping[str, Game]], task: str) -> str:
    """The games of several variants at one task as HTML tables: who said what (✓ true, ✗ not; of a vote: for the
    impostor or not), what each crew member then believed of the true impostor, and by how much the others' mean belief
    changed."""
    parts = []
    for name, found in games.items():
        if task in found:
            parts.append(_table(name, found[task]))
    return "\n".join(parts) or f"<p>No game of {html.escape(task)} was kept.</p>"


def _table(name: str, game: Game) -> str:
    cell = "border:1px solid #8c8c8c;padding:3px 7px;text-align:left"
    listeners, impostor = game[0]["listeners"], game[0]["impostor"]
    heads = ["who", "says", *(f"{who} believes" for who in listeners), "change"]
    top = "".join(f"<th style='{cell}'>{html.escape(head)}</th>" for head in heads)
    caption = f"<b>{html.escape(name)}</b>: the impostor is {html.escape(impostor)}"
    lines = [f"<table style='border-collapse:collapse'><caption style='text-align:left'>{caption}</caption>",
             f"<tr>{top}</tr>"]  # fmt: skip
    for turn in game:
        mark, colour = ("✓", BLUE) if turn["right"] else ("✗", RED)
        who = f"{turn['who']} ({turn['role']})" if turn["role"] != "crew" else turn["who"]
        utterance = turn["text"] if turn["kind"] == "say" else f"votes {turn['text'] or 'for nobody'}"
        cells = [html.escape(who), f"<code>{one_line(utterance)}</code> {mark}"]
        if turn["kind"] == "say":
            cells += [f"{value:.2f}" for value in turn["after"]] + [f"{change(turn):+.2f}"]
        else:
            cells += [""] * (len(listeners) + 1)
        border = f"{cell};border-left:4px solid {colour}"
        lines.append("<tr>" + "".join(f"<td style='{border if k == 1 else cell}'>{text}</td>"
                                      for k, text in enumerate(cells)) + "</tr>")  # fmt: skip
    return "\n".join([*lines, "</table>"])
