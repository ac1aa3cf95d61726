"""Policy gradient: hand-computed numbers, finite differences, exact expectations, and what must not move."""

from __future__ import annotations

import copy
import itertools
import json
import math

import pytest
import torch

from common.learn.policy_gradient import (
    CreditedTurn,
    PolicyGradientSettings,
    adam,
    answer_kls,
    leave_one_out,
    pack_turns,
    policy_gradient,
    policy_gradient_loss,
    policy_gradient_step,
    token_kls,
    token_statistics,
    turn_rewards,
)
from common.lm.engine import Engine
from common.lm.models import new_nano
from common.lm.predict import PASS_TOKENS
from common.lm.tokenizer import train_tokenizer
from common.types import Turn

CORRECT = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])


# -- mathematics -----------------------------------------------------------------------------------------


def test_turn_rewards_by_hand():
    assert turn_rewards(CORRECT, weights=(0, 1)).tolist() == [[0, 0], [0, 1], [0, 0], [0, 1]]  # stage I
    assert turn_rewards(CORRECT, weights=(1, 1)).tolist() == CORRECT.tolist()
    assert turn_rewards(CORRECT, weights=(1, 1), bonus=10).tolist() == [[0, 0], [0, 11], [1, -10], [1, 1]]
    assert turn_rewards(CORRECT[:, :1], weights=(1,), bonus=3).tolist() == [[0], [0], [1], [1]]


def test_leave_one_out_by_hand():
    rewards = torch.tensor([[[0.0, 1.0], [1.0, 1.0], [2.0, 4.0]]])  # one task, three samples, two turns
    assert torch.allclose(leave_one_out(rewards), torch.tensor([[[-1.5, -1.5], [0.0, -1.5], [1.5, 3.0]]]))
    assert torch.allclose(leave_one_out(torch.randn(5, 4, 2)).sum(1), torch.zeros(5, 2), atol=1e-6)
    assert (leave_one_out(torch.ones(3, 2)) == 0).all()
    with pytest.raises(ValueError, match="at least 2"):
        leave_one_out(torch.ones(3, 1))


def test_loss_and_kl_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.25, 0.75]], dtype=torch.float64))
    reference = torch.log(torch.tensor([[0.25, 0.75], [0.25, 0.75]], dtype=torch.float64))
    kls = token_kls(logits, reference)
    assert kls.tolist() == pytest.approx([0.5 * math.log(2) + 0.5 * math.log(2 / 3), 0.0])
    logps = torch.log(torch.tensor([0.5, 0.75], dtype=torch.float64))
    loss = policy_gradient_loss(logps, torch.tensor([2.0, -1.0]), kls, torch.tensor([0.1, 5.0]), 4)
    assert loss.item() == pytest.approx((-2 * math.log(0.5) + math.log(0.75) + 0.1 * kls[0].item()) / 4)


def test_gradients_equal_finite_differences():
    torch.manual_seed(0)
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(6, 5, dtype=torch.float64)
    labels, advantages, betas = torch.randint(5, (6,)), torch.randn(6).double(), torch.rand(6).double()

    def loss(x: torch.Tensor) -> torch.Tensor:
        logps = torch.log_softmax(x, -1).gather(-1, labels[:, None])[:, 0]
        return policy_gradient_loss(logps, advantages, token_kls(x, reference), betas, 3)

    loss(logits).backward()
    for i, j in itertools.product(range(6), range(5)):
        step = torch.zeros_like(logits.detach())
        step[i, j] = 1e-6
        slope = (loss(logits.detach() + step) - loss(logits.detach() - step)) / 2e-6
        assert logits.grad[i, j].item() == pytest.approx(slope.item(), abs=1e-8)


