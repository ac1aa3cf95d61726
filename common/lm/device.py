"""Where models of a unit live: on the GPU that the unit may use, else on the processor."""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerBase as Tokenizer


def on_device(model: torch.nn.Module, tokenizer: Tokenizer) -> tuple[torch.nn.Module, Tokenizer]:
    """The same pair, the model moved to the first GPU that CUDA_VISIBLE_DEVICES leaves, where there is one."""
    return (model.to("cuda") if torch.cuda.is_available() else model), tokenizer
