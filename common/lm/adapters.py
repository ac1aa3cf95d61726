"""Low-rank adapters: training a small addition to a large model's matrices instead of the matrices themselves.

Each adapted matrix W becomes W + (α/r)·B·A with A [r, in] and B [out, r]; A and B alone are trained (LoRA, Hu et al. 2021,
arXiv:2106.09685). The layers are peft's, put into the model in place, so that whatever samples, scores or trains it goes on
as before; common.lm.llama adds them to the matrices once for all tokens.
"""

from __future__ import annotations

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from common.config import ConfigError


def adapted(model: torch.nn.Module, rank: int, *, seed: int, alpha: float | None = None) -> torch.nn.Module:
    """``model`` itself, with adapters of rank r = ``rank`` that are all there is left to train; ``alpha`` α is 2·r unless given.

    Every linear layer but the output's is adapted, whatever the architecture calls them (peft's "all-linear"): adapters of
    attention alone fall behind training all weights (Dettmers et al. 2023, arXiv:2305.14314, §4), and a list of names
    would fit one architecture. B starts at zero, so predictions are the same to the last bit at first. A is drawn from
    ``seed``; the global random state stays as it was. Adapters are float32, also of a model in bfloat16.

    Raises:
        ConfigError: a rank below 1, or a model that has adapters already.
    """
    if rank < 1:
        raise ConfigError(f"lora_rank: {rank} must be at least 1 for adapters, for instance 16; 0 trains all weights")
    if adapters(model):
        raise ConfigError(f"lora_rank: the model has adapters already and cannot be given others of rank {rank}; merge them first")
    config = LoraConfig(r=rank, lora_alpha=2 * rank if alpha is None else alpha, target_modules="all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return model


def merged(model: torch.nn.Module) -> torch.nn.Module:
    """``model`` itself, its adapters added to the matrices they belong to and taken out: a plain model again, in the precision
    that its matrices have. A model without adapters stays as it is."""
    for name, layer in adapters(model).items():
        layer.merge()
        model.set_submodule(name, layer.get_base_layer())
    vars(model).pop("peft_config", None)  # peft's note that there are adapters
    return model.requires_grad_()


def adapters(model: torch.nn.Module) -> dict[str, LoraLayer]:
    """The adapted layers of ``model`` by name; none of a plain model."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
