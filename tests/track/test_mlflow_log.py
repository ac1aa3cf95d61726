"""MLflow runs: their nesting, tags, metrics and artifacts; failures, orphans and unreachable servers."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.track import mlflow_log, mlflow_store
from common.track.mlflow_log import Tracked, Tracker
from common.track.mlflow_store import TABLE_ROWS, local_uri, metric_key
from common.track.owner import alive, current_owner
from common.track.provenance import Provenance
from common.track.store import Run
from tests.track.units import UNIT, row

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = Provenance(commit="abc123", diff="-a\n+b\n", lock="10cc", versions={"python": "3.11"},
                    hardware={"gpu": "none"})


@pytest.fixture(scope="module", autouse=True)
def environment():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DVC_STAGE", "run@ladder")
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A root with an empty store: making the schema takes a second, copying it nothing."""
    root = tmp_path_factory.mktemp("template")
    tracker = Tracker(root)
    assert tracker.uri == local_uri(root) and tracker.warnings == []
    return root


@pytest.fixture
def root(template, tmp_path):
    (tmp_path / "mlruns").mkdir()
    shutil.copy(template / "mlruns" / "mlflow.db", tmp_path / "mlruns" / "mlflow.db")
    return tmp_path


def client(root):
    from mlflow.tracking import MlflowClient

    return MlflowClient(local_uri(root))


def runs(root):
    """All runs of the store by name."""
    store = client(root)
    found = store.search_runs([experiment.experiment_id for experiment in store.search_experiments()])
    return {run.info.run_name: run for run in found}


def events(variant, values):
    return [{"t": 1000.0 + i, "variant": variant, "step": i, "metrics": {"loss": value}}
            for i, value in enumerate(values)]


def finished_run(root, unit=UNIT):
    run = Run.open(root, unit)
    (run.artifacts / "tree.html").write_text("<p>tree</p>")
    (run.artifacts / "pairs.jsonl").write_text(
        "".join(json.dumps({"chosen": f"a{i}", "q": {"exact": i}}) + "\n" for i in range(TABLE_ROWS + 5)))
    (run.path / "notebook.ipynb").write_text("{}")
    run.write_rows([row(), row(metric="pass@1", value=0.75), row(variant="base")])
    run.finish()
    return run


