"""Small worlds by environment id: panels of tasks and, where policies start from one, a half-taught base model.

``WORLDS[env](folder)`` writes ``data/<env>`` and ``base/`` into the folder (:mod:`tests.papers.units`) in seconds. The
fixture ``world_of`` builds each one once a session, at its first use. Every environment whose tasks are generated has one
(tests/papers/test_worlds.py), so that a paper on such an environment is tested without an edit of any test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations, combinations_with_replacement
from pathlib import Path

from common.envs.panels import version
from common.envs.versions import arithmetic_v1, countdown_v1, countdown_v2, deduction_v1, facts_two_holders_v1, household_v1
from common.envs.versions.arithmetic_v1 import ArithmeticEnv
from common.envs.versions.countdown_roles_v1 import CountdownRolesEnv
from common.envs.versions.countdown_v1 import CountdownEnv
from common.envs.versions.countdown_v2 import CountdownV2
from common.envs.versions.countdown_worked_v1 import CountdownWorkedEnv
from common.envs.versions.countdown_worked_roles_v1 import CountdownWorkedRolesEnv
from common.envs.versions.deduction_v1 import DeductionEnv
from common.envs.versions.facts_two_holders_v1 import FactsTwoHoldersEnv
from common.envs.versions.household_v1 import HouseholdEnv
from common.envs.versions.sorting_v1 import SortingEnv
from common.learn.batches import SFTExample
from common.base import CRITIC_QUESTION, demonstrations
from common.lm.tokenizer import ASSISTANT, END, USER
from common.rng import generator
from common.types import Task
from tests.papers import small_shop, sums
from tests.papers.units import PAIRS, operators, spec_of, sums as sum_tasks, teach, write_panels

SMALL = [(a, b, c) for a in range(2, 10) for b in range(1, a) for c in range(1, b)]
TRIPLES = list(combinations_with_replacement(range(13, 0, -1), 3))


def countdown(root: Path, env: CountdownEnv = CountdownEnv(), demos: Sequence[Task] = ()) -> Path:
    """Step-wise Countdown with three numbers whose target is always their sum, for a policy that was shown the targets of all
    operators: it solves about one task in eight, so that search trees hold right and wrong actions alike, and the rule "write
    a plus" carries over to numbers never seen. Its critic was shown right actions with "yes" and others with "no"."""
    rng, examples, demos = generator("half-taught"), [], demos or countdown_v1.build_panels(0)["demos"]
    order = generator("three numbers").permutation(len(TRIPLES)).tolist()
    write_panels(root, env.id, {
        split: [Task(f"{env.id}/{split}/{k}", env.id, split, {"numbers": list(TRIPLES[k]), "target": sum(TRIPLES[k])})
                for k in chosen]
        for split, chosen in {"train": order[:300], "test": order[300:]}.items()
    } | {"demos": demos})  # fmt: skip
    for task in demos:
        seen = env.reset(task)
        while not seen.done:
            prompt, (action, _) = env.prompt(), env.expert(rng)
            examples.append(SFTExample(prompt, f"{action}{END}{USER}{CRITIC_QUESTION}{END}{ASSISTANT}yes"))
            other = env.actions()[int(rng.integers(len(env.actions())))]
            if other != action and rng.random() < 0.5:
                asked = ({"role": "assistant", "content": other}, {"role": "user", "content": CRITIC_QUESTION})
                examples.append(SFTExample((*prompt, *asked), "no"))
            seen = env.step(action)
    words = [CRITIC_QUESTION, "yes", "no"] * 50
    teach(root, examples, vocab=400, context=96, updates=200, width=48, heads=2, words=words)
    return root


def countdown_sums(root: Path) -> Path:
    """The same of + and − alone."""
    return countdown(root, CountdownV2(), [Task(**row) for row in countdown_v2.build(0)["demos"][:1500]])


def sorting(root: Path) -> Path:
    """Four small numbers to sort, for a policy that takes either of the two smallest and was shown verdicts: it solves one task in eight."""
    env, rng = SortingEnv(), generator("four numbers")
    fours = [rng.permutation(four).tolist() for four in combinations(range(1, 10), 4)]
    order = rng.permutation(len(fours)).tolist()
    panels = {split: [Task(f"{env.id}/{split}/{k}", env.id, split, {"numbers": fours[k]}) for k in chosen]
              for split, chosen in {"train": order[:50], "test": order[50:62], "demos": [*order[:50], *order[62:]]}.items()}  # fmt: skip
    write_panels(root, env.id, panels)
    teach(root, demonstrations(env, panels["demos"], seed=0, repeats=6), vocab=300, context=64, updates=400)
    return root


def countdown_roles(root: Path) -> Path:
    """Two-number Countdown whose target is always the sum, for a policy that was shown all three roles at the targets of all
    operators: "write a plus" is what generators and refiners can learn, "the sum is right" what a verifier can."""
    env = CountdownRolesEnv()
    write_panels(root, env.id, sum_tasks(env.id, "tiny malt", train=40))
    teach(root, demonstrations(env, operators(env.id), seed=0, repeats=1), vocab=340, context=128, updates=400)
    return root