def expected_gradient(theta: torch.Tensor, weights: tuple[float, float], bonus: float) -> torch.Tensor:
    """E over all dialogues of Σ_k R_k ∇ log π(y_k | x_k), by enumeration. Two answers a turn, answer 1 is right;
    the second turn's distribution depends on the first answer (a bandit of two steps)."""
    first, second = torch.log_softmax(theta[0], -1), torch.log_softmax(theta[1:], -1)
    total = torch.zeros_like(theta)
    for a, b in itertools.product(range(2), repeat=2):
        rewards = turn_rewards(torch.tensor([[a, b]]), weights=weights, bonus=bonus)[0]
        p = (first[a] + second[a, b]).exp().item()
        [grad] = torch.autograd.grad(rewards[0] * first[a] + rewards[1] * second[a, b], theta, retain_graph=True)
        total += p * grad
    return total


def test_with_credit_by_turn_the_bonus_only_scales_the_second_turn_s_reward():
    """−α·r₁ is a constant of the state in which the second turn is written."""
    theta = torch.tensor([[0.3, -0.2], [0.1, 0.5], [-0.4, 0.9]], dtype=torch.float64, requires_grad=True)
    shaped, scaled = expected_gradient(theta, (1, 1), 10.0), expected_gradient(theta, (1, 11), 0.0)
    assert torch.allclose(shaped, scaled, atol=1e-12)
    assert not torch.allclose(shaped, expected_gradient(theta, (1, 1), 0.0))
    # stage I credits nothing to the first turn
    assert (expected_gradient(theta, (0, 1), 0.0)[0] == 0).all()


