"""SFT and DPO end to end: against a slow loop written here, and the equivalences that must hold."""

from __future__ import annotations

import copy
import json
import math
import random
import types

import numpy as np
import pytest
import torch

from common.learn import policy
from common.learn.batches import ScoredTurn, SFTExample, TrajectoryPair, collate_rows, training_order
from common.learn.policy import dpo, sft
from common.learn.settings import DPOSettings, TrainSettings
from common.lm.predict import PASS_TOKENS
from common.types import PreferencePair


def ask(i: int) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": " ".join("abcdefghij"[j % 10] for j in range(i, i + 1 + i % 5))},)


def examples(n: int = 11) -> list[SFTExample]:
    """Completions of 1 to 3 words, so that examples differ in tokens."""
    words = [" ".join(str((3 * i + k) % 10) for k in range(1 + i % 3)) for i in range(n)]
    return [SFTExample(ask(i), words[i], 1.0 + i % 2) for i in range(n)]


def begun(n: int = 11) -> list[SFTExample]:
    """Turns whose beginning carries no loss; one of them begins with all but its end."""
    return [SFTExample(ask(i), f" {i % 7} 2" if i else "", 1.0 + i % 2, given=f"{i % 5}" if i % 3 else "4 4") for i in range(n)]


def step_pairs(n: int = 11) -> list[PreferencePair]:
    return [
        PreferencePair(ask(i), f"{i % 10} 1", str((i + 3) % 10), -5.0 - i / 7, -4.0, 0.9, 0.1, f"t{i}", 1.0 + i % 2)
        for i in range(n)
    ]


def episode_pairs(n: int = 5) -> list[TrajectoryPair]:
    """The sides have 1 to 3 turns, not the same number."""

    def side(i: int, turns: int) -> tuple[ScoredTurn, ...]:
        return tuple(ScoredTurn(ask(i + k), str((i + 2 * k) % 10), -3.0 - k / 3) for k in range(turns))

    return [TrajectoryPair(side(i, 1 + i % 3), side(i + 4, 1 + (i + 1) % 3), 0.5 + i) for i in range(n)]


def looping_pairs() -> list[TrajectoryPair]:
    """The rejected side repeats one turn, which is also a turn of the chosen side and of other pairs."""
    again = ScoredTurn(ask(1), "3", -2.0)
    return [TrajectoryPair((ScoredTurn(ask(i), "7", -1.0), again), (again,) * (2 + i % 3)) for i in range(5)]


SFT = {"lr": 1e-2, "batch_size": 4, "max_length": 40, "epochs": 2}
DPO = SFT | {"beta": 0.3}


def train(model, tokenizer, items, out_dir, **changes):
    """A trained copy of ``model``, and its TrainStats."""
    model, preference = copy.deepcopy(model), not isinstance(items[0], SFTExample)
    settings = DPOSettings(**(DPO | changes)) if preference else TrainSettings(**(SFT | changes))
    return model, (dpo if preference else sft)(model, tokenizer, items, settings, seed=5, out_dir=out_dir)


def difference(one, other) -> float:
    return max((a - b).abs().max().item() for a, b in zip(one.parameters(), other.parameters(), strict=True))


# -- an independent slow loop --------------------------------------------------------------------


def slow_logp(model, tokenizer, prompt, text, given="") -> tuple[torch.Tensor, int, int]:
    """One sequence, unpadded; log-probability of the completion after what is ``given`` of the turn, its tokens and all tokens."""
    head = tokenizer.apply_chat_template(list(prompt), tokenize=True, add_generation_prompt=True)["input_ids"]
    head = head + tokenizer(given)["input_ids"]
    tail = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    log_p = model(torch.tensor([head + tail])).logits[0].log_softmax(-1)
    return sum(log_p[len(head) - 1 + k, token] for k, token in enumerate(tail)), len(tail), len(head) + len(tail)


