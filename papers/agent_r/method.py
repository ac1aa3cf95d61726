"""Agent-R (Yuan et al. 2025, arXiv:2501.11425): agents that notice a wrong action while they act, and take it back.

Imitating right trajectories teaches nothing about what to do after an error. Agent-R lets the actor try tasks many times, finds the first
bad action of a failed attempt, *as the actor itself judges*, and writes a revision trajectory

    the failed attempt up to that action (no loss), a revision, a right path from there on (loss)

to train on beside right trajectories, round after round. Here ``undo`` is the revision: it takes back the last step. No base model has
ever written it. All variants learn from as many tasks, attempts and updates a round, and from right trajectories:

    base              the base model; start: taught more of the same demonstrations, until it can judge. All others begin there
    sft               right trajectories alone; sft+retry: acting, a fixed rule takes all back after each wrong result
    agent_r           revisions at the first action that the actor judges bad; agent_r_it1, agent_r_it2: after rounds 1 and 2
    agent_r_once      as agent_r, with the tasks and updates of all rounds in one
    shuffled          as agent_r, but each place goes to another attempt of as many actions
    exact             at the first action after which the target cannot be reached unless it is taken back
    end               at the end of the attempt (direct revision)
    unmasked_it1      as agent_r_it1, but the bad attempt is imitated too

Differs from the paper:
 1. Nano policies trained from scratch on Countdown instead of Llama-3.1-8B on WebShop, SciWorld and TextCraft.
 2. Attempts are sampled instead of grown in a search tree. Each different failed one makes one revision, not one with each right path.
 3. The reward is 1 or 0, so that thresholds on good paths and on gaps are moot.
 4. The revision is an action that changes the state. The paper's is a thought with an action that waits.
 5. The actor judges by a question of its warm start ("good?", yes or no), of the numbers alone; there is no "uncertain". Attempts in which
    it finds no bad action are left out, and revisions longer than an episode.
 6. A failed attempt ends at its first wrong result, though the episode goes on; an error that is taken back at once is none.
 7. The actor is taught to judge before round 1 and by a fifth of each round's data, judgements of demonstrated tasks, nine of ten true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from common.base import CRITIC_QUESTION, demonstrations
from common.config import Evaluation, Fit, ModelParams
from common.envs.undo import UNDO, Retrying, UndoEnv, without_history
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.lm.engine import Engine
from common.policy import Policy
from common.rng import derive, generator
from common.search.rollout import play_out
from common.types import Cost, Step, Task, Turn
from papers.agent_r.revision import first_error, loops, read, replay, shuffled, splice


@dataclass(frozen=True)
class Collect:
    """Of a round: ``samples`` attempts at each of ``tasks`` training tasks, which gives at most ``kept`` right paths and ``kept`` revisions of
    each. A share ``general`` of the examples are judgements of demonstrated tasks."""

    tasks: int
    samples: int
    kept: int
    general: float


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    steps: int  # most actions of an episode
    rounds: int
    collect: Collect
    start: Fit
    sft: Fit
    test: Evaluation


@dataclass(frozen=True)
class Condition(Variant):
    """The policy of ``line`` (``base`` and ``start`` have none) after ``round`` rounds, whose revisions are ``cut`` so ("actor", "shuffled", "exact", "end"; "" for none).
    ``times``: how many rounds' tasks and updates are in one."""

    line: str = ""
    round: int = 0
    cut: str = ""
    masked: bool = True
    times: int = 1


def variants(p: Params) -> list[Condition]:
    return [
        Condition("base"),
        Condition("start"),
        Condition("sft", "sft", p.rounds),
        *(Condition(f"agent_r_it{r}", "agent_r", r, "actor") for r in range(1, p.rounds)),
        Condition("agent_r", "agent_r", p.rounds, "actor"),
        Condition("agent_r_once", "once", 1, "actor", times=p.rounds),
        Condition("shuffled", "shuffled", p.rounds, "shuffled"),
        Condition("exact", "exact", p.rounds, "exact"),
        Condition("end", "end", p.rounds, "end"),
        Condition("unmasked_it1", "unmasked", 1, "actor", masked=False),
    ]


def environment(lab: Lab) -> UndoEnv:
    return UndoEnv(lab.make_env(), lab.p.steps)


