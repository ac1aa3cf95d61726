"""The decoding loop that all backends share: temperature and top-p sampling, token by token, in batches of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch


class Rows(Protocol):
    """A batch of R rows in decoding, which grow by one token a step; ``logits`` [R, V] are those of the next token."""

    logits: torch.Tensor

    def step(self, tokens: torch.Tensor) -> None:
        """Append one token to each row: ``tokens`` [R]."""

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with ``rows`` (indices) only."""


LOGITS = "the model's logits are not finite"


class NotFinite(FloatingPointError):
    """The model's logits hold NaN or infinity, of which nothing can be sampled."""


def check_sampling(temperature: float, top_p: float, max_new_tokens: int, n: int = 1) -> None:
    """ValueError, which names the argument, its value and its range, for what no backend can do."""
    for name, count in (("max_new_tokens", max_new_tokens), ("n", n)):
        if not hasattr(count, "__index__") or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name} is {count!r} but must be a whole number of at least 1; ask for one or more")
    if not 0.0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature!r} but must be a finite number of at least 0; take 0 for the likeliest token, 1 "
                         "for the model's own distribution")
    if not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p is {top_p!r} but must be above 0 and at most 1; take 1 to keep all tokens")


def check_tokens(rows: Sequence[Sequence[int]], vocab: int, context: int) -> None:
    """ValueError where a row of tokens is empty, longer than the context, or holds what is no token of the model."""
    for i, row in enumerate(rows):
        if not row:
            raise ValueError(f"tokens: row {i} is empty; give it at least one token")
        if len(row) > context:
            raise ValueError(f"tokens: row {i} has {len(row)} tokens, which do not fit the model's context of {context}; shorten it")
        if min(row) < 0 or max(row) >= vocab:
            wrong = next(token for token in row if not 0 <= token < vocab)
            raise ValueError(f"tokens: row {i} holds {wrong} but tokens of the model are 0 to {vocab - 1}; use its own tokenizer")


def check_rows(prompts: int, owner: Sequence[int], uniforms: np.ndarray, batch: int) -> None:
    """ValueError where ``owner`` [R] names a prompt that is not there, or ``uniforms`` [R, limit] are not R rows of numbers in [0, 1)."""
    if uniforms.ndim != 2 or len(uniforms) != len(owner):
        raise ValueError(f"uniforms have the shape {uniforms.shape} but there are {len(owner)} rows to sample; give a row of numbers each")
    if len(owner) and not 0 <= min(owner) <= max(owner) < prompts:
        raise ValueError(f"owner names prompts {min(owner)} to {max(owner)} but there are {prompts}, counted from 0; correct it")
    if uniforms.size and not (0.0 <= uniforms.min() and uniforms.max() < 1.0):
        raise ValueError(f"uniforms lie between {uniforms.min()} and {uniforms.max()} but must lie in [0, 1); draw them anew")
    if batch < 1:
        raise ValueError(f"batch is {batch} but must be at least 1; sample one row or more at once")


def sample(
    start: Callable[[Sequence[int], int], Rows], owner: Sequence[int], uniforms: np.ndarray, temperature: float, top_p: float, *,
    end: int, batch: int,
) -> tuple[list[tuple[int, ...]], list[float]]:  # fmt: skip
    """Token rows that continue prompts ``owner`` [R], ``batch`` at a time, each up to ``end`` or to the limit of
    ``uniforms`` [R, limit], and the sums of their log-probabilities at temperature 1 and top-p 1.

    ``start(owner of some rows, most tokens that are appended)`` begins rows. The caller has checked ``owner`` and ``uniforms``
    (:func:`check_rows`).

    Raises:
        ValueError: temperature, top-p or limit outside its range.
        NotFinite: the model's logits are not finite.
    """
    check_sampling(temperature, top_p, uniforms.shape[1])
    tokens: list[tuple[int, ...]] = []
    logprobs: list[float] = []
    for at in range(0, len(owner), batch):
        part = slice(at, at + batch)
        sampled = _decode(start(owner[part], uniforms.shape[1] - 1), uniforms[part], temperature, top_p, end)
        tokens += sampled[0]
        logprobs += sampled[1]
    return tokens, logprobs


def _decode(
    rows: Rows, uniforms: np.ndarray, temperature: float, top_p: float, end: int
) -> tuple[list[tuple[int, ...]], list[float]]:
    count, limit = uniforms.shape
    present, alive = np.arange(count), np.ones(count, dtype=bool)  # rows in the batch; which have not ended
    tokens, lengths = np.zeros((count, limit), dtype=np.int64), np.zeros(count, dtype=np.int64)
    logprobs = np.zeros(count)
    for step in range(limit):
        log_p = torch.log_softmax(rows.logits.float(), -1)
        chosen = choose(log_p, torch.from_numpy(uniforms[present, step]), temperature, top_p)
        gained, picked = log_p.gather(1, chosen[:, None])[:, 0].cpu().numpy(), chosen.cpu().numpy()
        if not np.isfinite(gained).all():  # one logit that is not finite makes all log-probabilities of its row NaN
            raise NotFinite(LOGITS)
        live = present[alive]
        tokens[live, step], lengths[live] = picked[alive], step + 1
        logprobs[live] += gained[alive]
        alive &= picked != end
        left = int(alive.sum())
        if not left or step + 1 == limit:
            break
        if 2 * left <= len(present):  # those that have finished leave once they are the larger part
            keep = torch.from_numpy(alive.nonzero()[0]).to(chosen.device)
            rows.keep(keep)
            present, chosen, alive = present[alive], chosen[keep], np.ones(left, dtype=bool)
        rows.step(chosen)
    ended = zip(tokens.tolist(), lengths.tolist(), strict=True)
    return [tuple(row[:length]) for row, length in ended], logprobs.tolist()


def choose(log_p: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Token per row of ``log_p`` [B, V] by inverse CDF at ``uniforms`` [B]; greedy when temperature is 0.

    top-p keeps the smallest set of most likely tokens whose mass reaches ``top_p`` (Holtzman et al.
    2020), computed after temperature. The CDF is summed in double precision.
    """
    if temperature == 0.0:
        return log_p.argmax(-1)
    if temperature == 1.0 and top_p >= 1.0:
        p = log_p.exp()
    else:
        p = torch.softmax(log_p.double() / temperature, -1)
    if top_p < 1.0:
        ranked, index = p.sort(dim=-1, descending=True, stable=True)
        drop = ranked.cumsum(-1) - ranked >= top_p
        p = p.masked_fill(torch.zeros_like(drop).scatter(1, index, drop), 0.0)
    cdf = p.cumsum(-1, dtype=torch.float64)
    draw = uniforms.to(cdf)[:, None] * cdf[:, -1:]
    return torch.searchsorted(cdf, draw, right=True)[:, 0].clamp(max=log_p.shape[1] - 1)
