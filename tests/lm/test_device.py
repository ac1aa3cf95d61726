"""Precision and checkpointing by size of the model and abilities of the device; a CPU stands in for the GPU."""

from __future__ import annotations

import copy

import pytest
import torch

from common.learn.policy import dpo, sft
from common.learn.policy_gradient import CreditedTurn, PolicyGradientSettings, adam, policy_gradient
from common.learn.settings import DPOSettings, TrainSettings
from common.lm import device, predict
from common.lm.adapters import add_adapters
from common.lm.device import on_device, placed
from common.lm.engine import Engine
from common.lm.predict import predictions
from common.types import PreferencePair
from .test_llama import random_llama, token_rows

ROWS = token_rows(3, 17, 9)


@pytest.fixture
def all_large(monkeypatch):
    monkeypatch.setattr(device, "LARGE", 1)


def test_nano_models_stay_as_they_are(model, tokenizer):
    assert sum(p.numel() for p in model.parameters()) < device.LARGE
    before = copy.deepcopy(model)
    assert placed(model, "cpu", bf16=True) is model and not model.is_activation_checkpointing
    assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(model.parameters(), before.parameters(), strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_nothing_happens(model, tokenizer, all_large):
    assert on_device(model, tokenizer) == (model, tokenizer)
    assert {p.dtype for p in model.parameters()} == {torch.float32} and not model.is_activation_checkpointing


@pytest.mark.parametrize("bf16", [True, False])
def test_large_models_are_in_bfloat16_where_the_device_has_it(all_large, bf16):
    model = random_llama()
    frequencies = model.model.rotary_emb.inv_freq.clone()
    placed(model, "cpu", bf16=bf16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16 if bf16 else torch.float32}
    assert torch.equal(model.model.rotary_emb.inv_freq, frequencies) and frequencies.dtype == torch.float32
    assert model.is_activation_checkpointing


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(all_large):
    model, _ = on_device(random_llama(), None)
    assert model.device.type == "cuda"
    supported = torch.cuda.is_bf16_supported(including_emulation=False)
    assert model.dtype == (torch.bfloat16 if supported else torch.float32)
    found = predictions(model.train(), ROWS, [range(9, 17), [5]])
    found.logps().sum().backward()
    assert torch.isfinite(found.logits).all() and all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("rank", [0, 4])
def test_gradients_are_the_same_with_activations_computed_again(all_large, monkeypatch, rank):
    plain = random_llama()
    if rank:
        add_adapters(plain, rank, seed=0)
        with torch.no_grad():
            for weight in plain.parameters():
                if weight.requires_grad:
                    weight.normal_(std=0.1)
    monkeypatch.setattr(predict.llama, "runs", lambda _: False)  # on a GPU a large model is run by transformers
    again, passes = placed(copy.deepcopy(plain), "cpu", bf16=False), {}
    for name, model in (("plain", plain), ("again", again)):
        layer = model.model.layers[0].mlp.act_fn
        layer.register_forward_hook(lambda *_, name=name: passes.update({name: passes.get(name, 0) + 1}))
        found = predictions(model.train(), ROWS, [range(9, 17), [5]])
        found.logps().sum().backward()
    assert passes["again"] > passes["plain"]
    compared = [(a.grad, b.grad) for a, b in zip(plain.parameters(), again.parameters(), strict=True) if a.requires_grad]
    assert compared and all(torch.equal(a, b) for a, b in compared)


def test_passes_on_a_gpu_are_bounded_by_their_logits(monkeypatch):
    model = random_llama()
    rows, scored = [list(range(1, 11))] * 6, [range(5, 10)] * 6
    monkeypatch.setattr(predict, "PASS_TOKENS", {})  # what holds for the processor
    monkeypatch.setattr(predict.llama, "runs", lambda _: False)
    assert [len(group) for group in predict.passes(model, rows, scored)] == [6]
    monkeypatch.setattr(predict, "PASS_LOGITS", 20 * model.config.vocab_size)
    assert [len(group) for group in predict.passes(model, rows, scored)] == [2, 2, 2]


def test_small_steps_of_bfloat16_weights_add_up(all_large):
    """At a learning rate of 1e-5 no step alone would move a weight of 1."""
    model = placed(random_llama(), "cpu", bf16=True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1.0)
    exact = [weight.detach().float().clone().requires_grad_() for weight in model.parameters()]
    plain = [weight.detach().clone().requires_grad_() for weight in model.parameters()]
    settings = PolicyGradientSettings(lr=1e-5, updates=1, max_length=8)
    optimisers = adam(model, settings), torch.optim.Adam(exact, lr=1e-5), torch.optim.Adam(plain, lr=1e-5)
    for _ in range(600):
        for weights in (model.parameters(), exact, plain):
            for weight in weights:
                weight.grad = torch.ones_like(weight)
        for optimiser in optimisers:
            optimiser.step()
    assert all(torch.equal(weight, torch.ones_like(weight)) for weight in plain)
    for weight, wanted in zip(model.parameters(), exact, strict=True):
        assert weight.dtype == torch.bfloat16 and weight.grad is None
        assert torch.equal(weight, wanted.bfloat16()) and float(weight.detach().max()) < 1.0
    state = optimisers[0].state[next(model.parameters())]
    assert state["exp_avg"].dtype == torch.float32


@pytest.mark.parametrize("rank", [0, 4])
def test_sampling_and_training_run_in_bfloat16(all_large, random_model, tokenizer, examples, tmp_path, rank):
    base = placed(random_model, "cpu", bf16=True)
    model = copy.deepcopy(base)
    if rank:
        add_adapters(model, rank, seed=0)
    engine = Engine(model, tokenizer)
    settings = TrainSettings(lr=1e-2, max_steps=12, batch_size=16, max_length=96)
    stats = sft(model, tokenizer, examples[:48], settings, seed=0, out_dir=tmp_path)
    assert stats.last_loss < 0.8 * stats.first_loss
    pairs = [PreferencePair(e.prompt, e.completion, "no", -9.0, -9.0, 0.9, 0.1, f"t{i}") for i, e in enumerate(examples[:16])]
    stats = dpo(model, tokenizer, pairs, DPOSettings(lr=1e-3, max_steps=3, batch_size=8, max_length=96, beta=0.1), seed=0,
                out_dir=tmp_path)  # fmt: skip
    assert stats.updates == 3

    def collect(update):
        turns = engine.sample([e.prompt for e in examples[:8]], range(update, update + 8), max_new_tokens=12)
        return [(CreditedTurn(e.prompt, turn.text, 1.0, 0.1),) for e, [turn] in zip(examples, turns, strict=False)]

    before = [weight.detach().clone() for weight in model.parameters()]
    policy_gradient(model, base, tokenizer, collect, PolicyGradientSettings(lr=1e-3, updates=2, max_length=96), out_dir=tmp_path)
    for weight, was in zip(model.parameters(), before, strict=True):
        assert weight.dtype == (torch.float32 if rank and weight.requires_grad else torch.bfloat16)
        assert torch.equal(weight, was) != weight.requires_grad
