"""Measures of MALT's trio: votes, whether a verifier is right about what it judged, what its critique changed, and how
true the credit is. A *chain* is an episode of three turns by three roles: answer, critique, last answer. ``env`` is an
environment with roles, which reads critiques by ``verdict`` and ``computed``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from common.envs.contract import Env
from common.evaluate.correction import Attempts, attempts_of, correction
from common.rows import cost_of
from common.types import Cost, Task, Trajectory
from papers.malt.tree import Labelled, sibling_pairs


def majority(answers: Sequence[str]) -> int:
    """Index of the first vote for the answer given most often; among equally frequent ones, for the one given first.

    Votes are compared as texts: two ways to write the same solution are two answers, since telling that they are
    equal would need the checker that is not there at test time.
    """
    if not answers:
        raise ValueError("majority: no answers were given; a vote needs at least one")
    count = Counter(answers)
    return max(range(len(answers)), key=lambda i: (count[answers[i]], -i))


def vote(answers: Sequence[Sequence[str]], correct: Sequence[Sequence[bool]]) -> dict[str, float]:
    """``success`` of the majority's answers, and ``agreement``, the mean share of votes for them.

    ``answers`` and ``correct``: [tasks][votes]; tasks may have different numbers of votes.
    """
    winners = [majority(said) for said in answers]
    return {
        "success": fmean(bool(right[i]) for right, i in zip(correct, winners, strict=True)),
        "agreement": fmean(said.count(said[i]) / len(said) for said, i in zip(map(list, answers), winners)),
    }


def verification(verdicts: Sequence[bool | None], correct: Sequence[bool]) -> dict[str, float]:
    """How well verdicts (True: "it is right") agree with the truth; a verdict of None agrees with nothing.

    ``verifier_acc``: share that agrees; ``verifier_acc_right`` and ``verifier_acc_wrong``: of right and of wrong
    answers, absent where there is none; ``verifier_balanced``: the mean of both, where there are both; ``verifier_chance``:
    the share that always saying the more frequent of both would reach.
    """
    agreed = [said is not None and said == truth for said, truth in zip(verdicts, correct, strict=True)]
    found = {"verifier_acc": fmean(agreed), "verifier_chance": max(fmean(correct), 1 - fmean(correct))}
    for name, truth in (("right", True), ("wrong", False)):
        mine = [ok for ok, right in zip(agreed, correct, strict=True) if bool(right) == truth]
        if mine:
            found[f"verifier_acc_{name}"] = fmean(mine)
    if {"verifier_acc_right", "verifier_acc_wrong"} <= found.keys():
        found["verifier_balanced"] = (found["verifier_acc_right"] + found["verifier_acc_wrong"]) / 2
    return found


def elections(rounds: Sequence, number: int) -> list[Sequence]:
    """The rounds dealt to ``number`` elections, one after the other."""
    return [rounds[i::number] for i in range(number)]


def elected(rounds: Sequence[Attempts], number: int) -> dict[str, float]:
    """:func:`vote`, the mean over ``number`` elections, each by its own share of the rounds."""
    return averaged([vote(*ballots(one)) for one in elections(rounds, number)])


def elected_within(
    rounds: Sequence[Attempts], drawn: Sequence[Sequence[Trajectory]], number: int, budget: int, cost: Cost
) -> tuple[dict[str, float], Cost]:
    """:func:`vote_within`, means over ``number`` elections; ``cost`` is that of all rounds together."""
    each = [vote_within(judged, episodes, budget, share_of(cost, number))
            for judged, episodes in zip(elections(rounds, number), elections(drawn, number), strict=True)]  # fmt: skip
    return averaged([found for found, _ in each]), share_of(sum((paid for _, paid in each), Cost()), number)


def averaged(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(one[name] for one in found) for name in found[0]}


def affords(drawn: Sequence[Sequence[Trajectory]], number: int, votes: int, budget: int) -> bool:
    """Whether the rounds give each of ``number`` elections ``votes`` rounds and ``budget`` tokens."""
    return all(len(one) >= votes and sum(episode.n_tokens for episodes in one for episode in episodes) >= budget
               for one in elections(drawn, number))  # fmt: skip


def vote_within(
    rounds: Sequence[Attempts], drawn: Sequence[Sequence[Trajectory]], budget: int, cost: Cost
) -> tuple[dict[str, float], Cost]:
    """:func:`vote` of as many of the rounds' answers as a budget of tokens pays for (:func:`votes_within`), with
    ``votes``, their mean number; and ``cost``, that of all rounds, with the tokens and turns of the counted answers.

    ``rounds`` judge the answers of the episodes ``drawn``, both [rounds][tasks].
    """
    tokens = [[episode.n_tokens for episode in episodes] for episodes in drawn]
    taken = votes_within(tokens, budget)
    answers, correct = ([row[:n] for row, n in zip(rows, taken)] for rows in ballots(rounds))
    paid = sum(row[k] for i, row in enumerate(tokens) for k, n in enumerate(taken) if i < n)
    counted = replace(turns_cost(cost, sum(taken)), sampled_tokens=paid)
    return vote(answers, correct) | {"votes": fmean(taken)}, counted


def votes_within(costs: Sequence[Sequence[int]], budget: int) -> list[int]:
    """How many votes of each task fit a ``budget`` of tokens, all tasks having equally many up to one.

    ``costs``: [rounds][tasks], tokens of each vote; rounds are taken one after the other, tasks in their order, until
    the next vote would exceed the budget by more than half of its own tokens. Every task keeps at least one.

    Raises:
        ValueError: when all votes together cost less than the budget; sample more rounds.
    """
    spent, taken = 0, [0] * len(costs[0])
    for row in costs:
        for task, tokens in enumerate(row):
            if taken[task] and spent + tokens / 2 > budget:
                return taken
            spent, taken[task] = spent + tokens, taken[task] + 1
    if spent < budget:
        raise ValueError(f"votes_within: {len(costs)} rounds cost {spent} tokens, less than the budget of {budget}; "
                         "sample more rounds")  # fmt: skip
    return taken


def answers_of(env: Env, tasks: Sequence[Task], chains: Sequence[Trajectory]) -> Attempts:
    """First and last turn of every chain as two attempts at its task: what the generator answered and what the refiner left."""
    whole = attempts_of(env, tasks, chains)
    return Attempts(whole.correct[:, [0, -1]], tuple((said[0], said[-1]) for said in whole.answers))


def passes(rounds: Sequence[Attempts]) -> dict[str, float]:
    """``pass@<rounds>``: the share of tasks to which one of the first answers is right."""
    return {f"pass@{len(rounds)}": float(np.any([one.correct[:, 0] for one in rounds], axis=0).mean())}


def report(env: Env, tasks: Sequence[Task], drawn: Sequence[Sequence[Trajectory]]) -> dict[str, float]:
    """Metrics of rounds of episodes at the same tasks, all votes alike: :func:`chain_report`, or ``success`` of single
    answers."""
    if len(drawn[0][0].steps) > 1:
        chains = [chain for episodes in drawn for chain in episodes]
        return chain_report(env, list(tasks) * len(drawn), chains)
    return {"success": fmean(float(answers_of(env, tasks, one).correct[:, -1].mean()) for one in drawn)}


def chain_report(env: Env, tasks: Sequence[Task], chains: Sequence[Trajectory]) -> dict[str, float]:
    """``success`` of the last answers, :func:`~common.evaluate.correction.correction` from generator to refiner,
    :func:`verification` of the verifier, and what the refiner made of the verdict: ``follow_right`` = P(answer kept |
    called right), ``follow_wrong`` = P(answer changed | called wrong), absent where no such verdict was given;
    ``verifier_value``, the share of critiques that name the answer's true value (``env.worth``, None where it has
    none), absent where critiques name none (``env.computed`` is None).
    """
    attempts = answers_of(env, tasks, chains)
    verdicts = [env.verdict(chain.steps[1].turn.text) for chain in chains]
    found = {"success": float(attempts.correct[:, 1].mean())} | correction(attempts)
    found |= verification(verdicts, attempts.correct[:, 0].tolist())
    for name, said, kept in (("follow_right", True, True), ("follow_wrong", False, False)):
        mine = [(a == b) == kept for v, (a, b) in zip(verdicts, attempts.answers, strict=True) if v is said]
        if mine:
            found[name] = fmean(mine)
    if env.computed is None:
        return found
    named = []
    for task, chain in zip(tasks, chains, strict=True):
        env.reset(task)
        answer, critique = (step.turn.text for step in chain.steps[:2])
        named.append(env.computed(critique) == env.worth(answer))
    return found | {"verifier_value": fmean(named)}


def ballots(rounds: Sequence[Attempts]) -> tuple[list[list[str]], list[list[bool]]]:
    """Last answers and their correctness, [tasks][rounds], from attempts at the same tasks in every round."""
    answers = [[one.answers[k][-1] for one in rounds] for k in range(len(rounds[0].answers))]
    correct = [[bool(one.correct[k, -1]) for one in rounds] for k in range(len(rounds[0].answers))]
    return answers, correct


def records(env: Env, tasks: Sequence[Task], chains: Sequence[Trajectory], roles: Sequence[str]) -> list[dict]:
    """JSON-able rows, one a turn, to be read by people: role and text of each turn, and whether it is right. Of a critique that
    means whether its verdict is true."""
    rows, attempts = [], answers_of(env, tasks, chains)
    for k, chain in enumerate(chains):
        first, last = map(bool, attempts.correct[k])
        right = (first, env.verdict(chain.steps[1].turn.text) == first, last)
        rows += [
            {"task": chain.task_id, "turn": i + 1, "role": role, "prompt": step.prompt[-1]["content"],
             "text": step.turn.text, "right": ok}
            for i, (role, step, ok) in enumerate(zip(roles, chain.steps, right, strict=True))
        ]  # fmt: skip
    return rows


def credit_audit(env: Env, tasks: Sequence[Task], found: Sequence[Labelled]) -> dict[str, float]:
    """How far the labels of chains' expansions agree with what the environment knows and no label depends on.

    ``label_generator`` and ``label_verifier``: share of generations whose label is their being right, and of
    verifications whose label is their verdict's being true. Of sibling pairs, chosen by label: ``pairs_verifier`` and
    ``pairs_refiner`` count them; ``pair_true`` is the share of the verifier's with verdicts of different truth that
    prefer the true one, ``pair_alike`` the share whose verdicts are equally true, so that luck ordered them.
    Rates of nothing are absent.
    """
    agree: tuple[list[bool], list[bool]] = ([], [])
    ordered: list[bool] = []
    alike = refiner = 0
    for task, (tree, good) in zip(tasks, found, strict=True):
        env.reset(task)
        truth: list[bool] = []
        for i, branch in enumerate(tree.branches):
            if branch.depth == 1:
                truth.append(env.verdict(branch.turn.text) == truth[branch.parent])
            else:
                truth.append(env.score(branch.turn.text) >= 1.0 if branch.depth == 0 else branch.reward >= 1.0)
            if branch.depth < 2:
                agree[branch.depth].append(good[i] == truth[i])
        for pair in sibling_pairs(tree, good, depth=1):
            a, b = map(int, pair.path.split("/"))
            if truth[a] == truth[b]:
                alike += 1
            else:
                ordered.append(truth[a])
        refiner += len(sibling_pairs(tree, good, depth=2))
    rates: dict[str, float] = {"pairs_verifier": len(ordered) + alike, "pairs_refiner": refiner}
    rates |= {"label_generator": fmean(agree[0]), "label_verifier": fmean(agree[1])}
    if ordered:
        rates["pair_true"] = fmean(ordered)
    if ordered or alike:
        rates["pair_alike"] = alike / (len(ordered) + alike)
    return rates


def turns_cost(cost: Cost, turns: int) -> Cost:
    """A policy's cost with the turns it sampled, each of them a step in the environment."""
    return replace(cost, env_steps=turns, samples=turns)


def share_of(cost: Cost, draws: int) -> Cost:
    """Cost of one of ``draws`` equal draws, rounded."""
    return Cost(**{name: round(n / draws) for name, n in cost_of(cost).items()})
