"""Confidence and critique levels (CL, CS) from answer probabilities instead of sampled answers.

    CL = Σ p_a·p_b / Σ p_a        CS = Σ (1 − p_a)·p_c / Σ (1 − p_a)        Acc_1 = mean of p_a

With shares over sampled dialogues as probabilities these are the rates of :func:`common.evaluate.correction.correction`
over all dialogues together (tested).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.envs.answers import AnswerEnv
from common.evaluate.decompose import Levels
from common.lm.engine import Engine
from common.types import Task


def levels(first: np.ndarray, kept: np.ndarray, repaired: np.ndarray) -> Levels:
    """Levels of a panel from three probabilities a question, arrays of one length.

    Args:
        first: p_a, that the first answer is right.
        kept: p_a·p_b, that both answers are right, at most ``first``. The product, since p_b is undefined at p_a = 0.
        repaired: (1 − p_a)·p_c, that only the second one is right, at most 1 − ``first``.
    """
    right, wrong = float(np.sum(first)), float(np.sum(1.0 - np.asarray(first)))
    return Levels(
        right / len(first),
        float(np.sum(kept)) / right if right else None,
        float(np.sum(repaired)) / wrong if wrong else None,
    )


def exact_levels(
    env: AnswerEnv, tasks: Sequence[Task], engine: Engine, *, floor: float = 0.0
) -> tuple[Levels, float]:
    """Probability mode: no sampling, the policy's own probabilities of the answers that ``env.actions()`` lists.

    p_a is the summed probability of the listed right answers; the second turn is summed over every listed first
    answer a of probability above ``floor``: kept = Σ_{a right} π(a)·π(right | a), repaired the same over wrong a.

    Returns:
        The levels, and the mean probability of first answers left out (not listed, or below the floor). They
        count as wrong and never repaired, so Acc_1 and Acc_2 are each too low by at most this much: on sums, where
        every number is listed, it is what the policy spends on malformed answers; on Countdown, where an expression
        is listed in one way of writing it, also on other ways of writing it.
    """
    listed, right, prompts = [], [], []
    for task in tasks:
        env.reset(task)
        prompts.append(env.prompt())
        listed.append(env.actions())
        right.append([answer for answer in listed[-1] if env.score(answer) == 1.0])
    chances = [np.exp(one) for one in engine.score(prompts, listed)]
    again, wanted, owner, mass, good = [], [], [], [], []
    for i, task in enumerate(tasks):
        for answer, chance in zip(listed[i], chances[i], strict=True):
            if chance > floor:
                env.reset(task)
                env.step(answer)
                again.append(env.prompt())
                wanted.append([turn for turn in env.actions() if env.score(turn) == 1.0])
                owner.append(i)
                mass.append(float(chance))
                good.append(answer in right[i])
    # dtypes, because these are empty for a policy that answers with nothing of what is listed
    second = np.array([np.exp(one).sum() for one in engine.score(again, wanted)], dtype=float)
    place, weight, is_right = np.array(owner, dtype=int), np.array(mass, dtype=float), np.array(good, dtype=bool)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(place, values, minlength=len(tasks))

    first = summed(weight * is_right)
    found = levels(first, summed(weight * second * is_right), summed(weight * second * ~is_right))
    return found, float(1.0 - summed(weight).mean())
