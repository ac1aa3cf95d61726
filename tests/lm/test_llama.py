"""The plain Llama passes against transformers' own: logits, caches, greedy tokens, distribution, staleness."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from scipy.stats import chi2
from transformers import LlamaConfig, LlamaForCausalLM

from common.lm import llama
from common.lm.adapters import adapters, add_adapters
from common.lm.engine import Engine, Transformers
from common.lm.llama import Llama, runs
from common.lm.native import Native, library, usable
from common.rng import generator

VOCAB = 61
CONFIGS = {
    "tied": {"num_attention_heads": 2, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "grouped": {"num_attention_heads": 6, "num_key_value_heads": 3, "tie_word_embeddings": False},
    "large heads": {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 40},
    "one key head": {"num_attention_heads": 6, "num_key_value_heads": 1, "num_hidden_layers": 1},
    "odd head size": {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 10, "num_hidden_layers": 3},
    "other constants": {"rms_norm_eps": 1e-2, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
}


def random_llama(seed: int = 0, **settings) -> LlamaForCausalLM:
    """Random weights everywhere, norms included; logits spread over several nats."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    defaults = {"vocab_size": VOCAB, "max_position_embeddings": 64, "initializer_range": 0.15}
    model = LlamaForCausalLM(LlamaConfig(**(defaults | shape | special | settings))).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    return model


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def plain(request):
    return random_llama(**request.param)


def token_rows(seed: int, *lengths: int) -> list[list[int]]:
    rng = generator("rows", seed)
    return [rng.integers(2, VOCAB, n).tolist() for n in lengths]


@torch.inference_mode()
def expected(model, row: list[int]) -> torch.Tensor:
    """[T, V] logits by transformers: one row, no padding, no cache."""
    return model(input_ids=torch.tensor([row]), use_cache=False).logits[0]


def opened(model, kind: type[Llama] = Llama) -> Llama:
    found = kind(model)
    found.refresh()
    return found


NATIVE = pytest.mark.skipif(isinstance(library(), str), reason=str(library()))
KINDS = [Llama, pytest.param(Native, marks=NATIVE)]
"""Both ways to run a model: torch, and the native passes."""
BOTH = [(shape, Llama) for shape in CONFIGS.values()] + [
    pytest.param(shape, Native, marks=NATIVE) for shape in CONFIGS.values() if usable(random_llama(**shape))
]  # fmt: skip
in_both_ways = pytest.mark.parametrize(("plain", "kind"), BOTH, indirect=["plain"])


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


# -- logits -------------------------------------------------------------------------------------------------


@in_both_ways
@torch.inference_mode()
def test_prefill_of_rows_of_any_length(plain, kind):
    assert runs(plain)
    own = opened(plain, kind)
    rows = token_rows(1, 1, 3, 17, 17, 40)
    rows += [rows[4][:9], [*rows[2][:5], 7, 8, 9], rows[4][:16]]  # a beginning of another, a branch of another
    for _ in range(2):  # run, then remembered
        logits = own.prefill(rows).logits
        for row, found in zip(rows, logits, strict=True):
            close(found, expected(plain, row)[-1])


@torch.inference_mode()
def test_cached_decoding_equals_the_full_forward(plain):
    rows, more = token_rows(2, 2, 30, 11), torch.tensor(token_rows(3, 6, 6, 6, 6))
    select = [2, 0, 1, 1]
    decoding = opened(plain).prefill(rows).start(select, 6)
    close(decoding.logits, torch.stack([expected(plain, rows[i])[-1] for i in select]))
    for t in range(6):
        if t == 3:  # rows leave
            decoding.keep(torch.tensor([1, 3]))
            select, more = [0, 1], more[[1, 3]]
        decoding.step(more[:, t])
        full = [expected(plain, [*rows[i], *tail[: t + 1].tolist()])[-1] for i, tail in zip(select, more, strict=True)]
        close(decoding.logits, torch.stack(full))


@in_both_ways
@torch.inference_mode()
def test_continuations_equal_the_full_forward(plain, kind):
    rows, texts = token_rows(4, 3, 25), token_rows(5, 1, 8, 4, 8)
    texts.append(texts[1][:5])
    select = [0, 1, 1, 0, 1]
    prefilled = opened(plain, kind).prefill(rows)
    last = prefilled.follow(select, texts, last=True)
    # asked for afterwards at positions whose keys and values are known by then, but whose predictions are not
    packed = prefilled.follow(select, texts, last=False).split([len(text) for text in texts])
    for i, text, after, before in zip(select, texts, last, packed, strict=True):
        full = expected(plain, [*rows[i], *text])
        close(after, full[-1])
        close(before, full[len(rows[i]) - 1 : -1])


