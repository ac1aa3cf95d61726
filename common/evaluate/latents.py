"""What a set of latents is worth: their effective rank, and whether foreseen ones are told from others.

Pure NumPy. Rows are states, columns numbers of a latent.
"""

from __future__ import annotations

import numpy as np


def effective_rank(latents: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values of ``latents`` [N, D]: 1 to min(N, D) (Roy and Vetterli 2007).

    Not centred: latents that are the same in all states, a collapse, have rank 1 however their last bits differ.
    All zero counts as 1. ValueError when it is no matrix or empty.
    """
    if latents.ndim != 2 or not latents.size:
        raise ValueError(f"latents have shape {latents.shape} but must be [states, numbers], neither 0; pass a matrix")
    values = np.linalg.svd(latents.astype(np.float64), compute_uv=False)
    if values[0] <= 0.0:
        return 1.0
    shares = values[values > 0.0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def cosines(foreseen: np.ndarray, found: np.ndarray) -> np.ndarray:
    """[N, N]: cosine of each row of ``foreseen`` [N, D] with each of ``found`` [N, D]; 0 for a row of zeros."""
    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    return unit(foreseen.astype(np.float64)) @ unit(found.astype(np.float64)).T


def recognised(similarity: np.ndarray) -> float:
    """Share of rows of ``similarity`` [N, N] whose own column is the largest; c equal ones count 1/c.

    1/N is chance, also after a collapse: what is the same for all states recognises none.
    """
    best = similarity.max(1, keepdims=True)
    equal = np.isclose(similarity, best, rtol=0.0, atol=1e-6)
    return float(np.where(np.diag(equal), 1.0 / equal.sum(1), 0.0).mean())
