"""Confidence and critique from probabilities: by hand, in both modes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.envs.versions.arithmetic_v1 import ArithmeticEnv
from common.evaluate.correction import Attempts, correction
from common.evaluate.votes import stacked
from common.rng import generator
from common.types import Task
from papers.confidence_critique.maths import exact_levels, levels


def test_levels_by_hand():
    # p_a = 1/2, 1/4, 0; p_b = 1, 1/2, –; p_c = 0, 1/3, 1/10
    found = levels(np.array([0.5, 0.25, 0.0]), np.array([0.5, 0.125, 0.0]), np.array([0.0, 0.25, 0.1]))
    assert (found.acc_1, found.cl, found.cs) == pytest.approx((0.25, 0.625 / 0.75, 0.35 / 2.25))
    assert found.confidence == pytest.approx(-0.125 / 3) and found.critique == pytest.approx(0.35 / 3)
    assert found.report()["acc@2"] == pytest.approx((0.625 + 0.35) / 3)
    assert (levels(*np.zeros((3, 3))).cl, levels(np.ones(3), np.ones(3), np.zeros(3)).cs) == (None, None)


def test_sampling_mode_is_the_pooled_report_and_the_paper_s_formula():
    rng = generator("draws")
    draws = [Attempts(rng.random((5, 2)) < 0.5, tuple(("a", "b") for _ in range(5))) for _ in range(10)]
    right = np.stack([draw.correct for draw in draws])  # [draws, tasks, turns]
    shares = right[..., 0].mean(0), right.all(2).mean(0), (~right[..., 0] & right[..., 1]).mean(0)
    found, pooled = levels(*shares), correction(stacked(draws))
    for name in ("acc@1", "acc@2", "delta", "cl", "cs", "rss"):
        assert found.report()[name] == pytest.approx(pooled[name], abs=1e-12), name
    first, both, _ = shares
    p_b = np.divide(both, first, out=np.zeros(5), where=first > 0)  # after a right first answer, question by question
    assert found.cl == pytest.approx((first * p_b).sum() / first.sum())


class Table:
    """An engine of known probabilities. It answers the sum with 0.5, each neighbour with 0.2 and rubbish with 0.1;
    then a right answer is kept with 0.8, one too small repaired with 0.3, and one too large with 0.1."""

    def score(self, prompts, actions):
        found = []
        for prompt, options in zip(prompts, actions, strict=True):
            total = sum(map(int, prompt[0]["content"].removeprefix("compute ").split(" + ")))
            if len(prompt) == 1:
                chance = {total: 0.5, total - 1: 0.2, total + 1: 0.2}
            else:
                off = int(prompt[1]["content"]) - total
                chance = {total: {0: 0.8, -1: 0.3, 1: 0.1}.get(off, 0.0)}
            found.append([math.log(chance[int(o)]) if chance.get(int(o)) else -math.inf for o in options])
        return found


def test_probability_mode_by_hand():
    tasks = [Task(f"t{i}", "arithmetic-v1", "test", {"numbers": [i + 2, 3, 4]}) for i in range(3)]
    found, missing = exact_levels(ArithmeticEnv(), tasks, Table())
    assert missing == pytest.approx(0.1)
    assert (found.acc_1, found.cl) == pytest.approx((0.5, 0.8))
    assert found.cs == pytest.approx((0.2 * 0.3 + 0.2 * 0.1) / 0.5)  # of all that is not right, rubbish included
    part, left = exact_levels(ArithmeticEnv(), tasks, Table(), floor=0.3)
    assert (part.acc_1, part.cl, part.cs, left) == pytest.approx((0.5, 0.8, 0.0, 0.5))
