"""From ``results/<paper>/metrics*.jsonl`` to ``results/claims/<paper>.json`` and the tables in documents.

    judged = judge_all(root / "results", root / "papers")
    write_claims(root / "results" / "claims", judged)
    insert_tables(root)                 # README.md, docs/*.md, papers/*/README.md where they have marks
    assert not disagreements(root)         # what a test asks
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from common.config.strict import ConfigError
from common.evaluate.admission import CHECK_FIELDS
from common.evaluate.cited import cited, misquoted
from common.evaluate.claims import RULE, load_claims
from common.evaluate.simulate import rule_block
from common.evaluate.tables import blocks, fill_blocks
from common.evaluate.verdicts import FIELDS, Judged, judge
from common.files import write_atomic
from common.rows import MetricRow, read_metrics

DOCUMENTS = ("README.md", "docs/*.md", "papers/*/README.md")
"""Files below the root that may hold marked blocks."""


def load_rows(results_dir: Path) -> list[MetricRow]:
    """All rows of ``results/<paper>/metrics*.jsonl``: a paper may keep one file per profile or environment."""
    return [row for path in sorted(results_dir.glob("*/metrics*.jsonl")) for row in read_metrics(path)]


def judge_all(results_dir: Path, papers_dir: Path, paper: str = "*") -> Judged:
    """Records of all papers, or of one, in the order paper, profile, scale, claims file. A paper without results has none.

    What ``results_dir/claims`` holds already is asked for rules that changed since (:func:`with_earlier`).

    Raises:
        ConfigError: a corrupt or mistyped claims file, a claim that names something absent, a corrupt row.
    """
    rows, judged = load_rows(results_dir), Judged()
    for path in sorted(papers_dir.glob(f"{paper}/claims.yaml")):
        judged += with_earlier(judge(load_claims(path), rows), _recorded(results_dir / "claims" / f"{path.parent.name}.json"))
    return judged


def with_earlier(judged: Judged, recorded: Sequence[Mapping[str, Any]], today: date | None = None) -> Judged:
    """``judged`` with the history of each claim's rule: what ``recorded`` says of it, and its recorded rule and verdict too
    where the rule is another now. A rule that changed before anything was measured leaves no trace."""
    def name(record: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(record[part] for part in ("paper", "id", "panel", "profile", "scale"))

    old, records = {name(record): record for record in recorded}, []
    for record in judged.claims:
        was = old.get(name(record))
        earlier = list(was["earlier"]) if was else []
        if was and was["rule_sha"] != record["rule_sha"] and was["n_seeds"]:
            earlier.append({"rule": {part: was[part] for part in RULE}, "rule_sha": was["rule_sha"], "verdict": was["verdict"],
                            "n_seeds": was["n_seeds"], "changed": (today or date.today()).isoformat()})
        records.append(record | {"earlier": earlier})
    return replace(judged, claims=records)


def _recorded(path: Path) -> list[dict[str, Any]]:
    """The claims of a file, as far as they tell a rule and its verdict; [] where there is none, or none that can be read."""
    needed = {"paper", "id", "panel", "profile", "scale", "n_seeds", "verdict", "rule_sha", "earlier", *RULE}
    try:
        records = json.loads(path.read_text(encoding="utf-8"))["claims"]
        return [record for record in records if needed <= set(record)]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def claims_text(judged: Judged) -> str:
    """The bytes of a paper's file, a function of the records alone."""
    return json.dumps({"claims": judged.claims, "admission": judged.admission}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_claims(folder: Path, judged: Judged, papers: Collection[str] = ()) -> None:
    """Write ``<paper>.json`` into ``folder`` for each paper that was judged, and an empty one for those of ``papers`` that were not."""
    for paper in sorted({*papers, *(record["paper"] for record in judged.claims)}):
        write_atomic(folder / f"{paper}.json", claims_text(judged.of(paper=paper)))


def read_claims(folder: Path, paper: str = "*") -> Judged:
    """The records of :func:`write_claims`, of all papers or of one, by paper. ConfigError when a file is not what it wrote, or
    there is none."""
    again = "run `python -m common claims` to write it again"
    judged = Judged()
    paths = sorted(folder.glob(f"{paper}.json"))
    if not paths:
        raise ConfigError(f"{folder.name}/{paper}.json does not exist; {again}")
    for path in paths:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path.name} is not JSON ({error}); {again}") from None
        if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in ("claims", "admission")):
            raise ConfigError(f"{path.name} must hold a list of claims and one of admission checks; {again}")
        for key, fields in (("claims", FIELDS), ("admission", CHECK_FIELDS)):
            for number, record in enumerate(content[key], start=1):
                if not isinstance(record, dict) or tuple(record) != fields:
                    raise ConfigError(f"{path.name}: record {number} of {key} does not have the fields {', '.join(fields)}; {again}")
        judged += Judged(content["claims"], content["admission"])
    return judged


