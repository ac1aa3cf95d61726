"""Which backend samples: the names, and what ``LAB_BACKEND`` asks for. Nothing here imports torch: a wrong name must stop in under a
second, before any unit starts."""

from __future__ import annotations

import importlib.util
import os
from functools import cache

from common.config import ConfigError, hint

BACKENDS = ("vllm", "native", "torch", "transformers")


@cache
def vllm_installed() -> bool:
    """Whether there is vLLM; it is not imported."""
    return importlib.util.find_spec("vllm") is not None


def asked_backend() -> str:
    """What ``LAB_BACKEND`` asks for, "" for the fastest. ConfigError for a name that is none, and for vLLM where it is not installed."""
    asked = os.environ.get("LAB_BACKEND", "")
    if asked and asked not in BACKENDS:
        raise ConfigError(f'LAB_BACKEND is "{asked}", which is no backend; {hint(asked, BACKENDS)}, or unset it for the fastest')
    if asked == "vllm" and not vllm_installed():
        raise ConfigError('LAB_BACKEND is "vllm" but vLLM is not installed; install it as docs/scaling.md says, or unset LAB_BACKEND for '
                          "the fastest of those that are here")
    return asked
