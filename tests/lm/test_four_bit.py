"""4-bit weights: what is rounded, that adapters beside them learn by right gradients, and what is saved and gone on from."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from common.learn.policy import dpo, sft
from common.learn.policy_gradient import CreditedTurn, PolicyGradientSettings, policy_gradient
from common.learn.settings import DPOSettings, TrainSettings
from common.lm import device, llama, models
from common.lm.adapters import adapters, add_adapters, is_four_bit, load_adapters, merge_adapters, save_adapters
from common.lm.device import placed
from common.lm.engine import Engine
from common.lm.models import load_model, new_nano, save_model
from common.lm.predict import predictions
from common.types import PreferencePair

PROMPT = ({"role": "user", "content": "numbers 12 8 7 target 96"},)
REASON = "bitsandbytes is not installed: pip install -e '.[four-bit]'"
ROWS = [[5, 7, 9, 11, 6], [9, 5, 5, 8, 20]]


@pytest.fixture(scope="module")
def exact(tokenizer, examples, tmp_path_factory):
    """A model of whole blocks that was trained a little."""
    model = new_nano(tokenizer, width=64, layers=2, heads=2, context=96, seed=0)
    settings = TrainSettings(lr=5e-3, max_steps=30, batch_size=16, max_length=96)
    sft(model, tokenizer, examples, settings, seed=0, out_dir=tmp_path_factory.mktemp("sft"))
    return model.eval()


@pytest.fixture(scope="module")
def base(exact, tokenizer, tmp_path_factory):
    save_model(exact, tokenizer, folder := tmp_path_factory.mktemp("base"))
    return folder


@pytest.fixture
def rounded(base):
    pytest.importorskip("bitsandbytes", reason=REASON)
    return load_model(base, four_bit=True)[0]


@pytest.fixture
def pairs(examples):
    return [PreferencePair(e.prompt, "12 * 8", "no", -5.0, -5.0, 0.9, 0.1, f"t{i}") for i, e in enumerate(examples[:24])]


def logits(model):
    with torch.no_grad():
        return model(torch.tensor(ROWS)).logits


def loss(model):
    return predictions(model, ROWS, [[2, 3, 4], [1, 4]]).logps().sum()


def projections(model):
    """All matrices that are rounded, multiplied out, as one vector."""
    weights = merge_adapters(model).named_parameters()
    return torch.cat([weight.detach().flatten() for name, weight in weights if name.endswith("proj.weight")])


def stirred(model, std=0.1):
    """Adapted, as after some training: B is not zero any more."""
    add_adapters(model, 4, seed=3)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.normal_(std=std)
    return model


def test_all_linear_layers_but_the_output_s_are_rounded(rounded, exact):
    kinds = {name: weight.dtype for name, weight in rounded.named_parameters()}
    assert {name for name, kind in kinds.items() if kind == torch.uint8} == {n for n in kinds if n.endswith("proj.weight")}
    plain = merge_adapters(rounded)  # nothing to merge: multiplied out
    assert set(plain.state_dict()) == set(exact.state_dict()) and not is_four_bit(plain) and llama.runs(plain)
    for (name, one), weight in zip(exact.named_parameters(), plain.parameters(), strict=True):
        if not name.endswith("proj.weight"):
            assert torch.equal(one, weight), name
            continue
        blocks, near = one.detach().reshape(-1, 64), weight.detach().reshape(-1, 64)
        step = blocks.abs().amax(1, keepdim=True)
        # NF4 has 16 levels between −1 and 1, the two farthest .3 apart; scales are of 8 bits.
        assert ((blocks - near).abs() / step).max() < 0.17 and not torch.equal(blocks, near)
        assert max(len(block.unique()) for block in near) <= 16


def test_only_transformers_runs_it(rounded, tokenizer, monkeypatch):
    assert not llama.runs(rounded) and not llama.runs(stirred(rounded))
    assert Engine(rounded, tokenizer).backend == "transformers"
    monkeypatch.setenv("LAB_BACKEND", "torch")
    with pytest.raises(ValueError, match="LAB_BACKEND: torch cannot run this LlamaForCausalLM"):
        Engine(rounded, tokenizer).sample([PROMPT], [1], n=1)


def test_it_samples_and_scores_as_the_same_matrices_multiplied_out(rounded, base, tokenizer):
    stirred(rounded)
    [turns] = Engine(rounded, tokenizer).sample([PROMPT], [1], n=8, max_new_tokens=12)
    plain = Engine(merge_adapters(rounded), tokenizer)
    [[*scores]] = plain.score([PROMPT], [[turn.text for turn in turns if turn.finished]])
    assert scores == pytest.approx([turn.logprob for turn in turns if turn.finished], abs=1e-3) and scores


def test_gradients_are_those_of_the_same_matrices_multiplied_out_also_after_sampling(rounded, base, tokenizer):
    exact = merge_adapters(load_model(base, four_bit=True)[0])
    for model in (rounded, exact):
        stirred(model)
        Engine(model, tokenizer).sample([PROMPT], [1], n=4)
        for training in (False, True):
            loss(model.train(training)).backward()
    found = {n: (a.grad, b.grad) for (n, a), b in zip(rounded.named_parameters(), exact.parameters(), strict=True) if a.requires_grad}
    assert len(found) == 28 and min(float(b.norm()) for _, b in found.values()) > 0
    for name, (a, b) in found.items():
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("way", ["sft", "dpo", "policy_gradient"])
def test_training_moves_adapters_only_and_keeps_them_in_float32(rounded, base, tokenizer, examples, pairs, tmp_path, way):
    add_adapters(rounded, 4, seed=0)
    before = {name: weight.detach().clone() for name, weight in rounded.named_parameters()}
    settings = {"lr": 1e-2, "max_steps": 12, "batch_size": 8, "max_length": 96}
    if way == "sft":
        stats = sft(rounded, tokenizer, examples[:8], TrainSettings(**settings), seed=0, out_dir=tmp_path)
        assert stats.last_loss < 0.9 * stats.first_loss
    elif way == "dpo":
        stats = dpo(rounded, tokenizer, pairs, DPOSettings(**settings, beta=0.1), seed=0, out_dir=tmp_path)
        assert stats.last_loss < 0.9 * stats.first_loss
    else:
        dialogues = [(CreditedTurn(e.prompt, e.completion, 1.0, 0.1),) for e in examples[:8]]
        stats = policy_gradient(rounded, load_model(base, four_bit=True)[0], tokenizer, lambda _: dialogues,
                                PolicyGradientSettings(lr=1e-2, updates=4, max_length=96), out_dir=tmp_path)  # fmt: skip
        assert stats.last_loss < stats.first_loss
    moved = {name: weight.dtype for name, weight in rounded.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name: torch.float32 for name in before if "lora_" in name} and len(moved) == 28


def test_merged_predicts_as_the_adapters_beside_4_bit_matrices_did(rounded, tokenizer, tmp_path):
    expected = logits(stirred(rounded))
    plain = merge_adapters(rounded)
    torch.testing.assert_close(logits(plain), expected, atol=1e-3, rtol=0)
    assert not adapters(plain) and all(weight.requires_grad for weight in plain.parameters())
    save_model(plain, tokenizer, tmp_path / "m")
    again, _ = load_model(tmp_path / "m")
    assert llama.runs(again) and torch.equal(logits(again), logits(plain))


def test_a_later_phase_goes_on_from_saved_adapters_as_merged_matrices_would_be_rounded_back(rounded, base, tokenizer, tmp_path):
    expected = logits(stirred(rounded, std=0.015))  # a little, as training does
    save_adapters(rounded, tmp_path)
    save_model(merge_adapters(rounded), tokenizer, tmp_path)
    later = load_adapters(add_adapters(load_model(base, four_bit=True)[0], 4, seed=9), tmp_path)
    assert torch.equal(logits(later), expected)
    assert all(weight.requires_grad == ("lora_" in name) for name, weight in later.named_parameters())
    assert set(load_file(tmp_path / "adapters.safetensors")) == {n for n, p in later.named_parameters() if p.requires_grad}
    anew = projections(load_model(tmp_path, four_bit=True)[0])
    before, moved = projections(load_model(base, four_bit=True)[0]), projections(load_model(tmp_path)[0])
    moved, kept = moved - before, anew - before
    assert moved.norm() > 0 and abs(float(kept @ moved)) < 0.1 * float(moved @ moved)


def test_its_matrices_themselves_are_not_trained(rounded, tokenizer, examples, pairs, tmp_path):
    settings = {"lr": 1e-2, "max_steps": 1, "batch_size": 8, "max_length": 96}
    dialogues = [(CreditedTurn(PROMPT, "12 * 8", 1.0, 0.1),)]
    ways = {
        "sft": lambda: sft(rounded, tokenizer, examples[:8], TrainSettings(**settings), seed=0, out_dir=tmp_path),
        "dpo": lambda: dpo(rounded, tokenizer, pairs, DPOSettings(**settings, beta=0.1), seed=0, out_dir=tmp_path),
        "policy gradient": lambda: policy_gradient(rounded, rounded, tokenizer, lambda _: dialogues,
                                                   PolicyGradientSettings(lr=1e-2, updates=1, max_length=96), out_dir=tmp_path),
    }  # fmt: skip
    for stage, train in ways.items():
        with pytest.raises(ValueError, match=f"{stage}: the model's matrices have 4 bits and cannot be trained .* give it adapters"):
            train()


def test_where_the_device_has_bfloat16_packed_weights_stay_as_they_are(rounded, monkeypatch):
    monkeypatch.setattr(device, "LARGE", 1)
    before = {name: weight.detach().clone() for name, weight in rounded.named_parameters() if not weight.is_floating_point()}
    placed(rounded, "cpu", bf16=True)
    kept = dict(rounded.named_parameters())
    assert before and all(torch.equal(kept[name], weight) for name, weight in before.items())
    add_adapters(rounded, 4, seed=0)
    assert kept["model.embed_tokens.weight"].dtype == torch.bfloat16 and torch.isfinite(logits(rounded)).all()
    assert {weight.dtype for weight in merge_adapters(rounded).parameters()} == {torch.bfloat16}


def test_without_bitsandbytes_the_next_step_is_told(base, monkeypatch):
    monkeypatch.setattr(models, "is_bitsandbytes_available", lambda: False)
    with pytest.raises(ValueError, match=r"four_bit: .* needs? bitsandbytes, .*pip install -e '.\[four-bit\]'") as caught:
        load_model(base, four_bit=True)
    assert "\n" not in str(caught.value)


def test_a_layer_that_reads_no_whole_blocks_is_one_sentence(model, tokenizer, tmp_path):
    pytest.importorskip("bitsandbytes", reason=REASON)
    save_model(model, tokenizer, tmp_path)
    with pytest.raises(ValueError, match="four_bit: a layer .* reads 32 features, but it must be a multiple of 64.*; set four_bit"):
        load_model(tmp_path, four_bit=True)
