"""Loading and making causal language models: paths and sizes. Where they live and in which precision: common.lm.device."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils import is_bitsandbytes_available

from common.lm.device import has_bf16


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


def load_model(path: Path | str, *, four_bit: bool = False) -> tuple[torch.nn.Module, Tokenizer]:
    """Model (float32, eval mode) and tokenizer from a local folder of safetensors.

    The tokenizer's ``eos_token`` is the one that ends a turn of its chat template (:func:`end_of_turn`), and pads where
    it has no other for that: padding is masked everywhere.

    ``four_bit``: linear layers but the output's are rounded to NF4 in blocks of 64 with double quantisation (Dettmers et al.
    2023, arXiv:2305.14314, §3), by bitsandbytes, and multiplied in bfloat16 on a GPU that has it, else in float32. Where
    there is a GPU the model is loaded onto it. Only adapters can be trained beside such weights.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: the tokenizer cannot hold a dialogue, or is not that of the model; or ``four_bit`` is asked for without
            bitsandbytes, or of a model whose layers read no whole blocks.
    """
    path = Path(path)
    if not (path / "config.json").exists():
        raise FileNotFoundError(
            f"base model: no model in '{path}'; a folder with config.json and safetensors is needed; "
            f"run `dvc repro base@{path.name}` or `python -m common base --env {path.name}` to train it"
        )
    how = {"quantization_config": _nf4()} if four_bit else {}
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa", **how)
    for weight in model.parameters():
        # out of the mapped file into aligned memory: products over the file's odd offsets round differently,
        # and a saved model must act bit by bit like the one in memory
        if weight.is_floating_point():  # 4-bit weights are new, packed bytes that refer to their scales
            weight.data = weight.data.clone()
    if four_bit:
        _check_blocks(model, path)
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ValueError(f"model: the tokenizer in '{path}' has {len(tokenizer)} tokens but the model embeds {rows}; put the "
                          "tokenizer there that the model was trained with, or drop the tokens that were added to it")
    end = end_of_turn(model, tokenizer, path)
    if end != tokenizer.eos_token:
        tokenizer.eos_token = end
    if tokenizer.pad_token is None:
        tokenizer.pad_token = end
    return model.eval(), tokenizer


BLOCK = 64
"""Neighbouring weights that share a scale."""


def _nf4() -> BitsAndBytesConfig:
    if not is_bitsandbytes_available():
        raise ValueError("four_bit: 4-bit weights need bitsandbytes, which is not installed; run `pip install -e '.[four-bit]'`, "
                         "or set four_bit to false")
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                              bnb_4bit_compute_dtype=torch.bfloat16 if has_bf16() else torch.float32)  # fmt: skip


def _check_blocks(model: torch.nn.Module, path: Path) -> None:
    """That bitsandbytes computes ``model`` rightly on a processor, too (0.50.2)."""
    import bitsandbytes  # an extra

    for layer in model.modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            if layer.in_features % BLOCK:  # there, blocks that go on in the next row are multiplied out by wrong scales
                raise ValueError(f"four_bit: a layer of the model in '{path}' reads {layer.in_features} features, but it must "
                                 f"be a multiple of {BLOCK}, the block of 4-bit weights; set four_bit to false or take a larger "
                                 "model")  # fmt: skip
            # Else, where a processor has AVX-512 for bfloat16, weights are repacked as a model predicts first, and no
            # gradient passes them from then on.
            layer.support_avx512bf16_for_cpu = False


def end_of_turn(model: torch.nn.Module, tokenizer: Tokenizer, path: Path) -> str:
    """The token that closes an answer in the chat template: the first there of those at which the model stops, which are
    ``eos_token`` and the ones that its generation_config.json adds. Some chat models' ``eos_token`` ends documents only."""
    if not tokenizer.chat_template:
        raise ValueError(f"model: the tokenizer in '{path}' has no chat template but prompts here are dialogues; take the "
                          "model's instruct version, or put its chat_template.jinja there")
    answer = "yes"
    dialogue = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
    after = tokenizer.apply_chat_template(dialogue, tokenize=False).rpartition(answer)[2]
    stops = model.generation_config.eos_token_id
    listed = tokenizer.convert_ids_to_tokens(stops if isinstance(stops, list) else [] if stops is None else [stops])
    ends = [token for token in (tokenizer.eos_token, *listed) if token and token in after]
    if not ends:
        raise ValueError(f"model: the chat template in '{path}' ends an answer with {after!r}, which holds no token at which the "
                          f"model stops (eos_token {tokenizer.eos_token!r}); set eos_token in tokenizer_config.json to the token "
                          "that ends a turn")
    return min(ends, key=after.index)


def save_model(model: torch.nn.Module, tokenizer: Tokenizer, path: Path | str) -> None:
    model.save_pretrained(path, safe_serialization=True)
    tokenizer.save_pretrained(path)
