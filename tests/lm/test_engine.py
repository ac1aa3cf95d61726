"""The engine, on both its paths, against loops that know no cache, no batch and no padding."""

from __future__ import annotations

import copy
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from common.lm import llama, native
from common.lm.decode import choose
from common.lm.engine import Engine, Transformers
from common.lm.policy import LMPolicy
from common.rng import derive
from common.types import Cost


def say(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


CONTEXT = 96
PROMPTS = [
    say("numbers 12 8 7 target 96"),
    say("9"),
    (*say("numbers 5 5 1 target 26"), {"role": "assistant", "content": "5 * 5"}, *say("good?")),
    say("numbers 13 11 2 target 24"),
    say("numbers 1 2 3 4 5 6 7 8 9 10 11 12 13 target 10"),
]
KEYS = [11, 22, 33, 44, 55]


@pytest.fixture(autouse=True, params=["llama", "transformers"])
def path(request, monkeypatch):
    """Every test runs through ``common.lm.llama`` and again through transformers."""
    if request.param == "transformers":
        monkeypatch.setattr(llama, "runs", lambda model: False)
    return request.param


@torch.inference_mode()
def next_logprobs(model, ids: list[int]) -> torch.Tensor:
    """[V] log-probabilities after ``ids``: one row, whole forward pass, no mask, no cache, in float64."""
    return torch.log_softmax(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double(), -1)


def slow(model, tokenizer, prompt, key: int, j: int, *, temperature: float, top_p: float, limit: int):
    """(tokens, log-probability, ended) of sample j, token by token."""
    text = tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    uniforms = np.random.Generator(np.random.PCG64(derive(key, j))).random(limit)
    tokens, total = [], 0.0
    for u in uniforms:
        log_p = next_logprobs(model, [*ids, *tokens])
        if temperature == 0.0:
            token = int(log_p.argmax())
        else:
            p = np.exp(log_p.numpy() / temperature)
            p /= p.sum()
            order = sorted(range(len(p)), key=lambda t: (-p[t], t))
            mass, allowed = 0.0, set()
            for t in order:
                if mass >= top_p and top_p < 1:
                    break
                allowed.add(t)
                mass += p[t]
            p = np.array([x if t in allowed else 0.0 for t, x in enumerate(p)])
            token, below = 0, p[0] / p.sum()
            while below <= u:
                token += 1
                below += p[token] / p.sum()
        tokens.append(token)
        total += float(log_p[token])
        if token == tokenizer.eos_token_id:
            return tokens, total, True
    return tokens, total, False


# -- sampling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["model", "random_model"])
@pytest.mark.parametrize(
    ("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (0.7, 1.0), (1.0, 0.8)], ids=["greedy", "T=1", "T=0.7", "top-p"]
)
def test_sampling_equals_a_slow_loop(request, tokenizer, kind, temperature, top_p):
    model = request.getfixturevalue(kind)
    turns = Engine(model, tokenizer).sample(
        PROMPTS, KEYS, n=3, temperature=temperature, top_p=top_p, max_new_tokens=10
    )
    ended = 0
    for prompt, key, group in zip(PROMPTS, KEYS, turns, strict=True):
        for j, turn in enumerate(group):
            tokens, total, end = slow(model, tokenizer, prompt, key, j, temperature=temperature, top_p=top_p, limit=10)
            assert turn.text == tokenizer.decode(tokens[:-1] if end else tokens)
            assert turn.logprob == pytest.approx(total, abs=1e-4)
            usual = tokenizer(turn.text, add_special_tokens=False)["input_ids"]
            assert (turn.n_tokens, turn.finished) == (len(tokens), end and usual == tokens[:-1])
            ended += end
    assert kind == "random_model" or ended >= 3


def test_texts_become_the_tokens_that_the_tokenizer_gives(model, tokenizer):
    texts = ["", "a b", "search[red lamp]", "ünïcode \n and numbers 12 345", "<|unknown|>"]
    usual = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert Engine(model, tokenizer)._encode(texts) == usual
    tokenizer(texts, add_special_tokens=False, padding=True)  # leaves its tokenizer padding
    assert tokenizer.backend_tokenizer.padding is not None
    try:
        assert Engine(model, tokenizer)._encode(texts) == usual
    finally:
        tokenizer.backend_tokenizer.no_padding()


def test_the_token_limit_leaves_a_turn_unfinished(model, tokenizer):
    cut = Engine(model, tokenizer).sample(PROMPTS, KEYS, n=4, max_new_tokens=1)
    whole = Engine(model, tokenizer).sample(PROMPTS, KEYS, n=4, max_new_tokens=30)
    for turn, longer in zip((t for g in cut for t in g), (t for g in whole for t in g), strict=True):
        assert turn.n_tokens == 1 and turn.finished == (turn.text == "") and longer.text.startswith(turn.text)
    flat = [turn for group in whole for turn in group]
    done = [turn for turn in flat if turn.finished]
    assert len(done) > 10 and all("<|end|>" not in turn.text for turn in done)


def test_a_sample_does_not_depend_on_its_neighbours(model, tokenizer):
    together = Engine(model, tokenizer).sample(PROMPTS, KEYS, n=3, max_new_tokens=12)
    for batch in (1, 2, 4, 7):
        same(Engine(model, tokenizer, batch=batch).sample(PROMPTS, KEYS, n=3, max_new_tokens=12), together)
    engine = Engine(model, tokenizer)
    same([engine.sample([p], [k], n=3, max_new_tokens=12)[0] for p, k in zip(PROMPTS, KEYS, strict=True)], together)
    back = Engine(model, tokenizer).sample(PROMPTS[::-1], KEYS[::-1], n=3, max_new_tokens=12)
    same(back[::-1], together)


def same(left, right) -> None:
    for one, other in zip((t for g in left for t in g), (t for g in right for t in g), strict=True):
        assert (one.text, one.n_tokens, one.finished) == (other.text, other.n_tokens, other.finished)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_the_same_call_repeats_bit_by_bit(model, tokenizer):
    engine = Engine(model, tokenizer)
    assert engine.sample(PROMPTS, KEYS, n=2) == engine.sample(PROMPTS, KEYS, n=2)


def test_the_order_of_the_prompts_changes_nothing_bit_by_bit(model, tokenizer):
    prompts, keys = [*PROMPTS, PROMPTS[0]], [*KEYS, 66]
    wanted = Engine(model, tokenizer, batch=4).sample(prompts, keys, n=3, max_new_tokens=12)
    for order in ([5, 4, 3, 2, 1, 0], [2, 0, 5, 1, 4, 3]):
        engine = Engine(model, tokenizer, batch=4)
        turns = engine.sample([prompts[i] for i in order], [keys[i] for i in order], n=3, max_new_tokens=12)
        assert turns == [wanted[i] for i in order]


def test_a_fresh_policy_answers_as_a_fresh_engine_bit_by_bit(model, tokenizer):
    used = Engine(model, tokenizer)
    used.sample(PROMPTS[1:4], KEYS[1:4])
    for engine in (used, Engine(model, tokenizer)):
        policy = LMPolicy(engine)
        answers = (policy.propose(PROMPTS, KEYS, 2), policy.critique(PROMPTS, ACTIONS))
        assert engine is used or answers == before
        before = answers


def test_samples_of_one_prompt_share_the_prefix_and_differ(model, tokenizer):
    engine = Engine(model, tokenizer)
    [group] = engine.sample(PROMPTS[:1], [5], n=64, max_new_tokens=12)
    assert engine.cost.prompt_tokens == len(engine.prompt_ids(PROMPTS[0])) and engine.cost.lm_calls == 1
    assert len({turn.text for turn in group}) > 5
    # sample j does not depend on how many others are drawn
    [few] = engine.sample(PROMPTS[:1], [5], n=3, max_new_tokens=12)
    same([few], [group[:3]])


def test_equal_prompts_with_other_keys_are_other_samples(model, tokenizer):
    engine = Engine(model, tokenizer)
    turns = engine.sample([PROMPTS[0]] * 40, list(range(40)), max_new_tokens=12)
    assert len({group[0].text for group in turns}) > 5 and engine.cost.lm_calls == 1
    same(turns[7:8], engine.sample(PROMPTS[:1], [7], max_new_tokens=12))


@pytest.mark.parametrize("batch", [1, 7, 128])
def test_equal_prompts_are_prefilled_once_whatever_the_batch(model, tokenizer, batch):
    """The forward passes see each distinct prompt once, and so say the counters."""
    engine, seen = Engine(model, tokenizer, batch=batch), []
    backend = engine._backend()
    prefill = backend.prefill
    backend.prefill = lambda rows: seen.extend(map(tuple, rows)) or prefill(rows)
    engine._backend = lambda **_: backend
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0]] * 5
    turns = engine.sample(prompts, list(range(15)), n=2, max_new_tokens=5)
    sizes = [len(engine.prompt_ids(prompt)) for prompt in PROMPTS[:2]]
    assert (engine.cost.lm_calls, engine.cost.prompt_tokens) == (2, sum(sizes))
    assert sorted(seen) == sorted(tuple(engine.prompt_ids(prompt)) for prompt in PROMPTS[:2])
    same(turns, Engine(model, tokenizer).sample(prompts, list(range(15)), n=2, max_new_tokens=5))


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_first_tokens_follow_the_softmax(random_model, tokenizer, top_p):
    """Pearson's χ² of 4000 first tokens; rejects with probability 1e-6 when all is well (and the seed is fixed)."""
    engine, n = Engine(random_model, tokenizer, batch=500), 4000
    [group] = engine.sample([PROMPTS[0]], [3], n=n, top_p=top_p, max_new_tokens=1)
    p = next_logprobs(random_model, engine.prompt_ids(PROMPTS[0])).exp().numpy()
    order = np.argsort(-p, kind="stable")
    kept = order[: int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1] if top_p < 1 else order
    expected = {int(t): n * p[t] / p[kept].sum() for t in kept}
    # group tokens by the text one sees of them, and those expected fewer than 10 times in one cell
    names = {t: "" if t == tokenizer.eos_token_id else tokenizer.decode([t]) for t in expected}
    cells: Counter[str] = Counter()
    for t, count in expected.items():
        cells[names[t]] += count
    seen = Counter(turn.text for turn in group)
    assert set(seen) <= set(cells)
    common = [name for name, count in cells.items() if count >= 10]
    pairs = [(seen[name], cells[name]) for name in common]
    rest = (n - sum(s for s, _ in pairs), n - sum(e for _, e in pairs))
    pairs += [rest] if rest[1] >= 1 else []
    statistic = sum((s - e) ** 2 / e for s, e in pairs)
    assert len(pairs) >= 5 and statistic < chi2.isf(1e-6, len(pairs) - 1)