def slow_loop(model, tokenizer, items, *, lr: float = 1e-2, per_update: int = 4, beta: float = 0.3):
    model, preference = copy.deepcopy(model), not isinstance(items[0], SFTExample)

    def turns(item):
        if isinstance(item, TrajectoryPair):
            return item.chosen, item.rejected
        return ((item.prompt, item.chosen, item.ref_chosen),), ((item.prompt, item.rejected, item.ref_rejected),)

    def length(item):
        rows = [turn[:2] for side in turns(item) for turn in side] if preference else [(item.prompt, item.completion, item.given)]
        return max(slow_logp(model, tokenizer, *row)[2] for row in rows)

    order = training_order([length(item) for item in items], per_update=per_update, seed=5, epochs=2)
    updates = [order[at : at + per_update] for at in range(0, len(order), per_update)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    losses = []
    for u, update in enumerate(updates):
        loss, count = torch.zeros(()), 0
        for item in (items[i] for i in update):
            if preference:
                ratios = [sum(slow_logp(model, tokenizer, p, a)[0] - ref for p, a, ref in side) for side in turns(item)]
                loss = loss + item.weight * torch.log(1 + torch.exp(-beta * (ratios[0] - ratios[1])))
                count += 1
            else:
                logp, n, _ = slow_logp(model, tokenizer, item.prompt, item.completion, item.given)
                loss, count = loss - item.weight * logp, count + n
        losses.append((loss / count).item())
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - u / len(updates))
        optimizer.zero_grad()
        (loss / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model, losses


ITEMS = [examples(), begun(), step_pairs(), episode_pairs(), step_pairs(3) + episode_pairs(3), looping_pairs()]


@pytest.mark.parametrize("items", ITEMS)
def test_equals_the_slow_loop(model, tokenizer, tmp_path, items):
    model = model.double()  # Adam's first steps magnify float32 rounding of tiny gradients
    expected, losses = slow_loop(model, tokenizer, items)
    trained, stats = train(model, tokenizer, items, tmp_path)
    assert difference(trained, model) > 1e-2
    assert difference(trained, expected) < 3e-5  # RMSNorm computes in float32 whatever the weights are
    assert stats.updates == len(losses) == math.ceil(2 * len(items) / 4) and stats.examples == 2 * len(items)
    assert (stats.first_loss, stats.last_loss) == pytest.approx((losses[0], losses[-1]), abs=1e-5)


# -- equivalences --------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [examples(19), step_pairs(19), episode_pairs(10)])
def test_batch_of_eight_equals_eight_of_one_and_two_of_four(model, tokenizer, tmp_path, items):
    # 19 examples leave a last update of 6 after two epochs, in unequal forward passes for 2 × 4.
    large, stats = train(model, tokenizer, items, tmp_path, batch_size=8, lr=1e-3)
    for batch_size, grad_accum in ((1, 8), (4, 2)):
        small, other = train(
            model, tokenizer, items, tmp_path, batch_size=batch_size, grad_accum=grad_accum, lr=1e-3
        )
        assert difference(large, model) > 1e-3
        assert difference(large, small) < 1e-5
        assert (other.updates, other.examples, other.tokens) == (stats.updates, stats.examples, stats.tokens)
        assert (other.first_loss, other.last_loss) == pytest.approx((stats.first_loss, stats.last_loss), abs=1e-5)


def test_weight_zero_has_no_effect(model, tokenizer, tmp_path):
    junk = SFTExample(ask(3), "9 9 9", 0.0)
    with_junk, stats = train(model, tokenizer, [junk, *examples(6), junk], tmp_path)
    without, other = train(model, tokenizer, examples(6), tmp_path)
    assert difference(with_junk, without) == 0.0 and stats == other
    null = PreferencePair(ask(3), "9", "8", -1.0, -1.0, 1.0, 0.0, "t", weight=0.0)
    with_null, stats = train(model, tokenizer, [*step_pairs(6), null], tmp_path)
    without, other = train(model, tokenizer, step_pairs(6), tmp_path)
    assert difference(with_null, without) == 0.0 and stats == other


def test_a_step_pair_is_a_trajectory_pair_of_one_turn(model, tokenizer, tmp_path):
    as_episodes = []
    for p in step_pairs():
        chosen = ScoredTurn(p.prompt, p.chosen, p.ref_chosen)
        rejected = ScoredTurn(p.prompt, p.rejected, p.ref_rejected)
        as_episodes.append(TrajectoryPair((chosen,), (rejected,), p.weight))
    one, _ = train(model, tokenizer, step_pairs(), tmp_path)
    other, _ = train(model, tokenizer, as_episodes, tmp_path)
    assert difference(one, other) == 0.0


def with_own_reference(model, tokenizer, pairs):
    with torch.no_grad():
        return [
            PreferencePair(
                p.prompt,
                p.chosen,
                p.rejected,
                slow_logp(model, tokenizer, p.prompt, p.chosen)[0].item(),
                slow_logp(model, tokenizer, p.prompt, p.rejected)[0].item(),
                p.q_chosen,
                p.q_rejected,
                p.task_id,
            )
            for p in pairs
        ]


def test_a_policy_equal_to_its_stored_reference_starts_at_log_two(model, tokenizer, tmp_path):
    seen = []
    settings = DPOSettings(**(DPO | {"batch_size": 11}))
    pairs = with_own_reference(model, tokenizer, step_pairs())
    stats = dpo(model, tokenizer, pairs, settings, seed=5, out_dir=tmp_path, log=lambda step, m: seen.append(m))
    assert stats.first_loss == pytest.approx(math.log(2), abs=1e-5)
    for name in ("reward_margin", "logratio_chosen", "logratio_rejected"):
        assert seen[0][name] == pytest.approx(0.0, abs=1e-5)
    assert stats.last_loss < math.log(2)


def test_nll_adds_the_chosen_sides_mean_token_loss(model, tokenizer, tmp_path):
    pairs = with_own_reference(model, tokenizer, step_pairs())
    settings = DPOSettings(**(DPO | {"batch_size": 11, "nll": 0.5}))
    chosen = [slow_logp(model, tokenizer, pair.prompt, pair.chosen)[:2] for pair in pairs]
    expected = sum(pair.weight * (math.log(2) - 0.5 * float(logp.detach()) / n) for pair, (logp, n) in zip(pairs, chosen))
    stats = dpo(model, tokenizer, pairs, settings, seed=5, out_dir=tmp_path)
    assert stats.first_loss == pytest.approx(expected / len(pairs), abs=1e-4)


def test_repeating_gives_the_same_bits_and_seeds_differ(model, tokenizer, tmp_path):
    for items in (examples(), step_pairs()):
        torch.manual_seed(0)
        one, stats = train(model, tokenizer, items, tmp_path)
        torch.manual_seed(1)
        two, again = train(model, tokenizer, items, tmp_path)
        assert difference(one, two) == 0.0 and stats == again
    other = copy.deepcopy(model)
    dpo(other, tokenizer, step_pairs(), DPOSettings(**DPO), seed=2**63 - 1, out_dir=tmp_path)
    assert difference(one, other) > 0.0


# -- does it learn? ------------------------------------------------------------------------------


def mean_logp(model, tokenizer, rows) -> float:
    with torch.no_grad():
        return float(np.mean([slow_logp(model, tokenizer, *row)[0].item() for row in rows]))


def test_sft_learns_a_fixed_mapping(model, tokenizer, tmp_path):
    items = [SFTExample(({"role": "user", "content": word},), str(i)) for i, word in enumerate("abcdefghij")]
    rows = [(e.prompt, e.completion) for e in items]
    assert mean_logp(model, tokenizer, rows) < -3.0
    trained, stats = train(model, tokenizer, items, tmp_path, epochs=None, max_steps=120)
    assert mean_logp(trained, tokenizer, rows) > -0.1
    assert stats.last_loss < 0.1 * stats.first_loss


def test_dpo_prefers_the_chosen_action_and_the_opposite_when_labels_are_flipped(model, tokenizer, tmp_path):
    pairs = with_own_reference(
        model, tokenizer, [PreferencePair(ask(i), "1", "2", 0, 0, 1, 0, f"t{i}") for i in range(10)]
    )
    flipped = with_own_reference(
        model, tokenizer, [PreferencePair(ask(i), "2", "1", 0, 0, 1, 0, f"t{i}") for i in range(10)]
    )

    def margin(m):
        ones, twos = [(p.prompt, "1") for p in pairs], [(p.prompt, "2") for p in pairs]
        return mean_logp(m, tokenizer, ones) - mean_logp(m, tokenizer, twos)

    start = margin(model)
    assert margin(train(model, tokenizer, pairs, tmp_path, epochs=10)[0]) > start + 2
    assert margin(train(model, tokenizer, flipped, tmp_path, epochs=10)[0]) < start - 2


# -- streaming, side effects, failures -----------------------------------------------------------


def test_streams_each_update_with_the_schedule_and_prints_nothing(model, tokenizer, tmp_path, capsys):
    seen = []
    settings = DPOSettings(**(DPO | {"epochs": None, "max_steps": 4, "warmup": 0.25, "lr": 3e-3}))
    stats = dpo(model, tokenizer, step_pairs(), settings, seed=0, out_dir=tmp_path, log=lambda *a: seen.append(a))
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    # One update of warm-up from 0, then linear decay: 0, 1, 2/3, 1/3 of the peak.
    assert [m["lr"] for _, m in seen] == pytest.approx([0.0, 3e-3, 2e-3, 1e-3])
    assert [seen[0][1]["loss"], seen[-1][1]["loss"]] == [stats.first_loss, stats.last_loss]
    assert set(seen[0][1]) == {
        *("loss", "grad_norm", "lr", "tokens_per_second"),
        *("reward_margin", "reward_accuracy", "logratio_chosen", "logratio_rejected"),
    }
    for _, m in seen:
        assert m["reward_margin"] == pytest.approx(0.3 * (m["logratio_chosen"] - m["logratio_rejected"]), abs=1e-5)
        assert 0.0 <= m["reward_accuracy"] <= 1.0 and m["grad_norm"] > 0 and m["tokens_per_second"] > 0
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_tokens_are_counted_without_padding(model, tokenizer, tmp_path):
    items = examples()
    per_epoch = sum(slow_logp(model, tokenizer, e.prompt, e.completion)[2] for e in items)
    assert train(model, tokenizer, items, tmp_path)[1].tokens == 2 * per_epoch
    pairs = step_pairs()
    per_epoch = sum(slow_logp(model, tokenizer, p.prompt, a)[2] for p in pairs for a in (p.chosen, p.rejected))
    assert train(model, tokenizer, pairs, tmp_path)[1].tokens == 2 * per_epoch


def test_leaves_the_model_and_the_random_states_as_they_were(model, tokenizer, tmp_path):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    attributes, config = set(vars(model)), copy.deepcopy(model.config.to_dict())
    expected = (random.random(), np.random.rand(), torch.rand(1).item())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    sft(model, tokenizer, examples(), TrainSettings(**SFT), seed=0, out_dir=tmp_path)
    dpo(model, tokenizer, step_pairs(), DPOSettings(**DPO), seed=0, out_dir=tmp_path)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert set(vars(model)) == attributes and "forward" not in vars(model)
    assert model.config.to_dict() == config
    assert not model.training and not any(module.training for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    own = model.forward = types.MethodType(type(model).forward, model)
    dpo(model, tokenizer, step_pairs(), DPOSettings(**DPO), seed=0, out_dir=tmp_path)
    assert vars(model)["forward"] is own


@pytest.mark.parametrize("items", [examples(), step_pairs()])
def test_stops_at_a_loss_that_is_not_finite(model, tokenizer, tmp_path, items):
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = math.nan
    before = copy.deepcopy(model)
    train_it, settings = (sft, TrainSettings(**SFT)) if isinstance(items[0], SFTExample) else (dpo, DPOSettings(**DPO))
    with pytest.raises(FloatingPointError, match=r"loss is nan at update 1 with lr 0.01.*failed_batch.json"):
        train_it(model, tokenizer, items, settings, seed=5, out_dir=tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "failed_batch.json").read_text())
    assert (saved["stage"], saved["step"], saved["loss"], saved["lr"]) == (
        "sft" if train_it is sft else "dpo", 1, "nan", 1e-2)  # fmt: skip
    assert len(saved["texts"]) == len(saved["batch"]["input_ids"]) and "<|assistant|>" in saved["texts"][0]
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(model.parameters(), before.parameters()))
    assert "forward" not in vars(model)


