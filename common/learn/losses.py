"""Training losses as pure functions of tensors.

Conventions: B sequences, T positions, V tokens, P pairs, N turns. Log-probabilities are natural logs
summed over the scored tokens of a sequence, so they are ≤ 0. Losses are to be minimised. Where a
function takes a total (``n_tokens``), the caller passes the total of the whole update, so that the
gradients of its micro-batches add up to the gradient of one large batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def row_sums(values: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Sums of packed values, row by row: of log-probabilities of scored tokens, the log-probability of a completion.

    Args:
        values: [M], those of the first row, then those of the second, …
        lengths: R numbers ≥ 1 with sum M.

    Returns:
        [R], out_r = Σ of row r's values; the gradient of each value is its row's.
    """
    # Padded and summed, not index_add: its sum has one order on every device.
    return torch.nn.utils.rnn.pad_sequence(values.split(list(lengths)), batch_first=True).sum(1)


def sft_loss(logps: torch.Tensor, weights: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """Weighted negative log-likelihood per token: −Σ_b w_b · logp_b / n_tokens.

    Args:
        logps: [B] summed log-probabilities of the completions.
        weights: [B] ≥ 0. All ones give the token mean, the usual SFT loss.
        n_tokens: scored tokens of the whole update, unweighted: a weight scales its own sequence and
            nothing else.

    Returns:
        scalar.
    """
    return -(weights * logps).sum() / n_tokens


def turn_sums(values: torch.Tensor, owner: torch.Tensor, n: int) -> torch.Tensor:
    """Sum turn values into their trajectories: out_k = Σ_{i: owner_i = k} values_i.

    Args:
        values: [N], one number a turn.
        owner: [N] int64 in [0, n), the trajectory of each turn.

    Returns:
        [n]. With log π of a trajectory's actions as values this is its log-probability up to the
        environment's own, which cancels in a DPO log-ratio (ETO, arXiv 2403.02502, eq. 7).
    """
    return values.new_zeros(n).index_add(0, owner, values)


def dpo_losses(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    ref_chosen: torch.Tensor,
    ref_rejected: torch.Tensor,
    *,
    beta: float,
    weights: torch.Tensor,
) -> torch.Tensor:
    """L_i = −w_i · log σ(β · [(chosen_i − ref_chosen_i) − (rejected_i − ref_rejected_i)]).

    Rafailov et al. 2023 (arXiv 2305.18290) eq. 7, with a weight per pair. With the log-probabilities
    of the policy that sampled the pair as reference it is the loss of Agent Q (arXiv 2408.07199);
    with sums over the turns of a trajectory (:func:`turn_sums`) the trajectory-level loss of ETO.

    Args:
        chosen, rejected: [P] log-probabilities under the policy in training.
        ref_chosen, ref_rejected: [P] the same under the reference; no gradient.
        beta: > 0; a large value keeps the policy near the reference.
        weights: [P] ≥ 0.

    Returns:
        [P], each ≥ 0. A policy equal to its reference gives w_i · log 2.
    """
    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    return -weights * F.logsigmoid(beta * margin)


def value_mse(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(σ(logit_b) − target_b)², the loss of a value head or process reward model.

    Args:
        logits: [B] before the sigmoid that keeps values inside (0, 1).
        targets: [B] in [0, 1].

    Returns:
        [B] in [0, 1]. ReST-MCTS* (arXiv 2406.03816) trains its process reward model by squared error;
        the sigmoid is ours, since every reward here lies in [0, 1].
    """
    return (torch.sigmoid(logits) - targets).square()