def test_the_baseline_leaves_the_expected_gradient_as_it_is():
    """Two samples of one task from a softmax over three answers: enumerate all nine outcomes."""
    theta = torch.tensor([0.2, -0.5, 0.4], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    logp = torch.log_softmax(theta, -1)
    plain, with_baseline = torch.zeros_like(theta), torch.zeros_like(theta)
    for i, j in itertools.product(range(3), repeat=2):
        p = (logp[i] + logp[j]).exp().item()
        pair, own = torch.stack([logp[i], logp[j]]), torch.stack([rewards[i], rewards[j]])
        for target, weight in ((plain, own), (with_baseline, leave_one_out(own[None])[0])):
            [grad] = torch.autograd.grad((weight * pair).sum(), theta, retain_graph=True)
            target += p * grad
    assert torch.allclose(plain, with_baseline, atol=1e-12) and plain.abs().max() > 0.1


# -- rows ------------------------------------------------------------------------------------------------


def test_turns_of_one_dialogue_share_a_row_and_other_templates_get_their_own():
    joined = pack_turns([[1, 2], [1, 2, 8, 9, 3]], [[8, 9], [7]], [4, 5])
    assert joined == [([1, 2, 8, 9, 3, 7], [-1, -1, 4, 4, -1, 5])]
    # the second turn alone: the first one was cut and is not learned from
    assert pack_turns([[1, 2, 8, 9, 3]], [[7]], [5]) == [([1, 2, 8, 9, 3, 7], [-1, -1, -1, -1, -1, 5])]
    # a template that drops earlier answers
    assert len(pack_turns([[1, 2], [1, 2, 3]], [[8, 9], [7]], [0, 1])) == 2


@pytest.fixture(scope="module")
def lab():
    texts = ["say a", "say b", "again", "a", "b", "c c", "a b c"] * 20
    tokenizer = train_tokenizer(texts, 280, split_digits=False)
    return new_nano(tokenizer, width=16, layers=2, heads=2, context=48, seed=0), tokenizer


def dialogue(first: str, second: str, credit: tuple[float, float], beta: tuple[float, float] = (0.0, 0.0)) -> tuple:
    asked = ({"role": "user", "content": "say a"},)
    retry = (*asked, {"role": "assistant", "content": first}, {"role": "user", "content": "again"})
    return CreditedTurn(asked, first, credit[0], beta[0]), CreditedTurn(retry, second, credit[1], beta[1])


def settings(**changes) -> PolicyGradientSettings:
    return PolicyGradientSettings(**{"lr": 1e-2, "updates": 1, "max_length": 48, **changes})


def copies(lab) -> tuple:
    return copy.deepcopy(lab[0]), copy.deepcopy(lab[0]), lab[1]


def test_only_answer_tokens_are_scored_and_all_of_them(lab):
    """The rows' log-probabilities are the engine's, turn by turn, whatever else is read beside them."""
    model, tokenizer = lab
    engine, dialogues = Engine(model, tokenizer), [dialogue("a", "c c", (0, 0)), dialogue("a b c", "b", (0, 0))]
    turns = [turn for one in dialogues for turn in one]
    prompts = [engine.prompt_ids(turn.prompt) for turn in turns]
    answers = [engine.action_ids(turn.answer) for turn in turns]
    rows = pack_turns(prompts[:2], answers[:2], [0, 1]) + pack_turns(prompts[2:], answers[2:], [2, 3])
    assert len(rows) == 2
    [(owner, logps, _)] = token_statistics(model, model, rows)
    wanted = engine.score([t.prompt for t in turns], [[t.answer] for t in turns])
    for k in range(4):
        assert logps[owner == k].sum().item() == pytest.approx(wanted[k][0], abs=1e-4)
        assert (owner == k).sum() == len(answers[k])


# -- the loop --------------------------------------------------------------------------------------------


def scores(model, tokenizer, dialogues) -> list[float]:
    return [s[0] for s in Engine(model.eval(), tokenizer).score([t.prompt for t in dialogues], [[t.answer] for t in dialogues])]


@pytest.mark.parametrize("k", [0, 1])
def test_credit_moves_its_own_turn(lab, tmp_path, k):
    model, reference, tokenizer = copies(lab)
    dialogues = dialogue("a", "c c", (1.0, 0.0) if k == 0 else (0.0, 1.0))
    before = scores(model, tokenizer, dialogues)
    policy_gradient(model, reference, tokenizer, lambda update: [dialogues], settings(updates=5), out_dir=tmp_path)
    gains = [after - b for after, b in zip(scores(model, tokenizer, dialogues), before, strict=True)]
    assert gains[k] > 0.5
    model, reference, tokenizer = copies(lab)
    worse = dialogue("a", "c c", (-1.0, 0.0) if k == 0 else (0.0, -1.0))
    policy_gradient(model, reference, tokenizer, lambda update: [worse], settings(updates=5), out_dir=tmp_path)
    assert scores(model, tokenizer, dialogues)[k] < before[k] - 0.5


def test_no_credit_and_no_beta_move_nothing(lab, tmp_path):
    model, reference, tokenizer = copies(lab)
    dialogues = [dialogue("a", "b", (0, 0))]
    policy_gradient(model, reference, tokenizer, lambda update: dialogues, settings(), out_dir=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), lab[0].parameters(), strict=True))


def test_an_update_without_turns_moves_nothing_and_says_so(lab, tmp_path):
    model, reference, tokenizer = copies(lab)
    seen, dialogues = [], [[()], [dialogue("a", "b", (1.0, 0.0))], []]
    stats = policy_gradient(model, reference, tokenizer, lambda update: dialogues[update - 1], settings(updates=3),
                            out_dir=tmp_path, log=lambda step, metrics: seen.append(metrics["turns"]))  # fmt: skip
    assert seen == [0, 2, 0] and (stats.updates, stats.examples) == (3, 2)
    untouched, reference, tokenizer = copies(lab)
    policy_gradient(untouched, reference, tokenizer, lambda update: [()], settings(updates=2), out_dir=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(untouched.parameters(), lab[0].parameters(), strict=True))