@torch.inference_mode()
def test_both_backends_answer_alike(plain):
    rows, texts, select = token_rows(6, 5, 2, 20), token_rows(7, 3, 1, 6, 2), [1, 0, 2, 2]
    both = [backend.prefill(rows) for backend in (opened(plain), Transformers(plain, 0))]
    close(both[0].logits, both[1].logits)
    for last in (True, False):
        close(*(prefilled.follow(select, texts, last=last) for prefilled in both))
    decoding = [prefilled.start(select, 2) for prefilled in both]
    for one in decoding:
        one.step(torch.tensor([5, 6, 7, 8]))
        one.keep(torch.tensor([0, 3]))
        one.step(torch.tensor([9, 9]))
    close(decoding[0].logits, decoding[1].logits)


@in_both_ways
@torch.inference_mode()
def test_a_long_call_is_read_in_parts(plain, kind, monkeypatch):
    monkeypatch.setattr(llama, "SCORES", 2000)
    rows = token_rows(8, *range(4, 44, 3))
    close(opened(plain, kind).prefill(rows).logits, torch.stack([expected(plain, row)[-1] for row in rows]))


# -- tokens -------------------------------------------------------------------------------------------------


def say(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


PROMPTS = [say("numbers 12 8 7 target 96"), say("9"), say("numbers 13 11 2 target 24"), say("numbers 5 5 1 target 26")]


@pytest.mark.parametrize("kind", ["model", "random_model"])
def test_greedy_tokens_are_those_of_generate(request, tokenizer, kind):
    model = request.getfixturevalue(kind)
    engine = Engine(model, tokenizer)
    turns = engine.sample(PROMPTS, [0] * 4, temperature=0.0, max_new_tokens=16)
    for prompt, [turn] in zip(PROMPTS, turns, strict=True):
        ids = torch.tensor([engine.prompt_ids(prompt)])
        full = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16)
        new = full[0, ids.shape[1] :].tolist()
        assert turn.n_tokens == len(new) and turn.text == tokenizer.decode([t for t in new if t != 1])


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_of_tokens_follow_the_exact_distribution(tokenizer, kind):
    """χ² of 20 000 sampled pairs against p(a) p(b | a); rejects with probability 1e-6 when all is well."""
    model, n = random_llama(3, vocab_size=12, num_attention_heads=2), 20_000
    prompt = [3, 5, 2]
    uniforms = np.stack([generator("pairs", i).random(2) for i in range(n)])
    assert tokenizer.eos_token_id == 1
    with torch.inference_mode():
        prefilled = opened(model, kind).prefill([prompt])
        rows, _ = prefilled.sample([0] * n, uniforms, 1.0, 1.0, end=tokenizer.eos_token_id, batch=n)
    first = torch.softmax(expected(model, prompt)[-1].double(), -1)
    exact = {(1,): float(first[1])}
    for a in range(12):
        if a != 1:
            second = torch.softmax(expected(model, [*prompt, a])[-1].double(), -1)
            exact |= {(a, b): float(first[a] * second[b]) for b in range(12)}
    assert sum(exact.values()) == pytest.approx(1.0)
    counts = {pair: 0 for pair in exact}
    for row in rows:
        counts[row] += 1
    cells = [(counts[pair], n * p) for pair, p in exact.items() if n * p >= 10]
    rest = (n - sum(seen for seen, _ in cells), n - sum(wanted for _, wanted in cells))
    cells += [rest] if rest[1] >= 1 else []
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in cells)
    assert len(cells) > 15 and statistic < chi2.isf(1e-6, len(cells) - 1)


# -- memory -------------------------------------------------------------------------------------------------


@in_both_ways
@torch.inference_mode()
def test_only_what_is_new_is_run(plain, kind, monkeypatch):
    own, ran = opened(plain, kind), []
    run = own._run
    monkeypatch.setattr(own, "_run", lambda todo, *rest: ran.append(len(todo)) or run(todo, *rest))
    [row] = token_rows(9, 20)
    own.prefill([row])
    own.prefill([row, row[:12]])  # a shorter row: its keys are there, its prediction is not
    own.prefill([[*row, 3, 4], [*row[:10], 2, 2]])
    own.prefill([[*row, 3, 4], row[:12], row])
    own.forget()
    own.prefill([row])
    assert ran == [20, 1, 4, 20]