# -- 1. attempts -------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Tried:
    """The different right paths of all attempts at a task, and the different failed ones, in the order of sampling."""

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
    """Of each action, whether the target can be reached after it, with as many actions as it takes; ``undo`` counts as good."""
    return [[action == UNDO or lab.env.right(action) for _, action in replay(lab.env, *one)] for one in asked]


def judged(lab: Lab, engine: Engine, asked: Sequence[tuple[Task, tuple[str, ...]]]) -> list[list[bool]]:
    """The same as ``engine`` judges it."""
    policy = lab.policy(engine, question=CRITIC_QUESTION)
    shown = [[(without_history(prompt), action) for prompt, action in replay(lab.env, *one)] for one in asked]
    said = iter(policy.critique([prompt for one in shown for prompt, _ in one], [[action] for one in shown for _, action in one]))
    return [[action == UNDO or verdict > 0.5 for (_, action), [verdict] in zip(one, said)] for one in shown]


def cuts(lab: Lab, variant: Condition, engine: Engine, asked: Sequence[tuple[Task, tuple[str, ...]]]) -> list[int | None]:
    """How many actions of each failed attempt come before the revision; None for no revision."""
    if variant.cut == "end":
        return [max(i + 1 for i, action in enumerate(bad) if action != UNDO) for _, bad in asked]
    good = exact(lab, asked) if variant.cut == "exact" else judged(lab, engine, asked)
    found = [first_error(bad, verdicts) for (_, bad), verdicts in zip(asked, good, strict=True)]
    return shuffled(found, [bad for _, bad in asked], generator(lab.seed, "shuffle", variant.round)) if variant.cut == "shuffled" else found


def revisions(lab: Lab, variant: Condition, engine: Engine, found: Sequence[Tried]) -> list[tuple[Task, tuple[str, ...], int]]:
    """(task, actions, how many of them carry no loss) of at most ``kept`` revisions of each task that an episode has room for."""
    asked, paths = [], []
    for one in found:
        rng = generator(lab.seed, "revise", one.task.id)
        for i in rng.permutation(len(one.bad)) if one.paths else ():
            asked.append((one.task, one.bad[i]))
            paths.append(one.paths[rng.integers(len(one.paths))])
    rows: dict[str, list[tuple[Task, tuple[str, ...], int]]] = {}
    for (task, bad), cut, path in zip(asked, cuts(lab, variant, engine, asked), paths, strict=True):
        if cut and len(actions := splice(bad, cut, path)) <= lab.p.steps:
            rows.setdefault(task.id, []).append((task, actions, cut if variant.masked else 0))
    return [row for of_task in rows.values() for row in of_task[: lab.p.collect.kept]]


def examples(lab: Lab, trajectories: Sequence[tuple[Task, tuple[str, ...], int]]) -> list[SFTExample]:
    """An example for each action that carries loss."""
    return [SFTExample(prompt, action) for task, actions, bad in trajectories for prompt, action in list(replay(lab.env, task, actions))[bad:]]


# -- 3. training, round after round ------------------------------------------------------------------------------------


def train(lab: Lab, variant: Condition) -> Trained:
    p, first = lab.p.sft, lab.p.start
    if variant.name == "base":
        return BASE
    trained = lab.fit("start", lambda _: Collected(shown(lab)), order=("start",), lr=first.lr, max_steps=first.updates, batch_size=first.batch)
    for r in range(1, variant.round + 1):
        trained = lab.fit(f"{variant.line}_it{r}", partial(collect, lab, replace(variant, round=r)), start=trained, part=r,
                          order=("train", r), lr=p.lr, max_steps=p.updates * variant.times, batch_size=p.batch)  # fmt: skip
    return trained


def shown(lab: Lab) -> list[SFTExample]:
    return lab.once("demos", lambda: demonstrations(lab.env.plain, lab.panel("demos"), seed=lab.seed, repeats=1))


