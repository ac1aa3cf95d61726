"""Adapters on models of several architectures: where they sit, what is trained, what merging leaves."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from common.learn.policy import dpo, sft
from common.learn.settings import DPOSettings, TrainSettings
from common.lm import llama
from common.lm.adapters import adapters, add_adapters, merge_adapters
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.types import PreferencePair

PROMPT = ({"role": "user", "content": "numbers 12 8 7 target 96"},)
QWEN = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}


@pytest.fixture(params=["llama", "qwen2", "gpt2"])
def any_model(request, random_model):
    torch.manual_seed(0)
    rows = random_model.config.vocab_size
    if request.param == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(vocab_size=rows, **QWEN)).eval()
    if request.param == "gpt2":
        ends = {"bos_token_id": None, "eos_token_id": 1}
        return GPT2LMHeadModel(GPT2Config(vocab_size=rows, n_embd=24, n_layer=2, n_head=2, **ends)).eval()
    return random_model


def stirred(model, rank=4):
    """Adapted, as after some training: B is not zero any more."""
    add_adapters(model, rank, seed=3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.1)
    return model


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([[5, 7, 9, 11, 6], [9, 5, 5, 8, 20]])).logits


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_every_linear_layer_but_the_output_s_is_adapted_and_nothing_changes_at_first(any_model):
    before, weights = logits(any_model), sum(p.numel() for p in any_model.parameters())
    layers = {name for name, m in any_model.named_modules() if type(m).__name__ in ("Linear", "Conv1D")} - {"lm_head"}
    assert add_adapters(any_model, 4, seed=0) is any_model
    assert set(adapters(any_model)) == layers and len(layers) in (14, 8)
    assert torch.equal(logits(any_model), before)
    trained = {name: p for name, p in any_model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * len(layers) and all("lora_" in name for name in trained)
    assert sum(p.numel() for p in any_model.parameters()) == weights + sum(p.numel() for p in trained.values())
    assert {layer.scaling["default"] for layer in adapters(any_model).values()} == {2.0}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_merged_predicts_as_adapted_did_and_is_plain(any_model):
    plain, names, before = type(any_model), set(any_model.state_dict()), logits(any_model)
    with_adapters = logits(stirred(any_model))
    assert (with_adapters - before).abs().max() > 0.05
    assert merge_adapters(any_model) is any_model and type(any_model) is plain and not adapters(any_model)
    torch.testing.assert_close(logits(any_model), with_adapters, atol=2e-5, rtol=0)
    assert set(any_model.state_dict()) == names and all(p.requires_grad for p in any_model.parameters())
    assert not hasattr(any_model, "peft_config")  # else other adapters, in the next phase, would be warned of
    add_adapters(any_model, 2, seed=0)


def test_the_product_by_hand(random_model):
    matrix = random_model.model.layers[0].mlp.up_proj.weight.detach().clone()
    layer = adapters(stirred(random_model, rank=3))["model.layers.0.mlp.up_proj"]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert a.shape == (3, 32) and b.shape == (96, 3)
    expected = matrix + 2.0 * b.detach() @ a.detach()
    torch.testing.assert_close(merge_adapters(random_model).model.layers[0].mlp.up_proj.weight.detach(), expected, atol=1e-6, rtol=0)


def test_the_seed_alone_draws_them(random_model):
    state = torch.get_rng_state()
    one, two, three = (add_adapters(copy.deepcopy(random_model), 4, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    name = "model.layers.1.self_attn.q_proj.lora_A.default.weight"
    assert torch.equal(one[name], two[name]) and not torch.equal(one[name], three[name])


def test_a_plain_model_is_merged_already(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert merge_adapters(model) is model and all(torch.equal(model.state_dict()[name], one) for name, one in before.items())


def test_saved_after_merging_it_is_loaded_like_any_other(model, tokenizer, tmp_path):
    engine = Engine(stirred(model), tokenizer)
    assert llama.runs(model)
    [turns] = engine.sample([PROMPT], [1], n=4)
    save_model(merge_adapters(model), tokenizer, tmp_path / "m")
    again = Engine(*load_model(tmp_path / "m"))
    assert llama.runs(again.model)
    [reloaded] = again.sample([PROMPT], [1], n=4)
    assert [turn.text for turn in reloaded] == [turn.text for turn in turns]
    assert [turn.logprob for turn in reloaded] == pytest.approx([turn.logprob for turn in turns], abs=1e-3)


def test_sampling_and_scoring_see_the_adapters(model, tokenizer):
    plain, changed = Engine(copy.deepcopy(model), tokenizer), Engine(model, tokenizer)
    changed.score([PROMPT], [["12 * 8"]])  # what is remembered of the plain model must not answer later
    stirred(model)
    (before,), (after,) = (engine.score([PROMPT], [["12 * 8"]])[0] for engine in (plain, changed))
    assert abs(before - after) > 0.05
    ids = torch.tensor([[*changed.prompt_ids(PROMPT), *changed.action_ids("12 * 8")]])
    n = len(changed.action_ids("12 * 8"))
    with torch.no_grad():
        log_p = model(ids).logits[0, :-1].log_softmax(-1)
    assert after == pytest.approx(float(log_p[-n:].gather(1, ids[0, -n:, None]).sum()), abs=1e-4)


@pytest.mark.parametrize("way", ["sft", "dpo"])
def test_training_moves_adapters_only(model, tokenizer, examples, tmp_path, way):
    add_adapters(model, 4, seed=0)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    settings = {"lr": 1e-2, "max_steps": 3, "batch_size": 8, "max_length": 96}
    if way == "sft":
        sft(model, tokenizer, examples[:40], TrainSettings(**settings), seed=0, out_dir=tmp_path)
    else:
        pairs = [PreferencePair(e.prompt, "12 * 8", "no", -5.0, -5.0, 0.9, 0.1, f"t{i}") for i, e in enumerate(examples[:24])]
        dpo(model, tokenizer, pairs, DPOSettings(**settings, beta=0.1), seed=0, out_dir=tmp_path)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if "lora_" in name} and len(moved) == 28


def test_a_bfloat16_model_has_float32_adapters(model):
    add_adapters(model.bfloat16(), 4, seed=0)
    kinds = {(weight.dtype, weight.requires_grad) for weight in model.parameters()}
    assert kinds == {(torch.bfloat16, False), (torch.float32, True)}
    loss = model(torch.tensor([[5, 7, 9]])).logits.float().square().mean()
    loss.backward()
    assert {p.grad.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_bad_ranks_are_one_sentence(model):
    for rank in (0, -1):
        with pytest.raises(ValueError, match=f"lora_rank: {rank} must be at least 1"):
            add_adapters(model, rank, seed=0)
    add_adapters(model, 2, seed=0)
    with pytest.raises(ValueError, match="has adapters already"):
        add_adapters(model, 2, seed=0)


@pytest.mark.parametrize("rank", [0, -1])
def test_adapters_have_a_rank(model, rank):
    with pytest.raises(ValueError, match=f"lora_rank: {rank} must be at least 1 for adapters"):
        add_adapters(model, rank, seed=0)
