"""Countdown: contract, parser, exact values and panels, held against brute force and reasoning-gym."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from fractions import Fraction
from functools import lru_cache
from itertools import permutations, product

import pytest

from common.envs.answers import GAMMA
from common.envs.contract import check_env
from common.envs.countdown import MAX_TOKENS, apply, descending, evaluate_expression, expressions, solvable, step_actions
from common.envs.versions.countdown_answer_v1 import CountdownAnswerEnv
from common.envs.versions.countdown_v1 import CountdownEnv, build_panels
from common.rng import generator
from common.types import Task


@pytest.fixture(scope="module")
def panels() -> dict[str, list[Task]]:
    return build_panels(0)


@pytest.fixture(scope="module")
def reasoning_gym():
    return pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed: pip install -e '.[reasoning-gym]'")


@pytest.fixture(scope="module")
def verifier(reasoning_gym):
    return reasoning_gym.create_dataset("countdown", size=1, seed=0)


def task(numbers: list[int], target: int) -> Task:
    return Task("t", "countdown-v1", "test", {"numbers": numbers, "target": target})


@lru_cache(maxsize=None)
def reachable(numbers: tuple[int, ...]) -> frozenset[int]:
    """Every value the game allows, over all orders and operators, with rationals instead of the module's rules."""
    if len(numbers) == 1:
        return frozenset(numbers)
    found = set()
    for order in set(permutations(numbers)):
        left, right, rest = Fraction(order[0]), Fraction(order[1]), order[2:]
        for value in (left + right, left - right, left * right, left / right):
            if value > 0 and value.denominator == 1:
                found |= reachable(tuple(sorted((int(value), *rest))))
    return frozenset(found)


# -- the contract ----------------------------------------------------------------------------------------


def test_the_step_form_keeps_the_contract(panels):
    check_env(CountdownEnv(), panels["test"][:30])


@pytest.mark.parametrize("turns", [1, 2])
def test_the_answer_form_keeps_the_contract(panels, turns):
    check_env(CountdownAnswerEnv(turns=turns), panels["test"][:30])


def test_a_step_replaces_two_numbers_and_the_last_one_is_scored():
    env = CountdownEnv()
    assert env.reset(task([7, 8, 24], 24)).text == "numbers 24 8 7 target 24"
    assert env.prompt() == ({"role": "user", "content": "numbers 24 8 7 target 24"},)
    assert env.step(" 8-7 ").text == "numbers 24 1 target 24"
    last = env.step("24 * 1")
    assert (last.text, last.reward, last.terminated, last.truncated) == ("result 24", 1.0, True, False)
    env.reset(task([7, 8, 24], 24))
    env.step("8 - 7")
    assert env.step("24 + 1").reward == 0.0


@pytest.mark.parametrize(
    "action", ["", "8", "8 - 8", "7 - 8", "24 / 7", "3 + 4", "8 + 8", "8 ** 7", "-8 + 7", "8 + 7 + 24", "8 ^ 7",
               "٨ + ٧", "8 - 7 = 1", "1000000000000 + 7", "__import__('os')"],
)  # fmt: skip
def test_an_invalid_step_costs_a_step_and_changes_nothing_else(action):
    env = CountdownEnv(max_steps=2)
    env.reset(task([7, 8, 24], 24))
    seen = env.step(action)
    assert seen.text == "invalid step. numbers 24 8 7 target 24" and not seen.done
    assert env.snapshot()._replace(used=0) == (env.reset(task([7, 8, 24], 24)), env.snapshot())[1]
    env.step(action)
    seen = env.step(action)
    assert seen.truncated and not seen.terminated and seen.reward == 0.0 and env.actions() == []


def test_the_last_declared_answer_counts_and_the_hint_never_tells():
    env, right, wrong = CountdownAnswerEnv(turns=2), "24 * (8 - 7)", "24 + 8 + 7"
    for attempts, reward in [((right, wrong), 0.0), ((wrong, right), 1.0), ((right, right), 1.0), (("", ""), 0.0)]:
        env.reset(task([7, 8, 24], 24))
        first, second = env.step(attempts[0]), env.step(attempts[1])
        assert first.text == CountdownAnswerEnv.RETRY and first.reward == 0.0 and not first.done
        assert second.terminated and second.reward == reward
    env.reset(task([7, 8, 24], 24))
    env.step(wrong)
    assert [message["role"] for message in env.prompt()] == ["user", "assistant", "user"]
    assert env.prompt()[1]["content"] == wrong
    assert (env.score(right), env.score(wrong)) == (1.0, 0.0)


