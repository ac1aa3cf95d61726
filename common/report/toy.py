"""A policy without a model and results without a run, for notebooks that must work before anything was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from common.envs.countdown import step_actions
from common.rng import generator
from common.rows import MetricRow, cost_of
from common.types import Cost, Message, Turn


class ScriptedPolicy:
    """A random player of Countdown: proposes the admissible steps uniformly and judges them by a simple rule.

    It reads the prompt as a model does (``numbers 8 7 3 target 24``). Log-probabilities are those of the
    uniform choice. The critique of a step is 1 / (1 + |largest number left − target|) in (0, 1]: often wrong,
    as a critic's is.
    """

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        answers = []
        for prompt, key in zip(prompts, keys, strict=True):
            options = [action for action, _ in step_actions(_read(prompt)[0])]
            drawn = generator(key, "scripted").integers(len(options), size=n)
            answers.append([Turn(options[i], -math.log(len(options)), 3) for i in drawn])
        return answers

    def critique(self, prompts: list[tuple[Message, ...]], actions: list[list[str]]) -> list[list[float]]:
        scores = []
        for prompt, group in zip(prompts, actions, strict=True):
            numbers, target = _read(prompt)
            left = dict(step_actions(numbers))
            scores.append([1 / (1 + abs(left[action][0] - target)) for action in group])
        return scores


def _read(prompt: tuple[Message, ...]) -> tuple[tuple[int, ...], int]:
    """(numbers in descending order, target) from the last line of a Countdown prompt."""
    *numbers, target = [int(word) for word in prompt[-1]["content"].split() if word.isdigit()]
    return tuple(numbers), target


def toy_rows(values: Mapping[str, Sequence[float]]) -> list[MetricRow]:
    """Made-up ``success`` on ``countdown-v1/toy`` for a paper "toy": variant → one value a seed, at equal cost."""
    cost = cost_of(Cost(env_steps=1000))
    return [
        MetricRow(paper="toy", env="countdown-v1", profile="smoke", scale="toy", variant=variant, seed=seed,
                  panel="countdown-v1/toy", metric="success", value=value, n=100, cost=cost)
        for variant, own in values.items() for seed, value in enumerate(own)
    ]