def test_stops_at_a_gradient_that_is_not_finite_before_it_reaches_the_weights(model, tokenizer, tmp_path):
    before = copy.deepcopy(model)
    model.model.norm.weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(FloatingPointError, match="sft: gradient norm is (nan|inf) at update 1"):
        sft(model, tokenizer, examples(), TrainSettings(**SFT), seed=5, out_dir=tmp_path)
    assert difference(model, before) == 0.0


def test_bad_data_is_refused_with_its_numbers(model, tokenizer, tmp_path):
    def run(items, **changes):
        train(model, tokenizer, items, tmp_path / "none", **changes)

    with pytest.raises(ValueError, match=r"sft: row 4 has 8 prompt and 3 completion tokens, more than max_length 10"):
        run(examples(), max_length=10)
    with pytest.raises(ValueError, match="max_length 49 exceeds the model's context of 48"):
        run(examples(), max_length=49)
    with pytest.raises(ValueError, match="sft: none of 1 items has a positive weight"):
        run([SFTExample(ask(1), "1", 0.0)])
    for ref in (math.nan, -math.inf, 0.5):  # nan is what a pair has that was never scored
        with pytest.raises(ValueError, match=rf"reference log-probability {ref} of pair 0 \(chosen\) .* referenced\(engine, pairs\)"):
            run([PreferencePair(ask(1), "1", "2", ref, -1.0, 1.0, 0.0, "t")])
    with pytest.raises(ValueError, match="the rejected side of pair 0 has no turns"):
        run([TrajectoryPair((ScoredTurn(ask(1), "1", -1.0),), ())])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": None}, "epochs: None and max_steps: None; exactly one"),
        ({"max_steps": 3}, "epochs: 2 and max_steps: 3; exactly one"),
        ({"lr": 0.0}, "lr: 0.0 must be positive"),
        ({"batch_size": 0}, "batch_size: 0 must be at least 1"),
        ({"warmup": 1.0}, r"warmup: 1.0 must lie in \[0, 1\)"),
        ({"beta": -0.1}, "beta: -0.1 must be positive"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DPOSettings(**(DPO | changes))


def test_rows_of_a_batch_are_scored_in_their_order(model, monkeypatch):
    rng = random.Random(0)
    rows = [
        {"prompt_ids": [rng.randrange(3, 20) for _ in range(rng.randint(1, 12))],
         "completion_ids": [rng.randrange(3, 20) for _ in range(rng.randint(1, 4))]}
        for _ in range(70)
    ]  # fmt: skip
    monkeypatch.setitem(PASS_TOKENS, "cpu", 100)
    found = policy._completion_logps(model, collate_rows(rows, 0)).tolist()
    for row, logp in zip(rows, found, strict=True):
        ids, n = [*row["prompt_ids"], *row["completion_ids"]], len(row["prompt_ids"])
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        assert logp == pytest.approx(sum(log_p[t - 1, ids[t]].item() for t in range(n, len(ids))), abs=1e-4)
