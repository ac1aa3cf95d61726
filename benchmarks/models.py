"""Models and prompts of the races: random weights, since speed does not depend on the text; and a pretrained one."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from common.lm.models import load_model, new_nano
from common.lm.pretrained import folder_of
from common.lm.tokenizer import train_tokenizer
from common.rng import generator

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WORDS = [f"{a}{b}" for a in "bcdfghklmnprst" for b in ("a", "e", "i", "o", "u", "an", "er", "ol")]
SMOL = folder_of(Path(__file__).resolve().parents[1], "SmolLM2-135M-Instruct")


def pretrained() -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """SmolLM2-135M-Instruct, which must have been fetched before."""
    model, tokenizer = load_model(SMOL)
    return model.to(DEVICE), tokenizer


def nano(width: int = 128, layers: int = 4, context: int = 256) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """0.85 M parameters at the default size. It ends a turn by chance, one token in 400."""
    texts = [" ".join(WORDS[i : i + 8]) for i in range(len(WORDS) - 8)] * 20
    tokenizer = train_tokenizer(texts, 400, split_digits=False)
    model = new_nano(tokenizer, width=width, layers=layers, heads=4, context=context, seed=0).eval().to(DEVICE)
    return model, tokenizer


def prompts(n: int, words: int, seed: int = 0) -> list[tuple[dict[str, str], ...]]:
    """``n`` chat prompts of ``words`` random words."""
    rng = generator("benchmark prompts", seed, n)
    return [({"role": "user", "content": " ".join(rng.choice(WORDS, words))},) for _ in range(n)]
