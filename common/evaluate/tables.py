"""Markdown tables of claims and metrics, and the marked blocks of documents that hold them.

A block is what stands between a line ``<!-- claims:begin -->`` and a line ``<!-- claims:end -->``; the
name before the colon says which table belongs there (:func:`blocks`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from common.config.strict import ConfigError, hint
from common.evaluate.stats import t_interval
from common.evaluate.verdicts import VERDICTS, Judged
from common.rows import MetricRow

LADDER_METRICS = ("success", "score", "planned_success", "delta")
GAME_METRICS = ("return", "rank")
"""Of papers whose agents play games; not announced where nothing has been measured."""
NANO = "nano"
"""Scale of the models that are trained here; others come pretrained and are called by their names."""
BASES = ("base", "start")
"""Names of the variant that is the base model, which no method has trained yet."""
_UNREAD = re.compile(r"\d+ of \d+ seeds: read at ")
_MARK = re.compile(r"^<!-- ([\w./@+-]+):(begin|end) -->$", re.MULTILINE)


def claims_table(judged: Judged) -> str:
    """Verdicts as markdown: one table for each paper, scale and profile, one line for each claim and panel; then its admission
    checks.

    Values are means over seeds, effects positive in the direction of the claim. An interval is as wide as it takes for all
    intervals of the claim's family to hold together.
    """
    if not judged.claims:
        return "No claim has been judged yet."
    parts = []
    for (paper, scale, profile), of_run in _by_run(judged.claims):
        levels = " / ".join(f"{level:.4g}" for level in sorted({100 * r["confidence"] for r in of_run}))
        parts += [f"**{paper}, {scale} scale** (`{profile}` profile): {_counts(of_run)}", "",
                  f"| claim | better vs worse | panel | matched on | effect [simultaneous {levels} % interval] | n | verdict |",
                  "|---|---|---|---|---|---|---|"]
        for _, same in groupby(of_run, key=lambda r: r["id"]):
            for i, record in enumerate(same):
                parts.append(_claim_line(record, first=i == 0))
        parts.append("")
        if checks := judged.of(paper=paper, scale=scale, profile=profile).admission:
            parts += [admission_table(checks, named=False), ""]
    return "\n".join(parts).rstrip()


def admission_table(checks: Sequence[Mapping[str, Any]], *, named: bool = True) -> str:
    """Admission checks as markdown, a line for each check and panel; ``named``: with paper and scale."""
    if not checks:
        return "No admission check has been made yet."
    head = ("paper", "scale") * named + ("admission check", "panel", "value", "mean [95 % interval]", "n", "must be", "holds")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for check in checks:
        mean = "not measured" if check["mean"] is None else _number(check["mean"])
        if check["low"] is not None:
            mean += f" [{_number(check['low'])}, {_number(check['high'])}]"
        bounds = " and ".join(f"{word} {check[name]:g}" for word, name in (("at least", "at_least"), ("at most", "at_most"))
                              if check[name] is not None)
        holds = {True: "yes", False: "**no**", None: "–"}[check["passed"]]
        source = (f"[{check['paper']}](papers/{check['paper']}/README.md)", f"{check['scale']} (`{check['profile']}`)") * named
        cells = (*source, f"{check['id']}: {check['says']}", check["panel"], f"`{check['value']}`", mean, str(check["n_seeds"]), bounds, holds)
        lines.append(_line(cells))
    return "\n".join(lines)


def counts(records: Sequence[Mapping[str, Any]]) -> str:
    """How many claims of each paper have which verdict: a line for each run, no table."""
    return "\n".join(f"- {paper}, {scale} scale (`{profile}` profile): {_counts(of_run)}"
                     for (paper, scale, profile), of_run in _by_run(records))


def _counts(records: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{sum(r['verdict'] == v for r in records)} {v}" for v in VERDICTS)


def verdicts_table(records: Sequence[Mapping[str, Any]]) -> str:
    """The verdicts at a glance, as markdown: a line for each claim, a column for each panel.

    A cell holds the verdict and the effect; the intervals and budgets behind it are in :func:`claims_table`.
    """
    if not records:
        return "No claim has been judged yet."
    parts = []
    for (paper, scale, profile), of_run in _by_run(records):
        panels = list(dict.fromkeys(record["panel"] for record in of_run))
        parts += [f"**{paper}, {scale} scale** (`{profile}` profile)", "",
                  f"| claim | {' | '.join(panels)} |", "|---|" + "---|" * len(panels)]
        for claim, same in groupby(of_run, key=lambda r: r["id"]):
            cells = dict.fromkeys(panels, "")
            for record in same:
                cells[record["panel"]] = _verdict_cell(record)
            parts.append(_line((f"{claim} {record['statement']}", *cells.values())))
        parts.append("")
    return "\n".join(parts).rstrip()


FAMILY_NAMES = {"self_correction": "self-correction", "tree_search_dpo": "tree search and preference learning",
                "multi_agent": "multi-agent training", "world_models": "world models"}  # fmt: skip
"""Family → what people call it."""


def families_table(records: Sequence[Mapping[str, Any]]) -> str:
    """One line for each family, as markdown: its papers with results, and how many claims of models trained here have which verdict."""
    lines = [f"| family | papers with results | claims {' | '.join(VERDICTS)} | notebook, with its outputs |",
             f"|---|---|{'---:|' * len(VERDICTS)}---|"]
    for family, name in FAMILY_NAMES.items():
        mine = [record for record in records if record["family"] == family and record["scale"] == NANO]
        papers = ", ".join(f"[{paper}](papers/{paper}/README.md)" for paper in sorted({record["paper"] for record in mine}))
        counted = [str(sum(record["verdict"] == verdict for record in mine)) for verdict in VERDICTS]
        lines.append(f"| {name} | {papers or '–'} | {' | '.join(counted)} | [{family}](docs/gallery/{family}.ipynb) |")
    return "\n".join(lines)


def pretrained_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Verdicts from pretrained models in short, as markdown: a line for each paper, model and panel.

    Where one reason holds for all claims of a panel that are not testable, or of which too few seeds were run, it stands for them.
    """
    parts = ["| paper | model | panel | seeds | verdicts |", "|---|---|---|---|---|"]
    for (paper, scale, profile), of_run in _by_run(records):
        for panel in dict.fromkeys(record["panel"] for record in of_run):
            here = [record for record in of_run if record["panel"] == panel]
            seeds = max(record["n_seeds"] for record in here)
            phrases = [_phrase(verdict, mine) for verdict in VERDICTS if (mine := [record for record in here if record["verdict"] == verdict])]
            parts.append(f"| [{paper}](papers/{paper}/README.md) | {scale} (`{profile}`) | {panel} | {seeds} | {'; '.join(phrases)} |")
    return "\n".join(parts) if records else "No pretrained model has been judged yet."