def test_a_turn_that_was_cut_has_no_end_to_learn(lab, tmp_path):
    """Its loss is −A · log π of its own tokens; how likely the turn is to end there does not matter."""
    model, tokenizer = lab
    asked, engine, seen = ({"role": "user", "content": "say a"},), Engine(model, tokenizer), []
    tokens = engine.prompt_ids(asked) + engine.action_ids("c c")
    log_p = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    each = [log_p[k - 1, tokens[k]].item() for k in range(len(engine.prompt_ids(asked)), len(tokens))]
    for ended in (True, False):
        changed, reference, _ = copies(lab)
        policy_gradient(changed, reference, tokenizer, lambda update: [(CreditedTurn(asked, "c c", -2.0, 0.0, ended),)], settings(),  # noqa: B023
                        out_dir=tmp_path, log=lambda step, metrics: seen.append((metrics["loss"], metrics["logp_1"])))  # fmt: skip
    assert seen[0] == pytest.approx((2 * sum(each), sum(each)), abs=1e-4) and seen[1] == pytest.approx((2 * sum(each[:-1]), sum(each[:-1])), abs=1e-4)


def test_the_kl_of_a_turn_is_measured_from_zero_and_pulls_back(lab, tmp_path):
    seen = []

    def gap(betas: tuple[float, float]) -> float:
        model, reference, tokenizer = copies(lab)
        dialogues = dialogue("a", "c c", (0.3, 1.0), betas)
        seen.clear()
        policy_gradient(model, reference, tokenizer, lambda update: [dialogues], settings(updates=12, lr=3e-3),
                        out_dir=tmp_path, log=lambda step, metrics: seen.append(metrics))  # fmt: skip
        assert seen[0]["kl_1"] == seen[0]["kl_2"] == pytest.approx(0.0, abs=1e-5)
        return seen[-1]["kl_1"]

    free, pinned = gap((0.0, 0.0)), gap((20.0, 0.0))
    assert free > 0.05 and pinned < free / 4


def row_of(model, tokenizer, turn: CreditedTurn):
    engine = Engine(model, tokenizer)
    [row] = pack_turns([engine.prompt_ids(turn.prompt)], [engine.action_ids(turn.answer)], [0])
    return row


def test_a_model_in_double_precision_learns_the_same(lab, tmp_path):
    """And its numbers keep their digits: none passes through float32."""
    dialogues = [dialogue("a", "c c", (1 / 3, -1.0), (0.1, 1e-9)), dialogue("a b c", "b", (1.0 + 1e-12, 0.5), (0.0, 0.3))]

    def trained(precise: bool):
        model, reference, tokenizer = copies(lab)
        if precise:
            model, reference = model.double(), reference.double()
        seen = []
        policy_gradient(model, reference, tokenizer, lambda update: dialogues, settings(updates=3, lr=1e-3),
                        out_dir=tmp_path, log=lambda step, found: seen.append(found))  # fmt: skip
        asked = [(turn.prompt, Turn(turn.answer, 0.0, 1)) for one in dialogues for turn in one]
        return model, seen, answer_kls(model, reference, tokenizer, asked)

    (model, seen, kls), (plain, wanted, plain_kls) = trained(True), trained(False)
    assert all(weight.dtype == torch.float64 for weight in model.parameters()) and kls.dtype == torch.float64
    assert plain_kls.dtype == torch.float32 and kls.tolist() == pytest.approx(plain_kls.tolist(), abs=1e-4)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one.float(), other, atol=1e-4)
    for found, expected in zip(seen, wanted, strict=True):
        assert found == pytest.approx(expected, abs=1e-3)
    before = copy.deepcopy(lab[0]).double()
    firsts = [float(stats[1].detach().sum()) for one in dialogues for stats in token_statistics(before, before, [row_of(before, lab[1], one[0])])]
    assert seen[0]["logp_1"] == pytest.approx(sum(firsts) / 2, abs=1e-12)