def test_choose_by_hand():
    log_p = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    for u, token in [(0.0, 0), (0.05, 0), (0.15, 1), (0.55, 2), (0.65, 3), (1 - 2**-53, 3)]:
        assert choose(log_p, torch.tensor([u], dtype=torch.float64), 1.0, 1.0).tolist() == [token]
    # top-p 0.7 keeps tokens 3 and 2 (0.4 + 0.3 reaches it), renormalised to 3/7 and 4/7
    for u, token in [(0.0, 2), (0.42, 2), (0.43, 3), (1 - 2**-53, 3)]:
        assert choose(log_p, torch.tensor([u], dtype=torch.float64), 1.0, 0.65).tolist() == [token]
    assert choose(log_p, torch.tensor([0.99], dtype=torch.float64), 1.0, 0.4).tolist() == [3]
    assert choose(log_p, torch.tensor([0.0], dtype=torch.float64), 0.0, 1.0).tolist() == [3]
    # temperature 1/2 squares: 1, 4, 9, 16 of 30
    for u, token in [(0.9 / 30, 0), (1.1 / 30, 1), (13.9 / 30, 2), (14.1 / 30, 3)]:
        assert choose(log_p, torch.tensor([u], dtype=torch.float64), 0.5, 1.0).tolist() == [token]


