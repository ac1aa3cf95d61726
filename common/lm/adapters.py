"""Low-rank adapters (LoRA): training a small addition to a large model's matrices instead of the matrices themselves.

Each adapted matrix W becomes W + (α/r)·B·A with A [r, in] and B [out, r]; A and B alone are trained (LoRA, Hu et al. 2021,
arXiv:2106.09685). The layers are peft's, put into the model in place, so that whatever samples, scores or trains it goes on
as before; common.lm.llama adds them to the matrices once for all tokens.

Beside 4-bit matrices (``load_model(…, four_bit=True)``; QLoRA, Dettmers et al. 2023, arXiv:2305.14314) they are what a later
phase goes on with: what adapters add is far smaller than the steps of the rounding, so that merged matrices which are rounded
again are back where they were. So adapters are saved as well, and nothing but the base model is ever rounded.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

FILE = "adapters.safetensors"


def add_adapters(model: torch.nn.Module, rank: int, *, seed: int, alpha: float | None = None) -> torch.nn.Module:
    """Add LoRA adapters of rank r = ``rank`` to ``model`` in place and freeze everything else; α = ``alpha``, 2·r by default.

    Every linear layer but the output's is adapted, whatever the architecture calls them (peft's "all-linear"): adapters of
    attention alone fall behind training all weights (Dettmers et al. 2023, arXiv:2305.14314, §4), and a list of names
    would fit one architecture. B starts at zero, so predictions are the same to the last bit at first. A is drawn from
    ``seed``; the global random state stays as it was. Adapters are float32, also of a model in bfloat16.

    Raises:
        ValueError: a rank below 1, or a model that has adapters already.
    """
    if rank < 1:
        raise ValueError(f"lora_rank: {rank} must be at least 1 for adapters, for instance 16; 0 trains all weights")
    if adapters(model):
        raise ValueError(f"lora_rank: the model has adapters already and cannot be given others of rank {rank}; merge them first")
    config = LoraConfig(r=rank, lora_alpha=2 * rank if alpha is None else alpha, target_modules="all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    if is_four_bit(model):
        # By these marks TRL would turn adapters to bfloat16, and transformers, which knows adapters of its own making alone,
        # would refuse to train.
        model.is_loaded_in_4bit = model.is_quantized = False
    return model


def merge_adapters(model: torch.nn.Module) -> torch.nn.Module:
    """Merge the adapters of ``model`` into its matrices, in place: a plain model again, in the precision
    that its matrices have; 4-bit ones are multiplied out first, into that of the embeddings. A plain model stays as it is."""
    four_bit, layers = is_four_bit(model), adapters(model)
    for name, layer in layers.items():
        if not four_bit:  # else peft would round the sum to 4 bits
            layer.merge()
        model.set_submodule(name, layer.get_base_layer())
    if four_bit:
        model.dequantize(dtype=model.get_input_embeddings().weight.dtype)
        for name, layer in layers.items():
            with torch.no_grad():
                model.get_submodule(name).weight += layer.get_delta_weight(layer.active_adapters[0])
    vars(model).pop("peft_config", None)  # peft's note that there are adapters
    return model.requires_grad_()


def is_four_bit(model: torch.nn.Module) -> bool:
    """Whether the matrices of ``model`` are rounded to 4 bits, so that only adapters can be trained."""
    return getattr(model, "hf_quantizer", None) is not None


def save_adapters(model: torch.nn.Module, folder: Path) -> None:
    """Write A and B of each adapted layer of ``model`` into ``folder``, beside the merged model (:func:`merge_adapters`)."""
    save_file(_trained(model), folder / FILE)


def load_adapters(model: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """Add adapters with the A and B that :func:`save_adapters` wrote to ``model`` in place; see :func:`add_adapters`."""
    saved = load_file(folder / FILE)
    with torch.no_grad():
        for name, weight in _trained(model).items():
            weight.copy_(saved[name])
    return model


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.data for name, weight in model.named_parameters() if "lora_" in name}


def adapters(model: torch.nn.Module) -> dict[str, LoraLayer]:
    """The adapted layers of ``model`` by name; none of a plain model."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
