"""What a model predicts at given tokens, with gradients: the forward pass of training.

Rows of one pass are often alike: samples of one task share its prompt, the two sides of a preference pair share
theirs. So rows are read as a trie of tokens (:class:`Prefixes`), and each prefix is computed once, if the model
is one that :mod:`common.lm.llama` can run; others get padded rows. Either way only predictions that were asked
for reach the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from common.lm import llama

PASS_TOKENS = {"cpu": 4096}
"""Most tokens of one pass by type of device, unless one row alone has more: activations that stay in a core's caches
(240 rows of a trajectory pair's turns: three times as fast)."""

PASS_TOKENS_ELSE = 2**16

PASS_LOGITS = 2**29
"""Most tokens times vocabulary of one pass on a GPU: a float32 copy of its logits is 2 GiB, and a loss keeps several."""


class Predictions(NamedTuple):
    """Distributions over the next token, and which of them belong to the M scored tokens, row by row."""

    logits: torch.Tensor  # [D, V] float32 (float64 of a float64 model), one for each distinct prefix
    where: torch.Tensor  # [M] in [0, D): what predicts scored token m
    labels: torch.Tensor  # [M] the scored tokens
    row: torch.Tensor  # [M] the row of each

    def logps(self) -> torch.Tensor:
        """[M] log-probability of each scored token, ≤ 0."""
        return torch.log_softmax(self.logits, -1)[self.where, self.labels]


class Prefixes:
    """R rows of tokens as a trie. Node n stands for the prefix that ends with ``token[n]`` at ``position[n]`` of row
    ``row[n]``, the first that has it; ``paths`` gives each row's nodes. Nodes that predict nothing asked for, by
    themselves or later in their row, are left out. ``asked`` [D] are the nodes with a prediction to be looked at."""

    def __init__(self, rows: Sequence[Sequence[int]], scored: Sequence[Sequence[int]]) -> None:
        # A node's children are found by (node + 1, token), in one number.
        base, table = 1 + max(map(max, rows)), {}
        token, position, owner, self.paths = [], [], [], []
        for i, (row, places) in enumerate(zip(rows, scored, strict=True)):
            at, path = -1, []
            for place, one in enumerate(row[: max(places)]):
                key = (at + 1) * base + one
                at = table.get(key, -1)
                if at < 0:
                    at = table[key] = len(token)
                    token.append(one)
                    position.append(place)
                    owner.append(i)
                path.append(at)
            self.paths.append(path)
        nodes = [path[place - 1] for path, places in zip(self.paths, scored, strict=True) for place in places]
        self.token, self.position, self.row = map(llama.integers, (token, position, owner))
        self.asked, self.where = llama.integers(nodes).unique(return_inverse=True)


def predictions(model: nn.Module, rows: Sequence[Sequence[int]], scored: Sequence[Sequence[int]]) -> Predictions:
    """What ``model`` predicts at the positions ``scored[i]`` of the token rows ``rows[i]``, in one pass.

    Positions are ascending, at least one a row and each ≥ 1: position p is predicted from the tokens before it.
    Later tokens and other rows have no part in it.
    """
    prefixes = Prefixes(rows, scored)
    logits = llama.predict(model, prefixes) if llama.runs(model) else _padded(model, prefixes, rows)
    labels = [row[place] for row, places in zip(rows, scored, strict=True) for place in places]
    owner = [i for i, places in enumerate(scored) for _ in places]
    tensors = (prefixes.where, llama.integers(labels), llama.integers(owner))
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return Predictions(logits, *(tensor.to(logits.device) for tensor in tensors))


def passes(model: nn.Module, rows: Sequence[Sequence[int]], scored: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Row numbers, all of them, in groups for one pass each: alike in length, those of one prompt together."""
    device = next(model.parameters()).device.type
    limit = PASS_TOKENS.get(device) or min(PASS_TOKENS_ELSE, PASS_LOGITS // model.config.vocab_size)
    shared = llama.runs(model)
    group: list[int] = []
    tokens, before = 0, None
    for i in sorted(range(len(rows)), key=lambda i: (scored[i][0], rows[i])):
        prompt = rows[i][: scored[i][0]]
        more = len(rows[i]) - (len(prompt) if shared and prompt == before else 0)
        if group and tokens + more > limit:
            yield group
            group, tokens, more = [], 0, len(rows[i])
        group.append(i)
        tokens, before = tokens + more, prompt
    if group:
        yield group


def _padded(model: nn.Module, prefixes: Prefixes, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """[D, V] by the model's own forward pass over rows padded on the left, projecting their last positions only.
    Rows whose predictions all stand in earlier ones are not run."""
    used, place = prefixes.row[prefixes.asked].unique(return_inverse=True)
    inputs = [rows[i][: len(prefixes.paths[i])] for i in used.tolist()]
    lengths = torch.tensor([len(row) for row in inputs])
    width, back = int(lengths.max()), lengths[place] - prefixes.position[prefixes.asked]  # back: 1 at a row's end
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in inputs])
    mask = (torch.arange(width, 0, -1) <= lengths[:, None]).long()
    keep, device = int(back.max()), next(model.parameters()).device
    logits = model(
        input_ids=ids.to(device), attention_mask=mask.to(device), logits_to_keep=keep, use_cache=False,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0).to(device),
    ).logits
    return logits[place.to(device), (keep - back).to(device)]