def test_a_dropped_token_is_never_chosen():
    """The largest uniform must not fall past the last token that top-p kept."""
    rng = np.random.default_rng(0)
    log_p = torch.log_softmax(torch.from_numpy(rng.normal(size=(3000, 50)) * 3), -1)
    uniforms = torch.full((3000,), 1 - 2**-53, dtype=torch.float64)
    for top_p in (0.1, 0.5, 0.9):
        chosen = choose(log_p, uniforms, 1.0, top_p)
        ranked, index = log_p.exp().sort(-1, descending=True)
        place = (index == chosen[:, None]).double().argmax(-1)
        before = ranked.cumsum(-1).gather(1, place[:, None])[:, 0] - ranked.gather(1, place[:, None])[:, 0]
        assert bool((before < top_p).all())


# -- scoring ------------------------------------------------------------------------------------------------

ACTIONS = [["12 * 8", "12 + 8", "8 - 7"], ["x"], [], ["13 * 2", "13 + 11 and then a long story", ""], ["(" * 9]]


def slow_score(model, engine: Engine, prompt, continuation: list[int]) -> float:
    ids, total = list(engine.prompt_ids(prompt)), 0.0
    for token in continuation:
        total += float(next_logprobs(model, ids)[token])
        ids.append(token)
    return total


