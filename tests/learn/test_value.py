"""The value head: does it learn known values, and leave alone what is frozen?"""

from __future__ import annotations

import copy

import pytest
import torch

from common.learn.settings import TrainSettings
from common.learn.value import ValueExample, ValueHead, predict_values, train_value


def examples() -> list[ValueExample]:
    """Action ``1`` is worth 0.9 and ``2`` is worth 0.2 after any prompt; a prompt alone 0.5."""
    values = {"1": 0.9, "2": 0.2, None: 0.5}
    return [
        ValueExample(({"role": "user", "content": " ".join("abcdefghij"[: 1 + i % 7])},), action, value)
        for i in range(14)
        for action, value in values.items()
    ]


def settings(**changes) -> TrainSettings:
    return TrainSettings(**({"lr": 1e-2, "batch_size": 8, "max_length": 48, "max_steps": 60} | changes))


def predictions(model, head, tokenizer, batch: int = 128) -> list[float]:
    rows = examples()
    return predict_values(model, head, tokenizer, [e.prompt for e in rows], [e.action for e in rows], batch=batch)


def test_starts_at_a_half_and_learns_the_targets(model, tokenizer, tmp_path):
    head = ValueHead(24)
    assert predictions(model, head, tokenizer) == [0.5] * len(examples())
    seen = []
    stats = train_value(
        model, head, tokenizer, examples(), settings(), seed=0, out_dir=tmp_path, log=lambda step, m: seen.append(m)
    )
    assert stats.updates == len(seen) == 60 and stats.examples == 480
    for example, value in zip(examples(), predictions(model, head, tokenizer), strict=True):
        assert value == pytest.approx(example.target, abs=0.1)
    # The first update's loss is known: every value is 0.5 there.
    assert 0.0 < seen[0]["loss"] < 0.4**2 and seen[0]["value"] == 0.5


def test_a_frozen_model_is_untouched_and_the_head_learns(model, tokenizer, tmp_path):
    before = copy.deepcopy(model.state_dict())
    model.requires_grad_(False)
    head = ValueHead(24)
    train_value(model, head, tokenizer, examples(), settings(lr=0.1), seed=0, out_dir=tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    errors = [(v - e.target) ** 2 for v, e in zip(predictions(model, head, tokenizer), examples(), strict=True)]
    assert sum(errors) / len(errors) < 0.5 * (0.4**2 + 0.3**2 + 0.0) / 3  # half the error of always 0.5


def test_predictions_do_not_depend_on_the_batch(model, tokenizer):
    head = ValueHead(24)
    torch.nn.init.normal_(head.linear.weight, generator=torch.Generator().manual_seed(0))
    assert predictions(model, head, tokenizer, batch=1) == pytest.approx(predictions(model, head, tokenizer), abs=1e-5)


def test_batch_of_eight_equals_eight_of_one(model, tokenizer, tmp_path):
    results = []
    for batch_size, grad_accum in ((8, 1), (1, 8)):
        trained, head = copy.deepcopy(model), ValueHead(24)
        train_value(
            trained,
            head,
            tokenizer,
            examples(),
            settings(batch_size=batch_size, grad_accum=grad_accum, lr=1e-3, max_steps=None, epochs=1),
            seed=0,
            out_dir=tmp_path,
        )
        results.append([*trained.parameters(), *head.parameters()])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_bad_input(model, tokenizer, tmp_path):
    bad = ValueExample(({"role": "user", "content": "a"},), None, 1.5)
    with pytest.raises(ValueError, match=r"target 1.5 of example 0 must lie in \[0, 1\]"):
        train_value(model, ValueHead(24), tokenizer, [bad], settings(), seed=0, out_dir=tmp_path)
    with pytest.raises(ValueError, match="examples is empty"):
        train_value(model, ValueHead(24), tokenizer, [], settings(), seed=0, out_dir=tmp_path)