def test_a_sweep_is_nested_tagged_streamed_and_browsable(root, tmp_path):
    with Tracker(root) as tracker:
        sweep = tracker.sweep_run("ladder", SOURCE, {"profile": "cpu"})
        run = tracker.unit_run(sweep, UNIT)
        tracker.forward(run, events("dpo", [0.5, 0.25]))
        live = runs(root)
        assert {name: live[name].info.status for name in (run.name, "dpo")} == {run.name: "RUNNING", "dpo": "RUNNING"}
        assert live["dpo"].data.metrics == {"loss": 0.25}  # visible before the unit ends
        tracker.forward(run, events("dpo", [0.5, 0.25, 0.125])[1:])
        tracker.finish(run, finished_run(root).path)
        tracker.skip(sweep, replace(UNIT, seed=9))
        tracker.finish_sweep(sweep, failed=0)
        assert tracker.warnings == []

    found = runs(root)
    assert set(found) == {sweep.name, run.name, "dpo", "base"}
    assert {name: one.info.status for name, one in found.items()} == dict.fromkeys(found, "FINISHED")
    parents = {name: one.data.tags.get("mlflow.parentRunId") for name, one in found.items()}
    assert parents == {sweep.name: None, run.name: sweep.run_id, "dpo": run.run_id, "base": run.run_id}

    tags = found[run.name].data.tags
    expected = {"lab.key": UNIT.key, "lab.seed": "3", "lab.code": "c0de", "lab.data": "shop-v1/test=da7a",
                "lab.base": "ba5e", "lab.lock": "10cc", "lab.dvc_stage": "run@ladder", "lab.dirty": "true",
                "mlflow.source.git.commit": "abc123", "lab.hardware.gpu": "none", "lab.version.python": "3.11"}
    assert {name: tags.get(name) for name in expected} == expected
    assert found[sweep.name].data.tags[f"lab.restored.{replace(UNIT, seed=9).key}"] == "ladder shop-v1 seed 9 cpu"
    assert found[run.name].data.params == {"env": "shop-v1", "seed": "3", "profile": "cpu", "alpha": "0.5",
                                           "search.depth": "2"}
    assert found["dpo"].data.params == found[run.name].data.params  # to sort variants by a metric and see their setting

    dpo = found["dpo"].data.metrics
    assert (dpo["success/shop-v1/test"], dpo["pass_at_1/shop-v1/test"], dpo["cost/samples"]) == (0.25, 0.75, 6.0)
    history = client(root).get_metric_history(found["dpo"].info.run_id, "loss")
    assert sorted({(point.step, point.value) for point in history}) == [(0, 0.5), (1, 0.25), (2, 0.125)]

    store = client(root)
    assert {file.path for file in store.list_artifacts(run.run_id)} == {
        "config.resolved.json", "rows.jsonl", "notebook.ipynb", "artifacts", "tables"}
    assert {file.path for file in store.list_artifacts(run.run_id, "artifacts")} == {
        "artifacts/tree.html", "artifacts/pairs.jsonl"}
    table = json.loads(Path(store.download_artifacts(run.run_id, "tables/pairs.json", str(tmp_path))).read_text())
    assert table["columns"] == ["chosen", "q"] and len(table["data"]) == TABLE_ROWS
    assert table["data"][1] == ["a1", '{"exact": 1}']
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": "tables/pairs.json", "type": "table"}]
    assert [file.path for file in store.list_artifacts(sweep.run_id)] == ["source.diff"]
    assert str(root / "mlruns" / "artifacts") in store.get_experiment_by_name("ladder").artifact_location


def test_a_failed_unit_keeps_its_notebook_and_last_lines(root, tmp_path):
    notebook = tmp_path / "failed.ipynb"
    notebook.write_text("{}")
    with Tracker(root) as tracker:
        sweep = tracker.sweep_run("ladder", SOURCE, {})
        run = tracker.unit_run(sweep, UNIT)
        tracker.forward(run, events("dpo", [0.5]))
        tracker.fail(run, notebook, "line one\nValueError: no pairs\n")
        tracker.finish_sweep(sweep, failed=1)
    found = runs(root)
    assert {name: one.info.status for name, one in found.items()} == dict.fromkeys(found, "FAILED") and len(found) == 3
    assert found[run.name].data.tags["lab.failure"] == "ValueError: no pairs"
    assert {file.path for file in client(root).list_artifacts(run.run_id)} == {
        "config.resolved.json", "failed.ipynb", "failure.txt"}


def test_what_nobody_ended_is_killed_when_the_tracker_closes(root):
    with pytest.raises(KeyboardInterrupt), Tracker(root) as tracker:
        sweep = tracker.sweep_run("ladder", SOURCE, {})
        stopped = tracker.unit_run(sweep, UNIT)
        tracker.kill(stopped)
        tracker.forward(tracker.unit_run(sweep, replace(UNIT, seed=4)), events("dpo", [0.5]))
        raise KeyboardInterrupt
    found = runs(root)
    assert {name: one.info.status for name, one in found.items()} == dict.fromkeys(found, "KILLED") and len(found) == 4