def countdown_worked_roles(root: Path) -> Path:
    """Sums and differences of two numbers, for a policy that was shown what all three roles say of them, now and then falsely."""
    env, order = CountdownWorkedRolesEnv(), generator("worked roles").permutation(len(PAIRS)).tolist()
    panels = {
        split: [Task(f"{env.id}/{split}/{k}.{target}", env.id, split, {"numbers": list(PAIRS[k]), "target": target})
                for k in chosen for target in (sum(PAIRS[k]), PAIRS[k][0] - PAIRS[k][1])]
        for split, chosen in {"train": order[:50], "test": order[50:], "demos": order[:50]}.items()
    }  # fmt: skip
    write_panels(root, env.id, panels)
    teach(root, demonstrations(env, panels["demos"], seed=0, repeats=4), vocab=340, context=96, updates=300)
    return root


def countdown_worked(root: Path) -> Path:
    """Sums of three small numbers, for a policy that was shown answers to other targets too and finds few of them."""
    env, order = CountdownWorkedEnv(), generator("worked").permutation(len(SMALL)).tolist()
    panels = {
        split: [Task(f"{env.id}/{split}/{k}", env.id, split, {"numbers": list(SMALL[k]), "target": sum(SMALL[k])}) for k in chosen]
        for split, chosen in {"train": order[:60], "test": order[60:], "demos": order[:60]}.items()
    }
    write_panels(root, env.id, panels)
    teach(root, demonstrations(env, panels["demos"], seed=0, repeats=5), vocab=340, context=96, updates=500)
    return root


def arithmetic(root: Path) -> Path:
    """Sums of three numbers; the policy is right about once in ten."""
    env, panels = ArithmeticEnv(), arithmetic_v1.build_panels(0)
    write_panels(root, env.id, panels | {"train": panels["train"][:200], "test": panels["test"][:40]})
    teach(root, demonstrations(env, panels["demos"][:800], seed=0, repeats=1), vocab=340, context=96, updates=300)
    return root


def deduction(root: Path) -> Path:
    """Social deduction, for a policy that was shown the language of the game."""
    env, panels = DeductionEnv(), deduction_v1.build_panels(0)
    write_panels(root, env.id, panels | {"train": panels["train"][:300], "test": panels["test"][:60]})
    teach(root, demonstrations(env, panels["demos"], seed=0, repeats=3), vocab=440, context=144, updates=200)
    return root


def facts_two_holders(root: Path) -> Path:
    """Facts of two holders, always about a color, for a policy that was shown many ways to talk."""
    env = FactsTwoHoldersEnv()
    panels = {split: [task for task in tasks if task.data["key"] == "color"] for split, tasks in facts_two_holders_v1.build_panels(0).items()}
    write_panels(root, env.id, panels | {"test": panels["test"][:60]})
    teach(root, demonstrations(env, panels["demos"], seed=0, repeats=1), vocab=520, context=360, updates=200)
    return root


def household(root: Path) -> Path:
    """The one home, for a policy that was shown visitors who are told something."""
    env, panels = HouseholdEnv(), household_v1.build_panels(0)
    write_panels(root, env.id, panels | {"test": panels["test"][:60]})
    teach(root, demonstrations(env, panels["demos"][:1000], seed=0, repeats=1), vocab=400, context=128, updates=300)
    return root


def game(env: str, root: Path) -> Path:
    """A pixel game: its episodes. Agents start from random weights."""
    write_panels(root, env, version(env).build(0))
    return root


WORLDS: dict[str, Callable[[Path], Path]] = {
    "countdown-answer-v1": sums.build,
    "countdown-v1": countdown,
    "countdown-v2": countdown_sums,
    "sorting-v1": sorting,
    "countdown-roles-v1": countdown_roles,
    "countdown-worked-roles-v1": countdown_worked_roles,
    "countdown-worked-v1": countdown_worked,
    "arithmetic-v1": arithmetic,
    "deduction-v1": deduction,
    "facts-two-holders-v1": facts_two_holders,
    "household-v1": household,
    **{env: partial(game, env) for env in ("bandit-far-v1", "bandit-near-v1", "catch-v1", "catch-streak-v1", "duel-cyclic-v1", "duel-transitive-v1",
                                           "minatar-breakout-v1", "minatar-space-invaders-v1")},
    "shop-v1": small_shop.build,
}
"""The worlds in which most is learned within seconds come first. The shop's policy hardly ever buys the right thing."""


def env_of(paper: str) -> str:
    """The environment on which ``paper`` is tested: of its own the one whose world comes first."""
    envs = spec_of(paper).envs
    found = next((env for env in WORLDS if env in envs), None)
    assert found, f"{paper}: none of {', '.join(envs)} has a small world; add a builder for one to tests/papers/worlds.py"
    return found
