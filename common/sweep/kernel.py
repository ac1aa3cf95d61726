"""A unit's kernel, which is waited for no longer than it takes.

jupyter_client pauses for fixed times: 0.2 s until a new kernel is silent, 0.1 s between two looks at whether an old one has
ended. In a unit of a few minutes they are nothing, in a sweep of short ones a tenth of the time.
"""

from __future__ import annotations

from jupyter_client import AsyncKernelClient, AsyncKernelManager
from jupyter_client.channels import AsyncZMQSocketChannel
from traitlets import Type

QUIET_SECONDS = 0.02
"""Silence after which a new kernel has said all about its start. What comes later belongs to no cell and is ignored."""


class _Outputs(AsyncZMQSocketChannel):
    async def get_msg(self, timeout: float | None = None) -> dict:
        """A pause of at most ``QUIET_SECONDS``; cells are waited for without a timeout."""
        return await super().get_msg(None if timeout is None else min(timeout, QUIET_SECONDS))


class _Client(AsyncKernelClient):
    iopub_channel_class = Type(_Outputs)


class KernelManager(AsyncKernelManager):
    """For ``kernel_manager_class`` of nbclient, which papermill passes on."""

    client_factory = Type(_Client)

    async def _async_wait(self, pollinterval: float = 0.1) -> None:
        """Until the kernel has ended."""
        await super()._async_wait(pollinterval=min(pollinterval, QUIET_SECONDS))
