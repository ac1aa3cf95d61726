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
from common.types import Task

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
    ("critique", "expected"),
    [(RIGHT, True), (WRONG, False), (f"2 is wrong.\n{RIGHT}\n", True), ("The sum is not correct.", False),
     ("It isn't right.", False), ("The solution is completely wrong", False), ("The correct answer is 7.", None),
     ("", None),
     ("The solution is not right. The correct answer is 7.", False), (f"{RIGHT} {WRONG}", None)],
)  # fmt: skip
def test_a_verdict_is_what_the_last_line_says_of_the_solution(env, critique, expected):
    assert env.verdict(critique) is expected


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


def test_changed_prompts_are_a_new_version(env):
    """Whoever changes a prompt counts VERSION up and writes the new hash here."""
    env.reset(TASK)
    prompts = [env.prompt()]
    for text in ("#### 8", WRONG):
        env.step(text)
        prompts.append(env.prompt())
    shown = "\n".join(prompt[0]["content"] for prompt in prompts)
    assert {VERSION: hashlib.sha256(shown.encode()).hexdigest()[:16]} == {"word-problem-roles-1": "295962b19aa3d2bc"}


def test_gsm8k_s_problems_can_be_played(monkeypatch, tmp_path):
    from common.envs.versions import gsm8k_v1

    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"question": "1 + 1?", "answer": "2\\n#### 2"}\n')
    monkeypatch.setenv("GSM8K_DATA", str(tmp_path))
    user_rows.forget()
    check_env(in_roles(make("gsm8k-v1", tmp_path)), gsm8k_v1.panels()["test"])
    user_rows.forget()
