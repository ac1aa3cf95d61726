"""What the engine refuses at its door, on each of its paths: one sentence instead of a wrong sample, or of a crash."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from common.config import ConfigError
from common.lm import decode, llama, native
from common.lm.backends import asked_backend, vllm_installed
from common.lm.engine import Engine, Transformers
from common.lm.llama import Llama
from common.lm.native import Native
from common.lm.policy import LMPolicy
from tests.lm.conftest import CONTEXT
from tests.lm.test_engine import KEYS, PROMPTS

compiled = pytest.mark.skipif(isinstance(native.library(), str), reason=str(native.library()))
BACKENDS = [pytest.param("native", marks=compiled), "torch", "transformers"]


@pytest.fixture(params=BACKENDS)
def engine(request, model, tokenizer, monkeypatch):
    monkeypatch.setenv("LAB_BACKEND", request.param)
    return Engine(model, tokenizer)


# -- settings of a call -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "words"), [
    ({"max_new_tokens": 0}, "max_new_tokens is 0 but must be a whole number of at least 1"),
    ({"max_new_tokens": -3}, "max_new_tokens is -3"),
    ({"max_new_tokens": 2.0}, "max_new_tokens is 2.0"),
    ({"n": 0}, "n is 0 but must be a whole number of at least 1"),
    ({"n": -1}, "n is -1"),
    ({"temperature": -1.0}, "temperature is -1.0 but must be a finite number of at least 0"),
    ({"temperature": math.nan}, "temperature is nan"),
    ({"temperature": math.inf}, "temperature is inf"),
    ({"top_p": 0.0}, "top_p is 0.0 but must be above 0 and at most 1"),
    ({"top_p": -0.5}, "top_p is -0.5"),
    ({"top_p": 1.5}, "top_p is 1.5"),
    ({"top_p": math.nan}, "top_p is nan"),
    ({"max_new_tokens": CONTEXT}, f"do not fit the model's context of {CONTEXT}"),
])  # fmt: skip
def test_settings_outside_their_range(engine, given, words):
    with pytest.raises(ValueError, match=words):
        engine.sample(PROMPTS[:2], KEYS[:2], **given)


@pytest.mark.parametrize("given", [{"temperature": -1.0}, {"temperature": math.nan}, {"top_p": 0.0}, {"max_new_tokens": 0}])
def test_a_policy_is_not_made_with_them(random_model, tokenizer, given):
    with pytest.raises(ValueError, match=f"{next(iter(given))} is "):
        LMPolicy(Engine(random_model, tokenizer), **given)


def test_the_ends_of_ranges_are_allowed(engine):
    for given in ({"temperature": 0.0}, {"temperature": 1e-300}, {"temperature": 1e300}, {"top_p": 1e-12}, {"top_p": 1.0},
                  {"max_new_tokens": 1}, {"n": 1}):  # fmt: skip
        turns = engine.sample(PROMPTS[:2], KEYS[:2], **({"max_new_tokens": 4} | given))
        assert all(math.isfinite(turn.logprob) and turn.n_tokens >= 1 for [turn] in turns)
    likeliest = engine.sample(PROMPTS[:2], KEYS[:2], temperature=0.0, max_new_tokens=4)
    for given in ({"temperature": 1e-300}, {"top_p": 1e-12}):
        assert [t.text for [t] in engine.sample(PROMPTS[:2], KEYS[:2], max_new_tokens=4, **given)] == [t.text for [t] in likeliest]


def test_an_engine_runs_one_row_or_more_at_once(model, tokenizer):
    with pytest.raises(ValueError, match="batch is 0 but must be at least 1"):
        Engine(model, tokenizer, batch=0)


# -- lengths ----------------------------------------------------------------------------------------------------------


def test_an_empty_batch_has_an_empty_answer(engine):
    assert engine.sample([], []) == engine.score([], []) == engine.judge([], []) == []
    assert engine.score(PROMPTS[:2], [[], []]) == engine.judge(PROMPTS[:2], [[], []]) == [[], []]
    assert engine.cost.lm_calls == 0
    [none, [one]] = engine.score(PROMPTS[:2], [[], ["7"]])
    assert none == [] and math.isfinite(one)


def test_lists_that_belong_together_are_equally_long(engine):
    with pytest.raises(ValueError, match="prompts and keys are 3 and 2 but belong together"):
        engine.sample(PROMPTS[:3], KEYS[:2])
    for ask in (engine.score, engine.judge):
        with pytest.raises(ValueError, match="prompts and actions are 1 and 2"):
            ask(PROMPTS[:1], [["7"], ["8"]])


# -- tokens, owners and random numbers, below the engine --------------------------------------------------------------


def opened(backend: str, model: torch.nn.Module):
    if backend == "transformers":
        return Transformers(model, 0)
    own = {"native": Native, "torch": Llama}[backend](model)
    own.refresh()
    return own


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("row", "words"), [
    ([3, -1], "row 1 holds -1 but tokens of the model are 0 to"),
    ([10**6], "row 1 holds 1000000"),
    ([], "row 1 is empty"),
    ([3] * (CONTEXT + 1), f"row 1 has {CONTEXT + 1} tokens, which do not fit the model's context of {CONTEXT}"),
])  # fmt: skip
@torch.inference_mode()
def test_rows_of_tokens(random_model, backend, row, words):
    with pytest.raises(ValueError, match=words):
        opened(backend, random_model).prefill([[5, 6], row])
    with pytest.raises(ValueError, match="row 0 holds -7"):
        opened(backend, random_model).prefill([[5, 6]]).follow([0], [[-7]], last=True)


@pytest.mark.parametrize("backend", BACKENDS)
@torch.inference_mode()
def test_owners_and_random_numbers(random_model, backend):
    prefilled = opened(backend, random_model).prefill([[5, 6], [7]])

    def sampled(owner, uniforms, temperature=1.0, top_p=1.0, batch=8):
        return prefilled.sample(owner, np.array(uniforms, dtype=float), temperature, top_p, end=1, batch=batch)

    assert len(sampled([0, 1, 1], [[0.0], [0.5], [0.999]])[0]) == 3 and sampled([], np.zeros((0, 3))) == ([], [])
    for owner, uniforms, words in (([0, 2], [[0.1], [0.1]], "owner names prompts 0 to 2 but there are 2"),
                                   ([-1], [[0.1]], "owner names prompts -1 to -1"), ([0, 1], [[0.1]], "there are 2 rows to sample"),
                                   ([0], [[1.0]], "uniforms lie between 1.0 and 1.0"), ([0], [[-0.1]], "must lie in"),
                                   ([0], [[math.nan]], "must lie in"), ([0], [[]], "max_new_tokens is 0")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            sampled(owner, uniforms)
    for given, words in (({"temperature": -1.0}, "temperature is"), ({"top_p": 0.0}, "top_p is"), ({"batch": 0}, "batch is 0")):
        with pytest.raises(ValueError, match=words):
            sampled([0], [[0.1, 0.2]], **given)


@compiled
@torch.inference_mode()
def test_an_answer_that_does_not_fit_is_refused_by_c_itself(random_model):
    prefilled = opened("native", random_model).prefill([[5] * 90])
    assert len(prefilled.sample([0], np.full((1, 6), 0.5), 1.0, 1.0, end=-1, batch=1)[0][0]) == 6
    with pytest.raises(ValueError, match="native.c: a number is outside its range"):
        prefilled.sample([0], np.full((1, 7), 0.5), 1.0, 1.0, end=-1, batch=1)


# -- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(engine, value):
    with torch.no_grad():
        engine.model.model.layers[1].mlp.down_proj.weight[3, 4] = value
    for ask in (lambda: engine.sample(PROMPTS, KEYS, temperature=0.0), lambda: engine.sample(PROMPTS, KEYS, top_p=0.5),
                lambda: engine.score(PROMPTS[:1], [["7"]]), lambda: engine.judge(PROMPTS[:1], [["7"]])):  # fmt: skip
        with pytest.raises(FloatingPointError, match="logits are not finite: the weight model.layers.1.mlp.down_proj.weight holds NaN"):
            ask()


def test_weights_that_are_too_large_are_told_apart(engine):
    with torch.no_grad():
        engine.model.model.norm.weight.fill_(3e38)
        engine.model.model.embed_tokens.weight.mul_(100.0)
    with pytest.raises(FloatingPointError, match="all weights are finite, but too large"):
        engine.sample(PROMPTS, KEYS)


@torch.inference_mode()
def test_a_token_may_become_impossible_to_predict_in_the_middle_of_an_answer():
    """Not only the logits after the prompt are looked at."""
    class Rows:
        logits = torch.zeros(2, 4)

        def step(self, tokens):
            self.logits = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, math.nan, 0.0, 0.0]])

    with pytest.raises(decode.NotFinite):
        decode.sample(lambda owner, room: Rows(), [0, 1], np.full((2, 3), 0.5), 1.0, 1.0, end=-1, batch=2)


# -- which backend ----------------------------------------------------------------------------------------------------


def test_a_backend_that_is_none_is_told_with_the_names(monkeypatch, model, tokenizer):
    monkeypatch.setenv("LAB_BACKEND", "transformer")
    for ask in (asked_backend, lambda: Engine(model, tokenizer).backend):
        with pytest.raises(ConfigError, match='LAB_BACKEND is "transformer", which is no backend; did you mean "transformers"'):
            ask()


@pytest.mark.skipif(vllm_installed(), reason="vLLM is installed")
def test_a_backend_that_is_not_installed_is_told_at_the_start(lab, run_in):
    for name, words in (("vllm", 'LAB_BACKEND is "vllm" but vLLM is not installed'), ("foo", 'LAB_BACKEND is "foo", which is no backend')):
        done = run_in(lab, "run", "--paper", "toy", LAB_BACKEND=name)
        assert done.returncode == 2 and words in done.stdout and not (lab / "runs").exists(), done.stdout


def test_why_a_backend_cannot_run_a_model(monkeypatch, model, tokenizer):
    monkeypatch.setattr(llama, "runs", lambda _: False)
    monkeypatch.setenv("LAB_BACKEND", "torch")
    with pytest.raises(ValueError, match="torch cannot run this LlamaForCausalLM here, because it is no plain Llama of float32 weights"):
        Engine(model, tokenizer).sample(PROMPTS, KEYS)
