"""Where a number comes from: claim → rows → units → MLflow runs → pipeline lock → commit → environment → notebook.

    python -m common explain agent_q/D2.4b
    python -m common explain agent_q/D2.4b@shop-v1/test
    python -m common explain malt/malt+vote/success          # any number of a paper's table: paper/variant/metric
    python -m common explain score/score/acc@1@countdown-answer-v1/test                  # the same on one panel

Says of every row whether it was *computed here* (the run store has its unit, by the present code or by other code that
behaves the same), *computed here by other code or inputs* (a unit of another key has that very value), or *copied from git*;
and of the table, by ``source.json`` beside it, whether it was *computed* by this code, is *attested* or *STALE*
(``docs/identity.md``).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from common.config import ConfigError, hint
from common.evaluate.claims import load_claims
from common.evaluate.publish import read_claims
from common.rows import MetricRow, read_metrics
from common.sweep.identity import Identities
from common.sweep.inputs import published_processors, table_of, table_state
from common.sweep.plan import Planned, plan, read_json
from common.sweep.unit import results_dir
from common.track.mlflow_store import local_database, local_uri, one_line_error, quiet_environment, store_errors
from common.track.processor import described
from common.track.provenance import lock_hash
from common.track.state import WORDS, result_state
from common.track.store import UnitSpec, finished_rows, read_unit, unit_path

HERE, SAME = "computed here", "computed here by other code that behaves the same"
OTHER, COPIED = "computed here by other code or inputs", "copied from git"


def explain(root: Path, target: str, profile: str) -> list[str]:
    """Lines that trace ``target``: a claim, paper/id[@panel], or the mean in a table, paper/variant/metric[@panel].

    A claim is traced at ``profile``, or at others where it has no verdict there. ConfigError for what is not there.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched to explain what was computed before
    number = _asked_number(target)
    if number:
        return _number(root, *number, profile)
    name, _, panel = target.partition("@")
    records = read_claims(results_dir(root, profile) / "claims").claims
    known = sorted({f"{one['paper']}/{one['id']}" for one in records})
    chosen = [one for one in records if f"{one['paper']}/{one['id']}" == name and panel in ("", one["panel"])]
    if name not in known:
        paper, _, variant = target.partition("/")
        metrics = {row.metric for _, row in _rows(root, paper, profile) if row.variant == variant}
        if metrics:
            raise ConfigError(f'"{target}" is a variant; add the metric: {target}/{min(metrics)}, or another of {", ".join(sorted(metrics))}')
        raise ConfigError(f'claim: "{name}" has no verdict; {hint(name, known)}')
    if not chosen:
        panels = [one["panel"] for one in records if f"{one['paper']}/{one['id']}" == name]
        raise ConfigError(f'panel: {name} has no verdict on "{panel}"; {hint(panel, panels)}')
    lines: list[str] = []
    for record in [one for one in chosen if one["profile"] == profile] or chosen:
        lines += [*_claim(root, record), ""]
    return lines[:-1]


def _asked_number(target: str) -> tuple[str, str, str, str] | None:
    """Paper, variant, metric and panel ("" for all) of ``target``; None where it is a claim. The names of a variant
    (``agent_q@theta=0.1``) and of a metric (``acc@1``) may hold an @ themselves; a panel is written with one slash."""
    paper, *more = target.split("/")
    if len(more) == 3:
        variant, (metric, at, env) = more[0], more[1].rpartition("@")
        return (paper, variant, metric, f"{env}/{more[2]}") if at else None
    if len(more) != 2 or "@" in more[0] and "=" not in more[0]:
        return None
    return paper, *more, ""


def _rows(root: Path, paper: str, profile: str) -> list[tuple[Path, MetricRow]]:
    """The published rows of a paper at a profile, each with its table."""
    tables = sorted((results_dir(root, profile) / paper).glob("metrics*.jsonl"))
    return [(table, row) for table in tables for row in read_metrics(table) if row.profile == profile]


def _number(root: Path, paper: str, variant: str, metric: str, panel: str, profile: str) -> list[str]:
    """The trace of a mean over seeds, on each panel unless one is named."""
    rows = _rows(root, paper, profile)
    for what, asked, of in (("paper", paper, lambda row: row.paper), ("variant", variant, lambda row: row.variant),
                            ("metric", metric, lambda row: row.metric), ("panel", panel, lambda row: row.panel)):
        known = {of(row) for _, row in rows}
        if not known:
            raise ConfigError(f'paper: "{paper}" has no rows in results/; run: python -m common run --paper {paper}')
        if asked and asked not in known:
            raise ConfigError(f'{what}: "{asked}" is not in the rows of {paper}; {hint(asked, known)}')
        rows = [(table, row) for table, row in rows if asked in ("", of(row))]
    lines: list[str] = []
    for table, panel_ in dict.fromkeys((table, row.panel) for table, row in rows):
        mine = [row for other, row in rows if (other, row.panel) == (table, panel_)]
        mean = _mean([row.value for row in mine])
        lines += [f"number    {metric} of {paper}/{variant} on {panel_}: mean {mean:.6g} over {len(mine)} seeds",
                  *_trace(root, table, mine, [variant]), ""]  # fmt: skip
    return lines[:-1]


