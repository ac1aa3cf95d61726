"""Examples: what a unit recorded, case by case, as tables for its notebook: episodes, dialogues, forecasts.

Records are JSON lines in the unit's folder of artifacts; exact values come from the environment's own solver. HTML takes
its colours from the page or brings its own, so that it is legible in light and dark; recorded texts are always escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from html import escape
from pathlib import Path
from typing import Any

from common.envs import load_panel, make
from common.envs.answers import declared
from common.envs.contract import Env
from common.envs.panels import PanelError
from common.report.figures import BLUE, RED
from common.report.show import DOLLAR, UNPRINTABLE, code
from common.report.tables import markdown
from common.types import Task

Record = Mapping[str, Any]
NO_RUN = "No run of this unit is in this machine's store, so there is nothing to look at: `make repro` runs it."


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines; empty when the unit wrote none."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def by_task(path: Path) -> dict[str, list[dict[str, Any]]]:
    """task id → its records in ``path``, in their order; empty when the unit wrote none."""
    records: dict[str, list[dict[str, Any]]] = {}
    for record in read_records(path):
        records.setdefault(record["task"], []).append(record)
    return records


def recorded_dialogues(artifacts: Path, variant: str) -> dict[str, list[dict[str, Any]]]:
    """task id → turns of the dialogue that the unit recorded of ``variant``."""
    return by_task(artifacts / f"dialogues.{variant}.jsonl")


# -- episodes --------------------------------------------------------------------------------------------


def episode_contrasts(
    before: Mapping[str, Sequence[Record]], after: Mapping[str, Sequence[Record]]
) -> list[tuple[str, str]]:
    """(what happened, task id), at most one of each kind: learned, lost, never solved, solved by both."""
    names = {(False, True): "failed before, solved after", (True, False): "solved before, failed after",
             (False, False): "failed before and after", (True, True): "solved before and after"}
    chosen: dict[tuple[bool, bool], str] = {}
    for task in before:
        if task in after:
            ends = tuple(one[task][-1]["reward"] >= 1.0 for one in (before, after))
            chosen.setdefault(ends, task)
    return [(names[ends], chosen[ends]) for ends in names if ends in chosen]


def trace(env: Env, task: Task, steps: Sequence[Record]) -> str:
    """An episode as a Markdown table, each action beside its exact Q* and the best there was (V*)."""
    lines = []
    env.reset(task)
    for step in steps:
        state, shown = env.snapshot(), env.prompt()[-1]["content"]
        q, value, best = env.q(state, step["action"]), env.value(state), env.oracle()
        mark = "" if q >= value - 1e-9 else " ✗"
        lines.append((step["step"] + 1, table_cell(shown, 240), f"{code_cell(step['action'], 60)}{mark}",
                      f"{q:.3f}", f"{value:.3f}", code_cell(best, 60)))  # fmt: skip
        env.step(step["action"])
    ending = f"Reward {steps[-1]['reward']:.3f} after {len(steps)} steps; ✗: worth less than the best action."
    return f"{markdown(('step', 'shown', 'action', 'Q*', 'V*', 'a best action'), lines)}\n\n{ending}"


def world(artifacts: Path) -> tuple[Env, dict[str, Task]] | None:
    """The environment of the unit that wrote ``artifacts``, and the tasks of its panels by id.

    None where the unit, its panels or what else its environment needs is not on this machine.
    """
    try:
        env = json.loads((artifacts.parent / "unit.json").read_text(encoding="utf-8"))["env"]
        data, tasks = artifacts.parents[3] / "data", {}  # runs/<paper>/<key>/artifacts
        for name in ("train", "validation", "test", "test_products"):
            with suppress(PanelError):  # not every environment has each of them
                tasks |= {task.id: task for task in load_panel(data, f"{env}/{name}")}
        return (make(env, data), tasks) if tasks else None
    except (OSError, LookupError, ValueError, PanelError):
        return None


def compare_episodes(artifacts: Path, before: str, after: str, *, last_line: bool = False, most: int = 3) -> list[str]:
    """Tasks on which two variants differ, and one that neither solves, as Markdown: each action beside exact values.

    ``last_line``: the action of a turn is its last line, and the first line that a policy wrote before it is shown
    below.
    """
    episodes = {name: by_task(artifacts / f"rollouts.{name}.jsonl") for name in (before, after)}
    env_and_tasks, chosen = world(artifacts), episode_contrasts(episodes[before], episodes[after])[:most]
    if not (env_and_tasks and chosen):
        return [NO_RUN]
    env, tasks = env_and_tasks
    parts = []
    for what, task in chosen:
        parts.append(f"### {what}: `{task}`")
        for name, own in episodes.items():
            acted = [step | {"action": declared(step["action"])} for step in own[task]] if last_line else own[task]
            first = [f"{step['step'] + 1}: {step['action'].strip().splitlines()[0]}" for step in own[task]
                     if last_line and "\n" in step["action"].strip()]  # fmt: skip
            parts += [f"`{name}`:", trace(env, tasks[task], acted)]
            parts += [code("\n".join(["written before the action", *first]))] if first else []
    return parts


# -- dialogues -------------------------------------------------------------------------------------------


def dialogue_table(dialogues: Mapping[str, Mapping[str, Sequence[Record]]], *, most: int = 8) -> str:
    """Dialogues of several variants on the same tasks as a Markdown table; ✓ and ✗ are the environment's.

    ``dialogues``: variant → :func:`recorded_dialogues`. Of long texts beginning and end. Tasks on which the variants' last answers
    differ in correctness come first. One line of text where no task has a dialogue of every variant.
    """
    shared = [task for task in next(iter(dialogues.values()), {}) if all(task in one for one in dialogues.values())]
    if not shared:
        return "No dialogues to show: this unit was not run on this machine."
    split = {task: len({one[task][-1]["correct"] for one in dialogues.values()}) for task in shared}
    chosen = sorted(shared, key=lambda task: -split[task])[:most]
    lines = []
    for task in chosen:
        cells = [" → ".join(f"{code_cell(_short(turn['answer']))} {'✓' if turn['correct'] else '✗'}" for turn in one[task])
                 for one in dialogues.values()]  # fmt: skip
        lines.append((table_cell(_short(next(iter(dialogues.values()))[task][0]["prompt"])), *cells))
    return markdown(("task", *dialogues), lines)


def dialogue_contrasts(
    before: Mapping[str, Sequence[Record]], after: Mapping[str, Sequence[Record]]
) -> list[tuple[str, str]]:
    """(what happened, task id), at most one of each kind and each task once: three chains worth reading.

    Repaired after training: the first answer is wrong, the verdict true, the last answer right. Lost: right at the
    end before, wrong after. Misled: after training a false verdict and a wrong last answer. Of two answers without a
    critique between them: repaired, or broken.
    """
    kinds = {
        "the trained team finds the mistake and repairs it": lambda b, a: a == (False, True, True) and not b[-1],
        "right at the end before training, wrong after": lambda b, a: b[-1] and not a[-1],
        "a false verdict, and a wrong answer after it": lambda b, a: a[1:] == (False, False),
        "the trained observer repairs what the pioneer answered": lambda b, a: a == (False, True),
        "the trained observer breaks what the pioneer answered": lambda b, a: a == (True, False),
        "wrong before, right after, at the first turn already": lambda b, a: a[0] and a[-1] and not b[-1],
    }
    chosen: list[tuple[str, str]] = []
    for name, fits in kinds.items():
        for task in before:
            if task in after and task not in {t for _, t in chosen}:
                ends = [tuple(bool(turn["right"]) for turn in chains[task]) for chains in (before, after)]
                if fits(*ends):
                    chosen.append((name, task))
                    break
    return chosen[:3]


def dialogue_viewer(dialogues: Mapping[str, Mapping[str, Sequence[Record]]], task: str) -> str:
    """The chains of several variants at one task as an HTML table: a line for each role, a column for each variant.

    ✓ and ✗ are the environment's: the answer is right, the critique's verdict is true. Words that differ from the
    first variant's are marked.
    """
    names = [name for name, one in dialogues.items() if task in one]
    if not names:
        return f"<p>No chain of {escape(task)} was kept.</p>"
    first = dialogues[names[0]][task]
    style = "border:1px solid #8c8c8c;padding:4px 8px;text-align:left;vertical-align:top"
    heads = "".join(f"<th style='{style}'>{escape(name)}</th>" for name in ("role", *names))
    caption = f"<caption style='text-align:left'><b>{one_line(first[0]['prompt'])}</b></caption>"
    lines = [f"<table style='border-collapse:collapse'>{caption}", f"<tr>{heads}</tr>"]
    for k, turn in enumerate(first):
        cells = [f"<td style='{style}'>{escape(turn['role'])}</td>"]
        for name in names:
            other = dialogues[name][task][k]
            mark, colour = ("✓", BLUE) if other["right"] else ("✗", RED)
            changed = " <i>(changed)</i>" if other["text"] != turn["text"] else ""
            cells.append(f"<td style='{style};border-left:4px solid {colour}'><code>{one_line(other['text'])}</code> "
                         f"{mark}{changed}</td>")  # fmt: skip
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table>"])


# -- forecasts of a world model --------------------------------------------------------------------------

FORECAST_STYLE = """<style>.imagined{color:#222;background:#fff;border-collapse:collapse;font:13px/1.45 monospace;margin:.6em 0}
table.imagined tr th,table.imagined tr td{border:1px solid #ccc;padding:.4em .6em;text-align:left!important;
vertical-align:top;color:#222;background:#fff;white-space:pre-wrap;max-width:26em}
.imagined del{background:#ffe3cc}
.imagined ins{background:#cfe8f7;font-weight:bold}</style>"""
"""White on both of JupyterLab's themes. Differences are marked by elements too: code hosts, and JupyterLab in notebooks that it did not run,
leave styles out."""

FORECAST_LEGEND = "<del>struck out</del>: imagined, not real; <ins>underlined</ins>: real, not imagined"


def marked(imagined: str, real: str) -> tuple[str, str]:
    """Both texts as HTML; words without a counterpart in the other text are in ``del`` and ``ins``."""
    one, other = _words(imagined), _words(real)
    sides: tuple[list[str], list[str]] = ([], [])
    for kind, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for side, name, part in ((sides[0], "del", one[a:b]), (sides[1], "ins", other[c:d])):
            text = escape(" ".join(part)).replace(" \n ", "\n").replace(" \n", "\n").replace("\n ", "\n")
            if part:
                side.append(text if kind == "equal" else f"<{name}>{text}</{name}>")
    return _joined(sides[0]), _joined(sides[1])


def forecast_html(one: Record) -> str:
    """One forecast as a table: a line for each action with the imagined and the real state after it.

    ``one``: task, prompt, actions, real and imagined, as ``Forecast.record`` has them. An imagination that ended
    early leaves its cells empty. Nothing in the texts is interpreted as HTML.
    """
    lines = [f'<tr><th colspan="3">{escape(UNPRINTABLE.sub("", one["prompt"]))}</th></tr>',
             "<tr><th>action</th><th>imagined</th><th>real</th></tr>"]  # fmt: skip
    for d, (action, real) in enumerate(zip(one["actions"], one["real"], strict=True)):
        imagined = one["imagined"][d] if d < len(one["imagined"]) else ""
        left, right = marked(imagined, real)
        lines.append(f"<tr><td>{escape(UNPRINTABLE.sub('', action))}</td><td>{left}</td><td>{right}</td></tr>")
    return f'<table class="imagined">{"".join(lines)}</table>'


def forecast_viewer(forecasts: Sequence[Record]) -> str:
    """Several forecasts under one legend, self-contained."""
    body = "".join(map(forecast_html, forecasts))
    return f'{FORECAST_STYLE}<div class="imagined">{FORECAST_LEGEND}</div>{body}' if forecasts else "<p>No forecast was kept.</p>"


def forecast_examples(artifacts: Path, names: Sequence[str]) -> list[str]:
    """For each of the world models ``names`` that the unit recorded, the states that it predicted beside the real ones."""
    forecasts = {name: records for name in names if (records := read_records(artifacts / f"forecasts.{name}.jsonl"))}
    return [part for name, records in forecasts.items()
            for part in (f"**`{name}`**", forecast_viewer(differing_forecasts(records, most=2)))]  # fmt: skip


def differing_forecasts(forecasts: Sequence[Record], *, most: int = 3) -> list[Record]:
    """The longest forecasts in which something was imagined wrong and something right, at most one a task."""
    def rank(one: Record) -> tuple[bool, int]:
        right = sum(text.split() == real.split() for text, real in zip(one["imagined"], one["real"]))
        return (0 < right < len(one["real"]), len(one["real"]))

    chosen: dict[str, Record] = {}
    for one in sorted(forecasts, key=rank, reverse=True):
        chosen.setdefault(one["task"], one)
    return list(chosen.values())[:most]


def _words(text: str) -> list[str]:
    return UNPRINTABLE.sub("", text).replace("\n", " \n ").split(" ")


def _joined(parts: Sequence[str]) -> str:
    """Parts with a space between them where no line ends."""
    text = ""
    for part in parts:
        text += part if not text or text.endswith("\n") or part.startswith("\n") else f" {part}"
    return text


# -- texts inside tables ---------------------------------------------------------------------------------


def table_cell(text: str, letters: int = 0) -> str:
    """``text`` as the words of one Markdown table cell, see :func:`_flat`."""
    return escape(_flat(text, letters), quote=False).replace("$", DOLLAR)


def code_cell(text: str, letters: int = 0) -> str:
    """As :func:`table_cell`, as code, in which nothing else is to be escaped."""
    return f"`{_flat(text, letters)}`"


def _flat(text: str, letters: int) -> str:
    """One line: with ``letters``, its line breaks shown and shortened to that many in the middle; else its words alone. Bars would
    end the cell, and backticks a code."""
    flat = " ⏎ ".join(text.split("\n")) if letters else " ".join(text.split()) or " "
    short = flat if not letters or len(flat) <= letters else f"{flat[: letters // 2]} … {flat[-letters // 2 :]}"
    return short.replace("|", "\\|").replace("`", "'")


def _short(text: str, most: int = 220) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} […] {text[-most // 2 :]}"


def one_line(text: str) -> str:
    """``text`` as one line of HTML inside Markdown, where a blank line would end the table and $ begin a formula."""
    return escape(" ".join(text.split())).replace("$", DOLLAR)
