"""CORY's mathematics: the credit of two agents who share a reward, and reward against distance from the base model.

A method trained at several weights on the distance gives points (KL, reward), both measured on the final policy: its
mean reward and the mean over answers of KL(π ‖ base) in nats. The base itself is the point (0, R_0) of every method,
since it is what an infinite weight leaves. Two such policies can be mixed: toss a coin once per answer and let one of
them write it. The mixture's reward lies on the straight line between theirs and, KL being convex in its first
argument, its KL on or below it. So everything under the

    frontier F(k) = the least concave, never falling function above all points

is attainable with at most k nats, and interpolation on straight lines promises nothing that could not be had. Beyond
the last point F stays where it is: more distance may be allowed without being used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from common.learn.policy_gradient import CreditedTurn, Dialogue, leave_one_out
from common.types import Trajectory

# -- credit -----------------------------------------------------------------------------------------------------


def credited(
    episodes: Sequence[Trajectory], correct: np.ndarray, *, group: int, eta: float, blind: bool = False
) -> tuple[list[Dialogue], ...]:
    """Training data of each of K agents: its own turn of every episode, credited with the sum of all turns' rewards.

    ``correct`` [P · group, K], samples of a task side by side. An agent's baseline is the part of the sum that it can
    read in its prompt (the rewards of the turns before, unless ``blind``) plus the mean of the rest over the other
    ``group`` − 1 samples of the task. Neither depends on its own answer. Cut turns are not learned from.
    """
    rewards = torch.from_numpy(correct).double()
    lessons = []
    for k in range(correct.shape[1]):
        unknown = rewards.sum(1) if blind else rewards[:, k:].sum(1)
        advantages = leave_one_out(unknown.view(-1, group)).reshape(-1).tolist()
        lessons.append([
            (CreditedTurn(step.prompt[:1] if blind else step.prompt, step.turn.text, advantage, eta),)
            if step.turn.finished else ()
            for step, advantage in zip((one.steps[k] for one in episodes), advantages, strict=True)
        ])  # fmt: skip
    return tuple(lessons)


def progress(done: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The pioneer's metrics of one update, with ``kl_k`` and ``logp_k`` of the k-th agent. ``done``: metrics by agent.

    Those of a blind observer are named as a first turn's, since its prompt is one.
    """
    return {name.replace("_1", f"_{k}"): value
            for k, one in reversed([*enumerate(done, start=1)]) for name, value in one.items()}  # fmt: skip


# -- frontiers --------------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """One trained policy: its distance to the base in nats, ≥ 0, and its reward."""

    kl: float
    reward: float


def point_of(metrics: Mapping[str, float]) -> Point:
    """The point (KL, reward) of a policy from its metrics."""
    return Point(metrics["kl"], metrics["success"])


def frontier(points: Sequence[Point], base: float) -> list[Point]:
    """Corners of F from (0, ``base``) to the highest reward, rising in KL and reward with falling slope.

    Raises:
        ValueError: a number that is not finite, or a KL below 0.
    """
    for kl, reward in [Point(0.0, base), *points]:
        if not (math.isfinite(kl) and math.isfinite(reward) and kl >= 0):
            raise ValueError(f"frontier: the point (KL {kl}, reward {reward}) must be finite with a KL of at least 0; "
                             "check how it was measured")
    corners: list[Point] = []
    for point in sorted([Point(0.0, base), *points], key=lambda p: (p.kl, -p.reward)):
        if corners and point.reward <= corners[-1].reward:
            continue
        while len(corners) > 1 and _slope(corners[-2], corners[-1]) <= _slope(corners[-2], point):
            corners.pop()
        corners.append(point)
    return corners


def _slope(one: Point, two: Point) -> float:
    return (two.reward - one.reward) / (two.kl - one.kl)


def reward_at(corners: Sequence[Point], kl: float) -> float:
    """F(``kl``), ``kl`` ≥ 0."""
    for one, two in zip(corners, corners[1:]):
        if kl < two.kl:
            return one.reward + (kl - one.kl) * _slope(one, two)
    return corners[-1].reward


def mean_reward(corners: Sequence[Point], upto: float) -> float:
    """Mean of F over KL from 0 to ``upto`` > 0: the reward at equal KL, the whole range counted alike."""
    stops = [0.0, *(kl for kl, _ in corners if 0 < kl < upto), upto]
    values = [reward_at(corners, kl) for kl in stops]
    return sum((b - a) * (x + y) / 2 for a, b, x, y in zip(stops, stops[1:], values, values[1:])) / upto


def excess(point: Point, reference: Sequence[Point], base: float) -> float:
    """Reward of one policy beyond what the frontier of ``reference`` gives at the policy's own KL.

    So policies of different KL compare on one scale. Beyond the reference's last corner its highest reward stands,
    which favours the policy that went further.
    """
    return point.reward - reward_at(frontier(reference, base), point.kl)


def report(methods: Mapping[str, Sequence[Point]], base: float, *, upto: float) -> dict[str, dict[str, float]]:
    """method → ``frontier_reward``, its mean reward at equal KL from 0 to ``upto`` nats (higher is better), with ``kl`` and
    ``success`` of its frontier's highest corner. ``base``: the base model's reward.

    The range is fixed beforehand, the same for all seeds and methods, so that no seed falls out by its outcome.
    """
    found = {}
    for name, points in methods.items():
        corners = frontier(points, base)
        found[name] = {"frontier_reward": mean_reward(corners, upto), "kl": corners[-1].kl, "success": corners[-1].reward}
    return found


# -- dialogues --------------------------------------------------------------------------------------------------


def readable(episodes: Sequence[Trajectory], correct: np.ndarray, roles: Sequence[str]) -> list[dict]:
    """A JSON-able row for each turn: its role, its text, and whether it is right by ``correct`` [N, K]."""
    return [
        {"task": one.task_id, "turn": k + 1, "role": role, "prompt": one.steps[0].prompt[0]["content"],
         "text": step.turn.text, "right": bool(right[k])}
        for one, right in zip(episodes, correct, strict=True)
        for k, (role, step) in enumerate(zip(roles, one.steps, strict=True))
    ]  # fmt: skip