@pytest.mark.parametrize("kind", ["model", "random_model"])
@pytest.mark.parametrize("batch", [1, 3, 128])
def test_scores_equal_a_slow_loop(request, tokenizer, kind, batch):
    model = request.getfixturevalue(kind)
    engine = Engine(model, tokenizer, batch=batch)
    scores = engine.score(PROMPTS, ACTIONS)
    assert [len(row) for row in scores] == [3, 1, 0, 3, 1]
    for prompt, actions, row in zip(PROMPTS, ACTIONS, scores, strict=True):
        for action, score in zip(actions, row, strict=True):
            assert score == pytest.approx(slow_score(model, engine, prompt, engine.action_ids(action)), abs=1e-4)


def test_the_log_probability_of_a_sample_is_its_score(model, tokenizer):
    """Of every finished one, at any temperature; texts that were sampled in unusual tokens are not finished."""
    engine = Engine(model, tokenizer)
    for temperature, top_p in ((1.0, 1.0), (1.5, 0.98)):
        turns = engine.sample(PROMPTS, KEYS, n=60, temperature=temperature, top_p=top_p, max_new_tokens=16)
        scores = engine.score(PROMPTS, [[turn.text for turn in group] for group in turns])
        flat = [pair for group, row in zip(turns, scores, strict=True) for pair in zip(group, row, strict=True)]
        assert all(turn.logprob == pytest.approx(score, abs=1e-4) for turn, score in flat if turn.finished)
        assert sum(turn.finished for turn, _ in flat) > 50


@pytest.mark.parametrize("batch", [1, 4, 128])
def test_the_verdict_equals_a_full_forward(model, tokenizer, batch):
    engine = Engine(model, tokenizer, batch=batch)
    verdicts = engine.judge(PROMPTS, ACTIONS)
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("yes", "no"))
    for prompt, actions, row in zip(PROMPTS, ACTIONS, verdicts, strict=True):
        for action, verdict in zip(actions, row, strict=True):
            dialogue = [*prompt, {"role": "assistant", "content": action}, {"role": "user", "content": "good?"}]
            log_p = next_logprobs(model, engine.prompt_ids(dialogue))
            p_yes, p_no = math.exp(log_p[yes]), math.exp(log_p[no])
            assert verdict == pytest.approx(p_yes / (p_yes + p_no), abs=1e-5)
    other = engine.judge(PROMPTS, ACTIONS, question="bad?")
    assert other != verdicts


def test_the_fastest_backend_is_chosen_unless_another_is_asked_for(model, tokenizer, monkeypatch):
    monkeypatch.undo()  # of the fixture that makes transformers run it
    engine = Engine(model, tokenizer)
    chosen, sampled = engine.backend, engine.sample(PROMPTS, KEYS, temperature=0.0)
    assert chosen == ("torch" if isinstance(native.library(), str) else "native")
    for name, kind in (("torch", llama.Llama), ("transformers", Transformers), (chosen, llama.Llama)):
        monkeypatch.setenv("LAB_BACKEND", name)
        assert engine.backend == name and isinstance(engine._backend(), kind)
        assert [t.text for [t] in engine.sample(PROMPTS, KEYS, temperature=0.0)] == [t.text for [t] in sampled]
    monkeypatch.setenv("LAB_BACKEND", "native")
    monkeypatch.setattr(native, "usable", lambda model: False)
    with pytest.raises(ValueError, match="LAB_BACKEND: native cannot run this LlamaForCausalLM here, because .*; choose from .*transformers"):
        engine.sample(PROMPTS, KEYS)


def test_a_template_that_begins_with_a_word_of_its_own_says_it_once(random_model, tokenizer):
    """SmolLM2's puts a system message before a dialogue without one: the critic's question is no new dialogue."""
    polite = copy.deepcopy(tokenizer)
    polite.chat_template = "{% if messages[0]['role'] != 'system' %}<|system|>be kind<|end|>{% endif %}" + tokenizer.chat_template
    engine = Engine(random_model, polite)
    [[verdict]] = engine.judge(PROMPTS[:1], [["12 * 8"]])
    text = "<|system|>be kind<|end|><|user|>numbers 12 8 7 target 96<|end|><|assistant|>12 * 8<|end|><|user|>good?<|end|><|assistant|>"
    log_p = next_logprobs(random_model, tokenizer(text, add_special_tokens=False)["input_ids"])
    p_yes, p_no = (math.exp(log_p[tokenizer(word)["input_ids"][0]]) for word in ("yes", "no"))
    assert verdict == pytest.approx(p_yes / (p_yes + p_no), abs=1e-5)


