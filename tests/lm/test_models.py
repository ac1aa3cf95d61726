"""Saving and loading: safetensors, the same bits, a next step when there is nothing to load, tokenizers that do not fit."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file

from common.lm.engine import Engine
from common.lm.models import load_model, new_nano, save_model

PROMPT = ({"role": "user", "content": "numbers 12 8 7 target 96"},)


def test_saved_and_loaded_is_bit_equal(model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path / "m")
    again, words = load_model(tmp_path / "m")
    first, second = model.state_dict(), again.state_dict()
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert {p.dtype for p in again.parameters()} == {torch.float32} and not again.training
    assert words.get_vocab() == tokenizer.get_vocab() and words.padding_side == "left"
    assert (words.pad_token_id, words.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert words.apply_chat_template(PROMPT, tokenize=False) == tokenizer.apply_chat_template(PROMPT, tokenize=False)
    assert Engine(again, words).sample([PROMPT], [1], n=4) == Engine(model, tokenizer).sample([PROMPT], [1], n=4)


def test_weights_are_safetensors_and_nothing_is_pickled(model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} <= {".safetensors", ".json", ".jinja", ".txt"}
    held = load_file(tmp_path / "model.safetensors")
    assert torch.equal(held["model.embed_tokens.weight"], model.model.embed_tokens.weight)
    save_model(model, tokenizer, tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_a_folder_without_a_model_names_the_next_step(tmp_path, kind):
    folder = tmp_path / "shop-v1"
    if kind == "empty":
        folder.mkdir()
    with pytest.raises(FileNotFoundError, match="base model: .*shop-v1.*python -m common base --env shop-v1") as caught:
        load_model(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "words"), [
    (lambda t: setattr(t, "chat_template", None), "has no chat template .* take the model's instruct version"),
    (lambda t: t.add_tokens(["<|more|>"]), r"has \d+ tokens but the model embeds \d+; put the tokenizer there"),
    (lambda t: setattr(t, "chat_template", "{{ messages[0]['content'] }}:yes<|user|>"),
     r"ends an answer with '<\|user\|>', which holds no token .*eos_token '<\|end\|>'"),
])  # fmt: skip
def test_a_tokenizer_that_cannot_hold_a_dialogue_is_one_sentence(model, tokenizer, tmp_path, change, words):
    change(other := copy.deepcopy(tokenizer))
    save_model(model, other, tmp_path / "m")
    with pytest.raises(ValueError, match=f"model: .*{words}") as caught:
        load_model(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value) and "\n" not in str(caught.value)


def test_turns_end_with_what_the_template_writes_where_the_model_stops_there(model, tokenizer, tmp_path):
    """As in chat models whose eos_token ends documents, and whose generation_config.json names the turn's end too."""
    other = copy.deepcopy(tokenizer)
    other.eos_token, other.pad_token = "<|system|>", None
    model.generation_config.eos_token_id = other.convert_tokens_to_ids(["<|system|>", "<|end|>"])
    save_model(model, other, tmp_path / "m")
    again, words = load_model(tmp_path / "m")
    assert words.eos_token == words.pad_token == "<|end|>"
    [turns] = Engine(again, words).sample([PROMPT], [1], n=8)
    assert [turn.text for turn in turns] == [turn.text for turn in Engine(model, tokenizer).sample([PROMPT], [1], n=8)[0]]
    assert any(turn.finished for turn in turns)


def test_a_nano_model_follows_its_seed_and_sizes(tokenizer):
    sizes = {"width": 32, "layers": 2, "heads": 4, "context": 40}
    first, same, other = (new_nano(tokenizer, **sizes, seed=seed) for seed in (3, 3, 4))
    weights = [m.state_dict()["model.layers.1.mlp.up_proj.weight"] for m in (first, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert first.config.max_position_embeddings == 40 and first.lm_head.weight is first.model.embed_tokens.weight
    # embeddings + layers · (4 attention matrices, 3 of the MLP, 2 norms) + final norm
    assert sum(p.numel() for p in first.parameters()) == len(tokenizer) * 32 + 2 * (4 * 32**2 + 3 * 32 * 96 + 64) + 32
