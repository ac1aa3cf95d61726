"""On-policy policy gradient with per-turn credit: REINFORCE with a baseline and a KL weight per turn.

For a dialogue of K sampled turns, turn k with its own advantage A_k and its own weight β_k on the
distance to a reference policy, one update minimises over N dialogues

    L = (1/N) · Σ_dialogues Σ_k [ −A_k · log π(y_k | x_k) + β_k · KL(π(·|x_k) ‖ π_ref(·|x_k)) ]

A loop of ours, since TRL's on-policy trainers (GRPO, RLOO) have one reward and one β per completion and
sample by themselves. Sampling is the caller's: ``collect`` returns dialogues of the policy as it is now.

The KL of a turn is summed over its tokens and exact at each of them (all of the vocabulary), with the
policy's own sample as context; its gradient is taken at these contexts, not through how likely they are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from common import ranks
from common.learn.batches import check_model, encode
from common.learn.finite import require_finite
from common.learn.monitor import Log
from common.learn.precision import step_in_float32
from common.learn.settings import TrainStats
from common.lm.predict import passes, predictions
from common.types import Message, Turn


class CreditedTurn(NamedTuple):
    """A sampled turn, what it earned beyond its baseline, and its KL weight β ≥ 0."""

    prompt: tuple[Message, ...]
    answer: str
    advantage: float
    beta: float
    ended: bool = True
    """False for a turn that the token limit cut: it has no end token to learn. Where cut turns are left out, nothing tells a policy that
    turns which grow too long earn nothing."""


Dialogue = tuple[CreditedTurn, ...]
"""The turns of one dialogue that are to be learned from, in order; each one's prompt holds those before it.
A turn whose text has other tokens than were sampled is left out by the caller, and one that was cut may be."""

Collect = Callable[[int], list[Dialogue]]
"""``collect(update)``, update counted from 1: dialogues sampled from the present model."""


@dataclass(frozen=True, kw_only=True)
class PolicyGradientSettings:
    """Adam at a constant rate after a linear warm-up; gradients clipped to a norm of 1."""

    lr: float
    updates: int
    max_length: int
    """Most tokens of a dialogue; a longer one is an error, never cut."""
    warmup: int = 0
    """Updates of linear warm-up."""

    def __post_init__(self) -> None:
        for name, ok, rule in (
            ("lr", 0 < self.lr < math.inf, "be positive and finite"),
            ("updates", self.updates >= 1, "be at least 1"),
            ("max_length", self.max_length >= 1, "be at least 1"),
            ("warmup", self.warmup >= 0, "be at least 0"),
        ):
            if not ok:
                raise ValueError(f"{name}: {getattr(self, name)!r} must {rule}; change it in the settings")


# -- mathematics -----------------------------------------------------------------------------------------


def turn_rewards(correct: torch.Tensor, *, weights: Sequence[float], bonus: float = 0.0) -> torch.Tensor:
    """Reward of each turn: w_k · r_k, and on the last turn also α · (r_last − r_first).

    Args:
        correct: [N, K] r ∈ {0, 1}.
        weights: K numbers. (1, 1) is SCoRe's stage II, (0, 1) its stage I (arXiv 2409.12917, eqs. 3, 4).
        bonus: α ≥ 0, the shaping of stage II.

    Returns:
        [N, K]. Each turn is credited with its own entry only (γ = 0).
    """
    correct = correct.double()
    rewards = correct * torch.tensor(weights, dtype=torch.float64)
    rewards[:, -1] += bonus * (correct[:, -1] - correct[:, 0])
    return rewards


def leave_one_out(rewards: torch.Tensor) -> torch.Tensor:
    """Advantages [P, G, …] of G ≥ 2 samples of the same task: the reward minus the mean of the other G − 1.

    The baseline of a sample does not depend on it, so the gradient stays unbiased (RLOO, arXiv 2402.14740).
    """
    others = rewards.shape[1] - 1
    if others < 1:
        raise ValueError("baseline: 1 sample a task leaves no others to compare with; take at least 2")
    return rewards - (rewards.sum(1, keepdim=True) - rewards) / others


def token_kls(logits: torch.Tensor, ref_logits: torch.Tensor) -> torch.Tensor:
    """KL(π ‖ π_ref) [M] ≥ 0 of M next-token distributions [M, V], in nats; gradient into ``logits`` only."""
    log_p, log_q = torch.log_softmax(logits, -1), torch.log_softmax(ref_logits.detach(), -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def policy_gradient_loss(
    logps: torch.Tensor, advantages: torch.Tensor, kls: torch.Tensor, betas: torch.Tensor, n: int
) -> torch.Tensor:
    """(Σ −A · log π + β · KL) / n over M tokens of all turns of n dialogues (see the module's docstring).

    ``logps``, ``kls``: [M] per token; ``advantages``, ``betas``: [M] those of the token's turn, no gradient.
    """
    return (betas * kls - advantages * logps).sum() / n


# -- dialogues to token rows -----------------------------------------------------------------------------


class Row(NamedTuple):
    """One token row. ``turn`` names for each token the credited turn it belongs to, −1 for prompt tokens."""

    ids: list[int]
    turn: list[int]


def pack_turns(prompts: Sequence[list[int]], answers: Sequence[list[int]], owners: Sequence[int]) -> list[Row]:
    """Turns of one dialogue in as few rows as possible: a turn whose prompt goes on where the row ends joins it.

    ``owners`` are the numbers written into ``Row.turn``. A chat template that rewrites earlier turns gives
    one row a turn; the sum over turns is the same.
    """
    rows: list[Row] = []
    for prompt, answer, owner in zip(prompts, answers, owners, strict=True):
        start = 0
        if rows and prompt[: len(rows[-1].ids)] == rows[-1].ids:
            start = len(rows[-1].ids)
        else:
            rows.append(Row([], []))
        rows[-1].ids.extend([*prompt[start:], *answer])
        rows[-1].turn.extend([-1] * (len(prompt) - start) + [owner] * len(answer))
    return rows


def token_statistics(
    model: PreTrainedModel, reference: PreTrainedModel, rows: Sequence[Row]
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """For the credited tokens of ``rows``, pass by pass: their turn, log π and KL(π ‖ π_ref) in
    nats, with π_ref that of ``reference``, each [M]; gradients into ``model`` where they are recorded."""
    ids = [row.ids for row in rows]
    places = [[place for place, owner in enumerate(row.turn) if owner >= 0] for row in rows]
    for some in passes(model, ids, places):
        selected = [ids[i] for i in some], [places[i] for i in some]
        predicted = predictions(model, *selected)
        with torch.no_grad():
            ref_logits = predictions(reference, *selected).logits
        owner = torch.tensor([rows[i].turn[place] for i in some for place in places[i]], device=predicted.row.device)
        # Equal prefixes stand once among the logits, whichever model read them.
        yield owner, predicted.logps(), token_kls(predicted.logits, ref_logits.to(predicted.logits.device))[predicted.where]


# -- the loop --------------------------------------------------------------------------------------------


def policy_gradient(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    collect: Collect,
    settings: PolicyGradientSettings,
    *,
    out_dir: Path,
    log: Log | None = None,
) -> TrainStats:
    """``settings.updates`` on-policy updates of ``model`` in place; ``reference`` is only read.

    ``log`` gets loss, grad_norm, lr, turns (credited in the update), advantage (mean of |A|) and, for each
    turn k, kl_k and logp_k (means over its turns). An update whose dialogues credit no turn at all (a policy
    that never ends its answers) moves nothing and logs ``turns`` 0. Adam's state lives as long as the call.
    Bit-identical when repeated on one CPU with the same ``collect``. ``out_dir`` is written to on failure only.
    Of several processes, each takes a part of an update's rows (:mod:`common.ranks`); ``collect`` must return the
    same dialogues to all, as :class:`common.lm.policy.LMPolicy` does, and only rank 0 logs.

    Raises:
        ValueError: a dialogue longer than ``max_length``, a number that is not finite.
        FloatingPointError: loss or gradient norm not finite; the dialogues are then in ``out_dir``.
    """
    started = time.perf_counter()
    check_model("policy gradient", model, settings.max_length)
    ranks.broadcast_weights(model)
    optimiser = adam(model, settings)
    losses: list[float] = []
    examples = tokens = 0
    for update in range(1, settings.updates + 1):
        done = policy_gradient_step(
            model, reference, tokenizer, collect(update), optimiser, settings, update, out_dir=out_dir
        )
        losses.append(done.metrics["loss"])
        examples += done.turns
        tokens += done.tokens
        if log is not None and ranks.rank() == 0:
            log(update, done.metrics)
    return TrainStats(updates=settings.updates, examples=examples, tokens=tokens, first_loss=losses[0],
                      last_loss=losses[-1], seconds=time.perf_counter() - started)  # fmt: skip


def adam(model: PreTrainedModel, settings: PolicyGradientSettings) -> torch.optim.Adam:
    """A new Adam, without any state, over all weights of ``model`` that are trained."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return step_in_float32(torch.optim.Adam(trained, lr=settings.lr))


class Update(NamedTuple):
    """What one update did: turns and tokens it learned from, and the metrics of :func:`policy_gradient`'s log."""

    turns: int
    tokens: int
    metrics: dict[str, float]


def policy_gradient_step(
    model: PreTrainedModel, reference: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[Dialogue], optimiser: torch.optim.Optimizer, settings: PolicyGradientSettings, update: int, *,
    out_dir: Path,
) -> Update:
    """One update of ``model`` in place: the body of :func:`policy_gradient`, for loops that train several models by
    turns and keep an optimiser of their own for each.

    ``update`` counts from 1 and sets the rate in the warm-up; ``settings.updates`` is not looked at. Raises as
    :func:`policy_gradient` does.
    """
    rows, turns, positions = _encode(tokenizer, dialogues, settings.max_length)
    if not turns:
        return Update(0, 0, {"loss": 0.0, "grad_norm": 0.0, "lr": 0.0, "turns": 0})
    rate = settings.lr * min(1.0, update / (settings.warmup + 1))
    for group in optimiser.param_groups:
        group["lr"] = rate
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    model.train()
    optimiser.zero_grad(set_to_none=True)
    # A block, not every n-th row: neighbours are samples of one task, whose prompt is read once a rank.
    loss, sums = _backward(model, reference, ranks.block(rows), turns, positions, len(dialogues))
    ranks.all_reduce_gradients(model)
    norm = float(torch.nn.utils.clip_grad_norm_(weights, 1.0))
    require_finite("policy gradient", update, {"loss": loss, "gradient norm": norm}, lr=settings.lr, out_dir=out_dir,
                   batch=lambda: {"dialogues": [[turn._asdict() for turn in one] for one in dialogues]})  # fmt: skip
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    model.eval()
    metrics = {"loss": loss, "grad_norm": norm, "lr": rate, "turns": len(turns)}
    metrics |= {"advantage": sum(abs(turn.advantage) for turn in turns) / len(turns)} | sums
    return Update(len(turns), sum(len(row.ids) for row in rows), metrics)


# -- measuring -------------------------------------------------------------------------------------------


@torch.inference_mode()
def answer_kls(
    model: PreTrainedModel, reference: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[tuple[Sequence[Message], Turn]],
) -> torch.Tensor:
    """[N] KL(π ‖ π_ref) in nats along each of N answers sampled from ``model``, each with the prompt it answers.

    Exact at every token of the answer, summed over them. By the chain rule its mean over answers estimates, without
    bias, the KL between the two policies' distributions of whole answers. A turn that was cut has no end token of
    its own, and none is scored.
    """
    prompts = [tokenizer.apply_chat_template(list(p), tokenize=False, add_generation_prompt=True) for p, _ in asked]
    answer_ids = tokenizer([turn.text for _, turn in asked], add_special_tokens=False)["input_ids"] if asked else []
    rows = []
    for i, ids in enumerate(tokenizer(prompts, add_special_tokens=False)["input_ids"] if asked else []):
        answer = [*answer_ids[i], *([tokenizer.eos_token_id] if asked[i][1].finished else [])]
        rows += pack_turns([ids], [answer], [i]) if answer else []
    kls_by_answer = torch.zeros(len(asked), dtype=_precision(model))
    for owner, _, kls in token_statistics(model, reference, rows):
        kls_by_answer.index_add_(0, owner.cpu(), kls.cpu())
    return kls_by_answer


# -- parts -----------------------------------------------------------------------------------------------


def _encode(
    tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Dialogue], max_length: int
) -> tuple[list[Row], list[CreditedTurn], list[int]]:
    """Rows, all credited turns, and the position of each turn in its dialogue."""
    turns = [turn for dialogue in dialogues for turn in dialogue]
    if not turns:
        return [], [], []
    for i, turn in enumerate(turns):
        if not (math.isfinite(turn.advantage) and 0 <= turn.beta < math.inf):
            raise ValueError(f"policy gradient: turn {i} has advantage {turn.advantage} and beta {turn.beta} but both "
                             "must be finite and beta at least 0; check the rewards")
    prompts, answers = encode("policy gradient", tokenizer, [t.prompt for t in turns], [t.answer for t in turns],
                              max_length=max_length, ended=[t.ended for t in turns])  # fmt: skip
    rows, positions, at = [], [], 0
    for dialogue in dialogues:
        end = at + len(dialogue)
        rows += pack_turns(prompts[at:end], answers[at:end], range(at, end))
        positions += [sum(message["role"] == "assistant" for message in turn.prompt) for turn in dialogue]
        at = end
    return rows, turns, positions


