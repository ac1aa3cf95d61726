"""Sampling and scoring against transformers' ``generate`` and forward passes, same model, prompts and temperature."""

from __future__ import annotations

import torch

from benchmarks.machine import square
from benchmarks.measure import Measure, Work, race
from benchmarks.models import SMOL, nano, pretrained, prompts
from common.lm.engine import Engine

NEW = 48
PROMPT_WORDS = 14  # about 32 tokens with the chat template


def forget_prompts(engine: Engine) -> None:
    """What was read of them; weights stay, as with ``generate``."""
    if engine._llama is not None:
        engine._llama.forget()


def generating(model, tokenizer, chats, n: int = 1, new: int = NEW, **how) -> Work:  # noqa: ANN001
    """``generate`` of ``n`` answers to each chat: tokens made, ends included."""
    texts = [tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True) for chat in chats]

    @torch.inference_mode()
    def work() -> float:
        rows = tokenizer(texts, add_special_tokens=False, return_tensors="pt", padding=True).to(model.device)
        made = model.generate(**rows, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=new,
                              num_return_sequences=n, pad_token_id=tokenizer.pad_token_id,
                              eos_token_id=tokenizer.eos_token_id, **how)  # fmt: skip
        ended = made[:, rows["input_ids"].shape[1] :] == tokenizer.eos_token_id
        return int((ended.cumsum(1) - ended.long() == 0).sum())

    return work


def sampling(model, tokenizer, chats, n: int = 1, new: int = NEW) -> Work:  # noqa: ANN001
    """The engine on the same chats; it remembers weights but no prompt from one call to the next, as ``generate``."""
    engine = Engine(model, tokenizer, batch=256)

    def work() -> float:
        forget_prompts(engine)
        before = engine.cost.sampled_tokens
        engine.sample(chats, list(range(len(chats))), n=n, max_new_tokens=new)
        return engine.cost.sampled_tokens - before

    return work


def scoring_ours(model, tokenizer, chats, actions) -> Work:  # noqa: ANN001
    engine = Engine(model, tokenizer, batch=256)

    def work() -> float:
        forget_prompts(engine)
        return sum(map(len, engine.score(chats, actions)))

    return work


def scoring_plain(model, tokenizer, chats, actions) -> Work:  # noqa: ANN001
    """One padded forward pass for all actions of a state, prompt repeated, as evaluation harnesses do."""
    texts = [tokenizer.apply_chat_template(list(c), tokenize=False, add_generation_prompt=True) for c in chats]

    @torch.inference_mode()
    def work() -> float:
        done = 0
        for text, choices in zip(texts, actions, strict=True):
            start = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            rows = tokenizer([text + choice + tokenizer.eos_token for choice in choices], add_special_tokens=False,
                             return_tensors="pt", padding=True, padding_side="right").to(model.device)  # fmt: skip
            log_p = torch.log_softmax(model(**rows).logits[:, start - 1 : -1].float(), -1)
            labels = rows["input_ids"][:, start:]
            log_p.gather(-1, labels[..., None])[..., 0].masked_fill(rows["attention_mask"][:, start:] == 0, 0.0).sum(1)
            done += len(choices)
        return done

    return work


def share_of_products(model, tokenizer, chats) -> Measure:  # noqa: ANN001
    """Products of reading and sampling, 2 a parameter and token without those of attention, against :func:`square`."""
    engine, parameters = Engine(model, tokenizer, batch=256), sum(p.numel() for p in model.parameters())

    def work() -> float:
        forget_prompts(engine)
        before = engine.cost
        engine.sample(chats, list(range(len(chats))), max_new_tokens=NEW)
        spent = engine.cost
        tokens = spent.sampled_tokens - before.sampled_tokens + spent.prompt_tokens - before.prompt_tokens
        return 2 * parameters * tokens / 1e9

    return race("sampling", f"products of sampling, batch {len(chats)}", "GFLOP/s", work, square,
                against="float32 products alone", target=0.7)  # fmt: skip


def measures() -> list[Measure]:
    model, tokenizer = nano()
    size = f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, 32-token prompts, {NEW} new tokens"
    found = []
    for batch in (1, 64, 256):
        chats = prompts(batch, PROMPT_WORDS)
        found.append(race("sampling", f"sample, batch {batch}", "tokens/s", sampling(model, tokenizer, chats),
                          generating(model, tokenizer, chats), against="transformers generate", target=5.0,
                          note=size))  # fmt: skip
    found.append(share_of_products(model, tokenizer, chats))
    chats = prompts(64, PROMPT_WORDS)
    found.append(race("sampling", "sample, batch 64, static cache", "tokens/s", sampling(model, tokenizer, chats),
                      generating(model, tokenizer, chats, cache_implementation="static", disable_compile=True),
                      against="generate with a static cache, not compiled", target=None, rounds=3))  # fmt: skip
    long = prompts(8, 60)
    found.append(race("sampling", "8 answers to each of 8 prompts of 130 tokens", "tokens/s",
                      sampling(model, tokenizer, long, n=8), generating(model, tokenizer, long, n=8),
                      against="transformers generate", target=5.0))  # fmt: skip
    states = prompts(8, 60, seed=1)
    choices = [[chat[0]["content"] for chat in prompts(20, 4, seed=i)] for i in range(8)]
    found.append(race("sampling", "score 20 actions in each of 8 states of 130 tokens", "actions/s",
                      scoring_ours(model, tokenizer, states, choices),
                      scoring_plain(model, tokenizer, states, choices), against="padded forward passes",
                      target=5.0))  # fmt: skip
    return found + _pretrained()


def _pretrained() -> list[Measure]:
    if not SMOL.is_dir():
        return []
    model, tokenizer = pretrained()
    return [race("sampling", f"{SMOL.name}, batch {batch}", "tokens/s", sampling(model, tokenizer, prompts(batch, 14), new=16),
                 generating(model, tokenizer, prompts(batch, 14), new=16), against="transformers generate", target=1.5,
                 rounds=3, note="float32, 16 new tokens") for batch in (1, 8, 32)]  # fmt: skip


def skipped() -> list[str]:
    return [] if SMOL.is_dir() else [f"{SMOL.name} is not there: python -m common pretrained {SMOL.name}"]
