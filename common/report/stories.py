"""What the notebooks tell about a run: results beside those published, trees, traces and curves.

Everything is read from files: ``results/``, a paper's ``claims.yaml`` and ``README.md``, and a run's
``artifacts/`` and ``events.jsonl``. Exact values come from the environment's own solver.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.envs import load_panel, make
from common.envs.answers import declared
from common.envs.contract import Env
from common.envs.panels import PanelError
from common.evaluate.claims import headline, load_claims  # noqa: F401 - notebooks ask for it here
from common.report.show import code
from common.rows import MetricRow, read_metrics
from common.sweep.unit import results_dir
from common.track.events import read_events
from common.types import Task

_ROUND = re.compile(r"r(\d+)/train/(\w+)")


def published(root: Path, paper: str, env: str, profile: str) -> tuple[list[MetricRow], str]:
    """Rows of ``results/<paper>/`` for ``env``, and a sentence on where they are from.

    Those of ``profile`` if there are any, else those of another profile, else none.
    """
    for folder in dict.fromkeys((results_dir(root, profile), root / "results")):
        rows = [row for path in sorted((folder / paper).glob("metrics*.jsonl")) for row in read_metrics(path)]
        rows = [row for row in rows if row.env == env]
        profiles = sorted({row.profile for row in rows}, key=lambda name: (name != profile, name))
        if profiles:
            rows = [row for row in rows if row.profile == profiles[0]]
            seeds = len({row.seed for row in rows})
            return rows, f"Published: {paper} on {env}, profile `{profiles[0]}`, {seeds} seed{'s' * (seeds != 1)}."
    how = f"python -m common run --paper {paper} --envs {env} --profile {profile}"
    return [], f"Nothing is published for {paper} on {env} yet; `{how}` computes it."


def together(own: Sequence[MetricRow], others: Sequence[MetricRow]) -> list[MetricRow]:
    """``others`` with the rows of this unit's seed replaced by ``own``; only those of the same profile join.

    For a unit with overrides pass no others: its numbers belong to another setting.
    """
    if not own:
        return list(others)
    kept = [row for row in others if row.profile == own[0].profile and row.seed != own[0].seed]
    return [*kept, *own]


def claim_groups(path: Path) -> dict[str, list[str]]:
    """``D2.4`` → its variants from the bottom of the ladder to the top, for every group of claims.

    A claim's group is its id without the trailing letter. Order: by how many "better than" steps lie between
    a variant and the top, then as in the file; differences "x - y" are read as both of their variants.
    """
    groups: dict[str, dict[str, set[str]]] = {}
    for claim in load_claims(path).claims:
        above = groups.setdefault(claim.id.rstrip("abcdefghijklmnopqrstuvwxyz"), {})
        for variant in claim.variants:
            above.setdefault(variant, set())
        if len(claim.better) == 1:
            above[claim.worse[0]].add(claim.better[0])
    return {name: sorted(above, key=lambda variant: -_steps_to_top(variant, above)) for name, above in groups.items()}


def _steps_to_top(variant: str, above: Mapping[str, set[str]], seen: tuple[str, ...] = ()) -> int:
    higher = [v for v in above[variant] if v not in seen]
    return 1 + max(_steps_to_top(v, above, (*seen, variant)) for v in higher) if higher else 0


def present(rows: Iterable[MetricRow], variants: Sequence[str], metric: str = "success") -> list[str]:
    """Those of ``variants`` that have rows of ``metric``, in their order."""
    known = {row.variant for row in rows if row.metric == metric}
    return [variant for variant in variants if variant in known]


def acting(rows: Iterable[MetricRow], policies: Sequence[str]) -> list[str]:
    """Each of ``policies`` that was also tested with search, and after it its ``+bon`` and ``+mcts``."""
    known = {row.variant for row in rows}
    return [f"{policy}{how}" for policy in policies for how in ("", "+bon", "+mcts")
            if f"{policy}+mcts" in known and f"{policy}{how}" in known]


def section(path: Path, title: str) -> str:
    """The text of a Markdown file under the heading ``title``, without it; "" when there is none."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)
    return found[1].strip() if found else ""


def training_points(events: Path) -> list[dict[str, Any]]:
    """Records with variant, round, update, metric, value: what the trainer logged after each update."""
    points = []
    for event in read_events(events):
        for name, value in event["metrics"].items():
            found = _ROUND.fullmatch(name)
            if found:
                points.append({"variant": event["variant"], "round": int(found[1]), "update": event["step"],
                               "metric": found[2], "value": value})
    return points


