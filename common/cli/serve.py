"""``python -m common lab`` and ``python -m common mlflow``: JupyterLab and MLflow's pages, on this machine only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config import ConfigError

HOST = "127.0.0.1"
KERNEL = {"display_name": "Python 3 (paper lab)", "language": "python", "name": "python3"}
"""The kernel that `make setup` installs, as the notebooks in git name it."""

FIRST = "notebooks/00_tour.ipynb"
"""The notebook that leads to all others."""

TRIED = 50
"""So many ports from the usual one on are tried."""


def lab(root: Path) -> None:
    """Replace this process by JupyterLab at its first page; notebooks are first synchronised with their sources, and kernels import the code
    of ``root``."""
    sources = [str(path) for path in sorted((root / "notebooks").glob("*.py"))]
    subprocess.run([sys.executable, "-m", "jupytext", "--quiet", "--sync", *sources], cwd=root, check=True)
    port = free_port(8888, "JupyterLab")
    _become(root, lab_arguments(port, superuser=os.geteuid() == 0), environment_of(root))


def mlflow(root: Path) -> None:
    """Replace this process by MLflow's server of the local store; prints the address of each paper's variants in order.

    MLflow opens on pages about the usage of language models, and an experiment on that of its traces, unless the address asks for
    its table of runs.
    """
    from common.track.mlflow_store import local_uri, quiet_environment

    quiet_environment()
    from common.report.mlflow_views import write_views

    port = free_port(5000, "MLflow")
    address, training = f"http://{HOST}:{port}/#/experiments", "workflowType=machine_learning"
    print(f"MLflow: {address}?{training}", flush=True)
    for view in write_views(root):
        print(f"  {view.paper}{': ' * bool(view.about)}{view.about}\n    {address}/{view.experiment}/runs?{training}{view.query}", flush=True)
    _become(root, ["mlflow", "ui", "--backend-store-uri", local_uri(root), "--host", HOST, "--port", str(port)], environment_of(root))


def lab_arguments(port: int, *, superuser: bool) -> list[str]:
    """JupyterLab's command line: the whole project in its file browser, ``FIRST`` open. ``--allow-root`` for a superuser, as in many
    containers, whom JupyterLab otherwise refuses."""
    return ["jupyterlab", "--ip", HOST, "--port", str(port), *(["--allow-root"] if superuser else []), f"--LabApp.default_url=/lab/tree/{FIRST}"]


def environment_of(root: Path, present: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables under which Python imports the code of ``root`` before that of any other checkout that is installed, and
    Jupyter reads its configuration there too."""
    first = {"PYTHONPATH": root, "JUPYTER_CONFIG_PATH": root / "configs/jupyter"}
    return {**present, **{name: os.pathsep.join(filter(None, (str(path), present.get(name)))) for name, path in first.items()}}


def keep_metadata(model: dict[str, Any], **_: object) -> None:
    """Run before JupyterLab saves a notebook: removes what depends on this machine, so that opening one changes no file in git.

    JupyterLab writes the kernel's version of Python into every notebook that it opens, and saves that by itself after a while.
    """
    if model["type"] == "notebook" and model.get("content"):
        metadata = model["content"]["metadata"]
        metadata.pop("language_info", None)
        if metadata.get("kernelspec", {}).get("name") == KERNEL["name"]:
            metadata["kernelspec"] = dict(KERNEL)


def free_port(first: int, what: str) -> int:
    """The first free port from ``first`` on; prints a line when it is not ``first``."""
    for port in range(first, first + TRIED):
        with socket.socket() as asked:
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                asked.bind((HOST, port))
            except OSError:
                continue
        if port != first:
            print(f"port {first} is in use, so {what} takes {port}", flush=True)
        return port
    raise ConfigError(f"no port from {first} to {first + TRIED - 1} is free for {what}; end one of the programs that use them")


def _become(root: Path, module: Sequence[str], environment: Mapping[str, str]) -> None:
    os.chdir(root)
    os.execve(sys.executable, [sys.executable, "-m", *module], dict(environment))