def _claim(root: Path, record: Mapping[str, Any]) -> Iterator[str]:
    paper = record["paper"]
    claims = load_claims(root / "papers" / paper / "claims.yaml").claims
    claim = next((one for one in claims if (one.id, one.panel) == (record["id"], record["panel"])), None)
    yield f"claim     {paper}/{record['id']} on {record['panel']}: {record['statement']}"
    yield f"verdict   {record['verdict']}: {_found(record)}"
    if record["reason"]:
        yield f"          {record['reason']}"
    for before in record["earlier"]:
        yield f"          rule changed on {before['changed']}; before: {before['verdict']} at {before['n_seeds']} seeds by {_rule(before['rule'])}"
    if claim is None or claim.rule_sha != record["rule_sha"]:
        yield f"          OUT OF DATE: papers/{paper}/claims.yaml has another rule now; run: python -m common claims"
        if claim is None:
            return
    table = table_of(results_dir(root, record["profile"]), paper, record["env"], record["profile"])
    mine = [row for row in read_metrics(table) if row.panel == claim.panel and row.metric == claim.metric
            and row.variant in claim.variants and row.profile == record["profile"]]  # fmt: skip
    yield from _trace(root, table, mine, claim.variants)


def _found(record: Mapping[str, Any]) -> str:
    """Effect and interval of a record, without those that it does not have."""
    if record["effect"] is None:
        return "no effect was measured"
    found = f"effect {record['effect']:+.4g}"
    if record["ci_low"] is not None:
        found += f" [{record['ci_low']:+.4g}, {record['ci_high']:+.4g}], one of {record['simultaneous']} read together"
    return f"{found}, {record['n_seeds']} seed{'s' * (record['n_seeds'] != 1)}"


def _rule(rule: Mapping[str, Any]) -> str:
    parts = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in rule.items()}
    return "; ".join(f"{name} {value}" for name, value in parts.items() if value not in ("", False))


def _trace(root: Path, table: Path, mine: Sequence[MetricRow], variants: Sequence[str]) -> Iterator[str]:
    """From rows of one metric and panel in ``table`` to units, runs, libraries and commit."""
    paper, env, profile = mine[0].paper, mine[0].env, mine[0].profile
    yield f"rows      {len(mine)} in {table.relative_to(root)}, sha256 {_sha(table)[:12]}: {_pipeline(root, table)}"
    identities = Identities(root)
    yield f"source    {table_state(root, table, paper, env, profile, identities)}"
    yield f"processor {described(published_processors(table, env, profile)) or 'not recorded, of tables from before it was'}"
    planned = plan(root, paper, seeds=sorted({row.seed for row in mine}), profile=profile, envs=[env], dry=True)
    store = _store(root, paper, env, profile)
    units: dict[str, UnitSpec] = {}
    for one in planned:
        rows = [row for row in mine if row.seed == one.seed]
        unit, origin = _origin(root, one, rows, store)
        ordered = sorted(rows, key=lambda row: variants.index(row.variant))
        values = ", ".join(f"{row.variant} {row.value:.4g}" for row in ordered)
        yield f"  seed {one.seed}  {values}  {origin}" + (f", unit {unit.key}" if unit else "")
        if unit:
            units[unit.key] = unit
        yield from (f"          differs in {what}" for what in (_differences(unit, one.unit, identities) if origin == OTHER else ()))
    means = [_mean([row.value for row in mine if row.variant == name]) for name in variants]
    yield f"again     means of these rows: {', '.join(f'{n} {m:.6g}' for n, m in zip(variants, means))}"
    yield from _units(root, units)
    yield f"library   requirements.lock sha256 {lock_hash(root)[:12]}"
    yield f"commit    {_commit(root)}"


def _store(root: Path, paper: str, env: str, profile: str) -> list[tuple[UnitSpec, list[MetricRow]]]:
    """All finished units of a paper, environment and profile in the run store, whatever code made them."""
    units = []
    for done in sorted((root / "runs" / paper).glob("*/DONE")):
        unit = read_unit(done.parent)
        if (unit.env, unit.profile) == (env, profile):
            units.append((unit, finished_rows(done.parent)))
    return units