KILLED = """
import os, signal, sys
from pathlib import Path
from common.track.mlflow_log import Tracker
from tests.track.test_mlflow_log import SOURCE, events
from tests.track.units import UNIT
tracker = Tracker(Path(sys.argv[1]))
run = tracker.unit_run(tracker.sweep_run("ladder", SOURCE, {}), UNIT)
tracker.forward(run, events("dpo", [0.5]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_orphans_of_a_killed_process_are_closed_and_others_are_not(root):
    done = subprocess.run([sys.executable, "-c", KILLED, str(root)], cwd=REPOSITORY, check=False)
    assert done.returncode == -signal.SIGKILL
    assert {one.info.status for one in runs(root).values()} == {"RUNNING"}
    with Tracker(root) as tracker:
        mine = tracker.sweep_run("ladder", SOURCE, {})
        foreign = client(root).create_run(mine.experiment_id, run_name="foreign")  # not ours: no owner tag
        assert tracker.close_orphans() == 3 and tracker.close_orphans() == 0
        found = client(root).search_runs([mine.experiment_id])
        status = {one.info.run_id: one.info.status for one in found}
        assert status.pop(mine.run_id) == "RUNNING" and status.pop(foreign.info.run_id) == "RUNNING"
        assert set(status.values()) == {"KILLED"} and len(status) == 3


def test_an_owner_is_told_from_a_later_process_with_its_number():
    owner = current_owner()
    assert alive(owner, local=True) and json.loads(json.dumps(owner)) == owner
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    for change in ({"pid": child.pid}, {"start": "1"}, {"boot": "another boot"}, {"pid": None}):
        assert not alive({**owner, **change}, local=True), change
    elsewhere = {**owner, "host": "another-machine", "boot": "another boot"}
    assert alive(elsewhere, local=False) and not alive(elsewhere, local=True)


def test_a_zombie_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, but not yet reaped
    start = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19] if Path("/proc").exists() else ""
    assert not alive({**current_owner(), "pid": child.pid, "start": start}, local=True)
    child.wait()


def test_an_unreachable_server_means_the_local_store_and_one_sentence(root, monkeypatch, capsys):
    with socket.socket() as closed:  # bound, never listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
        with Tracker(root) as tracker:
            assert tracker.uri == local_uri(root)
            run = tracker.unit_run(tracker.sweep_run("ladder", SOURCE, {}), UNIT)
            tracker.finish(run, finished_run(root).path)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "7"  # the user's own limit is back
    (sentence,) = tracker.warnings
    assert "does not answer; going on with the local store" in sentence and "\n" not in sentence
    assert capsys.readouterr().err == f"warning: {sentence}\n"
    assert runs(root)[run.name].info.status == "FINISHED"


def test_a_silent_server_is_given_up_soon(root, monkeypatch):
    monkeypatch.setattr(mlflow_log, "_CHECK_SECONDS", 1)
    with socket.socket() as silent:  # accepts and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tracker = Tracker(root, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert tracker.uri == local_uri(root) and len(tracker.warnings) == 1


def test_a_nonsense_address_is_treated_alike(root):
    tracker = Tracker(root, "nonsense://somewhere")
    assert tracker.uri == local_uri(root) and len(tracker.warnings) == 1


def test_a_database_without_its_driver_is_treated_alike(root):
    tracker = Tracker(root, "postgresql+nodriver://lab@nowhere/lab")
    assert tracker.uri == local_uri(root) and "going on with the local store" in tracker.warnings[0]


def test_with_no_store_at_all_the_sweep_goes_on(tmp_path, monkeypatch):
    (tmp_path / "mlruns").write_text("a file where the store should be")
    with Tracker(tmp_path) as tracker:
        assert tracker.uri == "" and "tracking is off" in tracker.warnings[0] and len(tracker.warnings) == 1
        sweep = tracker.sweep_run("ladder", SOURCE, {})
        run = tracker.unit_run(sweep, UNIT)
        assert sweep == run == Tracked("", "", "")
        assert tracker.close_orphans() == 0
        tracker.forward(run, events("dpo", [0.5]))
        tracker.finish(run, finished_run(tmp_path).path)
        tracker.fail(run, None, "")
        tracker.kill(run)
        tracker.skip(sweep, UNIT)
        tracker.finish_sweep(sweep, failed=0)
    assert len(tracker.warnings) == 1


def test_a_store_that_fails_later_is_left_after_one_sentence(root, monkeypatch):
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    def refuse(*_, **__):
        raise MlflowException("the server\nis gone")

    with Tracker(root) as tracker:
        run = tracker.unit_run(tracker.sweep_run("ladder", SOURCE, {}), UNIT)
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "log_batch", refuse)
            tracker.forward(run, events("dpo", [0.5]))
            tracker.forward(run, events("dpo", [0.5]))
        tracker.finish(run, finished_run(root).path)
    (sentence,) = tracker.warnings
    assert "is off from now on" in sentence and "the server is gone" in sentence


def test_an_artifact_that_is_refused_does_not_end_tracking(root, monkeypatch):
    from mlflow.tracking import MlflowClient

    def refuse(*_, **__):
        raise OSError("no room for artifacts")

    with monkeypatch.context() as patch, Tracker(root) as tracker:
        patch.setattr(MlflowClient, "log_artifacts", refuse)
        run = tracker.unit_run(tracker.sweep_run("ladder", SOURCE, {}), UNIT)
        tracker.finish(run, finished_run(root).path)
        assert [warning.partition(";")[0] for warning in tracker.warnings] == [
            "MLflow did not take the artifacts", "MLflow did not take the tables"]
    assert runs(root)[run.name].info.status == "FINISHED"


PARALLEL = """
import sys
from pathlib import Path
from common.track.mlflow_log import Tracker
from tests.track.test_mlflow_log import SOURCE, events
from tests.track.units import UNIT
with Tracker(Path(sys.argv[1])) as tracker:
    assert not sys.argv[2] or tracker.uri == sys.argv[2], tracker.warnings
    sweep = tracker.sweep_run("ladder", SOURCE, {})
    for i in range(4):
        run = tracker.unit_run(sweep, UNIT)
        for step in range(10):  # as a sweep forwards them: a few at a time
            tracker.forward(run, events(f"variant{i}", [0.5] * 10)[step:step + 1])
        tracker.kill(run)
    tracker.finish_sweep(sweep, failed=0)
    assert tracker.warnings == [], tracker.warnings