def claim_changes(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for every claim whose effect or verdict is another than before, changed verdicts first. Claims that one side
    lacks are left out: nothing moved there."""
    def name(record: Mapping[str, Any]) -> tuple[str, str, str, str]:
        return record["paper"], record["id"], record["panel"], record["profile"]

    def effect(record: Mapping[str, Any]) -> str:
        return "none" if record["effect"] is None else f"{record['effect']:+.4g}"

    old, lines = {name(record): record for record in before}, []
    for record in after:
        was = old.get(name(record))
        if was and (was["verdict"], was["effect"]) != (record["verdict"], record["effect"]):
            other = was["verdict"] != record["verdict"]
            verdict = f"{was['verdict']} → {record['verdict']}" if other else f"still {record['verdict']}"
            lines.append((not other, f"{record['paper']}/{record['id']}@{record['panel']}: {verdict}, effect "
                                     f"{effect(was)} → {effect(record)}"))
    return [line for _, line in sorted(lines, key=lambda one: one[0])]


def insert_tables(root: Path, judged: Judged | None = None) -> list[Path]:
    """Fill the marked blocks of ``DOCUMENTS`` and the effects of claims that they cite; returns the files that changed.

    ``judged``: what ``results/claims/`` holds by default.
    """
    changed = []
    for path, old, new in _filled(root, judged):
        if new != old:
            write_atomic(path, new)
            changed.append(path)
    return changed


def disagreements(root: Path) -> list[str]:
    """Sentences on what does not follow from the results any more; empty when all agree.

    Checks ``results/claims/`` against the metric rows and the claims files, and every marked block
    against ``results/claims/`` and the rows, and every claim that a document cites against its verdict.
    """
    judged, problems = read_claims(root / "results" / "claims"), []
    if judged != judge_all(root / "results", root / "papers"):
        problems.append("results/claims/ differs from what the metric rows and claims files give; run `python -m common claims`")
    for document, old, new in _filled(root, judged):
        if new != old:
            problems.append(f"{document.relative_to(root).as_posix()} holds a table that differs from the results; "
                            "run `python -m common claims`")
        problems += misquoted(old, judged.claims, document.relative_to(root).as_posix())
    return problems


def _filled(root: Path, judged: Judged | None) -> list[tuple[Path, str, str]]:
    if judged is None:
        judged = read_claims(root / "results" / "claims")
    papers = [path.parent.name for path in sorted(root.glob("papers/*/claims.yaml"))]
    made = blocks(judged, load_rows(root / "results"), papers) | {"rule": rule_block(root)}
    paths = [path for pattern in DOCUMENTS for path in sorted(root.glob(pattern))]
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths]
    return [(path, text, cited(fill_blocks(text, _linked(made, name), name.as_posix()), judged.claims, name.as_posix()))
            for path, text in texts for name in [path.relative_to(root)]]


def _linked(made: Mapping[str, str], document: Path) -> dict[str, str]:
    """The tables with links that lead from ``document`` to papers, notebooks and the gallery, which they name from the root."""
    up = "../" * (len(document.parts) - 1)
    return {name: table.replace("](papers/", f"]({up}papers/").replace("](notebooks/", f"]({up}notebooks/").replace("](docs/", f"]({up}docs/")
            for name, table in made.items()}  # fmt: skip