def test_a_long_prompt_beside_a_short_one(model, tokenizer):
    """Padding of ten times the prompt's length changes nothing."""
    long, short = say("numbers " + " ".join(["1"] * 30) + " target 9"), say("9")
    engine = Engine(model, tokenizer)
    sizes = [len(engine.prompt_ids(p)) for p in (long, short)]
    assert sizes[0] > 4 * sizes[1]
    pair = engine.sample([long, short], [1, 2], n=2, max_new_tokens=8)
    alone = [engine.sample([prompt], [key], n=2, max_new_tokens=8)[0] for prompt, key in ((long, 1), (short, 2))]
    same(pair, alone)
    assert engine.score([long, short], [["1 + 1"], ["1 + 1"]])[1][0] == pytest.approx(
        engine.score([short], [["1 + 1"]])[0][0], abs=1e-4
    )


# -- limits -------------------------------------------------------------------------------------------------


def filled(engine: Engine, length: int):
    """A prompt of exactly ``length`` tokens."""
    words = 0
    while len(engine.prompt_ids(say("|" * words))) < length:
        words += 1
    assert len(engine.prompt_ids(say("|" * words))) == length
    return say("|" * words)


def test_what_does_not_fit_the_context_is_refused_with_the_numbers(model, tokenizer):
    engine = Engine(model, tokenizer)
    assert engine.context == CONTEXT
    for length in (CONTEXT - 8, CONTEXT - 4):
        [[turn]] = engine.sample([filled(engine, length)], [0], max_new_tokens=CONTEXT - length)
        assert 1 <= turn.n_tokens <= CONTEXT - length
    before = engine.cost
    with pytest.raises(ValueError, match=f"{CONTEXT + 1} tokens do not fit the model's context of {CONTEXT}; shorten"):
        engine.sample([PROMPTS[0], filled(engine, CONTEXT - 7)], [0, 1], max_new_tokens=8)
    action = "|" * 5
    assert len(engine.action_ids(action)) == 6
    engine.score([filled(engine, CONTEXT - 6)], [[action]])
    with pytest.raises(ValueError, match=f"prompt plus scored action: {CONTEXT + 1} tokens .* {CONTEXT}"):
        engine.score([filled(engine, CONTEXT - 5)], [[action]])
    with pytest.raises(ValueError, match=f"do not fit the model's context of {CONTEXT}"):
        engine.judge([filled(engine, CONTEXT - 3)], [["|"]])
    assert engine.cost.sampled_tokens == before.sampled_tokens


def test_what_fits_by_itself_fits_in_company(model, tokenizer):
    """A long prompt with a short action beside a short prompt with a long action."""
    engine = Engine(model, tokenizer)
    prompts, actions = [filled(engine, CONTEXT - 6), filled(engine, 8)], [["|" * 5], ["|" * 60]]
    together = engine.score(prompts, actions)
    alone = [engine.score([p], [a])[0] for p, a in zip(prompts, actions, strict=True)]
    assert [row[0] for row in together] == pytest.approx([row[0] for row in alone], abs=1e-3)


def test_nothing_in_nothing_out(model, tokenizer):
    engine = Engine(model, tokenizer)
    assert engine.sample([], []) == [] and engine.score([], []) == []
    assert engine.score(PROMPTS[:2], [[], []]) == [[], []]
    assert engine.judge(PROMPTS[:1], [[]]) == [[]] and engine.cost == Cost()


# -- counters, weights, devices -------------------------------------------------------------------------------


def test_counters_are_exact(model, tokenizer):
    engine = Engine(model, tokenizer)
    sizes = [len(engine.prompt_ids(prompt)) for prompt in PROMPTS]
    turns = engine.sample(PROMPTS, KEYS, n=3, max_new_tokens=6)
    sampled = sum(turn.n_tokens for group in turns for turn in group)
    assert engine.cost == Cost(lm_calls=5, prompt_tokens=sum(sizes), sampled_tokens=sampled) and engine.cost.seconds > 0
    engine.cost = Cost()
    engine.score(PROMPTS, ACTIONS)  # the third prompt has no action and is not run
    scored = sum(len(engine.action_ids(action)) for row in ACTIONS for action in row)
    assert engine.cost == Cost(lm_calls=4, prompt_tokens=sum(sizes) - sizes[2], scored_tokens=scored)
    engine.cost = Cost()
    engine.judge(PROMPTS, ACTIONS)
    asked = len(engine.prompt_ids(say("good?")))
    assert engine.cost == Cost(lm_calls=4, prompt_tokens=sum(sizes) - sizes[2], scored_tokens=scored + 8 * asked)


