"""Where models of a unit live, and in which precision: on the GPU that the unit may use, else on the processor."""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerBase as Tokenizer

LARGE = 50_000_000
"""Weights from which on a model counts as large. Nano models have at most five million: half precision would make them no
faster, and their recorded results are float32."""


def on_device(model: torch.nn.Module, tokenizer: Tokenizer) -> tuple[torch.nn.Module, Tokenizer]:
    """The same pair, the model :func:`placed` on the first GPU that CUDA_VISIBLE_DEVICES leaves, where there is one."""
    if not torch.cuda.is_available():
        return model, tokenizer
    return placed(model, "cuda", bf16=has_bf16()), tokenizer


def has_bf16() -> bool:
    """Whether there is a GPU that computes in bfloat16; emulation, which older ones offer, is slower than float32."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def placed(model: torch.nn.Module, device: str, *, bf16: bool) -> torch.nn.Module:
    """``model`` itself on ``device``. A large one gets bfloat16 weights there, if ``bf16``, and training computes its layers'
    activations again in the backward pass instead of keeping them (Chen et al. 2016, arXiv:1604.06174): same gradients."""
    if sum(weight.numel() for weight in model.parameters()) >= LARGE:
        for weight in model.parameters() if bf16 else ():
            if weight.is_floating_point():  # else packed 4-bit weights
                weight.data = weight.data.bfloat16()  # weights alone: rotary frequencies, a buffer, need all their digits
        if model.supports_gradient_checkpointing:
            model.activation_checkpointing_enable()
    return model.to(device)