def episodes(artifacts: Path, variant: str) -> dict[str, list[dict[str, Any]]]:
    """task id → steps of the episode that the run kept of ``variant``; empty when it kept none."""
    path, found = artifacts / f"rollouts.{variant}.jsonl", {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        step = json.loads(line)
        found.setdefault(step["task"], []).append(step)
    return found


def contrasts(
    before: Mapping[str, Sequence[Mapping[str, Any]]], after: Mapping[str, Sequence[Mapping[str, Any]]]
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


def trace(env: Env, task: Task, steps: Sequence[Mapping[str, Any]]) -> str:
    """An episode as a Markdown table, each action beside its exact Q* and the best there was (V*)."""
    lines = ["| step | shown | action | Q* | V* | a best action |", "|---|---|---|---|---|---|"]
    env.reset(task)
    for step in steps:
        state, shown = env.snapshot(), env.prompt()[-1]["content"]
        q, value, best = env.q(state, step["action"]), env.value(state), env.oracle()
        mark = "" if q >= value - 1e-9 else " ✗"
        cells = (str(step["step"] + 1), cell(shown, 240), f"`{cell(step['action'], 60)}`{mark}", f"{q:.3f}",
                 f"{value:.3f}", f"`{cell(best, 60)}`")
        lines.append(f"| {' | '.join(cells)} |")
        env.step(step["action"])
    ending = f"Reward {steps[-1]['reward']:.3f} after {len(steps)} steps; ✗: worth less than the best action."
    return "\n".join([*lines, "", ending])


NO_RUN = "No run of this unit is in this machine's store, so there is nothing to look at: `make repro` runs it."


def world(artifacts: Path) -> tuple[Env, dict[str, Task]] | None:
    """The environment of the unit that kept ``artifacts``, and the tasks of its panels by id.

    None where the unit, its panels or what else its environment needs is not on this machine.
    """
    try:
        env = json.loads((artifacts.parent / "unit.json").read_text(encoding="utf-8"))["env"]
        data, tasks = artifacts.parents[3] / "data", {}  # runs/<paper>/<key>/artifacts
        for name in ("train", "test", "test_products"):
            with suppress(PanelError):  # not every environment has each of them
                tasks |= {task.id: task for task in load_panel(data, f"{env}/{name}")}
        return (make(env, data), tasks) if tasks else None
    except (OSError, LookupError, ValueError, PanelError):
        return None


def closely(artifacts: Path, before: str, after: str, *, last_line: bool = False, most: int = 3) -> list[str]:
    """Tasks on which two variants differ, and one that neither solves, as Markdown: each action beside exact values.

    ``last_line``: the action of a turn is its last line, and the first line that a policy wrote before it is shown
    below.
    """
    found, kept = world(artifacts), {name: episodes(artifacts, name) for name in (before, after)}
    chosen = contrasts(kept[before], kept[after])[:most]
    if not (found and chosen):
        return [NO_RUN]
    env, tasks = found
    parts = []
    for what, task in chosen:
        parts.append(f"### {what}: `{task}`")
        for name, own in kept.items():
            acted = [step | {"action": declared(step["action"])} for step in own[task]] if last_line else own[task]
            first = [f"{step['step'] + 1}: {step['action'].strip().splitlines()[0]}" for step in own[task]
                     if last_line and "\n" in step["action"].strip()]  # fmt: skip
            parts += [f"`{name}`:", trace(env, tasks[task], acted)]
            parts += [code("\n".join(["written before the action", *first]))] if first else []
    return parts


def lazy_success(env: Env, tasks: Sequence[Task]) -> float:
    """Share of ``tasks`` on which the lazy agent succeeds: what no policy should fall below."""
    wins = 0
    for task in tasks:
        seen = env.reset(task)
        while not seen.done:
            seen = env.step(env.lazy())
        wins += seen.reward >= 1.0
    return wins / len(tasks)


def cell(text: str, letters: int) -> str:
    """One table cell: no line breaks or bars, shortened in the middle."""
    flat = " ⏎ ".join(text.split("\n")).replace("|", "\\|").replace("$", "\\$")
    return flat if len(flat) <= letters else f"{flat[: letters // 2]} … {flat[-letters // 2 :]}"
