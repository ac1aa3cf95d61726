"""Sharpening's own part of its family's notebook: what N answers hold, by hand."""

from __future__ import annotations

import numpy as np

from common.report.show import code, source
from papers.sharpening.method import likeliest

LADDER = ("base", "random", "sharpen@N=2", "sharpen", "sharpen@N=32", "rl")
COLUMNS = ("success", "greedy_success", "mode")
CURVES = ("loss", "reward", "kl_1", "grad_norm")
SHOWN = LADDER[1:]


def toy() -> list[str]:
    """A policy over four answers, sharpened three ways; the favourite is right or not."""
    policy = np.array([0.3, 0.26, 0.24, 0.2])
    lines = [f"{'the policy':24s} [{', '.join(f'{p:.2f}' for p in policy)}]"]
    for n in (2, 8, 32):
        order = np.argsort(-policy)
        at_most = np.cumsum(policy[order][::-1])[::-1] ** n  # all n draws lie among the k-th likeliest and rarer ones
        best = np.empty_like(policy)
        best[order] = at_most - np.append(at_most[1:], 0.0)
        lines.append(f"{f'likeliest of {n}':24s} [{', '.join(f'{p:.2f}' for p in best)}]")
    for beta in (1.0, 0.2):
        tempered = policy ** (1 + 1 / beta)
        lines.append(f"{f'RLHF-sharpened, β = {beta}':24s} [{', '.join(f'{p:.2f}' for p in tempered / tempered.sum())}]")
    return ["Four answers. Whatever the favourite is, right or wrong, all of these move probability to it:", source(likeliest),
            code("\n".join(lines))]  # fmt: skip
