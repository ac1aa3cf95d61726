"""The Jupyter kernel of a unit: forked where that saves imports, and waited for no longer than it takes.

A unit needs two processes, papermill's and the notebook's kernel. Where papermill's is a fork that has torch imported
(:mod:`common.sweep.workers`), it forks the kernel too, at once, while it has a single thread; ``multiprocessing`` cannot do this
later, because a child of its fork server starts a server of its own. jupyter_client pauses for fixed times: 0.2 s until a new
kernel is silent, 0.1 s between two looks at whether an old one has ended, which is a tenth of the time in a sweep of short units.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from multiprocessing.connection import Connection
from typing import Any

from jupyter_client import AsyncKernelClient, AsyncKernelManager
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.provisioning import LocalProvisioner
from traitlets import Type

QUIET_SECONDS = 0.02
"""Silence after which a new kernel has said all about its start. What comes later belongs to no cell and is ignored."""


class SpareProcess:
    """A fork of this process that waits until it is to be a kernel; used by jupyter_client like a ``subprocess.Popen``."""

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=_wait_for_orders, args=(theirs, self._orders))
        self._process.start()
        theirs.close()
        self.pid, self.used = self._process.pid, False

    def become_kernel(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.used = True
        self._orders.send((arguments, environment))

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _wait_for_orders(orders: Connection, other_end: Connection) -> None:
    other_end.close()
    try:
        arguments, environment = orders.recv()
    except EOFError:  # the worker has ended
        return
    os.setsid()
    os.environ.update(environment)
    os.environ["JPY_PARENT_PID"] = str(os.getppid())  # ipykernel ends when that process does
    sys.argv = arguments
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)


class _Provisioner(LocalProvisioner):
    async def launch_kernel(self, cmd: list[str], **options: Any) -> dict[str, Any]:
        spare = self.parent.spare
        if spare is None or spare.used:
            return await super().launch_kernel(cmd, **options)
        spare.become_kernel(cmd[cmd.index("ipykernel_launcher"):], options["env"])
        self.process, self.pid = spare, spare.pid
        return self.connection_info


class _Outputs(AsyncZMQSocketChannel):
    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        """A pause of at most ``QUIET_SECONDS``; cells are waited for without a timeout."""
        return await super().get_msg(None if timeout is None else min(timeout, QUIET_SECONDS))


class _Client(AsyncKernelClient):
    iopub_channel_class = Type(_Outputs)


class KernelManager(AsyncKernelManager):
    """For ``kernel_manager_class`` of nbclient, which papermill passes on."""

    client_factory = Type(_Client)
    spare: SpareProcess | None = None
    """Becomes the first kernel; others are started as usual."""

    async def _async_pre_start_kernel(self, **options: Any) -> tuple[list[str], dict[str, Any]]:
        if self.provisioner is None:
            self.kernel_id = self.kernel_id or "unit"
            self.provisioner = _Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**options)

    pre_start_kernel = _async_pre_start_kernel

    async def _async_wait(self, pollinterval: float = 0.1) -> None:
        """Until the kernel has ended."""
        await super()._async_wait(pollinterval=min(pollinterval, QUIET_SECONDS))