def _precision(model: PreTrainedModel) -> torch.dtype:
    """In which log-probabilities come: that of :class:`common.lm.predict.Predictions`, float32 unless the model is float64."""
    return torch.float64 if model.dtype == torch.float64 else torch.float32


def _backward(
    model: PreTrainedModel, reference: PreTrainedModel, rows: Sequence[Row], turns: Sequence[CreditedTurn],
    positions: Sequence[int], n: int,
) -> tuple[float, dict[str, float]]:
    """Accumulate this rank's gradient of one update; all ranks' loss, and kl_k and logp_k by position k from 1."""
    precision = _precision(model)
    advantage, beta = (
        torch.tensor(own, device=model.device, dtype=precision)
        for own in ([float(turn.advantage) for turn in turns], [float(turn.beta) for turn in turns])
    )
    total, kl, logp = 0.0, torch.zeros(len(turns), dtype=precision), torch.zeros(len(turns), dtype=precision)
    for owner, logps, kls in token_statistics(model, reference, rows):
        loss = policy_gradient_loss(logps, advantage[owner], kls, beta[owner], n)
        loss.backward()
        total += float(loss.detach())
        kl.index_add_(0, owner.cpu(), kls.detach().cpu())
        logp.index_add_(0, owner.cpu(), logps.detach().cpu())
    (total,) = ranks.total([total])
    ranks.all_reduce(kl), ranks.all_reduce(logp)
    place, sums = torch.tensor(positions), {}
    for k in sorted(set(positions)):
        sums |= {f"kl_{k + 1}": float(kl[place == k].mean()), f"logp_{k + 1}": float(logp[place == k].mean())}
    return total, sums