"""


def four_writers(folder, uri=""):
    """Four sweeps that start and write at once; what each wrote to standard error, and a client of the store."""
    from mlflow.tracking import MlflowClient

    environment = {**os.environ, **({"MLFLOW_TRACKING_URI": uri} if uri else {})}
    command = [sys.executable, "-c", PARALLEL, str(folder), uri]
    writers = [subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)
               for _ in range(4)]
    ends = [(writer.communicate()[1], writer.returncode) for writer in writers]
    assert [printed if code or "warning" in printed else "" for printed, code in ends] == [""] * 4
    return MlflowClient(uri or local_uri(folder))


def check_nothing_is_lost(store):
    (experiment,) = [one for one in store.search_experiments() if one.name == "ladder"]
    found = store.search_runs([experiment.experiment_id], max_results=1000)
    kinds = [one.data.tags["lab.kind"] for one in found]
    assert {kind: kinds.count(kind) for kind in kinds} == {"sweep": 4, "unit": 16, "variant": 16}
    for one in found:
        if one.data.tags["lab.kind"] == "variant":
            history = store.get_metric_history(one.info.run_id, "loss")
            assert sorted((point.step, point.value) for point in history) == [(step, 0.5) for step in range(10)]
        if one.data.tags["lab.kind"] == "unit":
            assert one.data.params["alpha"] == "0.5" and len(one.inputs.dataset_inputs) == 1


def test_four_sweeps_may_start_and_write_at_the_same_time(tmp_path):
    check_nothing_is_lost(four_writers(tmp_path))


def test_a_locked_database_is_waited_for_and_other_failures_are_not(monkeypatch):
    waits, answers = [], [OSError("database is locked"), OSError("(sqlite) database is locked"), None]
    monkeypatch.setattr(mlflow_store.time, "sleep", waits.append)

    def action():
        answer = answers.pop(0)
        if answer:
            raise answer
        return "done"

    assert mlflow_store.with_retries(action) == "done" and len(waits) == 2 and waits[0] < waits[1]
    answers[:] = [OSError("no such host"), None]
    with pytest.raises(OSError, match="no such host"):
        mlflow_store.with_retries(action)


def test_metric_names_are_made_acceptable():
    assert metric_key("pass@1") == "pass_at_1"
    assert metric_key("success/shop-v1/test") == "success/shop-v1/test"
    assert metric_key("a=b*c") == "a_b_c"
    odd = {"a//b": "a/_/b", "../b": "__/b", "loss/": "loss/_", "/loss": "_/loss", "": "_", "a/./b": "a/_/b", "...": "___",
           "a/.b": "a/.b", "w" * 250: "w" * 250}
    assert {name: metric_key(name) for name in odd} == odd
    # by printf %s NAME | sha256sum
    assert metric_key("w" * 260) == "w" * 241 + "_edc19a1c"
    assert len({metric_key("w" * n) for n in range(251, 260)}) == 9


def test_a_metric_of_any_name_is_logged_and_names_that_meet_are_kept_apart(root):
    names = ["loss", "m" * 260, "a//b", "../b", "loss/", "", "a:b", "a;b", "x@1", "x_at_1", "a\nb", "\u00e4/\u00f6"]
    with Tracker(root) as tracker:
        run = tracker.unit_run(tracker.sweep_run("ladder", SOURCE, {}), UNIT)
        for step in (0, 1):
            event = {"t": 1.0, "variant": "dpo", "step": step, "metrics": {name: i for i, name in enumerate(names)}}
            tracker.forward(run, [event])
        assert tracker.uri and len(tracker.warnings) == 3
        for first, second in (("a:b", "a;b"), ("x@1", "x_at_1"), ("a:b", "a\nb")):
            assert any(f"the metrics {first!r} and {second!r} would have the same name" in one for one in tracker.warnings)
    metrics = runs(root)["dpo"].data.metrics
    assert sorted(metrics.values()) == list(range(len(names))) and (metrics["loss"], metrics["x_at_1"]) == (0, 8)


def test_a_value_that_the_store_refuses_is_left_out_alone(root, monkeypatch):
    monkeypatch.setattr(mlflow_log.Tracker, "_key", lambda self, name: name)  # as if it let a name through
    with Tracker(root) as tracker:
        run = tracker.unit_run(tracker.sweep_run("ladder", SOURCE, {}), UNIT)
        for step in (0, 1):
            metrics = {"loss": 0.5, "a//b": 1, "margin": 2, "kl": 3}
            tracker.forward(run, [{"t": 1.0, "variant": "dpo", "step": step, "metrics": metrics}])
        tracker.finish(run, finished_run(root).path)
        assert tracker.uri and len(tracker.warnings) == 2  # one for each name, not for each step
        for name, told in zip(("a//b", "pass@1/shop-v1/test"), tracker.warnings, strict=True):
            assert f'refused a value, which stays in the run folder (reason: Invalid value "{name}"' in told
    found = runs(root)["dpo"]
    assert found.info.status == "FINISHED"
    assert {name: found.data.metrics.get(name) for name in ("loss", "margin", "kl", "a//b")} == {
        "loss": 0.5, "margin": 2, "kl": 3, "a//b": None}


def test_the_address_of_a_database_leads_to_its_file():
    from sqlalchemy.engine import make_url

    for path in ("/a%41/b.db", "/a?b#c/d e.db", "/50%/\u00e4.db", "/plain/b.db"):
        assert make_url(mlflow_store.sqlite_uri(Path(path))).database == path


@pytest.mark.parametrize("name", ["50%off", "50%41", "what?", "a b#\u00e4"])
def test_the_store_is_in_the_project_whatever_its_folder_is_called(template, tmp_path, name):
    root = tmp_path / name
    (root / "mlruns").mkdir(parents=True)
    shutil.copy(template / "mlruns" / "mlflow.db", root / "mlruns" / "mlflow.db")
    before = (root / "mlruns" / "mlflow.db").read_bytes()
    with Tracker(root) as tracker:
        tracker.sweep_run("ladder", SOURCE, {})
        assert tracker.warnings == []
    assert (root / "mlruns" / "mlflow.db").read_bytes() != before and len(runs(root)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing beside it