def _phrase(verdict: str, records: Sequence[Mapping[str, Any]]) -> str:
    ids, reasons = ", ".join(record["id"] for record in records), {record["reason"] for record in records}
    if verdict == "not testable here":
        return f"{verdict} ({'; '.join(sorted(reasons))})" if len(reasons) == 1 else f"{verdict} {ids}"
    if verdict == "undecided":
        unread = reasons.pop() if len(reasons) == 1 else ""
        return unread if _UNREAD.match(unread) else f"{verdict} {ids}"
    return f"**{verdict}** {ids}"


def _by_run(records: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[str, str, str], list[Mapping[str, Any]]]]:
    """Records of each (paper, scale, profile), by claim; profiles in the order of their names, cpu first."""

    def key(record: Mapping[str, Any]) -> tuple[str, str, str]:
        return record["paper"], record["scale"], record["profile"]

    ordered = sorted(records, key=lambda record: (record["paper"], record["profile"], record["scale"], record["id"]))
    return [(run, list(group)) for run, group in groupby(ordered, key=key)]


DECIDED = ("supported", "contradicted", "no effect")


def changed_rule(record: Mapping[str, Any]) -> str:
    """What stands beside a verdict whose rule was another when it was first given."""
    return f"*rule changed on {record['earlier'][-1]['changed']}*" if record["earlier"] else ""


def _verdict_cell(record: Mapping[str, Any]) -> str:
    verdict, why = record["verdict"], short_reason(record)
    if record["effect"] is None:
        return why or verdict
    verdict = f"**{verdict}**" if verdict in DECIDED else f"{verdict} ({why})" if why else verdict
    return " ".join(part for part in (verdict, _number(record["effect"], sign=True), changed_rule(record)) if part)


def _claim_line(record: Mapping[str, Any], *, first: bool) -> str:
    metric = record["metric"] + (" (lower)" if record["direction"] == "lower" else "")
    sides = f"`{record['better']}` vs `{record['worse']}`, {metric}" if first else ""
    name = f"{record['id']} {record['statement']}{' (primary)' * record['primary']}" if first else ""
    panel = record["panel"]
    if record["value_better"] is not None:
        panel += f": {_number(record['value_better'])} vs {_number(record['value_worse'])}"
    effect = "–" if record["effect"] is None else _number(record["effect"], sign=True)
    if record["ci_low"] is not None:
        effect += f" [{_number(record['ci_low'], sign=True)}, {_number(record['ci_high'], sign=True)}]"
    if record["at_least"]:
        effect += f" (at least {record['at_least']:g})"
    axis = record["matched_on"].replace("_", " ").replace("none", "–")
    verdict = " ".join(part for part in (verdict_text(record), changed_rule(record)) if part)
    return _line((name, sides, panel, axis, effect, str(record["n_seeds"]), verdict))


