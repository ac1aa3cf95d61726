"""Training batches: examples to token rows, token rows to padded tensors, in an order fixed by the seed.

A *row* is one prompt with one completion: the action and its end-of-turn token. Rows are tokenised
once, before training, exactly as the engine does: the chat template with the assistant header, then
the action's own tokens, then ``eos_token``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from common.lm.adapters import adapters, is_four_bit
from common.rng import generator
from common.types import Message, PreferencePair


@dataclass(frozen=True)
class SFTExample:
    """A prompt and the assistant turn to imitate. Only ``completion`` and its end token carry loss."""

    prompt: tuple[Message, ...]
    completion: str
    weight: float = 1.0
    """Multiplies this example's loss; ≥ 0, and 0 leaves the example out."""
    given: str = field(default="", repr=False)  # not shown: attested hashes of base models' examples are older than it
    """How the turn begins, before ``completion``: read like the prompt, and without loss. A revision does not imitate the error it mends."""


class CompletionScorer(Protocol):
    """Interface of whatever scores completions, such as :class:`common.lm.engine.Engine`."""

    def score(self, prompts: Sequence[tuple[Message, ...]], completions: Sequence[Sequence[str]]) -> Sequence[Sequence[float]]:
        """Log-probabilities in nats, ≤ 0, of ``completions[i]`` after ``prompts[i]``, end-of-turn token included."""


class ScoredTurn(NamedTuple):
    """One action of a trajectory with its log-probability (nats, ≤ 0) under the reference policy."""

    prompt: tuple[Message, ...]
    action: str
    ref_logp: float


@dataclass(frozen=True)
class TrajectoryPair:
    """Two whole episodes of one task, the first preferred; they may differ in length."""

    chosen: tuple[ScoredTurn, ...]
    rejected: tuple[ScoredTurn, ...]
    weight: float = 1.0


