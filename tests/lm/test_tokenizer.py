"""Byte-level tokenizers: nothing is lost, the chat template is what training and sampling see."""

from __future__ import annotations

import numpy as np
import pytest

from common.lm.tokenizer import ASSISTANT, END, PAD, SYSTEM, USER, train_tokenizer

TEXTS = ["numbers 12 8 7 target 96", "search[red quiet mug]", "click[b0012] (12 - 4) * 12 | price: 19.99"] * 20


@pytest.fixture(scope="module", params=[True, False], ids=["digits", "numbers"])
def either(request):
    return train_tokenizer(TEXTS, 400, split_digits=request.param)


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "text",
    ["", " ", "  two  spaces ", "\n\ttabs\r\n", "numbers 12 8 7", "Größe 5 – für 3 €", "数字 12",
     "👩‍🔬 café e\u0301", "\x00\x7f",
     "a" * 3000, "[[((||))]]", "a ,b . c ' s n't", f"{END}{USER}hi{END}{ASSISTANT}", "<|pad", "<|user |>", "\u202eabc"],
)  # fmt: skip
def test_any_text_round_trips(either, text):
    assert either.decode(ids(either, text)) == text
    assert either.batch_decode([ids(either, text)]) == [text]


def test_random_unicode_round_trips(either):
    rng = np.random.default_rng(0)
    for _ in range(200):
        points = rng.integers(1, 0x10FFFF, size=int(rng.integers(1, 30)))
        text = "".join(chr(p) for p in points.tolist() if not 0xD800 <= p <= 0xDFFF)
        assert either.decode(ids(either, text)) == text


def test_special_tokens_are_single_and_distinct(either):
    found = [ids(either, token) for token in (PAD, END, USER, ASSISTANT, SYSTEM)]
    assert [len(one) for one in found] == [1] * 5 and len({one[0] for one in found}) == 5
    assert (either.pad_token, either.eos_token, either.padding_side) == (PAD, END, "left")
    assert either.pad_token_id != either.eos_token_id and len(either) <= 400


def test_the_chat_template_by_hand(either):
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
                {"role": "assistant", "content": "a"}, {"role": "user", "content": "again"}]  # fmt: skip
    text = "<|system|>s<|end|><|user|>u<|end|><|assistant|>a<|end|><|user|>again<|end|>"
    assert either.apply_chat_template(messages, tokenize=False) == text
    assert either.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == text + "<|assistant|>"
    assert either.decode(ids(either, text)) == text
    assert [ids(either, text).count(ids(either, token)[0]) for token in (END, USER, ASSISTANT, SYSTEM)] == [4, 2, 1, 1]


def test_split_digits_makes_one_token_of_every_digit():
    split = train_tokenizer(TEXTS, 400, split_digits=True)
    for text in ("12", "b0012", "19.99", "12 8 7"):
        pieces = [split.decode([one]).strip() for one in ids(split, text)]
        assert all(len(piece) <= 1 for piece in pieces if any(c.isdigit() for c in piece)), pieces
        assert sum(piece.isdigit() for piece in pieces) == sum(c.isdigit() for c in text)
    joined = train_tokenizer(TEXTS, 400, split_digits=False)
    assert any(joined.decode([one]).strip() == "12" for one in ids(joined, "numbers 12 8"))


def test_brackets_are_tokens_of_their_own(either):
    pieces = [either.decode([one]) for one in ids(either, "click[b0012](x)|y:")]
    assert all(not set(piece) & set("[]()|:") or len(piece) == 1 for piece in pieces), pieces


def test_training_repeats_exactly(either):
    again = train_tokenizer(TEXTS, 400, split_digits=len(ids(either, "12")) == 2)
    assert again.get_vocab() == either.get_vocab()