def test_passes_add_up_and_repeats_are_bit_identical(lab, tmp_path, monkeypatch):
    dialogues = [dialogue(first, "c c", (0.5, -1.0), (0.1, 0.2)) for first in ("a", "b", "c c", "a b", "b a")]
    dialogues.append(dialogue("b", "b", (-0.5, 1.0), (0.3, 0.0)))

    def trained():
        model, reference, tokenizer = copies(lab)
        stats = policy_gradient(model, reference, tokenizer, lambda update: dialogues, settings(updates=3), out_dir=tmp_path)
        return [weight.detach() for weight in model.parameters()], stats

    (one, stats), (again, same) = trained(), trained()
    monkeypatch.setitem(PASS_TOKENS, "cpu", 20)
    small, _ = trained()
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True)) and stats == same
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one, small, strict=True))
    assert (stats.updates, stats.examples) == (3, 36)


def test_equal_rows_count_as_often_as_they_are(lab, tmp_path, monkeypatch):
    twin, other = dialogue("a", "c c", (0.5, -1.0), (0.1, 0.2)), dialogue("b", "b", (-0.5, 1.0), (0.3, 0.0))
    dialogues = [twin, other, dialogue("a", "c c", (-2.0, 0.25), (0.0, 0.4)), twin, twin[:1], other]

    def trained():
        model, reference, tokenizer = copies(lab)
        seen = []
        policy_gradient(model, reference, tokenizer, lambda update: dialogues, settings(updates=3, lr=1e-3),
                        out_dir=tmp_path, log=lambda step, found: seen.append(found))  # fmt: skip
        return [weight.detach() for weight in model.parameters()], seen

    once, logged = trained()
    monkeypatch.setitem(PASS_TOKENS, "cpu", 1)  # a pass for each row: nothing is shared
    each, wanted = trained()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(once, each, strict=True))
    for found, expected in zip(logged, wanted, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_sampling_sees_the_policy_as_it_is(lab, tmp_path):
    """``collect`` is asked before each update with the model changed by the ones before, in eval mode."""
    model, reference, tokenizer = copies(lab)
    dialogues, held = dialogue("a", "c c", (1.0, 1.0)), []

    def collect(update: int) -> list:
        assert not model.training and update == len(held) + 1
        held.append(scores(model, tokenizer, dialogues)[0])
        return [dialogues]

    policy_gradient(model, reference, tokenizer, collect, settings(updates=4), out_dir=tmp_path)
    assert held == sorted(held) and held[-1] > held[0]
    assert not model.training and all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), lab[0].parameters(), strict=True))