@pytest.mark.parametrize("env", [CountdownEnv(), CountdownAnswerEnv(turns=2)], ids=lambda env: env.id)
def test_q_of_a_finished_state_raises_and_leaves_the_episode_where_it_was(env):
    env.reset(task([7, 8, 24], 24))
    start = env.snapshot()
    over = start._replace(over=True)
    with pytest.raises(RuntimeError, match="is over"):
        env.q(over, "8 - 7")
    assert env.snapshot() == start and env.value(over) == 0.0


# -- the parser -------------------------------------------------------------------------------------------

N = (24, 8, 7)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("24*(8-7)", 24), (" ( ( 24 ) * ((8) - 7) ) ", 24), ("24 + 8 * 7", 80), ("8 * 7 + 24", 80), ("24 - 8 - 7", 9),
        ("24 / 8 + 7", 10), ("24 / 8 * 7", 21), ("\t24/8+7\n", 10), ("((((24+8+7))))", 39), ("24 - (8 - 7)", 23),
        # leading zeros are digits of the same number
        ("024 + 8 + 7", 39),
        # forbidden by the game: fractions, zero and negative intermediate results
        ("24 / 7 * 8", None), ("8 / 24 * 7", None), ("(7 - 8) + 24", None), ("7 - 8 + 24", None), ("24 * 7 / 8", 21),
        ("24 - 7 * 8", None),
        # numbers: one missing, one repeated, one foreign, joined digits
        ("24 * 8", None), ("24 * 8 * 7 * 7", None), ("24 + 8 + 6", None), ("248 + 7", None), ("2 4 + 8 + 7", None),
        ("24", None),
        # syntax
        ("", None), ("   ", None), ("()", None), ("24 +", None), ("+ 24 + 8 + 7", None), ("-24 + 8 + 7", None),
        ("24 + -8 + 7", None), ("24 8 7", None), ("24 (8 - 7)", None), ("(24 + 8 + 7", None), ("24 + 8 + 7)", None),
        ("24 + 8 + 7 = 39", None), ("24 × 8 × 7", None), ("24 ** (8 - 7)", None), ("24 // 8 + 7", None),
        ("24 + 8 + 7.0", None), ("1e1", None), ("24 + 8 + seven", None), ("٢٤ + 8 + 7", None), ("2４ + 8 + 7", None),
        ("24 + 8 + 7; 1", None), ("__import__('os').getcwd()", None), ("\x00", None),
    ],
)  # fmt: skip
def test_the_parser_case_by_case(text, value):
    assert evaluate_expression(text, N) == value


def test_a_result_of_zero_is_forbidden_and_equal_numbers_are_told_apart():
    assert evaluate_expression("8 - 8 + 7", (8, 8, 7)) is None
    assert evaluate_expression("8 / 8 + 7", (8, 8, 7)) == 8
    assert evaluate_expression("8 + 7", (8, 8, 7)) is None and evaluate_expression("8 + 8 + 8 + 7", (8, 8, 7)) is None


@pytest.mark.parametrize(
    "text",
    ["(" * 100_000, "(" * 100_000 + "24" + ")" * 100_000, "(" * 150 + "24 + 8 + 7" + ")" * 150, "24 + " * 100_000,
     "9" * 100_000, "24 + 8 + " + "7" * 5_000, " " * 200_000 + "x", "24 + 8 + 7" + " " * 200_000 + "x",
     "(" * MAX_TOKENS, "9*" * 50_000 + "9"],
    ids=["open", "nested", "deep", "long", "digits", "huge number", "blank", "tail", "at the limit", "product"],
)  # fmt: skip
def test_absurd_input_is_refused_without_recursion(text):
    def deeper(levels: int):
        return evaluate_expression(text, N) if levels == 0 else deeper(levels - 1)

    # A notebook or a test runner is some hundred frames deep already.
    assert deeper(400) is None


def test_redundant_brackets_up_to_the_limit_are_read():
    pairs = (MAX_TOKENS - 5) // 2
    assert evaluate_expression("(" * pairs + "24 + 8 + 7" + ")" * pairs, N) == 39


def test_the_parser_agrees_with_rational_arithmetic_on_random_text():
    """Random token strings: Python's own reading of the same text, in rationals, decides what is right."""
    rng, seen = generator("countdown parser"), {"value": 0, "none": 0}
    pieces = ["24", "8", "7", "+", "-", "*", "/", "(", ")"]
    for _ in range(3000):
        order = rng.permutation(3)
        a, b, c = (pieces[i] for i in order)
        p, q = (pieces[3 + int(i)] for i in rng.integers(4, size=2))
        text = [f"{a} {p} {b} {q} {c}", f"({a} {p} {b}) {q} {c}", f"{a} {p} ({b} {q} {c})"][int(rng.integers(3))]
        if rng.random() < 0.3:  # damage it
            at = int(rng.integers(len(text)))
            text = text[:at] + pieces[int(rng.integers(9))] + text[at + 1 :]
        expected = _by_rationals(text, N)
        assert evaluate_expression(text, N) == expected, text
        seen["none" if expected is None else "value"] += 1
    assert min(seen.values()) > 300


