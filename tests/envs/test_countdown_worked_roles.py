"""countdown-worked-roles-v1: what each role reads and says, answers kept and replaced, judged by hand; what the base model is shown."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from common.base import CRITIC_QUESTION, demonstrations
from common.envs import check_env
from common.envs.answers import GAMMA
from common.envs.countdown import descending
from common.envs.roles import ROLES
from common.envs.versions.countdown_worked_roles_v1 import (
    KEEP, KEPT, MISCALCULATED, SIZES, CountdownWorkedRolesEnv, build,
)  # fmt: skip
from common.envs.versions.countdown_worked_v1 import short_sighted_answer
from common.evaluate.correction import attempts_of
from common.learn.batches import encode
from common.lm.bases import settings_for
from common.lm.tokenizer import train_tokenizer
from common.rng import generator
from common.types import Observation, Step, Task, Trajectory, Turn

TASK = Task("t", "countdown-worked-roles-v1", "t", {"numbers": [3, 14, 5], "target": 16})
RIGHT, WRONG, FALSE = "14 + 5 = 19 , 19 - 3 = 16", "14 + 5 = 19 , 19 + 3 = 22", "14 + 5 = 18 , 18 - 3 = 15"
GIVEN = "numbers 14 5 3 target 16"


@pytest.fixture(scope="module")
def panels():
    return {name: [Task(**row) for row in rows] for name, rows in build(0).items()}


@pytest.fixture
def env() -> CountdownWorkedRolesEnv:
    made = CountdownWorkedRolesEnv()
    made.reset(TASK)
    return made


def play(env: CountdownWorkedRolesEnv, *turns: str) -> float:
    env.reset(TASK)
    return [env.step(turn).reward for turn in turns][-1]


def test_each_role_reads_its_own_prompt_and_the_last_turn_alone_is_rewarded(env):
    seen = []
    for text in (WRONG, "makes 22 wrong", RIGHT):
        [message] = env.prompt()
        seen.append((env.role_of(env.prompt()), env.role(), message["content"]))
        observation = env.step(text)
    assert seen == [
        ("generator", "generator", f"generate {GIVEN}"),
        ("verifier", "verifier", f"verify {GIVEN} answer {WRONG}"),
        ("refiner", "refiner", f"refine {GIVEN} answer {WRONG} critique makes 22 wrong"),
    ]
    assert observation.terminated and observation.reward == 1.0


@pytest.mark.parametrize(("turns", "held", "reward"), [
    ((RIGHT, "makes 16 right", KEEP), RIGHT, 1.0), ((RIGHT, "makes 19 wrong", KEEP), RIGHT, 1.0), ((WRONG, "makes 16 right", KEEP), WRONG, 0.0),
    ((WRONG, "makes 22 wrong", RIGHT), RIGHT, 1.0), ((RIGHT, "makes 16 right", WRONG), WRONG, 0.0),
    ((RIGHT, "", f"so\n {KEEP} \n"), RIGHT, 1.0),           # the last line counts
    ((KEEP, "invalid wrong", KEEP), KEEP, 0.0),             # nothing was answered that could be kept
    ((RIGHT, KEEP, KEEP), RIGHT, 1.0), ((WRONG, RIGHT, KEEP), WRONG, 0.0),   # a critique is never kept
    ((RIGHT, "makes 16 right", "keep keep"), "keep keep", 0.0), ((RIGHT, "makes 16 right", "kee"), "kee", 0.0),
    ((RIGHT, "makes 16 right", "14 + 5 = 19 , 19 -"), "14 + 5 = 19 , 19 -", 0.0), ((RIGHT, "makes 16 right", ""), "", 0.0),
])  # fmt: skip
def test_the_refiner_keeps_or_replaces_the_generator_s_answer(env, turns, held, reward):
    assert play(env, *turns) == reward and env.snapshot().attempts[0] == turns[0] and env.snapshot().attempts[-1] == held
    assert env.snapshot().attempts[1] == turns[1]
    episode = Trajectory("t", tuple(Step((), Turn(text, 0.0, 1), Observation("")) for text in turns))
    judged = attempts_of(env, [TASK], [episode])
    assert judged.answers[0][-1] == held and bool(judged.correct[0, -1]) == bool(reward)


@pytest.mark.parametrize(("answer", "value", "critique"), [
    (RIGHT, 16, "makes 16 right"), (WRONG, 22, "makes 22 wrong"), (f"so\n{RIGHT}\n", 16, "makes 16 right"),
    (FALSE, None, "invalid wrong"), ("14 + 5 = 19", None, "invalid wrong"), ("14 + 5 = 19 , 19 - 5 = 14", None, "invalid wrong"),
    ("", None, "invalid wrong"), (KEEP, None, "invalid wrong"), ("14 + 5 = 19 , 19 - 3 = 1", None, "invalid wrong"),
])  # fmt: skip
def test_what_an_answer_makes_and_what_should_be_said_of_it(env, answer, value, critique):
    assert env.worth(answer) == value and env.critique(answer) == critique
    assert env.verdict(critique) == (value == 16) == (env.score(answer) == 1.0) and env.computed(critique) == value


def test_false_critiques_have_false_verdicts(env):
    assert env.false_critiques(RIGHT) == [f"makes {n} wrong" for n in (13, 14, 15, 17, 18, 19)]
    assert env.false_critiques(WRONG) == env.false_critiques(FALSE) == ["makes 16 right"]


@pytest.mark.parametrize(("critique", "verdict", "value"), [
    ("makes 19 wrong", False, 19), ("invalid wrong", False, None), ("right", True, None), ("", None, None), ("makes 16 righ", None, 16),
    ("makes", None, None), ("right right wrong", False, None), ("wrong\nmakes 5 right", True, 5),
])  # fmt: skip
def test_junk_and_cut_critiques_are_read_by_their_last_word(env, critique, verdict, value):
    assert env.verdict(critique) is verdict and env.computed(critique) == value
    assert play(env, RIGHT, critique, KEEP) == 1.0


def test_actions_are_those_of_the_role_and_the_lazy_team_adds_everything(env):
    assert RIGHT in env.actions() and KEEP not in env.actions() and env.lazy() == WRONG
    start = env.snapshot()
    assert env.value(start) == GAMMA**2 == env.q(start, "nonsense")
    env.step(WRONG)
    assert env.actions() == ["makes 22 wrong", "makes 16 right"] and env.oracle() == "makes 22 wrong" and env.lazy() == "right"
    env.step("right")
    assert env.actions()[0] == KEEP == env.lazy() and (env.q(env.snapshot(), KEEP), env.q(env.snapshot(), env.oracle())) == (0.0, 1.0)
    env.step(KEEP)
    assert env.actions() == []


def test_a_slip_is_carried_on():
    answers = {short_sighted_answer((14, 5, 3), 16, generator("slip", k), slip=0, off=1) for k in range(40)}
    assert "14 + 5 = 20 , 20 - 3 = 17" in answers
    assert {short_sighted_answer((5, 3), 8, generator(k), slip=0, off=2) for k in range(5)} == {"5 + 3 = 10"}
    assert {short_sighted_answer((5, 3), 2, generator(k), slip=0, off=-2) for k in range(5)} == {"5 - 3 = 4"}  # results are positive


def test_panels_share_no_numbers_and_are_this_world_s_own(panels):
    assert {name: len(tasks) for name, tasks in panels.items()} == SIZES == {"test": 500, "validation": 300, "demos": 5000, "train": 3000}
    sets = {name: {descending(task.data["numbers"]) for task in tasks} for name, tasks in panels.items()}
    assert sum(map(len, sets.values())) == len(set().union(*sets.values())) and max(max(one) for one in set().union(*sets.values())) <= 24
    assert {task.env for tasks in panels.values() for task in tasks} == {CountdownWorkedRolesEnv.id}


def test_the_contract_holds(panels):
    check_env(CountdownWorkedRolesEnv(), panels["test"][:20])


def test_demonstrations_check_mostly_truly_and_hardly_work_together(panels):
    env, seen = CountdownWorkedRolesEnv(), Counter()
    for task, repeat in product(panels["demos"], range(2)):
        shown = list(env.demonstrations(task, generator(repeat, task.id), CRITIC_QUESTION))
        assert [env.role_of(one.messages[:1]) for one in shown] == list(ROLES) and {one.learned for one in shown} == {1}
        (_, first), (asked, critique), (read, last) = ([message["content"] for message in one.messages] for one in shown)
        answer = asked.split(" answer ")[1]
        assert read == f"refine {asked.removeprefix('verify ')} critique {critique}" and CRITIC_QUESTION not in f"{asked} {read}"
        env.reset(task)
        right, said = env.score(answer) == 1.0, env.verdict(critique)
        assert env.worth(first) is not None and (last == KEEP or env.worth(last) is not None)
        seen.update({("generator", env.score(first)): 1, ("answers", right): 1, ("verdicts", said): 1, ("true", said == right): 1,
                     ("kept", said): last == KEEP, ("invalid", env.worth(answer) is None): 1})  # fmt: skip
        assert said != right or critique == env.critique(answer)
    n = 2 * len(panels["demos"])
    assert 0.45 < seen["generator", 1.0] / n < 0.65
    assert seen["answers", True] / n == pytest.approx(0.5, abs=0.06) and seen["verdicts", True] / n == pytest.approx(0.5, abs=0.06)
    assert seen["true", False] / n == pytest.approx(CountdownWorkedRolesEnv.FALSE_CRITIQUE, abs=0.02)
    assert seen["invalid", True] / seen["answers", False] == pytest.approx(MISCALCULATED, abs=0.03)
    for said, often in KEPT.items():
        assert seen["kept", said] / seen["verdicts", said] == pytest.approx(often, abs=0.03)


def test_a_fresh_try_does_not_look_at_the_answer_before(panels):
    """After right and after wrong answers that were called wrong, demonstrated replacements are right equally often."""
    env, seen = CountdownWorkedRolesEnv(), Counter()
    for task, repeat in product(panels["demos"][:2000], range(3)):
        *_, refined = env.demonstrations(task, generator(repeat, task.id), CRITIC_QUESTION)
        env.reset(task)
        read, last = (message["content"] for message in refined.messages)
        if last != KEEP and " wrong" in read:
            before = env.score(read.split(" answer ")[1].split(" critique ")[0])
            seen[before] += 1
            seen["right", before] += env.score(last)
    assert seen["right", 1.0] / seen[1.0] == pytest.approx(seen["right", 0.0] / seen[0.0], abs=0.12)


def test_every_demonstration_and_the_worst_prompt_fit_the_context(panels):
    env, chosen = CountdownWorkedRolesEnv(), settings_for(CountdownWorkedRolesEnv.id, "cpu")
    examples = demonstrations(env, panels["demos"], seed=0, repeats=1)
    texts = [f"{e.prompt[0]['content']} {e.completion}" for e in examples[:5_000]]
    tokenizer = train_tokenizer(texts, chosen.vocab, split_digits=chosen.split_digits)
    rows, _ = encode("t", tokenizer, [e.prompt for e in examples], [e.completion for e in examples], max_length=chosen.context)
    assert len(rows) == 3 * SIZES["demos"] and max(map(len, rows)) <= 64
    play(env, "~" * 500, "^" * 500)  # the worst a policy can say: every character a token
    env.reset(TASK)
    env.step("~" * 500)
    env.step("^" * 500)
    [longest], _ = encode("t", tokenizer, [env.prompt()], ["x"], max_length=chosen.context)
    assert len(longest) + 24 <= chosen.context
