"""Random seeds derived from names, so that batching, order and parallelism cannot change a result."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(*parts: object) -> int:
    """A 63-bit seed from the parts, typically ``(seed, stage, item id)``.

    Stable across processes and Python versions (SHA-256 of the parts' text, not ``hash``).
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object) -> np.random.Generator:
    """A NumPy generator seeded with :func:`derive`."""
    return np.random.Generator(np.random.PCG64(derive(*parts)))
