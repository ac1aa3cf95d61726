"""Votes, verdicts, chains and the audit of credit, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from common.envs.versions.countdown_roles_v1 import ROLES, CountdownRolesEnv
from common.envs.versions.countdown_worked_roles_v1 import CountdownWorkedRolesEnv
from common.envs.word_problem_roles import RIGHT as SAID_RIGHT
from common.envs.word_problem_roles import WRONG as SAID_WRONG
from common.envs.word_problem_roles import WordProblemRolesEnv
from common.evaluate.correction import Attempts
from common.types import Cost, Observation, Step, Task, Trajectory, Turn
from papers.malt.measures import (
    affords, answers_of, ballots, chain_report, credit_audit, elected, elected_within, elections, majority, passes, records, report, share_of,
    turns_cost, verification, vote, vote_within, votes_within,
)  # fmt: skip
from papers.malt.tree import Branch, Expansion, values

TASK = Task("t", "countdown-roles-v1", "test", {"numbers": [17, 9, 8, 3], "target": 24})
RIGHT, ALSO, WRONG = "8 * 3", "3 * 8", "9 * 3"


def chain(*texts: str, env=None, task: Task = TASK) -> Trajectory:  # noqa: ANN001
    env = env or CountdownRolesEnv()
    env.reset(task)
    return Trajectory("t", tuple(Step(env.prompt(), Turn(text, -1.0, 4), env.step(text)) for text in texts))


@pytest.mark.parametrize(
    ("votes", "winner"), [(["a", "b", "b"], 1), (["a", "b", "c"], 0), (["b", "a", "a", "b"], 0), (["a"], 0)]
)
def test_the_majority_wins_and_ties_go_to_the_first(votes, winner):
    assert majority(votes) == winner


def test_a_vote_compares_texts_and_counts_the_winner_s_correctness():
    answers = [["x", "y", "y"], ["x", "y", "z"]]
    correct = [[False, True, True], [True, False, False]]
    assert vote(answers, correct) == {"success": 1.0, "agreement": pytest.approx((2 / 3 + 1 / 3) / 2)}
    assert vote([["x", "y", "y"]], [[True, False, False]])["success"] == 0.0
    with pytest.raises(ValueError, match="at least one"):
        majority([])


def test_verdicts_against_the_truth_by_hand():
    found = verification([True, True, False, False, None], [True, False, False, True, True])
    assert found == {"verifier_acc": 2 / 5, "verifier_chance": 3 / 5, "verifier_acc_right": 1 / 3,
                     "verifier_acc_wrong": 1 / 2, "verifier_balanced": pytest.approx(5 / 12)}  # fmt: skip
    assert {"verifier_acc_right", "verifier_balanced"}.isdisjoint(verification([False], [False]))
    yes = verification([True] * 4, [True, False, False, False])  # always "right": no better than its prior
    assert (yes["verifier_acc"], yes["verifier_acc_right"], yes["verifier_acc_wrong"]) == (0.25, 1.0, 0.0)


def test_votes_are_spread_evenly_until_the_budget_is_spent():
    costs = [[4, 4, 4]] * 5
    assert votes_within(costs, 12) == [1, 1, 1] and votes_within(costs, 21) == [2, 2, 1]
    assert votes_within(costs, 22) == [2, 2, 2]  # half of a vote or more: nearer with it than without
    assert votes_within(costs, 1) == [1, 1, 1] and votes_within(costs, 60) == [5, 5, 5]
    with pytest.raises(ValueError, match="5 rounds cost 60 tokens"):
        votes_within(costs, 61)


def test_an_election_within_a_budget_pays_for_the_answers_it_counts():
    answers_by_round = ((("a",), ("b",)), (("c",), ("b",)), (("c",), ("d",)))
    right = ([[False], [True]], [[True], [True]], [[True], [False]])
    rounds = [Attempts(np.array(one), answers) for one, answers in zip(right, answers_by_round)]
    five = Trajectory("t", (Step((), Turn("a", -1.0, 5), Observation("")),))
    drawn, whole = [[five, five]] * 3, Cost(lm_calls=4, sampled_tokens=30, env_steps=6, samples=6)
    every = {"success": 1.0, "agreement": pytest.approx(2 / 3), "votes": 3.0}
    assert vote_within(rounds, drawn, 30, whole) == (every, whole)
    found, paid = vote_within(rounds, drawn, 10, whole)
    assert (found["success"], found["votes"]) == (0.5, 1.0)
    assert paid == Cost(lm_calls=4, sampled_tokens=10, env_steps=2, samples=2)
    assert ballots(rounds) == ([["a", "c", "c"], ["b", "b", "d"]], [[False, True, True], [True, True, False]])
    assert affords(drawn, 1, 3, 30) and not affords(drawn, 1, 3, 31) and not affords(drawn, 1, 4, 0) and not affords([], 1, 1, 0)
    assert affords(drawn, 3, 1, 10) and not affords(drawn, 3, 1, 11)
    assert passes(rounds) == {"pass@3": 1.0} and passes(rounds[:1]) == {"pass@1": 0.5}


def test_elections_share_the_rounds_and_are_averaged():
    answers = ((("a",),), (("b",),), (("a",),), (("a",),))
    rounds = [Attempts(np.array([[right]]), said) for right, said in zip((True, False, False, True), answers)]
    assert elections("abcd", 2) == ["ac", "bd"] and elections("abcd", 1) == ["abcd"]
    # the first election hears a right and a wrong "a" and takes the first; the second hears a wrong "b" first
    assert elected(rounds, 2) == {"success": 0.5, "agreement": 0.75} and elected(rounds, 1) == vote(*ballots(rounds))
    three = Trajectory("t", (Step((), Turn("a", -1.0, 3), Observation("")),))
    whole = Cost(lm_calls=4, sampled_tokens=12, env_steps=4, samples=4)
    found, paid = elected_within(rounds, [[three]] * 4, 2, 3, whole)
    assert found == {"success": 0.5, "agreement": 1.0, "votes": 1.0} and paid == Cost(lm_calls=2, sampled_tokens=3, env_steps=1, samples=1)
    assert elected_within(rounds, [[three]] * 4, 1, 12, whole) == (vote(*ballots(rounds)) | {"votes": 4.0}, whole)


CHAINS = [
    chain(WRONG, "makes 27 wrong", RIGHT),  # found and repaired
    chain(WRONG, "makes 24 right", WRONG),  # misled
    chain(RIGHT, "makes 24 right", RIGHT),  # kept
    chain(RIGHT, "makes 27 wrong", WRONG),  # broken
    chain("8 + 8", "no idea", ALSO),  # repaired without a verdict
]


def test_a_report_of_chains_by_hand():
    found = chain_report(CountdownRolesEnv(), [TASK] * 5, CHAINS)
    expected = {"success": 3 / 5, "acc@1": 2 / 5, "acc@2": 3 / 5, "delta": 1 / 5, "i2c": 2 / 5, "c2i": 1 / 5,
                "cl": 1 / 2, "cs": 2 / 3, "copy": 2 / 5, "verifier_acc": 2 / 5, "verifier_acc_right": 1 / 2,
                "verifier_acc_wrong": 1 / 3, "follow_right": 1.0, "follow_wrong": 1.0}  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    # 27 and 24 are true values; of "8 + 8", which has none, naming none is true too
    assert found["verifier_value"] == pytest.approx(3 / 5)
    assert found["delta"] == pytest.approx(found["i2c"] - found["c2i"])


def test_a_report_is_of_chains_or_of_single_answers_round_by_round():
    env, tasks = CountdownRolesEnv(), [TASK] * 5
    assert report(env, tasks, [CHAINS, CHAINS]) == pytest.approx(chain_report(env, tasks * 2, CHAINS * 2))
    first = [Trajectory("t", one.steps[:1]) for one in CHAINS]
    assert report(env, tasks, [first, first[::-1]]) == {"success": pytest.approx(2 / 5)}


def test_a_share_of_a_cost_is_rounded_and_turns_are_steps():
    cost = turns_cost(Cost(lm_calls=7, sampled_tokens=100, env_steps=1), 9)
    assert (cost.env_steps, cost.samples, cost.lm_calls) == (9, 9, 7)
    assert share_of(cost, 3) == Cost(env_steps=3, samples=3, lm_calls=2, sampled_tokens=33)


def test_first_and_last_turns_are_the_attempts_and_records_tell_the_truth():
    attempts = answers_of(CountdownRolesEnv(), [TASK] * 5, CHAINS)
    assert attempts.correct.tolist() == [[False, True], [False, False], [True, True], [True, False], [False, True]]
    rows = records(CountdownRolesEnv(), [TASK] * 5, CHAINS, ROLES)
    assert [row["role"] for row in rows[:3]] == list(ROLES) and len(rows) == 15
    assert [[row["right"] for row in rows[3 * k : 3 * k + 3]] for k in range(5)] == [
        [False, True, True], [False, False, False], [True, True, True], [True, False, False], [False, False, True]]
    assert rows[1]["prompt"].startswith("verify")


def test_credit_is_held_against_what_the_environment_knows():
    """A wrong generation; a true critique (value 1), a false one (0) and a second true one (0)."""

    def branch(depth: int, parent: int, text: str, reward: float | None = None) -> Branch:
        return Branch(depth, parent, ({"role": "user", "content": "p"},), Turn(text, -1.0, 1), reward)

    critiques = [branch(1, 0, text) for text in ("wrong", "right", "makes 27 wrong")]
    one = Expansion("t", [branch(0, -1, WRONG), *critiques,
                          branch(2, 1, RIGHT, 1.0), branch(2, 2, WRONG, 0.0), branch(2, 3, WRONG, 0.0)])  # fmt: skip
    good = [value > 0.5 for value in values(one)]
    found = credit_audit(CountdownRolesEnv(), [TASK], [(one, good)])
    assert found == {"label_generator": 1.0, "label_verifier": pytest.approx(2 / 3), "pairs_verifier": 2,
                     "pairs_refiner": 0, "pair_true": 1.0, "pair_alike": 0.5}  # fmt: skip
    nothing = credit_audit(CountdownRolesEnv(), [TASK], [(one, [False] * 7)])
    assert "pair_true" not in nothing and "pair_alike" not in nothing and nothing["pairs_verifier"] == 0


def test_a_finished_chain_is_what_the_environment_says():
    assert CHAINS[0].success and not CHAINS[1].success and isinstance(CHAINS[0].steps[-1].observation, Observation)


# -- worked answers ------------------------------------------------------------------------------------------------

SUM = Task("t", "countdown-worked-roles-v1", "test", {"numbers": [14, 5, 3], "target": 16})
WORKED, MISS = "14 + 5 = 19 , 19 - 3 = 16", "14 + 5 = 19 , 19 + 3 = 22"


def test_what_a_refiner_keeps_is_the_generator_s_answer_in_every_measure():
    env = CountdownWorkedRolesEnv()
    texts = [(WORKED, "makes 16 right", "keep"), (MISS, "makes 22 wrong", WORKED), (MISS, "makes 16 right", "keep"),
             (WORKED, "makes 19 wrong", MISS)]  # fmt: skip
    chains = [chain(*said, env=env, task=SUM) for said in texts]
    judged = answers_of(env, [SUM] * 4, chains)
    assert judged.answers == ((WORKED, WORKED), (MISS, WORKED), (MISS, MISS), (WORKED, MISS))
    assert judged.correct.tolist() == [[True, True], [False, True], [False, False], [True, False]]
    assert ballots([judged]) == ([[WORKED], [WORKED], [MISS], [MISS]], [[True], [True], [False], [False]])
    found = chain_report(env, [SUM] * 4, chains)
    expected = {"success": 1 / 2, "cl": 1 / 2, "cs": 1 / 2, "copy": 1 / 2, "verifier_balanced": 1 / 2, "verifier_value": 1 / 2,
                "follow_right": 1.0, "follow_wrong": 1.0}  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert [row["right"] for row in records(env, [SUM], chains[:1], ROLES)] == [True, True, True]
    first = [chain(said[0], env=env, task=SUM) for said in texts]
    assert report(env, [SUM] * 4, [first]) == {"success": 1 / 2} and passes([answers_of(env, [SUM] * 4, first)]) == {"pass@1": 1 / 2}


# -- in prose ------------------------------------------------------------------------------------------------------

PROBLEM = Task("t", "gsm8k-v1", "test", {"question": "Tom has 3 eggs and finds 4. How many?", "answer": "7"})


def test_chains_in_prose_are_judged_by_the_numbers_they_declare():
    env, repaired = WordProblemRolesEnv(id="gsm8k-v1"), "3 + 4 = 7\n#### 7\nDone in 2 steps."
    texts = [("#### 8\nThat is it.", SAID_WRONG, repaired), ("#### 7", SAID_WRONG, "Answer: 7."),
             ("#### 7", SAID_RIGHT, "no idea")]  # fmt: skip
    chains = [chain(*one, env=env, task=PROBLEM) for one in texts]
    attempts = answers_of(env, [PROBLEM] * 3, chains)
    assert attempts.answers == (("8", "7"), ("7", "7"), ("7", ""))
    assert attempts.correct.tolist() == [[False, True], [True, True], [True, False]]
    found = chain_report(env, [PROBLEM] * 3, chains)
    expected = {"success": 2 / 3, "verifier_acc": 2 / 3, "follow_right": 0.0, "follow_wrong": 0.5}
    assert {name: found[name] for name in expected} == pytest.approx(expected) and "verifier_value" not in found
    rows = records(env, [PROBLEM] * 3, chains, ROLES)
    assert rows[2]["text"] == repaired and [row["right"] for row in rows[:3]] == [False, True, True]


def test_credit_in_prose_is_held_against_the_truth():
    def branch(depth: int, parent: int, text: str, reward: float | None = None) -> Branch:
        return Branch(depth, parent, (), Turn(text, -1.0, 1), reward)

    tree = Expansion("t", [branch(0, -1, "So 7.\n#### 7"), branch(1, 0, SAID_RIGHT), branch(1, 0, SAID_WRONG),
                           branch(2, 1, "#### 7", 1.0), branch(2, 2, "#### 6", 0.0)])  # fmt: skip
    found = credit_audit(WordProblemRolesEnv(id="gsm8k-v1"), [PROBLEM], [(tree, [True, True, False, True, False])])
    assert found == {"label_generator": 1.0, "label_verifier": 1.0, "pairs_verifier": 1, "pairs_refiner": 0,
                     "pair_true": 1.0, "pair_alike": 0.0}  # fmt: skip
