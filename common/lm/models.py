"""Loading and making causal language models: paths and sizes. Where they live and in which precision: common.lm.device."""

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

    The tokenizer's ``eos_token`` is the one that ends a turn of its chat template (:func:`end_of_turn`), and pads where
    it has no other for that: padding is masked everywhere.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: the tokenizer cannot hold a dialogue, or is not that of the model.
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