def _origin(
    root: Path, planned: Planned, rows: Sequence[MetricRow], store: Sequence[tuple[UnitSpec, list[MetricRow]]]
) -> tuple[UnitSpec | None, str]:
    def holds(unit_rows: Sequence[MetricRow]) -> bool:
        values = {(row.variant, row.panel, row.metric): row.value for row in unit_rows}
        return all(values.get((row.variant, row.panel, row.metric)) == row.value for row in rows)

    if planned.finished and holds(finished_rows(unit_path(root, planned.unit))):
        computed = read_unit(unit_path(root, planned.unit))
        return computed, HERE if computed.code == planned.unit.code else SAME
    other = next((unit for unit, found in store if unit.seed == planned.seed and holds(found)), None)
    return (other, OTHER) if other else (None, COPIED)


def _differences(old: UnitSpec, new: UnitSpec | None, identities: Identities) -> tuple[str, ...]:
    """What changed since a unit was computed."""
    if new is None:
        return ("its inputs, which are not all here",)
    state = result_state(new.paper, asdict(old), asdict(new), identities.prints)
    return tuple("base model" if text == WORDS["base"] else text for text in state.changed)


def _units(root: Path, units: Mapping[str, UnitSpec]) -> Iterator[str]:
    tracked = _mlflow(root, list(units))
    for key, unit in units.items():
        folder = unit_path(root, unit)
        seconds = read_json(folder / "timing.json").get("seconds")
        took = f", {seconds / 60:.1f} min" if seconds else ""
        yield f"unit      {key}  {unit.name}{took}: code {unit.code[:12]}, base {unit.base[:12] or 'none'}, " + (
            ", ".join(f"data {name} {digest[:12]}" for name, digest in unit.data.items()))  # fmt: skip
        for run_id, status, commit, dirty in tracked.get(key, []):
            changed = " and uncommitted changes, kept in its sweep's source.diff" if dirty else ""
            yield f"          MLflow run {run_id} {status}, commit {commit[:12]}{changed}"
        notebook = folder / "notebook.ipynb"
        if notebook.exists():
            yield f"          executed notebook {notebook.relative_to(root)}"


def _mlflow(root: Path, keys: Sequence[str]) -> dict[str, list[tuple[str, str, str, bool]]]:
    """Run id, status, commit and whether it was dirty, of the MLflow runs of units; empty where nothing is tracked."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or local_uri(root)
    if not keys or (uri == local_uri(root) and not local_database(root).exists()):
        return {}
    quiet_environment()
    for name, value in (("MAX_RETRIES", "0"), ("TIMEOUT", "4")):  # for a server that is gone; MLflow's default is minutes
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
    from mlflow.tracking import MlflowClient

    runs: dict[str, list[tuple[str, str, str, bool]]] = {}
    try:
        client = MlflowClient(uri)
        experiments = [one.experiment_id for one in client.search_experiments()]
        for key in keys:
            for run in client.search_runs(experiments, f"tags.`lab.key` = '{key}' and tags.`lab.kind` = 'unit'"):
                tags = run.data.tags
                runs.setdefault(key, []).append((run.info.run_id, run.info.status,
                                                 tags.get("mlflow.source.git.commit", "none"),
                                                 tags.get("lab.dirty") == "true"))  # fmt: skip
    except store_errors() as error:
        print(f"warning: MLflow at {uri} does not answer; its runs are left out (reason: {one_line_error(error)})",
              file=sys.stderr)  # fmt: skip
    return runs


def _pipeline(root: Path, table: Path) -> str:
    """What dvc.lock says of a results file."""
    # Read as DVC writes it: the strict reader of files that people write refuses its 1e-06.
    lock = root / "dvc.lock"
    stages = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages", {}) if lock.exists() else {}
    name, md5 = table.relative_to(root).as_posix(), hashlib.md5(table.read_bytes(), usedforsecurity=False).hexdigest()
    for stage, content in stages.items():
        for out in content.get("outs", ()):
            if out["path"] == name:
                same = "the file that" if out["md5"] == md5 else "NOT the file that"
                return f"{same} {stage} wrote, by dvc.lock"
    return "published by hand with --results, beside the tables of the pipeline"


def _commit(root: Path) -> str:
    asked = ["git", "-C", str(root), "log", "-1", "--format=%h %s"]
    head = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    changed = subprocess.run(["git", "-C", str(root), "status", "--short"], capture_output=True, text=True).stdout
    return f"{head or 'no git repository'}{f', {len(changed.splitlines())} files changed since' if changed else ''}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
