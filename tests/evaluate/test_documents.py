"""The paper index is complete and typed, and the glossary knows every metric that is published."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from common.config.index import IMPLEMENTED, entries
from common.evaluate.claims import FAMILIES
from common.evaluate.verdicts import FIELDS
from common.evaluate.tables import LADDER_METRICS
from common.rooms.check import metrics_unexplained
from common.rows import COST_FIELDS
from papers.agent_q.maths import Audit

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["id", "title", "arxiv", "url", "year", "family", "status", "note"]
STATUSES = {"planned": 70, "analogue": 22, "needs a frontier model": 12}
"""Status → number of papers. An analogue tests, with small models that are trained, what the paper has a prompted large model do."""


@pytest.fixture(scope="module")
def index():
    with open(ROOT / "papers" / "index.csv", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == COLUMNS
    return rows


def test_index_lists_every_paper_of_the_four_families_once(index):
    assert Counter(row["family"] for row in index) == {
        "self_correction": 27, "tree_search_dpo": 19, "multi_agent": 40, "world_models": 18}
    assert {row["family"] for row in index} == set(FAMILIES)
    for column in ("id", "title", "url"):
        assert len({row[column] for row in index}) == len(index) == 104


def test_index_values_are_of_their_kind(index):
    for row in index:
        assert row["status"] in STATUSES, row
        assert re.fullmatch(r"[a-z][a-z0-9_]*", row["id"]), row["id"]
        assert re.fullmatch(r"(\d{4}\.\d{5})?", row["arxiv"]), row["arxiv"]
        assert row["year"] == ("20" + row["arxiv"][:2] if row["arxiv"] else ""), row["id"]
        start = f"abs/{row['arxiv']}" if row["arxiv"] else "search/?searchtype=title&"
        assert row["url"].startswith(f"https://arxiv.org/{start}")
        assert 20 <= len(row["note"]) <= 260, row["id"]
    assert Counter(row["status"] for row in index) == STATUSES


def test_every_paper_with_a_folder_is_in_the_index_and_implemented():
    folders = {path.parent.name for path in ROOT.glob("papers/*/claims.yaml")}
    assert {id_ for id_, entry in entries(ROOT).items() if entry.status == IMPLEMENTED} == folders


def test_the_glossary_has_every_metric():
    """What one paper alone measures is explained in the table "Metrics" of its README."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    known = set(re.findall(r"`([\w@+=.-]+)`", text))
    for path in ROOT.glob("papers/*/claims.yaml"):
        assert metrics_unexplained(ROOT, path.parent.name) == [], path
    audited = {field.name for field in fields(Audit)} - {"n", "correct", "wrong", "margins", "exact_margins"}
    assert "| `greedy_…` |" in text  # one line for all that are also measured greedily
    for group in (audited, set(LADDER_METRICS), set(COST_FIELDS)):
        assert group - known == set()
    explained = {"paper", "family", "id", "statement", "better", "worse", "metric", "direction", "panel", "env",
                 "scale", "profile", "matched_on"}  # these say what was compared, not how it came out
    assert set(FIELDS) - explained - known == set()


def test_every_streamed_training_metric_is_in_the_glossary():
    source = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "common" / "learn").glob("*.py")))
    streamed = set(re.findall(r'"(\w+)": float\(', source))
    streamed |= {"loss", "grad_norm", "lr", "tokens_per_second"}
    assert {"reward_margin", "logratio_rejected", "logp", "value"} <= streamed  # the pattern still finds them
    known = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")))
    assert streamed - known == set()


def test_documents_name_files_that_exist():
    text = (ROOT / "docs" / "adding-a-paper.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:common|papers|docs)/[\w/.]+\.(?:py|csv|md|yaml))`", text))
    assert len(paths) >= 3
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
