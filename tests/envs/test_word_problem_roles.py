"""Word problems by three roles: who reads what, verdicts in prose, the contract; prompts keep to their version."""

from __future__ import annotations

import hashlib

import pytest

from common.envs import make, user_rows
from common.envs.contract import check_env
from common.envs.roles import ROLES
from common.envs.versions.countdown_roles_v1 import CountdownRolesEnv
from common.envs.word_problem_roles import RIGHT, VERSION, WRONG, WordProblemRolesEnv, in_roles
from common.envs.word_problems import WordProblemEnv
from common.evaluate.team import answers_of, chain_report, credit_audit, dialogue_records
from common.search.expansion import Branch, Expansion
from common.types import Step, Task, Trajectory, Turn

TASK = Task("t", "gsm8k-v1", "test", {"question": "Tom has 3 eggs and finds 4. How many?", "answer": "7"})


@pytest.fixture
def env():
    return WordProblemRolesEnv(id="gsm8k-v1")


def test_each_role_reads_what_was_said_before_it_and_the_generator_what_one_agent_reads(env):
    alone = WordProblemEnv(id="gsm8k-v1")
    alone.reset(TASK), env.reset(TASK)
    assert env.prompt() == alone.prompt() and env.role_of(env.prompt()) == "generator"
    assert not env.step("3 + 4 = 8\n#### 8\n").done
    [verify] = env.prompt()
    assert env.role_of(env.prompt()) == "verifier" and verify["content"].startswith(TASK.data["question"])
    assert "3 + 4 = 8\n#### 8\n\n" in verify["content"] and verify["content"].endswith(env.CHECK)
    env.step(f"It is 7. {WRONG}")
    [refine] = env.prompt()
    assert env.role_of(env.prompt()) == "refiner" and refine["content"].endswith(alone.prompt()[0]["content"])
    assert "#### 8\n\n" in refine["content"] and f"It is 7. {WRONG}\n\n" in refine["content"]
    last = env.step("#### 7")
    assert last.terminated and last.reward == 1.0


def test_what_a_model_writes_cannot_change_whose_turn_a_prompt_is(env):
    env.reset(TASK)
    env.step(f"{env.PROPOSED}\n{env.CHECK}")
    assert env.role_of(env.prompt()) == "verifier"
    env.step(env.CHECK)
    assert env.role_of(env.prompt()) == "refiner"


@pytest.mark.parametrize(
    ("critique", "said"),
    [(RIGHT, True), (WRONG, False), (f"2 is wrong.\n{RIGHT}\n", True), ("The sum is not correct.", False),
     ("It isn't right.", False), ("The solution is completely wrong", False), ("The correct answer is 7.", None),
     ("", None),
     ("The solution is not right. The correct answer is 7.", False), (f"{RIGHT} {WRONG}", None)],
)  # fmt: skip
def test_a_verdict_is_what_the_last_line_says_of_the_solution(env, critique, said):
    assert env.verdict(critique) is said


def test_the_contract_is_kept(env):
    check_env(env, [TASK])
    env.reset(TASK)
    env.step("#### 7")
    assert env.actions() == [RIGHT, WRONG] and env.lazy() == RIGHT
    env.step(RIGHT)
    assert env.q(env.snapshot(), "#### 7") == 1.0 and env.q(env.snapshot(), "#### 8") == 0.0


def test_environments_with_roles_stay_as_they_are():
    game, prose = CountdownRolesEnv(), WordProblemEnv(id="gsm8k-v1")
    assert in_roles(game) is game and in_roles(prose).id == "gsm8k-v1" and in_roles(prose).max_steps == len(ROLES)
    assert game.role_of(({"role": "user", "content": "verify x"},)) == "verifier"
    assert (game.verdict("makes 3 wrong"), game.computed("makes 3 wrong")) == (False, 3)


def chain(env, *texts: str) -> Trajectory:
    env.reset(TASK)
    return Trajectory("t", tuple(Step(env.prompt(), Turn(text, -1.0, 9), env.step(text)) for text in texts))


def test_chains_in_prose_are_judged_by_the_numbers_they_declare(env):
    repaired = "3 + 4 = 7\n#### 7\nDone in 2 steps."
    told = [chain(env, "#### 8\nThat is it.", WRONG, repaired), chain(env, "#### 7", WRONG, "Answer: 7."),
            chain(env, "#### 7", RIGHT, "no idea")]  # fmt: skip
    attempts = answers_of(env, [TASK] * 3, told)
    assert attempts.answers == (("8", "7"), ("7", "7"), ("7", ""))
    assert attempts.correct.tolist() == [[False, True], [True, True], [True, False]]
    found = chain_report(env, [TASK] * 3, told, verdict=env.verdict, value=env.computed)
    expected = {"success": 2 / 3, "verifier_acc": 2 / 3, "follow_right": 0.0, "follow_wrong": 0.5}
    assert {name: found[name] for name in expected} == pytest.approx(expected) and "verifier_value" not in found
    rows = dialogue_records(env, [TASK] * 3, told, ROLES, verdict=env.verdict)
    assert rows[2]["text"] == repaired and [row["right"] for row in rows[:3]] == [False, True, True]


def test_credit_in_prose_is_held_against_the_truth(env):
    def branch(depth: int, parent: int, text: str, reward: float | None = None) -> Branch:
        return Branch(depth, parent, (), Turn(text, -1.0, 1), reward)

    tree = Expansion("t", [branch(0, -1, "So 7.\n#### 7"), branch(1, 0, RIGHT), branch(1, 0, WRONG),
                           branch(2, 1, "#### 7", 1.0), branch(2, 2, "#### 6", 0.0)])  # fmt: skip
    found = credit_audit(env, [TASK], [tree], [[True, True, False, True, False]], verdict=env.verdict)
    assert found == {"label_generator": 1.0, "label_verifier": 1.0, "pairs_verifier": 1, "pairs_refiner": 0,
                     "pair_true": 1.0, "pair_alike": 0.0}  # fmt: skip


def test_changed_prompts_are_a_new_version(env):
    """Whoever changes a prompt counts VERSION up and writes the new hash here."""
    shown = "\n".join(step.prompt[0]["content"] for step in chain(env, "#### 8", WRONG, "#### 7").steps)
    assert {VERSION: hashlib.sha256(shown.encode()).hexdigest()[:16]} == {"word-problem-roles-1": "295962b19aa3d2bc"}


def test_gsm8k_s_problems_can_be_played(monkeypatch, tmp_path):
    from common.envs.versions import gsm8k_v1

    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"question": "1 + 1?", "answer": "2\\n#### 2"}\n')
    monkeypatch.setenv("GSM8K_DATA", str(tmp_path))
    user_rows.forget()
    check_env(in_roles(make("gsm8k-v1", tmp_path)), gsm8k_v1.panels()["test"])
    user_rows.forget()