def collect(lab: Lab, variant: Condition, engine: Engine) -> Collected:
    """Examples of a round from attempts of ``engine``. In round 1 that is ``start``: all variants of as many tasks share its attempts."""
    p, r = lab.p.collect, variant.round

    def attempts() -> tuple[list[Tried], Cost]:
        found, actions = tried(lab, lab.policy(engine), lab.batch(r - 1, p.tasks * variant.times), r)
        return found, spent(engine, actions)

    found, paid = lab.once(("tried", variant.times), attempts) if r == 1 else attempts()
    right = [(one.task, path, 0) for one in found for path in one.paths[: p.kept]]
    revised = revisions(lab, variant, engine, found) if variant.cut else []
    rows = examples(lab, right + revised)
    other = [row for row in shown(lab) if row.prompt[-1]["content"] == CRITIC_QUESTION]
    share = generator(lab.seed, "general", r).permutation(len(other))[: round(len(rows) * p.general / (1 - p.general))]
    lab.keep(f"revisions.{variant.line}_it{r}", [{"task": task.id, "actions": actions, "without_loss": bad} for task, actions, bad in revised[:60]])
    after_one = sum(actions.index(UNDO) == 1 for _, actions, _ in revised)
    return Collected(rows + [other[i] for i in share], paid + spent(engine, 0), {"right": len(right), "revisions": len(revised), "after_one": after_one})


# -- 4. after a wrong step ---------------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """The standard evaluation; what follows a first step that was forced; and whether the actor finds the first error of attempts."""
    engine, found = lab.engine(trained), []
    ways = ({"retry": Retrying} if variant.name == "sft" else {}) | {"": lambda policy: policy}
    for name, way in ways.items():
        for one in lab.evaluate(variant, trained, acting=way):
            tasks, metrics = lab.panel(one.panel)[: lab.p.test.tasks], {}
            for prefix, temperature, draws in (("", 1.0, lab.p.test.draws), ("greedy_", 0.0, 1)):
                policy = way(lab.policy(engine, temperature))
                metrics |= {prefix + key: value for key, value in forced(lab, policy, tasks, draws).items()}
            found.append(replace(one, metrics=one.metrics | metrics | ({} if name else judgement(lab, engine, tasks)), acting=name))
    return found


def forced(lab: Lab, policy: Policy, tasks: Sequence[Task], draws: int) -> dict[str, float]:
    """Episodes whose first step is a wrong one at random (``recovery``, ``caught``, ``loops``) or a right one (``false_alarm``)."""
    played: dict[bool, list[tuple[Step, ...]]] = {}
    for right in (False, True):
        starts, begun, keys = [], [], []
        for task in tasks:
            lab.env.reset(task)
            options = [action for action in lab.env.actions() if lab.env.right(action) == right]
            if options:
                prompt, action = lab.env.prompt(), options[generator(lab.seed, "forced", task.id).integers(len(options))]
                begun += [Step(prompt, Turn(action, 0.0, 1), lab.env.step(action))] * draws
                starts += [lab.env.snapshot()] * draws
                keys += [derive(lab.seed, "after", task.id, draw) for draw in range(draws)]
        steps = play_out(lab.env, starts, policy, keys=keys, limits=[lab.p.steps - 1] * len(starts))
        played[right] = [(one, *rest) for one, rest in zip(begun, steps, strict=True)]
    named = {"recovery": [steps[-1].observation.reward for steps in played[False]],
             "caught": [steps[1].turn.text.strip() == UNDO for steps in played[False]],
             "false_alarm": [steps[1].turn.text.strip() == UNDO for steps in played[True]],
             "loops": [loops(steps) for steps in played[False]]}  # fmt: skip
    return {name: fmean(values) for name, values in named.items() if values}


def judgement(lab: Lab, engine: Engine, tasks: Sequence[Task]) -> dict[str, float]:
    """``judged``: how often the actor finds the first error of the base model's failed attempts, the mean over both places."""
    bad = lab.once(("bad", tasks[0].id), lambda: [(one.task, attempt) for one in tried(lab, lab.policy(lab.engine()), tasks, 0)[0] for attempt in one.bad])
    truth, said = ([first_error(attempt, good) for (_, attempt), good in zip(bad, verdicts, strict=True)]
                   for verdicts in (exact(lab, bad), judged(lab, engine, bad)))  # fmt: skip
    by_place = [[a == b for a, b in zip(truth, said, strict=True) if a and (a == 1) == early] for early in (True, False)]
    return {"judged": fmean(map(fmean, by_place))} if all(by_place) else {}
