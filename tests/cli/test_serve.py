"""JupyterLab and MLflow's pages: their ports, whose code they run, and that opening a notebook leaves its file as it is."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from jupyter_server.services.contents.filemanager import FileContentsManager

import common
from common.cli import serve
from common.config import ConfigError
from common.sweep import unit
from common.track.mlflow_log import Tracker
from tests.track.test_mlflow_log import SOURCE

ROOT = Path(__file__).resolve().parents[2]


def test_a_port_in_use_is_passed_over_and_told(monkeypatch, capsys):
    with socket.socket() as taken, socket.socket() as free:
        free.bind((serve.HOST, 0))
        port = free.getsockname()[1]
        free.close()
        assert serve.free_port(port, "MLflow") == port and not capsys.readouterr().out
        taken.bind((serve.HOST, port))
        taken.listen()
        other = serve.free_port(port, "MLflow")
        assert other > port and capsys.readouterr().out == f"port {port} is in use, so MLflow takes {other}\n"
        monkeypatch.setattr(serve, "TRIED", 1)
        with pytest.raises(ConfigError, match=f"no port from {port} to {port} is free for MLflow"):
            serve.free_port(port, "MLflow")


@pytest.mark.parametrize("command", ["lab", "mlflow"])
def test_each_starts_with_the_code_of_its_own_folder(tmp_path, monkeypatch, capsys, command):
    started = {}
    monkeypatch.setattr(serve.os, "execve", lambda program, words, variables: started.update(words=words, variables=variables))
    monkeypatch.setattr(serve.subprocess, "run", lambda *words, **_: None)
    monkeypatch.setattr(serve, "free_port", lambda first, what: first + 1)
    monkeypatch.setattr(serve.os, "geteuid", lambda: 0)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "50%"
    root.mkdir()
    getattr(serve, command)(root)
    assert started["variables"]["PYTHONPATH"].split(os.pathsep) == [str(root), "elsewhere"] and Path.cwd() == root
    words = " ".join(started["words"][2:])
    if command == "lab":
        assert words == "jupyterlab --ip 127.0.0.1 --port 8889 --allow-root --LabApp.default_url=/lab/tree/notebooks/00_tour.ipynb"
        assert (ROOT / serve.FIRST).exists()
        assert "--allow-root" not in serve.lab_arguments(8889, superuser=False)
    else:
        assert words.endswith("--host 127.0.0.1 --port 5001") and "50%25/mlruns/mlflow.db" in words
        assert capsys.readouterr().out == "MLflow: http://127.0.0.1:5001/#/experiments?workflowType=machine_learning\n"  # no run yet
        assert started["variables"]["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_each_paper_s_runs_have_their_address(tmp_path, monkeypatch, capsys):
    with Tracker(tmp_path) as tracker:
        numbers = {paper: tracker.sweep_run(paper, SOURCE, {}).experiment_id for paper in ("toy", "ladder")}
    monkeypatch.setattr(serve, "_become", lambda *_: None)
    monkeypatch.setattr(serve, "free_port", lambda first, what: first)
    serve.mlflow(tmp_path)
    address, training = "http://127.0.0.1:5000/#/experiments", "workflowType=machine_learning"
    assert capsys.readouterr().out.splitlines() == [f"MLflow: {address}?{training}"] + [
        line for paper in ("ladder", "toy") for line in (f"  {paper}", f"    {address}/{numbers[paper]}/runs?{training}")]


def test_code_of_another_checkout_stops_with_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("LAB_ROOT", raising=False)
    monkeypatch.chdir(ROOT / "notebooks")
    assert unit.project_root() == ROOT
    monkeypatch.chdir(tmp_path)
    assert unit.project_root() == ROOT  # no checkout at all
    other = tmp_path / "other"
    (other / "common/sweep").mkdir(parents=True)
    (other / "common/sweep/unit.py").touch()
    (other / "notebooks").mkdir()
    monkeypatch.chdir(other / "notebooks")
    with pytest.raises(ConfigError, match=re.escape(f"this is the checkout {other} but Python runs the code of {ROOT}, which")):
        unit.project_root()
    monkeypatch.setenv("LAB_ROOT", str(tmp_path))
    assert unit.project_root() == tmp_path


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb")))
def test_opening_a_notebook_leaves_its_file_as_it_is(tmp_path, name):
    """What JupyterLab saves two minutes after a kernel was started for it."""
    kept = (ROOT / "notebooks" / name).read_bytes()
    (tmp_path / name).write_bytes(kept)
    manager = FileContentsManager(root_dir=str(tmp_path), pre_save_hook=serve.keep_metadata)
    model = manager.get(name)
    model["content"]["metadata"]["language_info"] = {"name": "python", "version": "3.99"}
    model["content"]["metadata"]["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    manager.save(model, name)
    assert (tmp_path / name).read_bytes() == kept
    model["content"]["metadata"]["kernelspec"] = other = {"name": "julia", "display_name": "Julia", "language": "julia"}
    manager.save(model, name)
    assert json.loads((tmp_path / name).read_text())["metadata"]["kernelspec"] == other


def test_jupyter_reads_the_configuration_beside_the_user_s_own():
    code = ("from jupyter_server.serverapp import ServerApp\napp = ServerApp()\napp.load_config_file()\n"
            "print(app.config.ContentsManager.pre_save_hook.__name__)")  # fmt: skip
    shown = subprocess.run([sys.executable, "-c", code], env=serve.environment_of(Path(common.__file__).parents[1]), text=True,
                           capture_output=True)
    assert shown.stdout == "keep_metadata\n", shown.stderr
