"""Tokenisation, padding and the order of training."""

from __future__ import annotations

from collections import Counter

import pytest

from common.learn.batches import encode, pad_rows, positive, referenced, training_order
from common.types import PreferencePair

USER = {"role": "user", "content": "a b"}


def test_prompt_plus_completion_is_the_chat_template_of_the_whole_dialogue(tokenizer):
    prompts, completions = encode("sft", tokenizer, [(USER,)], ["c 1"], max_length=48)
    whole = tokenizer.apply_chat_template([USER, {"role": "assistant", "content": "c 1"}], tokenize=False)
    assert prompts[0] + completions[0] == tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(completions[0]) == ["c", "1", "<|end|>"]
    assert tokenizer.convert_ids_to_tokens(prompts[0]) == ["<|user|>", "a", "b", "<|end|>", "<|assistant|>"]


def test_what_is_given_of_a_turn_is_read_with_the_prompt(tokenizer):
    [prompt], [completion] = encode("sft", tokenizer, [(USER,)], [" 1 2"], max_length=48, given=["c"])
    [begun], [whole] = encode("sft", tokenizer, [(USER,)], ["c 1 2"], max_length=48)
    assert prompt + completion == begun + whole and len(prompt) == len(begun) + 1
    with pytest.raises(ValueError, match="row 0 is cut inside a token"):
        encode("sft", tokenizer, [(USER,)], ["2"], max_length=48, given=["1"])


def test_no_completion_has_no_tokens_but_an_empty_one_has_its_end(tokenizer):
    _, completions = encode("value", tokenizer, [(USER,), (USER,)], [None, ""], max_length=48)
    assert completions == [[], [tokenizer.eos_token_id]]


def test_a_long_row_is_an_error_with_its_numbers(tokenizer):
    encode("sft", tokenizer, [(USER,)], ["c 1"], max_length=8)
    with pytest.raises(ValueError, match=r"sft: row 1 has 5 prompt and 4 completion tokens.*max_length 8"):
        encode("sft", tokenizer, [(USER,), (USER,)], ["c 1", "c 1 2"], max_length=8)


def test_pad_rows_by_hand():
    rows = pad_rows([[7, 8], [9]], [[4], [5, 6]], 0)
    assert rows["input_ids"].tolist() == [[7, 8, 4], [9, 5, 6]]
    rows = pad_rows([[7, 8, 9], [9]], [[4, 1], [1]], 0)
    assert rows["input_ids"].tolist() == [[7, 8, 9, 4, 1], [0, 0, 0, 9, 1]]
    assert rows["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [0, 0, 0, 1, 1]]
    assert rows["completion_mask"].tolist() == [[False, False, False, True, True], [False, False, False, False, True]]
    assert rows["position_ids"].tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 0, 1]]


def test_weight_zero_is_left_out_and_negative_weight_refused():
    assert positive("sft", ["x", "y", "z"], [1.0, 0.0, 0.5]) == ["x", "z"]
    with pytest.raises(ValueError, match="weight -1.0 of item 1"):
        positive("sft", ["x", "y"], [1.0, -1.0])
    with pytest.raises(ValueError, match="none of 2 items"):
        positive("sft", ["x", "y"], [0.0, 0.0])
    with pytest.raises(ValueError, match="none of 0 items"):
        positive("sft", [], [])


LENGTHS = [(7 * i) % 23 for i in range(50)]


def test_each_epoch_sees_everything_once():
    order = training_order(LENGTHS, per_update=8, seed=3, epochs=3)
    assert Counter(order) == {i: 3 for i in range(50)}
    assert order == training_order(LENGTHS, per_update=8, seed=3, epochs=3)
    assert order != training_order(LENGTHS, per_update=8, seed=4, epochs=3)
    assert order[:48] != order[50:98]


def test_max_steps_sets_the_number_of_updates_whatever_the_data():
    for n in (3, 8, 50):
        order = training_order(LENGTHS[:n], per_update=8, seed=3, max_steps=5)
        assert len(order) == 40
        counts = Counter(order)
        assert len(counts) == min(n, 40)
        if n < 40:
            assert max(counts.values()) - min(counts.values()) <= 2


def test_updates_hold_examples_of_like_length():
    order = training_order(LENGTHS, per_update=8, seed=3, epochs=1)

    def spread(indices):
        groups = [[LENGTHS[i] for i in indices[at : at + 8]] for at in range(0, 48, 8)]
        return sum(max(g) - min(g) for g in groups) / len(groups)

    assert spread(order) < 0.75 * spread(list(range(50)))


def test_pairs_get_the_reference_of_the_engine_that_scores_them():
    class Asked:
        def score(self, prompts, completions):
            assert [prompt[0]["content"] for prompt in prompts] == ["one", "two"]
            return [[-float(len(text)) for text in row] for row in completions]

    pairs = [PreferencePair(({"role": "user", "content": text},), "abc", "a", task_id=text) for text in ("one", "two")]
    assert [(one.ref_chosen, one.ref_rejected, one.task_id) for one in referenced(Asked(), pairs)] == [(-3.0, -1.0, "one"), (-3.0, -1.0, "two")]
    assert referenced(Asked(), []) == []
