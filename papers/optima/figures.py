"""Optima's own part of its family's notebook: the reward by hand, and success against tokens."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from common.report.figures import plane
from common.report.show import code, source
from common.rows import MetricRow
from common.types import Observation, Step, Turn
from papers.optima.talks import Talk, Weights, pairs, rewards, values

LADDER = ("base", "rft", "isft_no_tokens", "isft_no_nll", "isft", "idpo", "isft_dpo")
COLUMNS = ("success", "tokens", "ratio", "guessed", "success@2")
CURVES = ("loss", "reward_margin", "reward_accuracy", "logp", "grad_norm")
SHOWN = ("isft.1", "isft.4", "idpo.1", "idpo.4", "isft_dpo.2", "isft_dpo.4", "isft_no_tokens.4", "isft_no_nll.4", "rft.4")


def toy() -> list[str]:
    """Three talks of one task and what each term of the reward makes of them."""
    end = Observation("", 1.0, terminated=True)
    lines = [(words, Talk(tuple(Step((), Turn("", -1.0, n), end) for n in tokens), nll)) for words, tokens, nll in (
        ("red · red:blue!", (2, 5), 0.7), ("so sure let us have a look;red · red:blue!", (10, 5), 0.7), ("blue:red!, guessed", (5,), 1.6))]
    kinds = {"R": Weights(0.4, 0.2), "without tokens": Weights(0.0, 0.2), "without NLL": Weights(0.4, 0.0)}
    found = {name: rewards([talk for _, talk in lines], weights) for name, weights in kinds.items()}
    text = [f"{words:45s}" + "   ".join(f"{name} = {scores[i]:.2f}" for name, scores in found.items()) for i, (words, _) in enumerate(lines)]
    return ["One task, three talks that end right, of 7, 15 and 5 tokens. Without the likelihood term the guess is worth most:",
            source(rewards), source(values), source(pairs), code("\n".join(text))]  # fmt: skip


def results(rows: Sequence[MetricRow], variants: Sequence[str]) -> list[Figure | str]:
    return ["Up and to the left is better. Small marks are seeds, crosses 95 % intervals; the dotted line is the floor, 7 tokens.",
            plane(rows, [name for name in LADDER if name in variants], (("tokens", "tokens of a dialogue"), ("success", "right")),
                  guide=((7, 7), (0, 1)))]  # fmt: skip
