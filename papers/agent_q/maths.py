"""Training data of Agent Q and its baselines: pairs of actions out of search trees, audited against exact action values,
and plain episodes within a budget, as pairs of episodes or as successful ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations
from typing import Any

from common.envs.contract import Env
from common.learn.batches import ScoredTurn, SFTExample, TrajectoryPair
from common.policy import Policy
from common.rng import derive
from common.search.rollout import rollout
from common.search.steps import TOLERANCE, mix_q
from common.search.tree import Tree, state_of
from common.types import PreferencePair, Task, Trajectory


# -- 1. pairs of actions out of trees (paper §4.2) ---------------------------------------------------------------


def step_pairs(
    tree: Tree,
    theta: float,
    alpha: float,
    *,
    max_pairs_per_node: int | None = None,
    min_visits: int = 1,
) -> list[PreferencePair]:
    """Step-level pairs (a_w, a_l) at every expanded node with Q_w − Q_l > θ, strictly (Agent Q).

    Q = α·Q̃ + (1−α)·Q̂ with *this* α, which may differ from the search's. ``min_visits``: children with
    fewer visits are left out; 0 lets a critique alone define Q (the paper compares every proposed
    action, ours may demand evidence). Actions cut by the token limit are left out: their stored
    log-probability lacks the end-of-turn token. ``ref_*`` are the stored behaviour log-probs.

    Order: by node, within a node by margin (largest first), then by child. ``max_pairs_per_node``
    keeps the first so many. ``path`` is ``"<task id>#<node id>"`` of the state.
    """
    if theta < 0 or not 0 <= alpha <= 1:
        raise ValueError(f"theta = {theta}, alpha = {alpha} must be theta >= 0 and alpha in [0, 1]: correct the call.")
    pairs = []
    for i, node in enumerate(tree.nodes):
        kids = [tree.nodes[c] for c in node.children]
        valued = [(kid, mix_q(kid.q_tree, kid.q_hat, alpha)) for kid in kids]
        known = [(kid, q) for kid, q in valued if q is not None and kid.visits >= min_visits and kid.finished]
        ordered = [(a, b) if a[1] >= b[1] else (b, a) for a, b in combinations(known, 2)]
        wide = [(won, lost) for won, lost in ordered if won[1] - lost[1] > theta + TOLERANCE]
        wide.sort(key=lambda pair: round(pair[1][1] - pair[0][1], 9))  # stable: equal margins keep child order
        for (won, q_won), (lost, q_lost) in wide[:max_pairs_per_node]:
            pairs.append(
                PreferencePair(
                    prompt=node.prompt,
                    chosen=won.action,
                    rejected=lost.action,
                    ref_chosen=won.logprob,
                    ref_rejected=lost.logprob,
                    q_chosen=q_won,
                    q_rejected=q_lost,
                    task_id=tree.task_id,
                    path=f"{tree.task_id}#{i}",
                )
            )
    return pairs


def tree_pairs(trees: Sequence[Tree], *, theta: float, alpha: float, most: int) -> list[PreferencePair]:
    """The :func:`step_pairs` of all trees, at most ``most`` of a state."""
    return [pair for tree in trees for pair in step_pairs(tree, theta, alpha, max_pairs_per_node=most)]


def rewarded(tree: Tree) -> bool:
    """Whether any simulation of the tree ended with a reward above 0."""
    return any(value > 0 for node in tree.nodes for value in node.returns)


@dataclass(frozen=True)
class Audit:
    """Result of :func:`audit`: agreement of pairs with exact values. Lists run parallel to the audited pairs.

    ``accuracy`` = correct / (correct + wrong), None without either; exact ties are apart in
    ``tied``. ``exact_margins`` are Q*(chosen) − Q*(rejected), ``margins`` the search's own.
    ``length_bias``: mean token count of chosen minus rejected, None without pairs. ``duplicates``:
    pairs whose prompt, chosen and rejected occurred before; ``contradictions``: pairs whose reversal
    occurred before. ``leaked``: task ids that are also in the test panel.
    """

    n: int
    correct: int
    wrong: int
    tied: int
    accuracy: float | None
    margins: tuple[float, ...]
    exact_margins: tuple[float, ...]
    length_bias: float | None
    duplicates: int
    contradictions: int
    leaked: tuple[str, ...]

    def metrics(self) -> dict[str, float]:
        """``pair_count`` and, as far as they are defined, ``pair_<name>`` of the others; lists as their means."""
        found = {"count": self.n, "accuracy": self.accuracy, "tied": self.tied, "margin": _mean(self.margins),
                 "exact_margin": _mean(self.exact_margins), "length_bias": self.length_bias,
                 "duplicates": self.duplicates, "contradictions": self.contradictions,
                 "leaked": len(self.leaked)}  # fmt: skip
        return {f"pair_{name}": float(value) for name, value in found.items() if value is not None}


def audit(
    pairs: Sequence[PreferencePair],
    env: Env,
    tasks: Sequence[Task],
    trees: Sequence[Tree],
    *,
    test_ids: Collection[str] = (),
) -> Audit:
    """Compare each pair with the exact Q* of both actions, ``env.q`` in the pair's own state.

    ``trees``: those the pairs came from, at most one per task; the state is the node's snapshot in
    memory or, for a loaded tree, its actions replayed. Q* closer than 1e-9 are tied. Leaves the
    environment in an arbitrary state. ValueError for two trees of a task, or a pair without a tree.
    """
    tree_of = {tree.task_id: tree for tree in trees}
    if len(tree_of) != len(trees):
        raise ValueError("trees holds two trees of one task: audit one round at a time.")
    task_of = {task.id: task for task in tasks}
    states: dict[str, Any] = {}
    exact, lengths = [], []
    for pair in pairs:
        task_id, _, number = pair.path.rpartition("#")
        if task_id not in tree_of or task_id not in task_of:
            raise ValueError(f"pair path {pair.path!r} has no tree or no task: pass those the pairs were made from.")
        tree, node = tree_of[task_id], int(number)
        if pair.path not in states:
            states[pair.path] = state_of(tree, node, env, task_of[task_id])
            env.restore(states[pair.path])  # a fresh environment holds no episode yet
        exact.append(env.q(states[pair.path], pair.chosen) - env.q(states[pair.path], pair.rejected))
        tokens = {tree.nodes[c].action: tree.nodes[c].n_tokens for c in tree.nodes[node].children}
        lengths.append(tokens[pair.chosen] - tokens[pair.rejected])
    correct, wrong = sum(d > TOLERANCE for d in exact), sum(d < -TOLERANCE for d in exact)
    duplicates, contradictions = _repeats(pairs)
    return Audit(
        n=len(exact),
        correct=correct,
        wrong=wrong,
        tied=len(exact) - correct - wrong,
        accuracy=correct / (correct + wrong) if correct + wrong else None,
        margins=tuple(pair.q_chosen - pair.q_rejected for pair in pairs),
        exact_margins=tuple(exact),
        length_bias=_mean(lengths),
        duplicates=duplicates,
        contradictions=contradictions,
        leaked=tuple(sorted({pair.task_id for pair in pairs} & set(test_ids))),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _repeats(pairs: Sequence[PreferencePair]) -> tuple[int, int]:
    """(pairs seen before, pairs seen before the other way round), by prompt text and both actions."""
    seen: Counter[tuple[Any, str, str]] = Counter()
    duplicates = contradictions = 0
    for pair in pairs:
        prompt = tuple(tuple(sorted(message.items())) for message in pair.prompt)
        duplicates += seen[prompt, pair.chosen, pair.rejected] > 0
        contradictions += seen[prompt, pair.rejected, pair.chosen] > 0
        seen[prompt, pair.chosen, pair.rejected] += 1
    return duplicates, contradictions


# -- 2. plain episodes within a budget, for the baselines --------------------------------------------------------------


def within_budget(env: Env, tasks: Sequence[Task], policy: Policy, *, seed: int, budget: int) -> list[Trajectory]:
    """Episodes of ``tasks`` in turn, up to the one that reaches ``budget`` environment steps, which may overspend it by less than
    one episode.

    The k-th episode of a task samples with ``derive(seed, "episode", task.id, k)``, so that a larger budget only adds episodes.
    """
    episodes: list[Trajectory] = []
    while sum(len(one.steps) for one in episodes) < budget:
        keys = [derive(seed, "episode", task.id, len(episodes) // len(tasks)) for task in tasks]
        episodes += rollout(env, list(tasks), policy, keys=keys)
    before = accumulate((len(one.steps) for one in episodes), initial=0)
    return [one for one, so_far in zip(episodes, before) if so_far < budget]


def by_task(episodes: Sequence[Trajectory]) -> dict[str, list[Trajectory]]:
    """Finished, distinct episodes of each task, best first (ties: the shorter, then the earlier)."""
    groups: dict[str, dict[tuple[str, ...], Trajectory]] = {}
    for episode in episodes:
        if all(step.turn.finished for step in episode.steps):
            groups.setdefault(episode.task_id, {}).setdefault(tuple(s.turn.text for s in episode.steps), episode)
    return {
        task: sorted(distinct.values(), key=lambda e: (-e.reward, len(e.steps))) for task, distinct in groups.items()
    }


def episode_pairs(episodes: Sequence[Trajectory], *, theta: float, most: int) -> list[TrajectoryPair]:
    """For each task the best episode against the worst, the second best against the second worst, and so on, while
    their rewards differ by more than ``theta``; at most ``most`` pairs."""

    def turns(episode: Trajectory) -> tuple[ScoredTurn, ...]:
        return tuple(ScoredTurn(step.prompt, step.turn.text, step.turn.logprob) for step in episode.steps)

    return [
        TrajectoryPair(turns(group[k]), turns(group[-1 - k]))
        for group in by_task(episodes).values()
        for k in range(min(most, len(group) // 2))
        if group[k].reward - group[-1 - k].reward > theta
    ]


def successes(episodes: Sequence[Trajectory]) -> list[SFTExample]:
    """Every step of the finished, distinct episodes with reward 1."""
    return [
        SFTExample(step.prompt, step.turn.text)
        for group in by_task(episodes).values()
        for episode in group
        if episode.success
        for step in episode.steps
    ]
