"""Recorded episodes as MLflow traces: their spans by hand, and reading them back from the store."""

import json
import time

import pytest

from common.track import traces
from common.report.unit_pages import draw_unit
from common.track.mlflow_log import Tracker
from common.track.mlflow_store import inputs
from common.track.store import Run
from tests.track.test_mlflow_log import SOURCE, client, environment, root, runs, template  # noqa: F401 (fixtures)
from tests.track.units import UNIT, row

NAMES = ("task", "step", "prompt", "action", "logprob", "reward", "done")
STEPS = [dict(zip(NAMES, step, strict=True)) for step in (
    ("shop-v1/a-0", 0, "goal", "search[a]", -0.5, 0.0, False), ("shop-v1/a-0", 1, "page", "buy", -0.25, 1.0, True),
    ("shop-v1/b-0", 0, "goal b", "buy", -1.0, 0.0, True))]  # fmt: skip
TURNS = [
    {"task": "t/0", "turn": 1, "prompt": "compute 1 + 1", "answer": "3", "correct": False},
    {"task": "t/0", "turn": 2, "prompt": "again", "answer": "2", "correct": True},
]


def write(path, rows):
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


@pytest.fixture
def finished(root):  # noqa: F811
    run = Run.open(root, UNIT)
    write(run.artifacts / "rollouts.dpo.jsonl", STEPS)
    write(run.artifacts / "dialogues.base@t=0.5.jsonl", TURNS)
    prompt = [{"role": "user", "content": "p"}]
    write(run.artifacts / "pairs.r1.jsonl", [{"prompt": prompt, "chosen": "a", "rejected": "b"}])
    svg = {"data": {"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'></svg>"}}
    (run.path / "notebook.ipynb").write_text(json.dumps({"cells": [{"outputs": [svg]}, {}]}))
    run.write_rows([row(), row(variant="base@t=0.5")])
    run.finish()
    return run


def test_a_unit_s_episodes_are_read_by_variant_and_task_in_their_order(finished):
    found = traces.recorded_episodes(finished.artifacts)
    assert {variant: {task: len(turns) for task, turns in tasks.items()} for variant, tasks in found.items()} == {
        "dpo": {"shop-v1/a-0": 2, "shop-v1/b-0": 1}, "base@t=0.5": {"t/0": 2}}
    assert found["base@t=0.5"]["t/0"][1] == {"task": "t/0", "turn": 2, "prompt": "again", "text": "2", "right": True}
    assert traces.recorded_episodes(finished.path / "no such folder") == {}


def test_spans_carry_what_was_recorded_and_no_more():
    name = traces.trace_id("run", "dpo", "shop-v1/a-0")
    whole, first, second = traces.spans(STEPS[:2], trace=name, variant="dpo", tags={"lab.seed": "3"}, at_ns=10**9)
    assert (whole.parent_id, first.parent_id, second.parent_id) == (None, whole.span_id, whole.span_id)
    assert (whole.inputs, whole.outputs) == ("goal", "buy") and (second.inputs, second.outputs) == ("page", "buy")
    mine = {key: value for key, value in whole.attributes.items() if not key.startswith("mlflow.")}
    assert mine == {"turns": 2, "reward": 1.0, "done": True, "logprob": -0.75}
    mine = {key: value for key, value in second.attributes.items() if not key.startswith("mlflow.")}
    assert mine == {"logprob": -0.25, "reward": 1.0, "done": True}
    assert [one.start_time_ns - 10**9 for one in (whole, first, second)] == [0, 0, traces.TURN_NS]  # an order
    assert name == traces.trace_id("run", "dpo", "shop-v1/a-0") != traces.trace_id("run", "base", "shop-v1/a-0")


def test_a_finished_unit_s_traces_are_on_its_variants_runs_once(root, finished):  # noqa: F811
    with Tracker(root, drawn=draw_unit) as tracker:
        sweep = tracker.sweep_run("ladder", SOURCE, {})
        run = tracker.unit_run(sweep, UNIT)
        tracker.finish(run, finished.path)
        tracker.finish_sweep(sweep, failed=0)
        assert tracker.warnings == []
    store, found = client(root), runs(root)
    ids = {name: found[name].info.run_id for name in ("dpo", "base@t=0.5")}

    def of(variant):
        return store.search_traces(locations=[run.experiment_id], run_id=ids[variant])

    assert len(of("base@t=0.5")) == 1
    by_task = {one.info.tags["lab.task"]: one for one in of("dpo")}
    assert {task: len(one.data.spans) for task, one in by_task.items()} == {"shop-v1/a-0": 3, "shop-v1/b-0": 2}
    tags = by_task["shop-v1/a-0"].info.tags
    expected = {"lab.variant": "dpo", "lab.seed": "3", "lab.key": UNIT.key, "lab.reward": "1.0"}
    assert {name: tags.get(name) for name in expected} == expected

    with Tracker(root, drawn=draw_unit) as tracker:  # later, and once more: the same runs, no trace twice
        again = tracker.reopen(UNIT.key)
        assert again.run_id == run.run_id
        assert [tracker.show(again, finished.path, episodes=n) for n in (1, 20)] == [2, 3]
        assert tracker.reopen("0" * 16).run_id == "" and tracker.warnings == []
    assert len(of("dpo")) == 2 and set(runs(root)) == {sweep.name, run.name, "dpo", "base@t=0.5"}
    assert {file.path for file in store.list_artifacts(run.run_id, "pages")} == {"pages/pairs.r1.html"}
    assert {file.path for file in store.list_artifacts(run.run_id, "figures")} == {"figures/figure01.svg"}


def test_the_data_panels_are_inputs_by_their_hash(root):  # noqa: F811
    (root / "data.dvc").write_text("outs:\n- md5: abc.dir\n  path: data\n")
    (root / "data" / "shop-v1").mkdir(parents=True)
    manifest = {"files": {"test.jsonl": {"rows": 7, "sha256": "x"}}}
    (root / "data" / "shop-v1" / "manifest.json").write_text(json.dumps(manifest))
    (one,) = inputs(root, {"shop-v1": "d" * 64})
    assert (one.dataset.name, one.dataset.digest, one.dataset.source_type) == ("shop-v1", "d" * 36, "dvc")
    assert json.loads(one.dataset.source) == {"uri": "data/shop-v1", "dvc": "abc.dir", "sha256": "d" * 64}
    assert json.loads(one.dataset.profile) == {"test": 7}
    with Tracker(root, drawn=draw_unit) as tracker:
        run = tracker.unit_run(tracker.sweep_run("ladder", SOURCE, {}), UNIT)
    (logged,) = client(root).get_run(run.run_id).inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("shop-v1/test", "da7a")


def test_the_machine_is_watched_while_a_unit_runs(root, monkeypatch, capfd):  # noqa: F811
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    with Tracker(root, drawn=draw_unit) as tracker:
        run = tracker.unit_run(tracker.sweep_run("ladder", SOURCE, {}), UNIT)
        for _ in range(600):
            if "system/cpu_utilization_percentage" in client(root).get_run(run.run_id).data.metrics:
                break
            time.sleep(0.05)
        tracker.kill(run)
        seen = client(root).get_run(run.run_id).data.metrics
        assert 0 < seen["system/system_memory_usage_percentage"] <= 100 and tracker._monitors == {}
    assert "system metrics" not in capfd.readouterr().err  # the progress line stays alone
