"""The native passes: what torch samples, to the last bit the same in any company, and a plain message where there are none."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

import numpy as np
import pytest
import torch

from common.lm import native
from common.lm.engine import Engine
from common.lm.llama import Llama
from common.lm.native import Native, library
from common.rng import generator
from tests.lm.test_llama import CONFIGS, PROMPTS, opened, random_llama, token_rows

pytestmark = pytest.mark.skipif(isinstance(library(), str), reason=str(library()))
END = 1


@pytest.fixture(params=[shape for shape in CONFIGS.values() if native.usable(random_llama(**shape))], ids=str)
def plain(request):
    return random_llama(**request.param)


def uniforms(rows: int, limit: int, seed: int = 0) -> np.ndarray:
    return generator("uniforms", seed).random((rows, limit))


@torch.inference_mode()
def sampled(own: Llama, rows, owner, u, temperature=1.0, top_p=1.0, batch=128, end=END):
    return own.prefill(rows).sample(owner, u, temperature, top_p, end=end, batch=batch)


# -- what is sampled ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (0.6, 1.0), (1.7, 1.0), (1.0, 0.7), (1.3, 0.2)])
@pytest.mark.parametrize("batch", [1, 3, 200])
def test_tokens_are_those_that_torch_samples(plain, temperature, top_p, batch):
    rows = token_rows(1, 1, 30, 11)
    owner = [i % 3 for i in range(40)]
    u = uniforms(40, 9)
    tokens, logprobs = sampled(opened(plain, Native), rows, owner, u, temperature, top_p, batch)
    wanted, sums = sampled(opened(plain), rows, owner, u, temperature, top_p)
    assert tokens == wanted
    assert logprobs == pytest.approx(sums, abs=1e-3)


def test_an_answer_of_one_token_and_one_that_ends_at_once(plain):
    rows = token_rows(2, 6)
    [first] = {row for row, _ in [sampled(opened(plain, Native), rows, [0], uniforms(1, 1))] for row in row}
    assert len(first) == 1
    tokens, _ = sampled(opened(plain, Native), rows, [0] * 30, np.repeat(uniforms(1, 8), 30, 0), end=first[0])
    assert tokens == [first] * 30


def test_more_rows_than_seats_and_memory_that_is_dropped_in_between(plain, monkeypatch):
    monkeypatch.setattr("common.lm.llama.MEMORY", 60 * 4 * 2 * 48)
    own, u = opened(plain, Native), uniforms(90, 20)
    for seed in (1, 2, 1):
        rows = token_rows(seed, 12, 25)
        owner = [i % 2 for i in range(90)]
        tokens, _ = sampled(own, rows, owner, u, end=40)
        assert tokens == sampled(opened(plain), rows, owner, u, end=40)[0]
        assert len(set(map(len, tokens))) > 3  # seats became free at different times


# -- the same to the last bit -----------------------------------------------------------------------------------


@torch.inference_mode()
def test_a_row_has_the_same_bits_in_any_company(plain):
    rows, u = token_rows(3, 4, 33, 17, 17, 9), uniforms(50, 12)
    owner = [i % 5 for i in range(50)]
    own = opened(plain, Native)
    tokens, logprobs = sampled(own, rows, owner, u)
    together = own.prefill(rows).logits
    alone = opened(plain, Native)
    for i in range(50):
        alone.forget()
        assert sampled(alone, [rows[owner[i]]], [0], u[i : i + 1]) == ([tokens[i]], [logprobs[i]])
    for row, logits in zip(rows, together, strict=True):
        alone.forget()
        assert torch.equal(alone.prefill([row]).logits[0], logits)
        alone.forget()
        alone.prefill([row[:3]])  # the beginning is remembered, the rest is read
        assert torch.equal(alone.prefill([row]).logits[0], logits)
    shuffled = generator("order").permutation(50)
    again = sampled(own, rows, [owner[i] for i in shuffled], u[shuffled], batch=7)
    assert again == ([tokens[i] for i in shuffled], [logprobs[i] for i in shuffled])


def test_scores_and_verdicts_have_the_same_bits_in_any_company(random_model, tokenizer):
    engine, actions = Engine(random_model, tokenizer), [["12 * 8", "7"], ["9"], ["13 - 11"], ["5 + 5", "5", "1"]]
    assert isinstance(engine._backend(), Native)
    scores, verdicts = engine.score(PROMPTS, actions), engine.judge(PROMPTS, actions)
    for prompt, group, score, verdict in zip(PROMPTS, actions, scores, verdicts, strict=True):
        engine.forget()
        assert engine.judge([prompt], [group]) == [verdict]
        assert [engine.score([prompt], [[action]])[0][0] for action in group] == score


# -- where it cannot be had ---------------------------------------------------------------------------------------


def test_without_a_compiler_torch_runs(monkeypatch, random_model, tokenizer):
    fast = Engine(random_model, tokenizer).sample(PROMPTS, [1, 2, 3, 4], n=3, max_new_tokens=6)
    monkeypatch.setattr(native, "compiler", lambda: None)
    library.cache_clear()
    try:
        assert library() == "no C compiler was found; install one, or set CC"
        engine = Engine(random_model, tokenizer)
        assert type(engine._backend()) is Llama
        slow = engine.sample(PROMPTS, [1, 2, 3, 4], n=3, max_new_tokens=6)
    finally:
        library.cache_clear()
    assert [[t.text for t in turns] for turns in slow] == [[t.text for t in turns] for turns in fast]


def test_a_source_that_does_not_compile_is_told(monkeypatch, tmp_path):
    (tmp_path / "native.c").write_text("int broken(\n")
    monkeypatch.setattr(native, "SOURCE", tmp_path / "native.c")
    library.cache_clear()
    try:
        found = library()
    finally:
        library.cache_clear()
    assert isinstance(found, str) and "could not build native.c" in found
    assert not list((tmp_path / "__pycache__").iterdir())  # nothing half-built is left


def test_it_is_built_once(tmp_path, monkeypatch):
    (tmp_path / "native.c").write_text(native.SOURCE.read_text())
    monkeypatch.setattr(native, "SOURCE", tmp_path / "native.c")
    for _ in range(2):
        library.cache_clear()
        library()
    library.cache_clear()
    [built] = (tmp_path / "__pycache__").iterdir()
    assert built.name.startswith("native-")


@pytest.mark.parametrize("processor", ["x86-64-v3", "x86-64-v4"])
def test_no_vector_is_wider_than_a_register(processor, tmp_path):
    """The compiler keeps a wider one in memory: on processors without AVX-512 that made reading twenty times slower."""
    cc = native.compiler()
    about = subprocess.run([cc, "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True).stdout if cc else ""
    if "__x86_64__" not in about or "__GNUC__" not in about or "__clang__" in about:
        pytest.skip("needs GCC on x86-64, which warns of such vectors")
    strict = (*native.FLAGS, f"-march={processor}", "-Wvector-operation-performance", "-Werror")
    done = subprocess.run([cc, *strict, str(native.SOURCE), "-o", str(tmp_path / "native.so"), "-lm"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_memory_is_told():
    with pytest.raises(MemoryError, match="smaller batch"):
        native._done(-1)


def test_head_sizes_that_it_does_not_take_go_through_torch():
    assert not native.usable(random_llama(**CONFIGS["odd head size"]))
    assert native.usable(random_llama(**CONFIGS["tied"]))


def test_a_long_call_ends_at_once_when_it_is_interrupted(monkeypatch):
    """SIGINT comes while C runs; the handler is Python's, so without a thread it would wait for the end."""
    monkeypatch.setattr(native, "LONG", 0)
    model = random_llama(hidden_size=256, num_attention_heads=4, num_key_value_heads=4, intermediate_size=512, num_hidden_layers=8,
                         max_position_embeddings=4096)  # fmt: skip
    own, rows = opened(model, Native), token_rows(1, 5)
    with torch.inference_mode():
        prefilled = own.prefill(rows)
        wanted = prefilled.sample([0], uniforms(1, 9), 1.0, 1.0, end=-1, batch=1)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
        steps = []
        monkeypatch.setattr(native, "_done", steps.append)  # is reached only by a call that ended by itself
        try:
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                prefilled.sample([0] * 512, uniforms(512, 4000), 1.0, 1.0, end=-1, batch=24)
        finally:
            timer.cancel()
            signal.signal(signal.SIGINT, before)
        assert not steps
        monkeypatch.undo()
        assert prefilled.sample([0], uniforms(1, 9), 1.0, 1.0, end=-1, batch=1) == wanted  # nothing was left behind
