"""A tokenizer and a language model of a few thousand weights for probes, and tensors summarised as named numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedTokenizerBase

from common.lm.models import new_nano
from common.lm.tokenizer import train_tokenizer
from common.types import Message

CONTEXT = 96
PLACES = ("left", "right", "behind", "above", "below")
TEXTS = [f"the {colour} box {number} is {place} {other}. good? yes no" for colour in ("red", "green", "blue")
         for number in (3, 14, 27, 158) for place, other in zip(PLACES, ("me", "you", "it", "them", "us"), strict=True)]  # fmt: skip


def ask(*texts: str) -> tuple[Message, ...]:
    """A dialogue of user and assistant by turns, beginning with the user."""
    return tuple({"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts))


def tokenizer(*, split_digits: bool = False) -> PreTrainedTokenizerBase:
    """Byte pairs learnt from :data:`TEXTS`."""
    return train_tokenizer(TEXTS, 330, split_digits=split_digits)


def model(tokens: PreTrainedTokenizerBase, *, width: int = 32, layers: int = 2, steps: int = 0) -> torch.nn.Module:
    """A nano model after ``steps`` of plain gradient descent on a few dialogues: enough of them, and its samples are words that
    end. Adam would blow up the last bits of small gradients. Sets the global random state."""
    made = new_nano(tokens, width=width, layers=layers, heads=2, context=CONTEXT, seed=0)
    facts = [(text.split(" is ")[0], text.split(" is ")[1].split(".")[0]) for text in TEXTS[::3]]
    chats = [tokens.apply_chat_template(list(ask(box, place, "good?", ("yes", "no")[i % 2])), tokenize=False)
             for i, (box, place) in enumerate(facts)]
    rows = tokens(chats, add_special_tokens=False, return_tensors="pt", padding=True, padding_side="right")
    labels = rows["input_ids"].masked_fill(rows["attention_mask"] == 0, -100)
    descent = torch.optim.SGD(made.parameters(), lr=0.3, momentum=0.9)
    for _ in range(steps):
        descent.zero_grad()
        made(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"], labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        descent.step()
    return made.eval()


@contextmanager
def one_thread() -> Iterator[None]:
    """Context manager with one torch thread: with more, sums are taken in another order and may differ in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spread(name: str, values: Iterable[float]) -> dict[str, float]:
    """``name.0``, ``name.1``, … for a few numbers."""
    return {f"{name}.{i}": float(value) for i, value in enumerate(values)}


def tensor(name: str, values: torch.Tensor) -> dict[str, float]:
    """Mean, mean square, and the sum weighted by place, which moves when entries change places."""
    flat = values.detach().double().flatten()
    weights = torch.linspace(-1.0, 1.0, len(flat), dtype=torch.float64) if len(flat) > 1 else torch.ones(1, dtype=torch.float64)
    return {f"{name}.mean": float(flat.mean()), f"{name}.square": float(flat.square().mean()),
            f"{name}.placed": float((flat * weights).mean())}  # fmt: skip
