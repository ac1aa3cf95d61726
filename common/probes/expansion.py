"""What the expansion of episodes does: all continuations of a few turns, credit and pairs, votes for a budget, and measures of teams."""

from __future__ import annotations

from dataclasses import replace

from common.evaluate import team
from common.probes.game import KEYS, REWARDS, TASKS, Scripted, Spelling, named, told
from common.search.budget import play_within
from common.search.expansion import expand, first_outcomes, records, sibling_pairs, values
from common.types import Observation, Step, Task, Trajectory, Turn


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    env, policy = Spelling(), Scripted()
    asked_again, within = play_within(env, TASKS, policy, tokens=90, seed=3)
    return _expanded(env, policy) | _chains(env) | {"within": repr([task.id for task in asked_again]) + told(within)}


def _expanded(env: Spelling, policy: Scripted) -> dict[str, float | str]:
    made = expand(env, TASKS, policy, branching=(3, 2, 2, 1, 1), keys=KEYS)
    worth = [values(one) for one in made]
    labels = [[value >= 0.35 for value in own] for own in worth]
    pairs = [pair for one, good in zip(made, labels, strict=True) for depth in range(3) for pair in sibling_pairs(one, good, depth=depth)]
    records(made[0], worth[0])  # for people: they must be made and may change
    found: dict[str, float | str] = {"expansion": repr([(one.branches, one.siblings(1)) for one in made]), "expansion.pairs": repr(
        [replace(pair, q_chosen=0.0, q_rejected=0.0) for pair in pairs])}  # fmt: skip
    found |= {f"expansion.{i}": sum(value * (k % 5 + 1) for k, value in enumerate(own)) for i, own in enumerate(worth)}
    return found | {"expansion.q": sum(pair.q_chosen - 2 * pair.q_rejected for pair in pairs),
                    "expansion.first": repr([first_outcomes(one) for one in made])}  # fmt: skip


def _chain(task: Task, first: str, critique: str, last: str) -> Trajectory:
    texts, ends = (first, critique, last), (False, False, True)
    return Trajectory(task.id, tuple(Step(({"role": "user", "content": f"{task.id} {i}"},), Turn(text, -1.0, 1 + i),
                                          Observation("", terminated=end)) for i, (text, end) in enumerate(zip(texts, ends))))  # fmt: skip


def _verdict(text: str) -> bool | None:
    return {"right": True, "wrong": False}.get(text.split(" ")[-1])


def _value(text: str) -> int | None:
    return int(text[0]) if text[0].isdecimal() else None


def _chains(env: Spelling) -> dict[str, float | str]:
    right = [next(word for word, value in REWARDS[task.data["number"]].items() if value == 1.0) for task in TASKS]
    chains = [_chain(task, first, critique, last) for k, (task, word) in enumerate(zip(TASKS, right, strict=True))
              for first, critique, last in ((word, "3 right", word), ("ab", f"{k} wrong", word), ("ab", "right", "ab"), (word, "no", "b"),
                                              ("cc", "2 right", word))][:-2]
    tasks = [task for task in TASKS for _ in range(5)][:-2]
    found = named("chains", team.chain_report(env, tasks, chains, verdict=_verdict, value=_value))
    found |= named("chains.prose", team.chain_report(env, tasks, chains, verdict=_verdict, value=None))
    rounds = [team.answers_of(env, tasks, some) for some in (chains, chains[5:] + chains[:5], chains[10:] + chains[:10])]
    tokens = [[1 + (i + k) % 4 for k in range(len(tasks))] for i in range(3)]
    report, paid, taken = team.vote_within(rounds, tokens, budget=75)
    found |= named("within", report) | {"within.paid": paid, "within.taken": taken}
    trees = expand(env, TASKS, Scripted(), branching=(3, 3, 2, 1, 1), keys=[1, 2, 3])
    labels = [[value >= 0.4 for value in values(tree)] for tree in trees]
    found |= named("credit", team.credit_audit(env, TASKS, trees, labels, verdict=lambda text: text == "a"))
    found |= named("vote", team.vote([["b", "a", "a"], ["c", "d"]], [[False, True, True], [False, True]]))
    team.dialogue_records(env, tasks, chains, ("one", "two", "three"), verdict=_verdict)  # for people
    return found