def verdict_text(record: Mapping[str, Any]) -> str:
    """The verdict with its reason in short; of an undecided claim at a look also when it is read next."""
    verdict = f"**{record['verdict']}**" if record["verdict"] in DECIDED else record["verdict"]
    explained = f"{verdict} ({why})" if (why := short_reason(record)) else verdict
    return record["next_look"].replace(verdict, explained, 1) or explained


def short_reason(record: Mapping[str, Any]) -> str:
    """The first words of the record's reason; of an interval that decides nothing what it contains."""
    head = record["reason"].split(":")[0]
    return f"interval contains {record['at_least']:g} and reaches beyond ±{record['margin']:g}" if head == "interval" else head


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _number(value: float, *, sign: bool = False) -> str:
    """Three decimals for rates, four digits for counts; no minus before a rounded zero."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("-")
    return f"+{text}" if sign and not text.startswith("-") else text


def ladder_table(rows: Sequence[MetricRow], *, metric: str = "success", order: Sequence[str] = ()) -> str:
    """Mean ± half the 95 % t-interval over seeds for each variant and panel, as markdown.

    Variants in ``order`` come first; the others follow by mean on the first panel, lowest first, so that
    a ladder reads upwards. One table for each paper, scale and profile; n in the heading of a panel, or in
    the cell where it is smaller; a single seed or equal values stand without ±.
    """
    rows = [row for row in rows if row.metric == metric]
    if not rows:
        return f"No {metric} has been measured yet."
    parts = []
    key = lambda row: (row.paper, row.scale, row.profile)  # noqa: E731
    for (paper, scale, profile), group in groupby(sorted(rows, key=lambda r: (r.paper, r.profile, r.scale, r.identity)), key=key):
        cells: dict[str, dict[str, list[float]]] = {}
        for row in group:
            cells.setdefault(row.variant, {}).setdefault(row.panel, []).append(row.value)
        panels = sorted({panel for by_panel in cells.values() for panel in by_panel})
        most = {panel: max(len(by_panel.get(panel, ())) for by_panel in cells.values()) for panel in panels}
        parts += [f"**{paper}, {scale} scale** (`{profile}` profile): {metric}, mean ± 95 % t-interval over seeds", "",
                  f"| variant | {' | '.join(f'{panel} (n = {most[panel]})' for panel in panels)} |",
                  "|---|" + "---|" * len(panels)]
        for variant in sorted(cells, key=lambda name: _rank(name, cells[name], panels, order)):
            line = (_mean_cell(cells[variant].get(panel, []), most[panel]) for panel in panels)
            parts.append(f"| `{variant}` | {' | '.join(line)} |")
        parts.append("")
    return "\n".join(parts).rstrip()


def _rank(name: str, by_panel: Mapping[str, list[float]], panels: Sequence[str], order: Sequence[str]) -> tuple:
    if name in order:
        return (0, order.index(name))
    means = [sum(by_panel[panel]) / len(by_panel[panel]) if panel in by_panel else float("inf") for panel in panels]
    return (1, *means, name)


def _mean_cell(values: Sequence[float], most: int) -> str:
    if not values:
        return "–"
    interval = t_interval(values)
    text = _number(interval.mean)
    if interval.high is not None:
        text += f" ± {_number(interval.high - interval.mean)}"
    return text if interval.n == most else f"{text} (n = {interval.n})"


def worlds_table(rows: Sequence[MetricRow]) -> str:
    """How base models do in their worlds before any method trains them, as markdown: a line for each environment, by first answers;
    papers that share a world share its base models, so that one of them, which measured most, is read."""
    of_base = [row for row in rows if row.scale == NANO and row.profile == "cpu" and row.variant in BASES]
    if not of_base:
        return "No base model has been measured yet."
    lines = ["| world | seeds | sampled, demonstrated tasks | sampled, test tasks | greedy, test tasks | one of so many answers, test tasks |",
             "|---|---|---|---|---|---|"]
    for env, group in groupby(sorted(of_base, key=lambda row: row.env), key=lambda row: row.env):
        papers: dict[str, dict[tuple[str, str], list[float]]] = {}
        for row in group:
            papers.setdefault(row.paper, {}).setdefault((row.panel.rpartition("/")[2], row.metric), []).append(row.value)
        found = max(papers.values(), key=lambda cells: (len({metric for _, metric in cells if metric.startswith("pass@")}), len(cells)))
        if first := next((name for name in ("acc@1", "success") if ("test", name) in found), ""):
            tries = sorted((metric for panel, metric in found if panel == "test" and metric.startswith("pass@")), key=lambda one: int(one[5:]))
            cells = [_mean_cell(found.get(key, []), n := len(found["test", first]))
                     for key in (("demos", first), ("test", first), ("test", f"greedy_{first}"))]
            cells.append(f"{_mean_cell(found['test', tries[0]], n)} ({tries[0].removeprefix('pass@')})" if tries else "–")
            lines.append(_line((f"`{env}`", str(n), *cells)))
    return "\n".join(lines)


def is_look(record: Mapping[str, Any]) -> bool:
    """Whether a record is of one seed of a pretrained model: a look, which decides nothing and stands on a page of its own."""
    return record["scale"] != NANO and record["n_seeds"] == 1


def looks_apart(judged: Judged) -> tuple[Judged, Judged]:
    """The records without looks (:func:`is_look`), and the looks."""
    def chosen(looks: bool) -> Judged:
        return Judged([one for one in judged.claims if is_look(one) is looks], [one for one in judged.admission if is_look(one) is looks])

    return chosen(False), chosen(True)


def _rows_apart(rows: Sequence[MetricRow]) -> tuple[list[MetricRow], list[MetricRow]]:
    """The rows without those of looks, and those of looks: a pretrained model's, of tables that hold one seed."""
    def table(row: MetricRow) -> tuple[str, ...]:
        return row.paper, row.scale, row.profile, row.env

    seeds: dict[tuple[str, ...], set[int]] = {}
    for row in rows:
        seeds.setdefault(table(row), set()).add(row.seed)
    looks = [row.scale != NANO and len(seeds[table(row)]) < 2 for row in rows]
    return [row for row, look in zip(rows, looks) if not look], [row for row, look in zip(rows, looks) if look]