def test_weights_changed_in_place_are_seen(model, random_model, tokenizer):
    engine = Engine(model, tokenizer)
    before = engine.score(PROMPTS[:1], [["12 * 8"]])
    model.load_state_dict(random_model.state_dict())
    assert engine.score(PROMPTS[:1], [["12 * 8"]]) == Engine(random_model, tokenizer).score(PROMPTS[:1], [["12 * 8"]])
    assert engine.score(PROMPTS[:1], [["12 * 8"]]) != before


def test_the_engine_leaves_weights_and_random_state_alone(model, tokenizer):
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    Engine(model, tokenizer).sample(PROMPTS, KEYS, n=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not any(p.grad is not None for p in model.parameters())


class Elsewhere:
    """Looks like ``model`` on a device without arithmetic and answers with empty tensors there; refuses inputs
    that are not on it."""

    device = torch.device("meta")

    def __init__(self, model) -> None:
        self.config, self.seen = model.config, []

    def __call__(self, *, past_key_values, use_cache, logits_to_keep, **inputs: torch.Tensor):
        assert {tensor.device.type for tensor in inputs.values()} == {"meta"}, inputs
        assert use_cache
        batch, width = inputs["input_ids"].shape
        state = torch.empty(batch, self.config.num_attention_heads, width, 16, device="meta")
        past_key_values.update(state, state, 0)
        past_key_values.update(state, state, 1)
        self.seen.append({name: tuple(tensor.shape) for name, tensor in inputs.items()})
        logits = torch.empty(batch, logits_to_keep or width, self.config.vocab_size, device="meta")
        return type("Output", (), {"logits": logits})


def test_inputs_go_to_the_device_of_the_model(model):
    elsewhere = Elsewhere(model)
    prefilled = Transformers(elsewhere, 0).prefill([[5, 6, 7], [8, 9]])
    rows = prefilled.start([0, 0, 1], 4)
    rows.step(torch.zeros(3, dtype=torch.long, device="meta"))
    logits = prefilled.follow([0, 0, 1], [[10, 11], [12], [13]], last=True)
    for found in (rows.logits, logits):
        assert found.device.type == "meta" and found.shape == (3, model.config.vocab_size)
    assert elsewhere.seen == [
        {"input_ids": (2, 3), "attention_mask": (2, 3), "position_ids": (2, 3)},
        {"input_ids": (3, 1), "attention_mask": (3, 4), "position_ids": (3, 1)},
        {"input_ids": (3, 2), "attention_mask": (3, 5), "position_ids": (3, 2)},
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_samples_and_scores_on_a_gpu(model, tokenizer):
    here = Engine(model, tokenizer)
    expected = (here.sample(PROMPTS, KEYS, n=3), here.score(PROMPTS, ACTIONS), here.judge(PROMPTS, ACTIONS))
    model.to("cuda")
    same(here.sample(PROMPTS, KEYS, n=3), expected[0])
    for found, wanted in ((here.score(PROMPTS, ACTIONS), expected[1]), (here.judge(PROMPTS, ACTIONS), expected[2])):
        assert [x for row in found for x in row] == pytest.approx([x for row in wanted for x in row], abs=1e-3)


# -- the policy -----------------------------------------------------------------------------------------------


def test_the_policy_passes_its_settings_on(model, tokenizer):
    engine = Engine(model, tokenizer)
    policy = LMPolicy(engine, temperature=0.7, top_p=0.9, max_new_tokens=5)
    wanted = engine.sample(PROMPTS, KEYS, n=2, temperature=0.7, top_p=0.9, max_new_tokens=5)
    assert policy.propose(PROMPTS, KEYS, 2) == wanted
    greedy = LMPolicy(engine, temperature=0.0).propose(PROMPTS, KEYS, 2)
    assert all(a.text == b.text for a, b in greedy)
    assert policy.critique(PROMPTS, ACTIONS) == engine.judge(PROMPTS, ACTIONS)
