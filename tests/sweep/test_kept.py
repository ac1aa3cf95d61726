"""A published unit: part of the tasks and updates, and only of a unit whose numbers are the table's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from common.files import StoreError
from common.rows import MetricRow, cost_of, write_metrics
from common.sweep import kept
from common.track.events import read_events
from common.types import Cost

PROCESSOR = [{"model": "one", "PyTorch": "AVX512", "native.c": "AVX512", "limits": ""}]


def row(value: float, seed: int = 0) -> MetricRow:
    return MetricRow(paper="toy", env="toy-v1", profile="cpu", scale="nano", variant="base", seed=seed, panel="toy-v1/test", metric="success",
                     value=value, n=2, cost=cost_of(Cost()))  # fmt: skip


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished unit of 100 updates, with dialogues of 50 tasks, two turns each, a tree and a page."""
    folder = tmp_path / "runs/toy/key"
    (folder / "artifacts").mkdir(parents=True)
    write_metrics(folder / "rows.jsonl", [row(0.5)])
    (folder / "DONE").write_text(json.dumps({"rows": hashlib.sha256((folder / "rows.jsonl").read_bytes()).hexdigest()}))
    (folder / "unit.json").write_text(json.dumps({"env": "toy-v1", "seed": 0, "profile": "cpu"}))
    (folder / "config.resolved.json").write_text("{}")
    (folder / "processor.json").write_text(json.dumps(PROCESSOR))
    events = [{"t": 1.5, "variant": "a", "step": 0, "metrics": {"test/success": 0.5}}]
    events += [{"t": 1.5, "variant": "a", "step": k, "metrics": {"r1/train/loss": k / 7}} for k in range(100)]
    (folder / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    turns = [{"task": f"t/{i}", "turn": turn, "text": "x" * 40, "p": 1 / 3} for i in range(50) for turn in (1, 2)]
    (folder / "artifacts/dialogues.a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in turns))
    (folder / "artifacts/policies.jsonl").write_text('{"arms": [0.123456]}\n')
    (folder / "artifacts/tree.json").write_text('{"q": 0.123456}')
    (folder / "artifacts/tree.html").write_text("<svg/>")
    return folder


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "results/toy/metrics.jsonl"
    path.parent.mkdir(parents=True)
    write_metrics(path, [row(0.5), row(0.6, seed=1)])
    (path.parent / "source.json").write_text(json.dumps({"metrics.jsonl": {"cpu": {"toy-v1": {"processors": PROCESSOR}}}}))
    return path


def test_it_is_laid_out_as_a_unit_and_holds_what_fits(run, table, monkeypatch):
    folder, size = kept.keep_unit(run, table)
    assert folder == table.parent / "unit" and size == sum(path.stat().st_size for path in folder.rglob("*.*"))
    assert {path.name for path in (folder / "artifacts").iterdir()} == {"dialogues.a.jsonl", "policies.jsonl", "tree.json"}
    assert json.loads((folder / "artifacts/tree.json").read_text()) == {"q": 0.1235}
    assert json.loads((folder / "unit.json").read_text()) == {"env": "toy-v1", "seed": 0, "profile": "cpu", "differ": 0, "values": 1, "largest": 0.0}
    events = read_events(folder / "events.jsonl")
    assert len(events) == 60 and (events[0]["step"], events[-1]["step"]) == (0, 99) and "t" not in events[0]  # training alone
    assert events[-1]["metrics"] == {"r1/train/loss": 14.14}
    monkeypatch.setattr(kept, "MOST_BYTES", 8_000)
    folder, size = kept.keep_unit(run, table)
    lines = [json.loads(line) for line in (folder / "artifacts/dialogues.a.jsonl").read_text().splitlines()]
    assert size <= 8_000 and [one["task"] for one in lines] == [f"t/{i}" for i in range(len(lines) // 2) for _ in (1, 2)]
    assert (len(lines) // 2, len(read_events(folder / "events.jsonl"))) == (20, 60)


def test_a_unit_of_other_numbers_is_refused_on_the_same_processor(run, table):
    write_metrics(table, [row(0.25)])
    with pytest.raises(StoreError, match=r"toy-v1 0 toy-v1/test base success is 0.5, and 0.25 in .*metrics.jsonl; publish the table"):
        kept.keep_unit(run, table)
    (run / "processor.json").write_text(json.dumps([PROCESSOR[0] | {"model": "another"}]))
    folder, _ = kept.keep_unit(run, table)
    known = json.loads((folder / "unit.json").read_text())
    assert (known["differ"], known["largest"]) == (1, 0.25)
    write_metrics(table, [row(0.5, seed=3)])
    with pytest.raises(StoreError, match="is 0.5, and absent in"):
        kept.keep_unit(run, table)


def test_an_unfinished_unit_is_refused_and_leaves_nothing(run, table):
    (run / "DONE").unlink()
    with pytest.raises(StoreError, match="DONE is missing"):
        kept.keep_unit(run, table)
    assert not (table.parent / "unit").exists()