def blocks(judged: Judged, rows: Sequence[MetricRow], papers: Sequence[str] = ()) -> dict[str, str]:
    """Every block a document may hold, by name: ``families`` in one line each, ``worlds`` before any training, ``verdicts`` of models trained here and ``pretrained`` of others, in short,
    ``admission`` checks, ``claims`` and ``ladder`` over all papers, and ``claims/<paper>``, ``ladder/<paper>`` for one (those of
    ``papers`` even where nothing was run); ``looks`` and ``looks/ladder`` hold what the others leave out, see :func:`is_look`."""
    (judged, looks), (rows, glanced) = looks_apart(judged), _rows_apart(rows)
    records = judged.claims
    other = [record for record in records if record["scale"] != NANO]
    made = {"verdicts": verdicts_table([record for record in records if record["scale"] == NANO]),
            "families": families_table(records), "pretrained": pretrained_table(other), "admission": admission_table(judged.admission),
            "worlds": worlds_table(rows),
            "claims": claims_table(judged), "ladder": _ladders(rows), "looks": claims_table(looks), "looks/ladder": _ladders(glanced)}
    for paper in sorted({row.paper for row in rows} | {record["paper"] for record in records} | set(papers)):
        own = judged.of(paper=paper)
        made[f"claims/{paper}"] = claims_table(own)
        made[f"ladder/{paper}"] = _ladders([row for row in rows if row.paper == paper], [record["metric"] for record in own.claims])
    return made


def _ladders(rows: Sequence[MetricRow], claimed: Sequence[str] = ()) -> str:
    """A table for each of the usual metrics that were measured, and for each other one that a claim compares."""
    known = {row.metric for row in rows}
    shown = [metric for metric in LADDER_METRICS if metric in known or not known]
    shown += [metric for metric in dict.fromkeys((*GAME_METRICS, *claimed)) if metric in known and metric not in shown]
    return "\n\n".join(ladder_table(rows, metric=metric) for metric in shown)


def fill_blocks(text: str, made: Mapping[str, str], where: str) -> str:
    """``text`` with every marked block replaced by its table.

    Raises:
        ConfigError: a begin without its end, or a name that no table has; ``where`` begins the sentence.
    """
    parts, at = [], 0
    marks = list(_MARK.finditer(text))
    for begin, end in zip(marks[::2], [*marks[1::2], None]):
        name = begin[1]
        if begin[2] != "begin" or end is None or (end[1], end[2]) != (name, "end"):
            raise ConfigError(f"{where}: the mark {begin[0]} has no partner after it; write <!-- {name}:begin --> and "
                              f"then <!-- {name}:end -->")
        if name not in made:
            raise ConfigError(f'{where}: no table is called "{name}"; {hint(name, made)}')
        parts += [text[at : begin.end()], "\n\n", made[name], "\n\n"]
        at = end.start()
    return "".join([*parts, text[at:]])
