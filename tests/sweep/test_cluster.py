"""Units on a cluster of two nodes: same rows, kills and losses survived. The nodes are this machine's, the cluster is real."""

from __future__ import annotations

import json
import signal
import time

import psutil
import pytest

from common.config import ConfigError
from common.sweep.cluster import _sees

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -c requirements.lock -e '.[ray]'")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes with one core each."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


def slow_lab(root, new_lab, seconds: float):
    """A laboratory whose units last at least ``4 * seconds`` and say in their notebooks on which node they ran."""
    lab = new_lab(root / "lab")
    params = lab / "papers/toy/params.yaml"
    params.write_text(params.read_text().replace("pause: {default: 0.0", f"pause: {{default: {seconds}"))
    with open(lab / "notebooks/toy.py", "a", encoding="utf-8") as notebook:
        notebook.write('\n# %%\nimport os\n\nprint("raylet", os.environ.get("RAY_RAYLET_PID"))\n')
    return lab


def rows(lab) -> dict[int, float]:
    lines = (lab / "results/toy/metrics.jsonl").read_text().splitlines()
    return {row["seed"]: row["value"] for row in map(json.loads, lines)}


def workers_of(lab) -> list[psutil.Process]:
    """Workers, kernels and fork servers of a laboratory that are alive; not the command, and not Ray's own processes."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if process.environ().get("LAB_ROOT") == str(lab) and process.status() != psutil.STATUS_ZOMBIE \
                    and ("ipykernel" in line or "forkserver" in line):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def wait_for(condition, what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def test_units_run_on_both_nodes_and_give_the_rows_of_one_machine(tmp_path, new_lab, run_in, statuses, cluster):
    lab = slow_lab(tmp_path, new_lab, 0.5)
    local = run_in(lab, "run", "--paper", "toy", "--seeds", "1", "--results", "local.jsonl")
    assert local.returncode == 0, local.stdout
    options = ("run", "--paper", "toy", "--executor", "ray", "--address", cluster.address)
    for path in (lab / "runs/toy").glob("*/DONE"):
        path.parent.rename(lab / "aside")
    output = run_in(lab, *options)
    assert output.returncode == 0 and "2 workers on " in output.stdout, output.stdout
    assert "2 succeeded, 0 failed, 0 skipped" in output.stdout, output.stdout
    assert rows(lab)[1] == json.loads((lab / "local.jsonl").read_text())["value"]
    assert statuses(lab)["unit"] == ["FINISHED"] * 3
    printed = {line for path in lab.glob("runs/toy/*/notebook.ipynb") for line in path.read_text().split('"') if "raylet " in line}
    assert len(printed) == 2 and "raylet None" not in str(printed)
    wait_for(lambda: not workers_of(lab), "the end of all workers", 20)
    assert "nothing to run" in run_in(lab, *options).stdout


def test_a_stopped_sweep_leaves_no_worker_and_goes_on(tmp_path, new_lab, run_in, start_in, statuses, cluster):
    lab = slow_lab(tmp_path, new_lab, 3.0)
    options = ("run", "--paper", "toy", "--executor", "ray", "--address", cluster.address)
    started = start_in(lab, *options)
    wait_for(lambda: len(list(lab.glob("runs/toy/*/events.jsonl"))) == 2, "two units")
    started.send_signal(signal.SIGTERM)
    output = started.communicate(timeout=60)[0]
    assert started.returncode == 130 and f"--executor ray --address {cluster.address}" in output, output
    assert statuses(lab)["unit"] == ["KILLED"] * 2
    wait_for(lambda: not workers_of(lab), "the end of all workers", 20)
    params = lab / "papers/toy/params.yaml"
    params.write_text(params.read_text().replace("pause: {default: 3.0", "pause: {default: 0.0"))
    assert "2 succeeded" in run_in(lab, *options).stdout


def test_a_lost_machine_costs_its_unit_only(tmp_path, new_lab, run_in, start_in, statuses, cluster):
    lab = slow_lab(tmp_path, new_lab, 2.0)
    extra = cluster.add_node(num_cpus=1)
    options = ("run", "--paper", "toy", "--seeds", "0-2", "--executor", "ray", "--address", cluster.address)
    started = start_in(lab, *options)
    wait_for(lambda: len(list(lab.glob("runs/toy/*/events.jsonl"))) == 3, "three units")
    cluster.remove_node(extra, allow_graceful=False)
    output = started.communicate(timeout=120)[0]
    assert started.returncode == 1 and "2 succeeded, 1 failed, 0 skipped" in output and "Ray lost this worker" in output, output
    assert sorted(statuses(lab)["unit"]) == ["FAILED", "FINISHED", "FINISHED"]
    wait_for(lambda: not workers_of(lab), "the end of all workers", 20)
    assert "1 succeeded, 0 failed, 2 skipped" in run_in(lab, *options).stdout


def test_what_is_wrong_is_said_before_a_unit_starts(lab, run_in, tmp_path):
    def refused(*options: str, **variables: str) -> str:
        output = run_in(lab, "run", "--paper", "toy", *options, **variables)
        assert output.returncode == 2 and not (lab / "runs/toy").exists(), output.stdout
        return output.stdout

    assert 'no Ray cluster answers at "127.0.0.1:1"' in refused("--executor", "ray", "--address", "127.0.0.1:1")
    assert "must be HOST:PORT" in refused("--executor", "ray", "--address", "somewhere")
    assert "add --address HOST:PORT" in refused("--executor", "ray")
    assert '"rya" is not one; did you mean "ray"' in refused("--executor", "rya")
    assert "add --executor ray" in refused("--address", "10.0.0.1:6379")
    assert "--workers is 0" in refused("--workers", "0")
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent/ray.py").write_text("raise ImportError('no ray')\n")
    assert "needs Ray, which is not installed" in refused("--executor", "ray", "--address", "127.0.0.1:1", PYTHONPATH=f"{tmp_path / 'absent'}:{lab}")


def test_a_machine_that_does_not_see_the_folder_is_named(tmp_path, monkeypatch, cluster):
    from common.sweep import cluster as module

    assert _sees(str(tmp_path / "nothing"))[1] is False
    try:
        assert module.connect(tmp_path, cluster.address) == 2
        monkeypatch.setattr(type(tmp_path), "touch", lambda self: None)  # as if the nodes had another disk
        with pytest.raises(ConfigError, match="does not see .* under the same path"):
            module.Cluster(tmp_path, 2, forked=False)
    finally:
        ray.shutdown()
