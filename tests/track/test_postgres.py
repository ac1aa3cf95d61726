"""A PostgreSQL store, named by MLFLOW_TRACKING_URI: four sweeps that start and write at once lose nothing.

The server is started in a temporary folder, reachable through a socket in it and nowhere else.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.track.test_mlflow_log import check_nothing_is_lost, four_writers


def program(name: str) -> str | None:
    """Debian keeps the server's programs off the path."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(installed[-1]) if installed else None)


def unprivileged() -> str | None:
    """PostgreSQL refuses to run as root: a user to run it as then, None for this one."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


@pytest.fixture
def server():
    """The address of a fresh server."""
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip('the driver is not installed (pip install -e ".[postgres]")')
    initdb, control = program("initdb"), program("pg_ctl")
    if not initdb or not control:
        pytest.skip("no PostgreSQL server on this machine (initdb and pg_ctl; apt-get install postgresql)")
    user = unprivileged()
    if os.geteuid() == 0 and user is None:
        pytest.skip("PostgreSQL does not run as root, and there is no other user to run it as")
    folder = Path(tempfile.mkdtemp(prefix="lab.pg."))  # short, as a socket's path must be, and open to ``user``
    if user:
        shutil.chown(folder, user)

    def ask(*command: str) -> None:
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL,
                       env={"PATH": os.environ["PATH"]})  # fmt: skip

    data = str(folder / "data")
    try:
        ask(initdb, "--auth=trust", "--username=lab", "--no-sync", "--encoding=UTF8", data)
        ask(control, "--pgdata", data, "--wait", "--log", str(folder / "log"), "--options",
            f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off", "start")  # fmt: skip
        yield f"postgresql://lab@/postgres?host={folder}"
        ask(control, "--pgdata", data, "--mode=immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_four_sweeps_may_start_and_write_to_postgresql_at_once(server, tmp_path):
    store = four_writers(tmp_path, server)
    check_nothing_is_lost(store)
    place = store.get_experiment_by_name("ladder").artifact_location
    assert place == (tmp_path / "mlruns" / "artifacts").as_uri()  # files stay in the project, wherever it was started
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()