def test_steps_by_hand_are_the_loop_and_adam_s_state_is_the_caller_s(lab, tmp_path):
    """Two models trained by turns, each with its own optimiser, end as two loops would; a new Adam does not."""
    dialogues = [[dialogue("a", "c c", (0.5, -1.0), (0.1, 0.2))], [dialogue("b", "b", (-0.5, 1.0))]]
    chosen = settings(updates=6, lr=3e-3, warmup=2)

    def looped(which: int) -> list[torch.Tensor]:
        model, reference, tokenizer = copies(lab)
        policy_gradient(model, reference, tokenizer, lambda update: dialogues[which], chosen, out_dir=tmp_path)
        return list(model.parameters())

    def by_turns(*, reset: bool) -> list[list[torch.Tensor]]:
        models, (_, reference, tokenizer) = [copies(lab)[0] for _ in dialogues], copies(lab)
        optimisers = [adam(model, chosen) for model in models]
        for update in range(1, 7):
            if reset and update == 4:
                optimisers = [adam(model, chosen) for model in models]
            for model, optimiser, own in zip(models, optimisers, dialogues, strict=True):
                done = policy_gradient_step(model, reference, tokenizer, own, optimiser, chosen, update,
                                            out_dir=tmp_path)  # fmt: skip
                assert done.turns == 2 and done.metrics["lr"] == pytest.approx(3e-3 * min(1, update / 3))
                assert not model.training and all(weight.grad is None for weight in model.parameters())
        return [list(model.parameters()) for model in models]

    for which, (kept, anew) in enumerate(zip(by_turns(reset=False), by_turns(reset=True), strict=True)):
        wanted = looped(which)
        assert all(torch.equal(a, b) for a, b in zip(kept, wanted, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(anew, wanted, strict=True))


# -- measuring -------------------------------------------------------------------------------------------


def test_the_kl_of_an_answer_by_hand(lab, monkeypatch):
    """Token by token from the whole model's logits; what was cut has no end token; copies count each."""
    reference, tokenizer = lab
    model, engine = copy.deepcopy(reference), Engine(reference, tokenizer)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.sin(torch.arange(weight.numel()).float()).view_as(weight))
    asked = [(turn.prompt, Turn(turn.answer, -1.0, 9, finished)) for turn, finished in zip(
        (*dialogue("a", "c c", (0, 0)), *dialogue("a b c", "b", (0, 0))), (True, True, False, True), strict=True)]
    asked += [asked[0], (asked[0][0], Turn("", -1.0, 1)), (asked[0][0], Turn("", -1.0, 1, False))]
    wanted = []
    for prompt, turn in asked:
        before, answer_ids = engine.prompt_ids(prompt), engine.action_ids(turn.text)[: None if turn.finished else -1]
        ids = torch.tensor([before + answer_ids])
        logp, logq = (torch.log_softmax(m(ids).logits[0].double(), -1) for m in (model, reference))
        at = range(len(before) - 1, len(before) + len(answer_ids) - 1)
        wanted.append(sum(float((logp[t].exp() * (logp[t] - logq[t])).sum().detach()) for t in at))
    for size in (4096, 2):
        monkeypatch.setitem(PASS_TOKENS, "cpu", size)
        assert answer_kls(model, reference, tokenizer, asked).tolist() == pytest.approx(wanted, abs=1e-4)
    assert wanted[-1] == 0 and min(wanted[:-1]) > 0.01 and len(answer_kls(model, reference, tokenizer, [])) == 0
    assert answer_kls(reference, reference, tokenizer, asked).abs().max() < 1e-5


def test_token_kls_along_samples_average_to_the_kl_of_whole_answers():
    """Two tokens, the second depends on the first: every answer enumerated, weighted by its probability under π."""
    torch.manual_seed(1)
    (first, second), (first_q, second_q) = ((torch.randn(3), torch.randn(3, 3)) for _ in range(2))
    p1, q1, p2, q2 = (torch.log_softmax(x, -1) for x in (first, first_q, second, second_q))
    whole = sum((p1[a] + p2[a, b]).exp() * (p1[a] + p2[a, b] - q1[a] - q2[a, b]) for a in range(3) for b in range(3))
    along = token_kls(first[None], first_q[None])[0] + (p1.exp() * token_kls(second, second_q)).sum()
    assert along.item() == pytest.approx(whole.item(), abs=1e-6)


def test_bad_input_is_one_sentence(lab, tmp_path):
    model, reference, tokenizer = copies(lab)

    def fails(dialogues: list, match: str, error: type = ValueError, **changes) -> None:
        with pytest.raises(error, match=match):
            policy_gradient(model, reference, tokenizer, lambda update: dialogues, settings(**changes), out_dir=tmp_path)

    fails([dialogue("a", "b", (math.nan, 0))], "advantage nan")
    fails([dialogue("a", "b", (0, 0), (-1, 0))], "beta -1")
    fails([dialogue("a", "b", (1, 1))], "more than max_length 8", max_length=8)
    fails([dialogue("a", "b", (1, 1))], "context", max_length=4096)
    for name, value in (("lr", 0.0), ("updates", 0), ("warmup", -1), ("max_length", 0)):
        with pytest.raises(ValueError, match=name):
            settings(**{name: value})
    with torch.no_grad():
        model.lm_head.weight[0, 0] = math.nan
    fails([dialogue("a", "b", (1, 1))], "update 1 with lr 0.01", FloatingPointError)
    saved = json.loads((tmp_path / "failed_batch.json").read_text())
    assert (saved["step"], saved["loss"], saved["lr"]) == (1, "nan", 0.01)
    assert [turn["answer"] for turn in saved["dialogues"][0]] == ["a", "b"]