@torch.inference_mode()
def test_few_queries_are_not_padded_to_many(plain, monkeypatch):
    """A prompt of 30 tokens and 7 continuations of it by 3: attention over 30 + 7 · 3 queries, not 8 · 30."""
    (prompt,) = token_rows(3, 30)
    rows = [prompt, *([*prompt, *more] for more in token_rows(4, *[3] * 7))]
    seen, attention = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention",
        lambda q, *rest, **named: (seen.append(q.shape[0] * q.shape[2]), attention(q, *rest, **named))[1],
    )
    lm = opened(plain)
    paths = lm.read(rows, [0] * 8)
    assert sum(seen) == plain.config.num_hidden_layers * (30 + 7 * 3)
    hidden = plain.model(torch.tensor([rows[5]])).last_hidden_state[0]
    close(lm.hidden[paths[5]], hidden)


@in_both_ways
@torch.inference_mode()
def test_a_full_memory_starts_again(plain, kind, monkeypatch):
    monkeypatch.setattr(llama, "MEMORY", 60 * 4 * 2 * 48)  # fewer than 60 tokens: three of these rows at most
    own = opened(plain, kind)
    for seed in range(5):
        rows = token_rows(seed, 17, 18)
        close(own.prefill(rows).logits, torch.stack([expected(plain, row)[-1] for row in rows]))
    rows = token_rows(9, *[30] * 8)  # more at once than it holds
    close(own.prefill(rows).logits, torch.stack([expected(plain, row)[-1] for row in rows]))


@torch.inference_mode()
@pytest.mark.parametrize("seen", range(0, 60, 6))
@in_both_ways
def test_a_full_memory_never_drops_what_the_same_call_has_read(plain, kind, monkeypatch, seen):
    """Parts of one call, and texts that continue its prompts, whatever is in memory when it starts."""
    monkeypatch.setattr(llama, "MEMORY", 60 * 4 * 2 * 48)
    monkeypatch.setattr(llama, "SCORES", 300)  # parts of one or two rows
    own = opened(plain, kind)
    if seen:
        own.prefill(token_rows(1, seen))
    rows, texts = token_rows(2, 14, 15, 17), token_rows(3, 3, 5, 12)
    prefilled = own.prefill(rows)
    close(prefilled.logits, torch.stack([expected(plain, row)[-1] for row in rows]))
    after = prefilled.follow([0, 1, 2], texts, last=True)
    close(after, torch.stack([expected(plain, [*row, *text])[-1] for row, text in zip(rows, texts, strict=True)]))


@torch.inference_mode()
@pytest.mark.parametrize("seen", range(0, 60, 6))
@in_both_ways
def test_texts_that_fill_the_memory_leave_those_after_them_right(plain, kind, monkeypatch, seen):
    """Call after call continues the same prompts: the first may drop their slots, which the second must not use."""
    monkeypatch.setattr(llama, "MEMORY", 80 * 4 * 2 * 48)
    own = opened(plain, kind)
    if seen:
        own.prefill(token_rows(1, seen))
    rows = token_rows(2, 8, 9, 7)
    prefilled = own.prefill(rows)
    for call in range(4):
        texts = token_rows(3 + call, 3, 5, 9)
        after = prefilled.follow([0, 1, 2], texts, last=True)
        close(after, torch.stack([expected(plain, [*row, *text])[-1] for row, text in zip(rows, texts, strict=True)]))


@torch.inference_mode()
def test_an_interrupted_pass_leaves_nothing_behind(plain, monkeypatch):
    own, rows = opened(plain), token_rows(10, 9, 12)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(own, "_feed", interrupt)
        own.prefill(rows)
    close(own.prefill(rows).logits, torch.stack([expected(plain, row)[-1] for row in rows]))


def by_optimiser(model) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05)
    model(input_ids=torch.tensor([[3, 4, 5]]), labels=torch.tensor([[3, 4, 5]])).loss.backward()
    optimiser.step()


def through_data(model) -> None:
    for weight in model.parameters():
        weight.data.mul_(1.1)