def _by_rationals(text: str, numbers: tuple[int, ...]) -> int | None:
    """Shunting-yard over rationals, refusing a value that is not a positive integer: no recursion, another method."""
    tokens = re.findall(r"[0-9]+|[-+*/()]", text)
    if "".join(tokens) != text.replace(" ", "") or re.search(r"[0-9] +[0-9]", text):
        return None
    if sorted(int(t) for t in tokens if t.isdigit()) != sorted(numbers):
        return None
    rank, values, pending, operand = {"+": 1, "-": 1, "*": 2, "/": 2}, [], [], True

    def reduce() -> bool:
        op, right, left = pending.pop(), values.pop(), values.pop()
        value = {"+": left + right, "-": left - right, "*": left * right, "/": left / right}[op]
        values.append(value)
        return value > 0 and value.denominator == 1

    for token in [*tokens, None]:
        if token == "(" or (token and token.isdigit()):
            if not operand:
                return None
            if token == "(":
                pending.append(token)
            else:
                values.append(Fraction(int(token)))
                operand = False
            continue
        if operand:
            return None
        while pending and pending[-1] != "(" and (token in (")", None) or rank[pending[-1]] >= rank[token]):
            if not reduce():
                return None
        if token == ")":
            if not pending:
                return None
            pending.pop()
        elif token is not None:
            pending.append(token)
            operand = True
    return None if pending else int(values[0])


# -- reasoning-gym's verifier -----------------------------------------------------------------------------


def test_rewards_agree_with_reasoning_gym(panels, verifier):
    """Right and wrong expressions of 40 tasks. Its verifier knows no rule on intermediate results, so the
    expressions compared are those that keep ours; the others are the next test's."""
    right = wrong = 0
    for one in panels["test"][:40]:
        numbers, target = descending(one.data["numbers"]), one.data["target"]
        env, rng = CountdownAnswerEnv(), generator("reasoning-gym", one.id)
        env.reset(one)
        options = expressions(numbers)
        hits = [text for text, value in options if value == target][:2]
        misses = [options[int(i)][0] for i in rng.integers(len(options), size=2)]
        for text in [*hits, *misses, hits[0].replace(str(numbers[0]), str(numbers[0] + 1), 1), f"{hits[0]} + 1", ""]:
            theirs = verifier.score_answer(text, {"metadata": one.data}) == 1.0
            assert (env.score(text) == 1.0) == theirs, (one, text)
            right, wrong = right + theirs, wrong + (not theirs)
    assert right >= 50 and wrong >= 50


@pytest.mark.parametrize(
    ("text", "numbers", "target"),
    [("7 - 8 + 24", N, 23), ("24 / 7 * (8 - 1)", (24, 8, 7, 1), 24), ("-8 + 24 + 7", N, 23),
     ("8 - 8 + 7", (8, 8, 7), 7)],
    ids=["negative intermediate", "fraction", "sign", "zero"],
)  # fmt: skip
def test_where_the_rules_differ_ours_is_the_stricter(verifier, text, numbers, target):
    assert verifier.score_answer(text, {"metadata": {"numbers": list(numbers), "target": target}}) == 1.0
    assert evaluate_expression(text, numbers) is None


def test_tasks_of_reasoning_gym_are_solvable_when_their_solution_keeps_our_rules(reasoning_gym):
    data = reasoning_gym.create_dataset("countdown", seed=1, size=80, min_numbers=3, max_numbers=4, max_value=20,
                                        min_target=10, max_target=200)  # fmt: skip
    kept = 0
    for entry in data:
        numbers, target = descending(entry["metadata"]["numbers"]), entry["metadata"]["target"]
        value = evaluate_expression(entry["answer"], numbers)
        assert value in (None, target), entry
        if value is not None:
            assert solvable(numbers, target), entry
            kept += 1
    assert kept >= 20


# -- exact values -----------------------------------------------------------------------------------------


def test_solvable_equals_brute_force():
    rng = generator("countdown brute force")
    for count in (2, 3, 4):
        for _ in range(12):
            numbers = descending(rng.integers(1, 14, size=count).tolist())
            can = reachable(tuple(sorted(numbers)))
            assert all(solvable(numbers, target) == (target in can) for target in range(1, 100)), numbers
            assert {value for _, value in expressions(numbers)} == can
            assert all(evaluate_expression(text, numbers) == value for text, value in expressions(numbers))


