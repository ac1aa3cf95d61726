"""Workers and kernels forked from a process that has already imported what is slow to import.

A unit needs two new processes, papermill's and the notebook's kernel, and both spend more time importing (torch,
transformers, papermill) than doing anything else. Here one process imports once, and each of theirs is a fork of it:
the same modules in memory, nothing else shared. It runs nothing itself and has one thread besides jemalloc's, which
pyarrow brings and which looks after forks itself, so forking is safe (a test counts the threads); on systems where it is
not (macOS, Windows) everything is started as usual.

Whoever would start a process starts :mod:`common.sweep.forkclient` instead. When that ends, however it ends, what was
forked for it is killed; when the server ends, everything is.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

SLOW = ("papermill", "nbclient", "ipykernel.kernelapp", "ipykernel.ipkernel", "IPython", "matplotlib_inline.backend_inline",
        "jupytext", "matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg",
        "scipy.stats", "torch", "safetensors.torch",
        "transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto",
        "transformers.tokenization_utils_fast", "tokenizers", "pandas", "datasets", "peft", "trl.trainer.sft_trainer",
        "trl.trainer.dpo_trainer", "rliable.metrics")  # fmt: skip
"""Third-party modules that notebooks import. Nothing of this project: a worker must read its code as it is now."""

CLIENT = Path(__file__).with_name("forkclient.py")


class ForkServer:
    """A running server; ``environment`` is for processes whose Jupyter kernels should come from it. OSError where it
    cannot be started, for instance for want of a temporary folder."""

    def __init__(self, root: Path, environment: Mapping[str, str], slow: Sequence[str] = SLOW) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lab-fork-"))
        self.address = str(self._folder / "socket")
        kernel = self._folder / "kernels" / "python3" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        argv = [*self.command("ipykernel_launcher"), "-f", "{connection_file}"]
        kernel.write_text(json.dumps({"argv": argv, "display_name": "Python 3 (paper lab)", "language": "python"}))
        paths = [str(self._folder), *filter(None, [environment.get("JUPYTER_PATH")])]
        self.environment = {**environment, "JUPYTER_PATH": os.pathsep.join(paths)}
        self._process = subprocess.Popen([sys.executable, __file__, self.address, *slow], cwd=root, env=self.environment,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        if not self._process.stdout.readline():  # else it listens now, and imports while the first ones wait
            self.close()
            raise OSError("the fork server ended at once")

    def command(self, module: str) -> list[str]:
        """What to start instead of ``python -m module``."""
        return [sys.executable, "-I", "-S", str(CLIENT), self.address, module]

    def close(self) -> None:
        """Kill everything that was forked, wait for its end, and end the server."""
        import psutil

        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=5)
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def fork_is_safe() -> bool:
    """Whether a process that imported torch may be forked without an exec: on Linux."""
    return sys.platform == "linux"


# -- the server process -----------------------------------------------------------------------------------------


def serve(address: str, slow: Sequence[str]) -> None:
    """Import ``slow``, then answer clients until standard input, the parent's, is closed."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("listening", flush=True)
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's, of widgets that nothing here needs
    for name in slow:
        with suppress(ImportError):  # what is not there is imported by nobody
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector of a fork then leaves these pages alone, which stay shared
    own, children = os.getpid(), {}  # children: pid → its client
    while True:
        ready = select.select([listener, 0, *children.values()], [], [], 0.02)[0]
        if 0 in ready and not os.read(0, 1024):
            os._exit(0)  # forks end with this process (PR_SET_PDEATHSIG)
        for pid, client in list(children.items()):
            if client in ready:
                _obey(pid, client)
        if listener in ready:
            client, _ = listener.accept()
            asked, streams = _request(client)
            pid = os.fork() if asked else 0
            if asked and pid == 0:
                for one in (listener, client, *children.values()):
                    one.close()
                _become(asked, streams, own)
            for stream in streams:
                os.close(stream)
            if asked:
                children[pid] = client
        while children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            client = children.pop(pid)
            with suppress(OSError):
                client.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
            client.close()


def _obey(pid: int, client: socket.socket) -> None:
    """Pass signals on; kill the group of a fork whose client is gone."""
    try:
        said = client.recv(64)
    except OSError:
        said = b""
    with suppress(ProcessLookupError):
        if not said:
            os.killpg(pid, signal.SIGKILL)
        for number in said:
            os.kill(pid, number)


def _request(client: socket.socket) -> tuple[dict | None, list[int]]:
    """What a client asks for and its three standard streams; None from one that ended at once."""
    head, streams, _, _ = socket.recv_fds(client, 4, 3)
    length, text = int.from_bytes(head, "big"), b""
    while head and len(text) < length:
        more = client.recv(length - len(text))
        if not more:
            return None, list(streams)
        text += more
    return (json.loads(text) if head else None), list(streams)


def _become(asked: Mapping, streams: list[int], server: int) -> None:
    """In the fork: be ``python -m module arguments…`` of the client, with its streams, folder and environment."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the server
        if os.getppid() != server:
            os._exit(1)
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.stdin, sys.stdout, sys.stderr = (open(k, mode, 1, closefd=False) for k, mode in ((0, "r"), (1, "w"), (2, "w")))
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
        sys.argv, sys.path[0] = [asked["module"], *asked["arguments"]], asked["cwd"]
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(Exception):
            import atexit

            atexit._run_exitfuncs()
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path[0] = ""  # not this file's folder, whose names would hide others
    serve(sys.argv[1], sys.argv[2:])