def one_weight(model) -> None:
    model.model.layers[0].mlp.down_proj.weight.data[3, 4] += 0.5


def replaced(model) -> None:
    model.model.layers[0].self_attn.q_proj = copy.deepcopy(random_llama(7).model.layers[0].self_attn.q_proj)


def loaded(model) -> None:
    model.load_state_dict(random_llama(8).state_dict())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [by_optimiser, through_data, one_weight, replaced, loaded])
def test_changed_weights_are_seen(kind, change):
    model, rows = random_llama(num_attention_heads=2), token_rows(11, 6, 15)
    own = opened(model, kind)
    with torch.inference_mode():
        before = own.prefill(rows).logits
    change(model)
    with torch.inference_mode():
        own.refresh()
        after = own.prefill(rows).logits
        close(after, torch.stack([expected(model, row)[-1] for row in rows]))
    assert float((after - before).abs().max()) > 1e-3


# -- the choice of a path -------------------------------------------------------------------------------------


def lora(model):
    """A peft-wrapped model whose adapters do something."""
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    return wrapped.eval()


def test_only_a_plain_llama_is_run_by_hand():
    assert runs(random_llama())
    for surprise in (
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"attention_dropout": 0.1},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    ):
        assert not runs(random_llama(**surprise)), surprise
    assert not runs(random_llama().to(torch.bfloat16))
    with torch.inference_mode():
        assert not runs(random_llama())  # its changes could not be noticed
    hooked = random_llama()
    hooked.model.layers[0].mlp.register_forward_hook(lambda *_: None)
    assert not runs(hooked)
    bounded = random_llama()
    torch.nn.utils.parametrizations.weight_norm(bounded.lm_head)
    assert not runs(bounded)
    base = random_llama()
    wrapped = lora(base)
    assert not runs(wrapped) and runs(base)  # adapters are put into the base model as well
    odd = add_adapters(random_llama(), 3, seed=0)  # the bits of its weights could not be summed in pairs
    assert not runs(odd)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_part_of_the_weights(kind):
    model, rows = add_adapters(random_llama(num_attention_heads=2), 4, seed=0), token_rows(12, 9, 14)
    own = opened(model, kind)
    with torch.inference_mode():
        before = own.prefill(rows).logits
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    with torch.inference_mode():
        own.refresh()
        after = own.prefill(rows).logits
        close(after, torch.stack([expected(model, row)[-1] for row in rows]))
    assert float((after - before).abs().max()) > 1e-2


def test_an_adapter_that_is_off_merged_or_more_than_low_rank_is_not_run_by_hand():
    def one(change) -> bool:
        model = add_adapters(random_llama(), 4, seed=0)
        assert runs(model)
        for layer in adapters(model).values():
            change(layer)
        return runs(model)

    assert not one(lambda layer: layer.enable_adapters(False))
    assert not one(lambda layer: layer.merge())
    assert not one(lambda layer: layer.lora_dropout.update({"default": torch.nn.Dropout(0.1)}))
    config = LoraConfig(r=4, target_modules=["q_proj"], use_dora=True)
    assert not runs(inject_adapter_in_model(config, random_llama()))


def test_a_wrapped_model_goes_through_transformers(random_model, tokenizer):
    engine = Engine(random_model, tokenizer)
    assert isinstance(engine._backend(), Llama)
    plain = engine.score(PROMPTS, [["12 * 8"]] * 4)
    wrapped = lora(random_model)
    for model, backend in ((wrapped, Transformers), (random_model, Llama)):
        engine = Engine(model, tokenizer)
        assert isinstance(engine._backend(), backend)
        scores = engine.score(PROMPTS, [["12 * 8"]] * 4)
        for prompt, [score], [unadapted] in zip(PROMPTS, scores, plain, strict=True):
            ids, action = engine.prompt_ids(prompt), engine.action_ids("12 * 8")
            log_p = torch.log_softmax(expected(wrapped, [*ids, *action]), -1)[len(ids) - 1 : -1]
            assert score == pytest.approx(float(log_p.gather(1, torch.tensor(action)[:, None]).sum()), abs=1e-3)
            assert abs(score - unadapted) > 1e-2
        [[turn]] = engine.sample(PROMPTS[:1], [0], temperature=0.0, max_new_tokens=3)
        assert turn.n_tokens <= 3
