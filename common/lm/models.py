"""Loading and making causal language models. All paths, sizes and dtypes are decided here."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerBase as Tokenizer


def new_nano(tokenizer: Tokenizer, *, width: int, layers: int, heads: int, context: int, seed: int) -> LlamaForCausalLM:
    """A Llama of ``layers`` blocks of ``width``, randomly initialised from ``seed``; float32, tied embeddings."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=width**-0.5,  # the default 0.02 is made for wide models and learns late at these widths
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def load_model(path: Path | str) -> tuple[torch.nn.Module, Tokenizer]:
    """Model (float32, eval mode) and tokenizer from a local folder of safetensors.

    Raises FileNotFoundError with the next step when the folder holds no model.
    """
    path = Path(path)
    if not (path / "config.json").exists():
        raise FileNotFoundError(
            f"base model: no model in '{path}'; a folder with config.json and safetensors is needed; "
            f"run `dvc repro base@{path.name}` or `python -m common base --env {path.name}` to train it"
        )
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")
    for weight in model.parameters():
        # out of the mapped file into aligned memory: products over the file's odd offsets round differently,
        # and a saved model must act bit by bit like the one in memory
        weight.data = weight.data.clone()
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    return model.eval(), tokenizer


def save_model(model: torch.nn.Module, tokenizer: Tokenizer, path: Path | str) -> None:
    model.save_pretrained(path, safe_serialization=True)
    tokenizer.save_pretrained(path)
