"""The steps of a tree search as pure functions of numbers: score, mix, rank, back up, choose.

Conventions (the same as in ``common.search.tree``):

* ``q`` is the value of an *edge* (state, action), higher is better, in [0, 1]: the mean over
  simulations of γ^(steps after this action until the end) · final reward. There is one player, so no
  sign ever flips on the way up.
* ``n_child`` counts simulations through the edge, ``n_parent`` simulations through the state it leaves.
  ``n_parent`` is floored at 1, because a state is chosen from before its first simulation is counted.
* ``None`` stands for an undefined value, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

Rule = Literal["ucb1", "agent_q", "puct", "rest_mcts", "mctsr"]
RULES: tuple[Rule, ...] = ("ucb1", "agent_q", "puct", "rest_mcts", "mctsr")
TOLERANCE = 1e-9
"""Float noise of sums of discounted returns; margins and equalities are judged up to it."""


def uct(
    q: float,
    n_child: int,
    n_parent: int,
    *,
    c: float,
    scale: float = 1.0,
    parent_plus: float = 0.0,
    child_plus: float = 0.0,
    unvisited: float = math.inf,
) -> float:
    """q + c·sqrt(scale · ln(n_parent + parent_plus) / (n_child + child_plus)), natural logarithm.

    ``unvisited`` is returned where the quotient is undefined (n_child + child_plus = 0).
    Arguments of the papers: UCB1 of Agent-R (c = 0.25) and AlphaLLM (c = 1) as they stand; Agent Q
    ``child_plus=1``; ReST-MCTS* ``scale=2``; MCTSr ``parent_plus=1, child_plus=1e-5``.
    """
    if n_child + child_plus == 0:
        return unvisited
    return q + c * math.sqrt(scale * math.log(max(n_parent, 1) + parent_plus) / (n_child + child_plus))


def ucb1(q: float, n_child: int, n_parent: int, c: float) -> float:
    """Auer's UCB1 with constant ``c``; +inf for an unvisited child, so each is tried once first."""
    return uct(q, n_child, n_parent, c=c)


def puct(q: float, prior: float, n_child: int, n_parent: int, c: float) -> float:
    """q + c·prior·sqrt(n_parent) / (1 + n_child) (MCTS-DPO, arXiv 2405.00451; AlphaZero). Finite when unvisited."""
    return q + c * prior * math.sqrt(max(n_parent, 1)) / (1 + n_child)


def child_score(
    rule: Rule, q: float | None, prior: float, n_child: int, n_parent: int, *, c: float, unvisited: float | None
) -> float:
    """Selection score of one child; the largest is followed.

    ``q`` is the mixed value (``mix_q``), None when the child has neither visits nor critique; then
    ``unvisited`` takes its place: a first-play urgency, or None for +inf (every child once first).

    * ``ucb1``: an unvisited child is +inf whatever its critique says (ties: see ``best_index``);
    * ``agent_q``: q + c·sqrt(ln N_p / (1 + N_c)), so the critique decides who is tried first;
    * ``rest_mcts``: q + c·sqrt(2 ln N_p / N_c), an unvisited child q + 1;
    * ``mctsr``: q + c·sqrt(ln(N_p + 1) / (N_c + 1e-5)); ``puct``: see there.
    """
    if q is None:
        q = math.inf if unvisited is None else unvisited
    match rule:
        case "ucb1":
            return ucb1(q, n_child, n_parent, c)
        case "agent_q":
            return uct(q, n_child, n_parent, c=c, child_plus=1.0)
        case "puct":
            return puct(q, prior, n_child, n_parent, c)
        case "rest_mcts":
            return uct(q, n_child, n_parent, c=c, scale=2.0, unvisited=q + 1.0)
        case "mctsr":
            return uct(q, n_child, n_parent, c=c, parent_plus=1.0, child_plus=1e-5)
    raise ValueError(f"rule {rule!r} is not known: choose one of {', '.join(RULES)}.")


