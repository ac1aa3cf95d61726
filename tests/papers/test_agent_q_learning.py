"""Does it learn, and only from what is true? Two-number Countdown where the target is always the sum.

The rule "write a plus" carries over to numbers never seen, and the base model follows it in three cases of
ten: whatever finds out which actions are right can raise that. With targets from all four operators nothing
carries over at this size (the operator is then a fact about each pair of numbers), so that is no test of the
method.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from statistics import fmean

import pytest

from common.envs.countdown import step_actions
from common.envs.versions.countdown_v1 import CountdownEnv
from common.evaluate.rollouts import evaluate
from common.lab import BASE, Lab, Trained
from common.learn.policy import dpo
from common.learn.settings import DPOSettings
from common.lm.engine import Engine
from common.lm.models import load_model
from common.lm.policy import LMPolicy
from common.rng import generator
from common.types import PreferencePair, Task
from papers.agent_q import method
from tests.papers.units import sums, write_panels

SEEDS = (0, 1, 2)
OVERRIDES = {"search.env_steps": 8, "search.simulations": 8, "search.branching": 4, "collect.tasks": 50,
             "learn.dpo_lr": 1e-3, "learn.dpo_epochs": 2, "learn.dpo_batch": 16}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """Panels in the format of the real ones; train and test share no pair of numbers."""
    root = tmp_path_factory.mktemp("tiny")
    write_panels(root, "countdown-v1", sums("countdown-v1", "tiny"))
    return root


def shuffled(pairs: list[PreferencePair], seed: int) -> list[PreferencePair]:
    """Half of the pairs, drawn at random, turned round."""
    turned = set(generator("shuffled", seed).permutation(len(pairs))[: len(pairs) // 2].tolist())
    return [flipped(pair) if i in turned else pair for i, pair in enumerate(pairs)]


def flipped(pair: PreferencePair) -> PreferencePair:
    turned = dataclasses.replace(pair, chosen=pair.rejected, rejected=pair.chosen)
    return dataclasses.replace(turned, ref_chosen=pair.ref_rejected, ref_rejected=pair.ref_chosen)


def success(lab: Lab, trained: Trained) -> float:
    """Mean over four episodes at temperature 1 of each held-out task; the same random numbers for every policy."""
    policy = LMPolicy(lab.engine(trained))
    return fmean(evaluate(lab.env, lab.panels["test"], policy, seed=k)[0]["success"] for k in range(4))


@pytest.fixture(scope="module")
def outcomes(tiny, new_unit, tmp_path_factory) -> dict[str, list[float]]:
    """Success on held-out numbers by seed: untrained, and after one round of each variant, by the labels of pairs alone: the chosen
    side's likelihood teaches something whatever the labels are."""
    found: dict[str, list[float]] = {"base": [], "agent_q": [], "alpha0": [], "shuffled": []}
    plain = method.tree_pairs
    for seed in SEEDS:
        root = tmp_path_factory.mktemp("learn")
        (root / "data").symlink_to(tiny / "data")
        lab = Lab(new_unit(root, seed=seed, overrides=OVERRIDES), method)
        found["base"].append(success(lab, BASE))
        for name in ("agent_q", "alpha0", "shuffled"):
            with pytest.MonkeyPatch.context() as patch:
                if name == "shuffled":
                    turned = lambda trees, seed=seed, **how: shuffled(plain(trees, **how), seed)  # noqa: E731
                    patch.setattr(method, "tree_pairs", turned)
                alpha = 0.0 if name == "alpha0" else 0.5
                trained = method.improve(lab, method.Condition(name, "trees", 1, alpha, nll=False, line=name, round=1), start=BASE)
            found[name].append(success(lab, trained))
    print({name: [round(value, 3) for value in values] for name, values in found.items()})
    return found


def test_a_round_of_agent_q_raises_success_in_every_seed(outcomes):
    assert all(0.1 < before < 0.5 for before in outcomes["base"])
    gains = [after - before for before, after in zip(outcomes["base"], outcomes["agent_q"], strict=True)]
    assert min(gains) > 0.03 and fmean(gains) > 0.1


def test_the_critic_alone_gains_less_than_search_and_critic(outcomes):
    """The base model's critic hardly knows right from wrong, so the outcomes must be what teaches."""
    assert fmean(outcomes["agent_q"]) > fmean(outcomes["alpha0"]) + 0.1


def test_shuffled_labels_teach_nothing(outcomes):
    gains = {name: fmean(outcomes[name]) - fmean(outcomes["base"]) for name in ("agent_q", "shuffled")}
    assert gains["shuffled"] < gains["agent_q"] / 3


def test_dpo_orders_new_pairs_by_true_labels_and_not_by_random_ones(base, tmp_path):
    """Implicit accuracy on pairs of other numbers: the share whose right action gained more log-probability."""
    rng, env = generator("null"), CountdownEnv()
    sets = [(a, b) for a in range(3, 14) for b in range(2, a)]
    sets = [sets[i] for i in rng.permutation(len(sets))]
    prompts, sides = [], []
    for a, b in sets:
        env.reset(Task("t", "countdown-v1", "train", {"numbers": [a, b], "target": a + b}))
        wrong = [text for text, _ in step_actions((a, b)) if "+" not in text]
        prompts.append(env.prompt())
        sides.append([f"{a} + {b}", wrong[int(rng.integers(len(wrong)))]])
    before = Engine(*load_model(base)).score(prompts, sides)
    held = zip(prompts, sides, before, strict=True)
    pairs = [PreferencePair(prompt, *texts, *logps, 1.0, 0.0, "t") for prompt, texts, logps in held]
    settings = DPOSettings(lr=1e-3, epochs=3, batch_size=10, max_length=96, beta=0.1)

    def accuracy(train: list[PreferencePair], seed: int) -> float:
        model, tokenizer = load_model(base)
        dpo(model, tokenizer, train, settings, seed=seed, out_dir=tmp_path)
        after = Engine(model, tokenizer).score(prompts[40:], sides[40:])
        gains = [(a[0] - b[0]) - (a[1] - b[1]) for a, b in zip(after, before[40:], strict=True)]
        return fmean(gain > 0 for gain in gains)

    true = accuracy(pairs[:40], 0)
    null = [accuracy(shuffled(pairs[:40], seed), seed) for seed in range(4)]
    print("pair accuracy on held-out pairs: true labels", true, "shuffled", null)
    assert true > 0.9 and fmean(null) < 0.75 and true > max(null)
