"""Processes forked from one that has imported already: same streams, same end, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from common.sweep.workers import worker_environment
from common.sweep.forkserver import ForkServer, fork_is_safe

pytestmark = pytest.mark.skipif(not fork_is_safe(), reason="forking is used on Linux only")

MODULE = """import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests were started in the background
print(sys.argv[1:], os.getcwd(), os.environ["COLOUR"], "colorsys" in sys.modules, "this" in sys.modules, flush=True)
print("on the other stream", file=sys.stderr)
told = sys.stdin.readline().strip()
if told == "code":
    sys.exit(7)
if told == "fail":
    raise ValueError("the module fell over")
if told == "end":
    os.kill(os.getpid(), 9)
try:
    while told == "sleep":
        time.sleep(0.05)
except KeyboardInterrupt:
    print("interrupted")
print(told)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fork")
    (folder / "module.py").write_text(MODULE)
    found = ForkServer(folder, worker_environment(folder), slow=["colorsys", "nothing_of_that_name"])
    yield found
    found.close()


@pytest.fixture
def start(server, tmp_path_factory):
    """``start()``: the module as a process of its own, in the folder where it lies."""
    folder = next(path for path in tmp_path_factory.getbasetemp().glob("fork*") if (path / "module.py").exists())

    def begin() -> subprocess.Popen:
        return subprocess.Popen([*server.command("module"), "one", "two"], cwd=folder, text=True, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "COLOUR": "blue"})

    return begin


def forks(server: ForkServer) -> list[psutil.Process]:
    return psutil.Process(server._process.pid).children(recursive=True)


def gone(server: ForkServer) -> bool:
    for _ in range(100):
        if not forks(server):
            return True
        time.sleep(0.05)
    return False


def test_a_fork_has_arguments_folder_environment_streams_and_the_imports(start, server):
    said, errors = start().communicate("hello\n", timeout=30)
    assert said.startswith("['one', 'two'] ") and said.endswith(" blue True False\nhello\n"), said
    assert errors == "on the other stream\n" and os.environ.get("COLOUR") is None
    assert gone(server)


@pytest.mark.parametrize(("told", "code", "error"), [
    ("code", 7, ""), ("fail", 1, "ValueError: the module fell over"), ("end", -9, ""), ("", 0, ""),
])  # fmt: skip
def test_a_fork_ends_as_a_process_would(start, told, code, error):
    process = start()
    _, errors = process.communicate(f"{told}\n", timeout=30)
    assert process.returncode == code and error in errors


def sleeping(process: subprocess.Popen) -> None:
    process.stdin.write("sleep\n")
    process.stdin.flush()
    process.stdout.readline()


def test_an_interruption_goes_through(start, server):
    process = start()
    sleeping(process)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "interrupted\nsleep\n" and process.returncode == 0


def test_a_killed_client_takes_its_fork_along(start, server):
    process, other = start(), start()
    sleeping(process)
    sleeping(other)
    assert len(forks(server)) == 2
    process.kill()
    process.wait()
    for _ in range(100):
        if len(forks(server)) == 1:
            break
        time.sleep(0.05)
    assert len(forks(server)) == 1 and other.poll() is None  # and no other one
    other.kill()
    other.communicate()
    assert gone(server)


@pytest.mark.parametrize("end", ["close", "kill", "parent"])
def test_nothing_outlives_the_server(tmp_path, end):
    (tmp_path / "module.py").write_text(MODULE)
    own = ForkServer(tmp_path, worker_environment(tmp_path), slow=[])
    process = subprocess.Popen(own.command("module"), cwd=tmp_path, text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, env={**os.environ, "COLOUR": "red"})
    sleeping(process)
    [fork] = forks(own)
    if end == "close":
        own.close()
    elif end == "kill":
        own._process.kill()
    else:
        own._process.stdin.close()  # what the kernel does when the parent dies, of whatever
    assert process.wait(timeout=30) != 0
    gone, alive = psutil.wait_procs([fork], timeout=10)
    assert not alive
    if end != "close":
        own.close()
    process.communicate()


def test_a_server_that_cannot_start_is_an_oserror(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="ended at once"):
        ForkServer(tmp_path, {**worker_environment(tmp_path), "PYTHONHASHSEED": "no number"})


def test_jupyter_finds_the_kernel_of_the_server_first(server):
    code = "from jupyter_client.kernelspec import get_kernel_spec; print(get_kernel_spec('python3').argv)"
    found = subprocess.run([sys.executable, "-c", code], env=server.environment, text=True, capture_output=True).stdout
    assert server.address in found and "ipykernel_launcher" in found


def test_what_is_imported_starts_no_thread(tmp_path):
    """A lock that another thread holds while the process forks would never be released in the fork."""
    (tmp_path / "module.py").write_text(MODULE)
    own = ForkServer(tmp_path, worker_environment(tmp_path))
    process = subprocess.Popen(own.command("module"), cwd=tmp_path, text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, env={**os.environ, "COLOUR": "red"})
    sleeping(process)  # so the imports are done
    names = [path.read_text().strip() for path in Path(f"/proc/{own._process.pid}/task").glob("*/comm")]
    others = [name for name in names if name != "jemalloc_bg_thd"]
    assert len(others) == 1 and others[0].startswith("python"), names  # that one handles forks itself
    own.close()
    process.communicate()