def best_index(
    scores: Sequence[float], ties: Sequence[float] | None = None, rng: np.random.Generator | None = None
) -> int:
    """Index of the largest score; equal scores are decided by ``ties`` (larger wins), what is still
    equal by ``rng`` uniformly, or by the first when no generator is given. ValueError when empty."""
    if not scores:
        raise ValueError("scores is empty: pass at least one child to choose from.")
    keys = [(score, ties[i] if ties is not None else 0.0) for i, score in enumerate(scores)]
    top = max(keys)
    best = [i for i, key in enumerate(keys) if key == top]
    return best[0] if rng is None else best[int(rng.integers(len(best)))]


def mix_q(q_tree: float | None, q_critic: float | None, alpha: float) -> float | None:
    """Q = α·Q̃ + (1−α)·Q̂ (Agent Q, arXiv 2408.07199), of the search value Q̃ and the critique Q̂.

    The paper leaves the borders open. Here: no visit (Q̃ None) gives Q̂ alone, no critique (Q̂ None)
    gives Q̃ alone, neither gives None. So α = 1 keeps the critique as a first guess for unvisited
    actions; to have none at all, search without critique.
    """
    if q_tree is None:
        return q_critic
    if q_critic is None:
        return q_tree
    return alpha * q_tree + (1.0 - alpha) * q_critic


def ranks_of(scores: Sequence[float]) -> list[float]:
    """Rank 1 for the highest score, len(scores) for the lowest; ties share the average of their ranks."""
    if any(math.isnan(score) for score in scores):
        raise ValueError(f"scores {list(scores)} contain NaN: a critic must order every action, check its output.")
    return [
        1 + sum(other > score for other in scores) + (sum(other == score for other in scores) - 1) / 2
        for score in scores
    ]


def rank_to_value(ranks: Sequence[float], k: int) -> list[float]:
    """Q̂ of each rank, (k − rank) / (k − 1): rank 1 of k is 1.0, rank k is 0.0, linear between.

    Agent Q says that the critic ranks the k actions and that Q̂ starts from the ranking, not how. The
    linear map is ours: it is the share of rivals an action beats (ties count half), needs no
    constant, and always averages 0.5. ValueError for k < 2, where there is no rival.
    """
    if k < 2:
        raise ValueError(f"k = {k} actions cannot be ranked: leave the critique undefined below 2.")
    if any(not 1 <= rank <= k for rank in ranks):
        raise ValueError(f"ranks {list(ranks)} leave [1, {k}]: pass ranks counted from 1 among the k actions.")
    return [(k - rank) / (k - 1) for rank in ranks]


def length_prior(logprob: float, n_tokens: int) -> float:
    """exp(Σ log π / n_tokens^1.25), the unnormalised action prior of MCTS-DPO's released search."""
    return math.exp(logprob / max(n_tokens, 1) ** 1.25)


def backup(path: Sequence[int], reward: float, gamma: float, steps_after: int = 0) -> list[tuple[int, float]]:
    """(node, return) for each node of ``path`` (root first), as one simulation adds to N and W.

    The last node's return is γ^steps_after · reward, with ``steps_after`` the environment steps made
    beyond it (a rollout's length, 0 at the end of an episode); each node above it has γ times the
    return of the one below.
    """
    last = len(path) - 1
    return [(node, gamma ** (steps_after + last - i) * reward) for i, node in enumerate(path)]


def final_choice(visits: Sequence[int], qs: Sequence[float | None], rule: Literal["visits", "q"] = "visits") -> int:
    """Index of the action to take for real, after the search.

    ``visits``: most visited, ties by Q. ``q``: highest Q among the visited (among all when none is),
    ties by visits. What is still tied goes to the first.
    """
    values = [-math.inf if q is None else q for q in qs]
    if rule == "visits":
        return best_index(visits, ties=values)
    if rule == "q":
        seen = [q if n or not any(visits) else -math.inf for q, n in zip(values, visits, strict=True)]
        return best_index(seen, ties=visits)
    raise ValueError(f"final choice {rule!r} is not known: choose 'visits' or 'q'.")
