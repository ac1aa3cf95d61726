"""Agent-R (Yuan et al. 2025, arXiv:2501.11425): agents that notice a wrong action while they act, and take it back.

Imitating right trajectories teaches nothing about what to do after an error. Agent-R lets the actor try tasks many times, finds the first
bad action of a failed attempt, *as the actor itself judges*, and writes a revision trajectory

    the failed attempt up to that action (no loss), a revision, a right path from there on (loss)

to train on beside right trajectories, round after round. Here ``undo`` is the revision: it takes back the last step. No base model has
ever written it. All variants learn from as many tasks, attempts and updates, and from right trajectories:

    base              the base model
    sft               right trajectories alone; sft+retry: acting, a fixed rule takes all back after each wrong result
    agent_r           revisions at the first action that the actor judges bad; agent_r_it1, agent_r_it2: after rounds 1 and 2
    exact, end        at the first action after which the target cannot be reached; at the end of the attempt (direct revision)
    random_it1        anywhere in it; this and the next two have one round
    unmasked_it1      as agent_r_it1, but the bad attempt is imitated too
    forgetful_it1     as agent_r_it1, but prompts hold nothing of what was tried

Differs from the paper:
 1. Nano policies trained from scratch on Countdown instead of Llama-3.1-8B on WebShop, SciWorld and TextCraft.
 2. Attempts are sampled instead of grown in a search tree. Each different failed one makes one revision, not one with each right path.
 3. The reward is 1 or 0, so that thresholds on good paths and on gaps are moot.
 4. The revision is an action that changes the state. The paper's is a thought with an action that waits.
 5. The actor judges by a question of its warm start ("good?", yes or no); there is no "uncertain". Attempts without a bad action are left out.
 6. A failed attempt ends at its first wrong result, though the episode goes on; an error that is taken back at once is none.
 7. Instead of conversations a fifth of the data are judgements, the actor's other skill, of demonstrated tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from common.base import CRITIC_QUESTION, demonstrations
from common.config import Evaluation, ModelParams
from common.envs.undo import UNDO, UndoEnv, without_history
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.lm.engine import Engine
from common.policy import Policy
from common.rng import derive, generator
from common.search.rollout import play_out
from common.types import Cost, Step, Task
from papers.agent_r.revision import Forgetful, first_error, loops, read, replay, splice


@dataclass(frozen=True)
class Collect:
    """Of a round: ``samples`` attempts at each of ``tasks`` training tasks, which gives at most ``kept`` right paths and ``kept`` revisions. A
    share ``general`` of the examples are judgements of demonstrated tasks."""

    tasks: int
    samples: int
    kept: int
    general: float


@dataclass(frozen=True)
class Fit:
    updates: int  # of a round
    batch: int
    lr: float


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    steps: int  # most actions of an episode
    rounds: int
    collect: Collect
    sft: Fit
    test: Evaluation


@dataclass(frozen=True)
class Condition(Variant):
    """The policy of ``line`` after ``round`` rounds, whose revisions are ``cut`` so ("actor", "exact", "end", "random"; "" for none)."""

    line: str = ""
    round: int = 0
    cut: str = ""
    masked: bool = True
    memory: bool = True


def variants(p: Params) -> list[Condition]:
    return [
        Condition("base"),
        Condition("sft", "sft", p.rounds),
        *(Condition(f"agent_r_it{r}", "agent_r", r, "actor") for r in range(1, p.rounds)),
        Condition("agent_r", "agent_r", p.rounds, "actor"),
        Condition("exact", "exact", p.rounds, "exact"),
        Condition("end", "end", p.rounds, "end"),
        Condition("random_it1", "random", 1, "random"),
        Condition("unmasked_it1", "unmasked", 1, "actor", masked=False),
        Condition("forgetful_it1", "forgetful", 1, "actor", memory=False),
    ]


def environment(lab: Lab) -> UndoEnv:
    return UndoEnv(lab.make_env(), lab.p.steps)


# -- 1. attempts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """Of a task, the different right paths of all attempts, and the different failed ``bad`` ones, in the order of sampling."""

    task: Task
    paths: tuple[tuple[str, ...], ...]
    bad: tuple[tuple[str, ...], ...]


def tried(lab: Lab, policy: Policy, tasks: Sequence[Task], r: int) -> tuple[list[Tried], int]:
    """Attempts at ``tasks``, and how many actions they took."""
    n = lab.p.collect.samples
    asked, episodes = lab.sample(policy, tasks, "attempt", r, group=n)
    found = [read(lab.env, task, episode) for task, episode in zip(asked, episodes, strict=True)]
    kinds = [[tuple(dict.fromkeys(one[k] for one in found[i * n : (i + 1) * n] if one[k])) for k in (0, 1)] for i in range(len(tasks))]
    return [Tried(task, *both) for task, both in zip(tasks, kinds, strict=True)], sum(len(episode.steps) for episode in episodes)


# -- 2. the first bad action, and revision trajectories (paper §3) -------------------------------------------------------


def exact(lab: Lab, asked: Sequence[tuple[Task, tuple[str, ...]]]) -> list[list[bool]]:
    """Of each action of some attempts, whether the target can be reached after it; ``undo`` counts as good."""
    return [[action == UNDO or lab.env.right(action) for _, action in replay(lab.env, *one)] for one in asked]


def judged(lab: Lab, engine: Engine, asked: Sequence[tuple[Task, tuple[str, ...]]]) -> list[list[bool]]:
    """The same as ``engine`` judges it."""
    policy = lab.policy(engine, question=CRITIC_QUESTION)
    shown = [[(without_history(prompt), action) for prompt, action in replay(lab.env, *one)] for one in asked]
    said = iter(policy.critique([prompt for one in shown for prompt, _ in one], [[action] for one in shown for _, action in one]))
    return [[action == UNDO or verdict > 0.5 for (_, action), [verdict] in zip(one, said)] for one in shown]


def cuts(lab: Lab, variant: Condition, engine: Engine, asked: Sequence[tuple[Task, tuple[str, ...]]]) -> list[int | None]:
    """How many actions of each failed attempt come before the revision."""
    if variant.cut in ("actor", "exact"):
        good = judged(lab, engine, asked) if variant.cut == "actor" else exact(lab, asked)
        return [first_error(bad, verdicts) for (_, bad), verdicts in zip(asked, good, strict=True)]
    places = [[i + 1 for i, action in enumerate(bad) if action != UNDO] for _, bad in asked]
    if variant.cut == "end":
        return [own[-1] for own in places]
    return [own[generator(lab.seed, "cut", task.id, *bad).integers(len(own))] for (task, bad), own in zip(asked, places, strict=True)]


def revisions(lab: Lab, variant: Condition, engine: Engine, found: Sequence[Tried]) -> list[tuple[Task, tuple[str, ...], int]]:
    """(task, actions, how many of them carry no loss) of each revision that an episode has room for."""
    asked, paths = [], []
    for one in found:
        rng = generator(lab.seed, "revise", one.task.id)
        for i in rng.permutation(len(one.bad))[: lab.p.collect.kept] if one.paths else ():
            asked.append((one.task, one.bad[i]))
            paths.append(one.paths[rng.integers(len(one.paths))])
    rows = [(task, splice(bad, cut, path), cut if variant.masked else 0)
            for (task, bad), cut, path in zip(asked, cuts(lab, variant, engine, asked), paths, strict=True) if cut]  # fmt: skip
    return [row for row in rows if len(row[1]) <= lab.p.steps]


def examples(lab: Lab, variant: Condition, trajectories: Sequence[tuple[Task, tuple[str, ...], int]]) -> list[SFTExample]:
    """An example for each action that carries loss."""
    return [SFTExample(prompt if variant.memory else without_history(prompt), action)
            for task, actions, bad in trajectories for prompt, action in list(replay(lab.env, task, actions))[bad:]]  # fmt: skip


# -- 3. training, round after round ------------------------------------------------------------------------------------


def train(lab: Lab, variant: Condition) -> Trained:
    trained, p = BASE, lab.p.sft
    for r in range(1, variant.round + 1):
        trained = lab.fit(f"{variant.line}_it{r}", partial(collect, lab, replace(variant, round=r)), start=trained, part=r,
                          order=("train", r), lr=p.lr, max_steps=p.updates, batch_size=p.batch)  # fmt: skip
    return trained


def collect(lab: Lab, variant: Condition, engine: Engine) -> Collected:
    """Examples of a round from attempts of ``engine``. In round 1 that is the base model: all variants share its attempts."""
    p, r, policy = lab.p.collect, variant.round, lab.policy(engine)

    def attempts() -> tuple[list[Tried], Cost]:
        found, actions = tried(lab, policy if variant.memory else Forgetful(policy), lab.batch(r - 1, p.tasks), r)
        return found, spent(engine, actions)

    found, paid = lab.once("tried", attempts) if r == 1 else attempts()
    right = [(one.task, path, 0) for one in found for path in one.paths[: p.kept]]
    revised = revisions(lab, variant, engine, found) if variant.cut else []
    rows = examples(lab, variant, right + revised)
    other = lab.once("demos", lambda: [row for row in demonstrations(lab.env.plain, lab.panel("demos"), seed=lab.seed, repeats=1)
                                       if row.prompt[-1]["content"] == CRITIC_QUESTION])  # fmt: skip
    share = generator(lab.seed, "general", r).permutation(len(other))[: round(len(rows) * p.general / (1 - p.general))]
    lab.keep(f"revisions.{variant.line}_it{r}", [{"task": task.id, "actions": actions, "without_loss": bad} for task, actions, bad in revised[:60]])
    return Collected(rows + [other[i] for i in share], paid + spent(engine, 0), {"right": len(right), "revisions": len(revised)})


# -- 4. after a wrong step ---------------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """The standard evaluation; what follows a first step that was forced; and whether the actor finds the first error of attempts."""
    engine, found = lab.engine(trained), []
    ways = {"": (lambda policy: policy) if variant.memory else Forgetful} | ({"retry": partial(Forgetful, retry=True)} if variant.name == "sft" else {})
    for name, way in ways.items():
        for one in lab.evaluate(variant, trained, acting=way):
            tasks, metrics = lab.panel(one.panel)[: lab.p.test.tasks], {}
            for prefix, temperature, draws in (("", 1.0, lab.p.test.draws), ("greedy_", 0.0, 1)):
                policy = way(lab.policy(engine, temperature))
                metrics |= {prefix + key: value for key, value in forced(lab, policy, tasks, draws).items()}
            found.append(replace(one, metrics=one.metrics | metrics | (judgement(lab, engine, tasks) if not name else {}), acting=name))
    return found


def forced(lab: Lab, policy: Policy, tasks: Sequence[Task], draws: int) -> dict[str, float]:
    """Episodes whose first step is a wrong one (``recovery``, ``caught``, ``again``, ``loops``) or a right one (``false_alarm``)."""
    played: dict[bool, list[tuple[str, tuple[Step, ...]]]] = {}
    for right in (False, True):
        starts, first, keys = [], [], []
        for task in tasks:
            lab.env.reset(task)
            options = [action for action in lab.env.actions() if lab.env.right(action) == right]
            if options:
                lab.env.step(options[generator(lab.seed, "forced", task.id).integers(len(options))])
                starts += [lab.env.snapshot()] * draws
                first += [lab.env.snapshot().written[0]] * draws
                keys += [derive(lab.seed, "after", task.id, draw) for draw in range(draws)]
        steps = play_out(lab.env, starts, policy, keys=keys, limits=[lab.p.steps - 1] * len(starts))
        played[right] = list(zip(first, steps, strict=True))
    undone = [(action, steps) for action, steps in played[False] if steps[0].turn.text.strip() == UNDO and len(steps) > 1]
    named = {"recovery": [steps[-1].observation.reward for _, steps in played[False]],
             "caught": [steps[0].turn.text.strip() == UNDO for _, steps in played[False]],
             "false_alarm": [steps[0].turn.text.strip() == UNDO for _, steps in played[True]],
             "again": [steps[1].turn.text.strip() == action for action, steps in undone],
             "loops": [loops(steps) for _, steps in played[False]]}  # fmt: skip
    return {name: fmean(values) for name, values in named.items() if values}


def judgement(lab: Lab, engine: Engine, tasks: Sequence[Task]) -> dict[str, float]:
    """``judged``: how often the actor finds the first error of the base model's failed attempts, as a mean of those whose first error is
    the first action and of the others."""
    bad = lab.once(("bad", tasks[0].id), lambda: [(one.task, attempt) for one in tried(lab, lab.policy(lab.engine()), tasks, 0)[0] for attempt in one.bad])
    truth, said = ([first_error(attempt, good) for (_, attempt), good in zip(bad, verdicts, strict=True)]
                   for verdicts in (exact(lab, bad), judged(lab, engine, bad)))  # fmt: skip
    by_place = [[a == b for a, b in zip(truth, said, strict=True) if a and (a == 1) == early] for early in (True, False)]
    return {"judged": fmean(map(fmean, by_place))} if all(by_place) else {}
