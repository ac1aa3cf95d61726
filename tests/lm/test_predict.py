"""Predictions at given tokens against the model's own forward pass, row by row, with their gradients."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model

from common.lm import llama, predict
from common.lm.predict import Predictions, passes, predictions
from .test_llama import CONFIGS, random_llama, token_rows

[LONG, SHORT, TAIL] = token_rows(3, 17, 2, 5)
ROWS = [LONG, [*LONG[:9], 7, 8], SHORT, [*LONG, *TAIL], LONG, [*LONG, *TAIL[:2], 9]]
SCORED = [range(9, 17), [9, 10], [1], [3, 4, 17, 21], range(9, 17), range(17, 20)]
"""A row, a branch of it, a short one, two turns of a dialogue, a copy, another end."""


@pytest.fixture(params=[*CONFIGS, "adapters", "wrapped", "double"])
def model(request):
    if request.param == "adapters":
        config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        return inject_adapter_in_model(config, random_llama()).eval()
    if request.param == "wrapped":
        adapted = get_peft_model(random_llama(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
        return adapted.eval()
    return random_llama().double() if request.param == "double" else random_llama(**CONFIGS[request.param])


def logps_of(found: Predictions) -> list[list[float]]:
    return [part.tolist() for part in found.logps().split([len(places) for places in SCORED])]


def slow_logps(model, row, places) -> torch.Tensor:
    log_p = torch.log_softmax(model(input_ids=torch.tensor([row])).logits[0].double(), -1)
    return torch.stack([log_p[place - 1, row[place]] for place in places])


def test_each_scored_token_has_the_models_own_log_probability(model):
    assert llama.runs(model) == (type(model).__name__ == "LlamaForCausalLM" and model.dtype == torch.float32)
    found = predictions(model, ROWS, SCORED)
    assert found.row.tolist() == [i for i, places in enumerate(SCORED) for _ in places]
    assert found.labels.tolist() == [row[place] for row, places in zip(ROWS, SCORED, strict=True) for place in places]
    for row, places, logps in zip(ROWS, SCORED, logps_of(found), strict=True):
        assert logps == pytest.approx(slow_logps(model, row, places).tolist(), abs=1e-4)
    assert found.logits.dtype == (torch.float64 if model.dtype == torch.float64 else torch.float32)


def test_equal_prefixes_are_predicted_from_once(model):
    found = predictions(model, ROWS, SCORED)
    distinct = {tuple(row[:place]) for row, places in zip(ROWS, SCORED, strict=True) for place in places}
    assert len(found.logits) == len(distinct) < len(found.where)
    assert set(found.where.tolist()) == set(range(len(distinct)))


def test_gradients_are_those_of_row_by_row(model):
    weights = torch.linspace(-1.0, 2.0, sum(map(len, SCORED)))
    other = copy.deepcopy(model)
    (predictions(model, ROWS, SCORED).logps() * weights).sum().backward()
    slow = torch.cat([slow_logps(other, row, places) for row, places in zip(ROWS, SCORED, strict=True)])
    (slow * weights).sum().backward()
    compared = 0
    for mine, wanted in zip(model.parameters(), other.parameters(), strict=True):
        if wanted.grad is not None:
            torch.testing.assert_close(mine.grad, wanted.grad, atol=1e-4 * float(wanted.grad.abs().max()), rtol=1e-3)
            compared += 1
    assert compared >= 4


def test_log_probabilities_by_hand():
    # Odds 1 : 2 : 5, then 4 : 1 : 3; the first is asked for two tokens.
    logits = torch.log(torch.tensor([[1.0, 2.0, 5.0], [4.0, 1.0, 3.0]], dtype=torch.float64))
    where, labels = torch.tensor([0, 1, 0]), torch.tensor([2, 0, 1])
    found = Predictions(logits, where, labels, torch.tensor([0, 0, 1])).logps()
    assert found.tolist() == pytest.approx([math.log(5 / 8), math.log(4 / 8), math.log(2 / 8)], abs=1e-12)


def test_half_precision_is_turned_to_float32():
    model = random_llama().bfloat16()
    found = predictions(model, ROWS, SCORED)
    assert found.logits.dtype == torch.float32
    torch.testing.assert_close(found.logps(), predictions(model.float(), ROWS, SCORED).logps(), atol=0.2, rtol=0)


@torch.no_grad()
def test_other_rows_and_later_tokens_have_no_part(model):
    alone = predictions(model, [LONG], [[5]]).logps()
    changed = [*LONG[:6], *reversed(LONG[6:])]
    together = predictions(model, [changed, SHORT, ROWS[3]], [[5, 9], [1], [20]]).logps()
    assert together[0].item() == pytest.approx(alone.item(), abs=1e-5)


def test_passes_hold_all_rows_like_by_like(model, monkeypatch):
    rows = [[*prompt, *end] for end in token_rows(5, 2, 3, 4) for prompt in token_rows(4, 8, 6, 20, 8)]
    scored = [range(n, len(row)) for row, n in zip(rows, [8, 6, 20, 8] * 3, strict=True)]
    assert [sorted(group) for group in passes(model, rows, scored)] == [list(range(12))]
    monkeypatch.setitem(predict.PASS_TOKENS, "cpu", 20)
    groups = list(passes(model, rows, scored))
    assert sorted(i for group in groups for i in group) == list(range(12))
    # Rows that share a prompt cost it once where the model can share it: 6 + 2 + 3 + 4 tokens.
    assert {i % 4 for i in groups[0]} == {1} and len(groups[0]) == (3 if llama.runs(model) else 2)
    assert all(len(group) == 1 or sum(len(rows[i]) for i in group) <= 20 or llama.runs(model) for group in groups)
