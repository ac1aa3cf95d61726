"""Word problems line by line: what ends an episode, what is refused, and prompts that keep to their version."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from common.envs import check_env, data_hash, load_panel, make, user_rows
from common.envs.steps import INSTRUCTION, INVALID, LONGEST, NEXT, VERSION, refusal
from common.envs.versions import gsm8k_steps_v1 as gsm8k
from common.envs.versions import gsm8k_v1
from common.envs.versions import reasoning_gym_steps_v1 as gym
from common.envs.versions import reasoning_gym_v1 as whole_gym
from common.evaluate.habits import habits
from common.search.rollout import rollout
from common.types import Task, Turn

TASKS = [Task("t", gsm8k.ENV_ID, "test", {"question": "Tom has 3 eggs and finds 4. How many?", "answer": "7"}),
         Task("u", gsm8k.ENV_ID, "test", {"question": "Half of 3?", "answer": "1.5"})]  # fmt: skip


@pytest.fixture
def env(tmp_path):
    env = make(gsm8k.ENV_ID, tmp_path)
    env.reset(TASKS[0])
    return env


def test_it_keeps_the_contract(env):
    check_env(env, TASKS)


GOES_ON = [
    "so 3 + 4 = 7", "7", "Tom has 7 eggs.", "The answer is clear.", "We need the answer to 3 + 4.", "####",
    "The answer is 3 + 4 =", "Let us answer 7 questions.", "**7**",
]  # fmt: skip
DECLARES = [
    ("The answer is 7", 1), ("#### 7", 1), ("####7", 1), ("3 + 4 = 7 #### 7", 1), ("answer: 7 eggs", 1),
    ("\\boxed{7}", 1), ("The answer is $7.00.", 1), ("Answer: 3 + 4 = 7", 1), ("The answer is 14/2.", 1),
    ("#### \\frac{14}{2}", 1), ("  #### 7\n", 1), ("#### 8 #### 7", 1), ("#### 8", 0), ("#### 70", 0), ("#### -7", 0),
    ("The answer is 7. No, the answer is 8.", 0), ("The answer is 3, not 7", 0), ("#### 7,000", 0),
    ("#### " + "9" * 150, 0),
]  # fmt: skip


@pytest.mark.parametrize("line", GOES_ON)
def test_a_line_that_declares_nothing_goes_on(env, line):
    seen = env.step(line)
    assert (seen.text, seen.done, seen.reward) == (NEXT, False, 0.0)
    assert [m["content"] for m in env.prompt()[-3:]] == [TASKS[0].data["question"], line, NEXT]


@pytest.mark.parametrize(("line", "reward"), DECLARES)
def test_a_line_that_declares_an_answer_ends_the_episode(env, line, reward):
    env.step("3 + 4 = 9")  # what earlier lines say does not count
    seen = env.step(line)
    assert seen.terminated and not seen.truncated and seen.reward == reward
    with pytest.raises(RuntimeError, match="task t is over"):
        env.step("#### 7")


@pytest.mark.parametrize(("turn", "why"), [
    ("", "is empty"), (" \n\t", "is empty"), ("3 + 4 = 7\n#### 7", "these are 2 lines"),
    ("x" * (LONGEST + 1), "has 201 characters"), ("the answer is 7" + " " * LONGEST + "!", "has 216 characters"),
])  # fmt: skip
def test_what_is_no_line_costs_a_step_and_is_told_why(env, turn, why):
    env.step("3 + 4 = 7")
    before = env.prompt()
    seen = env.step(turn)
    assert seen.text.startswith("invalid action: ") and why in seen.text and not seen.done
    assert env.prompt()[:-1] == before[:-1] and env.prompt()[-1]["content"] == f"{NEXT}\n{seen.text}"
    assert env.snapshot().lines == ("3 + 4 = 7",) and env.snapshot().steps == 2
    assert env.step("#### 7").reward == 1.0


def test_an_admissible_line_clears_the_refusal(env):
    start = env.prompt()
    env.step("")
    assert "invalid" in env.prompt()[-1]["content"]
    env.step("3 + 4 = 7")
    assert "invalid" not in str(env.prompt()) and env.prompt()[: len(start)] == start
    assert refusal("x" * LONGEST) == ""


def test_the_limit_of_lines_truncates_and_refused_ones_count(env):
    seen = [env.step("" if i % 2 else "on") for i in range(gsm8k.MAX_STEPS)]
    assert [one.done for one in seen] == [False] * (gsm8k.MAX_STEPS - 1) + [True]
    assert seen[-1].truncated and not seen[-1].terminated and seen[-1].reward == 0.0 and env.actions() == []
    env.reset(TASKS[0])
    seen = [env.step("on") for _ in range(gsm8k.MAX_STEPS - 1)] + [env.step("#### 7")]
    assert seen[-1].terminated and not seen[-1].truncated and seen[-1].reward == 1.0


def test_one_environment_serves_many_states_and_tasks(env):
    env.step("3 + 4 = 7")
    first = env.snapshot()
    env.reset(TASKS[1])
    env.step("3 / 2")
    second = env.snapshot()
    for _ in range(2):
        env.restore(first)
        assert env.oracle() == "#### 7" and TASKS[0].data["question"] in str(env.prompt())
        assert env.step("#### 7").reward == 1.0
        env.restore(second)
        assert env.step("The answer is 1.5").reward == 1.0
    assert hash(first) != hash(second) and env.value(first) == 1.0 and env.value(env.snapshot()) == 0.0


def test_exact_values_tell_answers_from_lines_that_go_on(env):
    start = env.snapshot()
    values = [env.q(start, line) for line in ("#### 7", "3 + 4 = 7", "nonsense", "", "#### 8")]
    assert values == [1.0, env.gamma, env.gamma, env.gamma, 0.0] and env.snapshot() == start
    for _ in range(gsm8k.MAX_STEPS - 1):
        env.step("on")
    assert [env.q(env.snapshot(), line) for line in ("#### 7", "on")] == [1.0, 0.0]  # the last line


class Writer:
    """Writes these lines, one a turn."""

    def __init__(self, *lines: str) -> None:
        self.left = iter(lines)

    def propose(self, prompts, keys, n):
        return [[Turn(next(self.left), -1.0, 3)] for _ in prompts]


def test_a_policy_plays_whole_episodes(env):
    [solved] = rollout(env, TASKS[:1], Writer("", "3 + 4 = 7", "#### 7"), keys=[0])
    assert solved.success and len(solved.steps) == 3
    assert habits([solved], invalid=INVALID)["invalid"] == pytest.approx(1 / 3)
    [lost] = rollout(env, TASKS[:1], Writer(*["3 + 4 = 7"] * gsm8k.MAX_STEPS), keys=[0])
    assert not lost.success and lost.steps[-1].observation.truncated


def test_changed_words_are_a_new_version():
    """Whoever changes them counts VERSION up and writes the new hash here."""
    words = hashlib.sha256(json.dumps([INSTRUCTION, NEXT, gsm8k.EXAMPLES]).encode()).hexdigest()[:16]
    assert {VERSION: words} == {"steps-1": "e24ca6101748dc78"}


def test_gsm8k_shows_its_examples_and_asks_for_the_next_line(env):
    prompt = env.prompt()
    assert prompt[0] == {"role": "system", "content": INSTRUCTION}
    assert prompt[-1] == {"role": "user", "content": TASKS[0].data["question"]} and prompt[-2]["content"] == "#### 70"
    turns = sum(len(lines) for _, lines in gsm8k.EXAMPLES)
    assert [m["role"] for m in prompt[1:]] == ["user", "assistant"] * turns + ["user"]
    for question, lines in gsm8k.EXAMPLES:
        env.reset(Task("e", gsm8k.ENV_ID, "train", {"question": question, "answer": lines[-1].removeprefix("#### ")}))
        assert [env.step(line).reward for line in lines] == [0.0] * (len(lines) - 1) + [1.0]


@pytest.mark.parametrize(("dataset", "question", "answer", "lines"), [
    ("letter_counting", 'How many times does the letter "m" appear in the text: "remarked Mr"?', "2",
     ("remarked 1, Mr 1", "1 + 1 = 2", "#### 2")),
    ("needle_haystack", "Al likes x. Bo adores y. \nWho adores y? Reply only with a name.", "Bo",
     ("Bo adores y.", "#### Bo")),
    ("word_sequence_reversal", "Solve it.\n\nReverse this list of words: the, simple, if", "if, simple, the",
     ("last: if", "before: simple", "before that: the", "#### if, simple, the")),
])  # fmt: skip
def test_reasoning_gyms_examples_are_worked_out(dataset, question, answer, lines):
    assert gym.worked(dataset, question, answer) == lines
    assert [gym.declares(line) for line in lines] == [False] * (len(lines) - 1) + [True]


@pytest.mark.parametrize(("line", "ends"), [
    ("#### Dan", True), ("The answer is Dan.", True), ("Answer: 3", True), ("Dan adores it.", False),
    ("last: 000", False), ("the 1, hearers 1", False), ("1 + 1 = 2", False), ("####", False),
])  # fmt: skip
def test_what_declares_an_answer_to_reasoning_gym(line, ends):
    assert gym.declares(line) == ends


def test_reasoning_gyms_own_tasks_line_by_line(tmp_path):
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed: pip install -e '.[reasoning-gym]'")
    env = make(gym.ENV_ID, tmp_path)
    for split in ("train", "validation", "test"):
        tasks = load_panel(tmp_path, f"{gym.ENV_ID}/{split}")
        assert tasks == load_panel(tmp_path, f"{whole_gym.ENV_ID}/{split}")
        check_env(env, tasks[:12])
    assert data_hash(tmp_path, gym.ENV_ID) == data_hash(tmp_path, whole_gym.ENV_ID)
    for task in tasks[: len(whole_gym.CELLS)]:  # a task of each kind; examples are as right as they look
        for (question, answer), (shown, lines) in zip(task.data["examples"], gym.examples(task), strict=True):
            env.reset(Task("e", gym.ENV_ID, "train", {**task.data, "question": question, "answer": answer}))
            assert shown == question and [env.step(line).reward for line in lines] == [0.0] * (len(lines) - 1) + [1.0]
            if task.data["dataset"] == "letter_counting":
                assert sum(map(int, lines[1].partition(" = ")[0].split(" + "))) == int(answer)


def test_gsm8ks_own_problems_line_by_line(tmp_path):
    if not os.environ.get("GSM8K_DATA"):
        pytest.skip("needs GSM8K's rows; set GSM8K_DATA to a folder with train.jsonl and test.jsonl")
    user_rows.forget()
    env, tasks = make(gsm8k.ENV_ID, tmp_path), load_panel(tmp_path, f"{gsm8k.ENV_ID}/test")
    assert tasks == load_panel(tmp_path, f"{gsm8k_v1.ENV_ID}/test")
    check_env(env, tasks[:40])
    solutions = {row["question"].strip(): row["answer"] for row in gsm8k_v1.rows()["test"]}
    ended = []
    for task in tasks:
        env.reset(task)
        lines = solutions[task.data["question"]].splitlines()
        seen = [env.step(line) for line in lines if refusal(line) == "" and not env.snapshot().over]
        ended.append(seen[-1].reward == 1.0 and len(seen) == len(lines))
    assert sum(ended) / len(ended) > 0.97  # else a line is above the limit, or announces a result before the end
    user_rows.forget()