def test_every_listed_step_once_and_none_missing():
    for numbers in [(8, 8, 3), (24, 8, 7), (1, 1), (6, 5, 4, 3)]:
        expected = set()
        for i, j in permutations(range(len(numbers)), 2):
            for op in "+-*/":
                value = apply(numbers[i], op, numbers[j])
                if value is not None and numbers[i] >= numbers[j]:
                    expected.add(f"{numbers[i]} {op} {numbers[j]}")
        listed = [text for text, _ in step_actions(numbers)]
        assert set(listed) == expected and len(listed) == len(expected)


def test_step_values_equal_backward_induction():
    """V* and Q* by playing every listed action to the end, with two steps to spare and with none."""
    for max_steps in (2, 3):
        env = CountdownEnv(max_steps=max_steps)

        def best(snapshot) -> float:
            values = []
            env.restore(snapshot)
            for action in env.actions():
                env.restore(snapshot)
                seen = env.step(action)
                q = seen.reward if seen.done else GAMMA * best(env.snapshot())
                assert env.q(snapshot, action) == pytest.approx(q, abs=1e-12)
                values.append(q)
            assert env.value(snapshot) == pytest.approx(max(values), abs=1e-12)
            return max(values)

        for numbers, target in [([7, 8, 24], 24), ([3, 3, 9], 97), ([2, 5, 13], 23)]:
            env.reset(task(numbers, target))
            start = env.snapshot()
            value = best(start)
            assert value == (GAMMA if target in reachable(tuple(sorted(numbers))) else 0.0)
            # a wasted step delays by one, and past the limit nothing can be won
            assert env.q(start, "junk") == pytest.approx(GAMMA * value if max_steps == 3 else 0.0)


def test_answer_values_count_the_attempts_left():
    env = CountdownAnswerEnv(turns=3)
    env.reset(task([7, 8, 24], 24))
    start = env.snapshot()
    assert env.value(start) == GAMMA**2 and env.q(start, "junk") == pytest.approx(GAMMA**2)
    env.step("junk")
    env.step("junk")
    last = env.snapshot()
    assert (env.value(last), env.q(last, "24 * (8 - 7)"), env.q(last, "24 + 8 + 7")) == (1.0, 1.0, 0.0)
    env.reset(task([3, 3, 9], 97))
    assert env.value(env.snapshot()) == 0.0 and env.oracle() in env.actions()


# -- known scores -----------------------------------------------------------------------------------------


def play(env, one: Task, choose) -> float:
    seen = env.reset(one)
    while not seen.done:
        seen = env.step(choose(env))
    return seen.reward


def test_the_oracle_and_the_expert_solve_every_task(panels):
    rng = generator("expert")
    for split in ("test", "validation", "train"):
        for env in (CountdownEnv(), CountdownAnswerEnv(turns=1)):
            assert all(play(env, one, lambda e: e.oracle()) == 1.0 for one in panels[split])
            assert all(play(env, one, lambda e: e.expert(rng)[1]) == 1.0 for one in panels[split][:100])


def test_the_lazy_agent_scores_the_share_of_sums(panels):
    tasks = [one for split in panels.values() for one in split]
    share = sum(sum(one.data["numbers"]) == one.data["target"] for one in tasks) / len(tasks)
    assert 0 < share < 0.15
    for env in (CountdownEnv(), CountdownAnswerEnv(turns=1)):
        assert sum(play(env, one, lambda e: e.lazy()) for one in tasks) / len(tasks) == pytest.approx(share, abs=1e-12)


# -- panels -----------------------------------------------------------------------------------------------


def test_panels_are_disjoint_by_numbers_solvable_and_of_known_size(panels):
    sets = {split: {descending(one.data["numbers"]) for one in tasks} for split, tasks in panels.items()}
    names = sorted(sets)
    for first, second in product(names, names):
        assert first == second or not sets[first] & sets[second], (first, second)
    assert {split: len(tasks) for split, tasks in panels.items()} | {"demos": 0} == {
        "test": 200, "validation": 100, "train": 600, "demos": 0}  # fmt: skip
    assert len(panels["demos"]) > 1000
    for split, tasks in panels.items():
        assert len({one.id for one in tasks}) == len(tasks)
        assert len({(*one.data["numbers"], one.data["target"]) for one in tasks}) == len(tasks)
        for one in tasks:
            assert one.split == split and one.env == "countdown-v1" and one.id.startswith(f"countdown-v1/{split}/")
            assert one.data["target"] in reachable(tuple(sorted(one.data["numbers"])))
            assert 10 <= one.data["target"] < 100
            assert all(1 <= number <= 13 for number in one.data["numbers"]) and len(one.data["numbers"]) == 3


def test_panels_repeat_byte_for_byte_and_the_seed_matters(panels):
    def blob(seed: int) -> str:
        return json.dumps({k: list(map(asdict, v)) for k, v in build_panels(seed).items()}, sort_keys=True)

    assert blob(0) == blob(0) != blob(1)