def referenced(engine: CompletionScorer, pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """``pairs`` with both sides' log-probabilities under ``engine``, the policy that DPO starts from."""
    if not pairs:
        return []
    scores = engine.score([pair.prompt for pair in pairs], [[pair.chosen, pair.rejected] for pair in pairs])
    return [replace(pair, ref_chosen=a, ref_rejected=b) for pair, (a, b) in zip(pairs, scores, strict=True)]


def as_trajectories(pair: PreferencePair | TrajectoryPair) -> TrajectoryPair:
    """A step-level pair is a trajectory pair with one turn on each side."""
    if isinstance(pair, TrajectoryPair):
        return pair
    return TrajectoryPair(
        (ScoredTurn(pair.prompt, pair.chosen, pair.ref_chosen),),
        (ScoredTurn(pair.prompt, pair.rejected, pair.ref_rejected),),
        pair.weight,
    )


def positive(stage: str, items: Sequence, weights: Sequence[float]) -> list:
    """The items whose weight is above 0, in order.

    Raises:
        ValueError: for a negative or non-finite weight, or when nothing is left.
    """
    for i, weight in enumerate(weights):
        if not 0 <= weight < math.inf:
            raise ValueError(f"{stage}: weight {weight} of item {i} must be at least 0 and finite; check its source")
    selected = [item for item, weight in zip(items, weights, strict=True) if weight > 0]
    if not selected:
        raise ValueError(
            f"{stage}: none of {len(items)} items has a positive weight, so there is nothing to learn from; "
            f"collect more data or loosen its filter"
        )
    return selected


def encode(
    stage: str,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Message]],
    completions: Sequence[str | None],
    *,
    max_length: int,
    given: Sequence[str] = (),
    ended: Sequence[bool] = (),
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of prompts (with the assistant header and what is ``given`` of each turn) and completions (with the end token,
    but for those that were cut before they ``ended``).

    A completion of None has no tokens at all.

    Raises:
        ValueError: for a row of more than ``max_length`` tokens, with the numbers; and for a turn that is not tokenised in
            two parts as it is in one, which is how a policy writes it.
    """
    # Many rows are alike: turns of one state, repeated demonstrations. Each text is tokenised once.
    names = [tuple((message["role"], message["content"]) for message in prompt) for prompt in prompts]
    chats = {
        name: tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
        for name, prompt in dict(zip(names, prompts, strict=True)).items()
    }
    given = given or [""] * len(prompts)
    whole = [(begun, begun + (text or "")) for begun, text in zip(given, completions, strict=True)]
    tokens = _tokenised(tokenizer, {*chats.values(), *(text or "" for text in completions), *(part for turn in whole for part in turn)})
    for i, (begun, turn) in enumerate(whole):
        if begun and tokens[begun] + tokens[completions[i] or ""] != tokens[turn]:
            raise ValueError(f"{stage}: row {i} is cut inside a token, {begun!r} | {completions[i]!r}; cut it before a blank")
    prompt_ids = [tokens[chats[name]] + tokens[begun] for name, begun in zip(names, given, strict=True)]
    bodies = [tokens[text or ""] for text in completions]
    completion_ids = [
        [] if text is None else [*body, *[tokenizer.eos_token_id] * over]
        for text, body, over in zip(completions, bodies, ended or [True] * len(bodies), strict=True)
    ]
    for i, (prompt, completion) in enumerate(zip(prompt_ids, completion_ids, strict=True)):
        if len(prompt) + len(completion) > max_length:
            raise ValueError(
                f"{stage}: row {i} has {len(prompt)} prompt and {len(completion)} completion tokens, more than "
                f"max_length {max_length}; raise max_length or shorten the prompt, since cutting it would change it"
            )
    return prompt_ids, completion_ids


def _tokenised(tokenizer: PreTrainedTokenizerBase, texts: set[str]) -> dict[str, list[int]]:
    distinct = sorted(texts)
    return dict(zip(distinct, tokenizer(distinct, add_special_tokens=False)["input_ids"], strict=True)) if texts else {}


def check_model(stage: str, model: torch.nn.Module, max_length: int) -> None:
    """Raises ValueError when ``max_length`` exceeds the positions ``model`` was built for, or its matrices have 4 bits and no
    adapters beside them."""
    if is_four_bit(model) and not adapters(model):
        raise ValueError(f"{stage}: the model's matrices have 4 bits and cannot be trained themselves; give it adapters "
                         "(lora_rank 32, for instance) or load it without four_bit")  # fmt: skip
    context = model.config.max_position_embeddings
    if max_length > context:
        raise ValueError(f"{stage}: max_length {max_length} exceeds the model's context of {context}; lower it")


def pad_rows(
    prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]], pad_id: int
) -> dict[str, torch.Tensor]:
    """R rows to tensors [R, T], padded on the left: ``input_ids``, ``attention_mask``,
    ``position_ids`` (0 at the first real token) and ``completion_mask`` (bool).

    Completions end at the right edge, so that logits are needed at the last few positions only.
    """
    lengths = [len(p) + len(c) for p, c in zip(prompt_ids, completion_ids, strict=True)]
    width = max(lengths)
    ids = np.full((len(lengths), width), pad_id)
    for row, n, prompt, completion in zip(ids, lengths, prompt_ids, completion_ids, strict=True):
        row[width - n :] = [*prompt, *completion]
    input_ids = torch.from_numpy(ids)
    back = torch.arange(width - 1, -1, -1)  # distance of a position from the right edge
    attention_mask = (back < torch.tensor(lengths)[:, None]).long()
    completion_mask = back < torch.tensor([len(c) for c in completion_ids])[:, None]
    position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": position_ids,
        "completion_mask": completion_mask,
    }


def collate_rows(rows: Sequence[dict[str, Any]], pad_id: int) -> dict[str, Any]:
    """:func:`pad_rows` of dictionaries with ``prompt_ids`` and ``completion_ids``, with their number
    ``n_examples`` and their tokens ``n_tokens``, padding not counted."""
    tensors = pad_rows([row["prompt_ids"] for row in rows], [row["completion_ids"] for row in rows], pad_id)
    return tensors | {"n_examples": len(rows), "n_tokens": int(tensors["attention_mask"].sum())}


_POOL = 4
"""Updates' worth of examples that are sorted by length together: less padding, still mostly random batches."""


def training_order(
    lengths: Sequence[int], *, per_update: int, seed: int, epochs: int | None = None, max_steps: int | None = None
) -> list[int]:
    """Indices in the order of training; update u uses ``order[u · per_update : (u + 1) · per_update]``.

    Each epoch is a fresh permutation. Within pools of a few updates, examples of like length are
    brought together and the updates then shuffled. What does not fill an update at the end of an
    epoch opens the next one; only the very last update can be smaller. Depends on ``per_update`` but
    not on how it splits into batch size and accumulation. Exactly one of ``epochs`` and ``max_steps``
    is given.
    """
    n, order, carry, epoch = len(lengths), [], [], 0
    while epoch < epochs if epochs is not None else len(order) < max_steps * per_update:
        rng = generator(seed, "training order", epoch)
        stream = [*carry, *rng.permutation(n).tolist()]
        full = len(stream) // per_update * per_update
        stream, carry = stream[:full], stream[full:]
        for at in range(0, full, _POOL * per_update):
            pool = sorted(stream[at : at + _POOL * per_update], key=lengths.__getitem__)
            for group in rng.permutation(len(pool) // per_update).tolist():
                order += pool[group * per_update : (group + 1) * per_update]
        epoch += 1
    return order + carry if epochs is not None else order[: max_steps * per_update]
