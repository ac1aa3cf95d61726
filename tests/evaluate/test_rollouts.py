"""Episodes to numbers: a scripted policy in Countdown, everything counted by hand."""

from __future__ import annotations

import json

import pytest

from common.envs.versions.countdown_answer_v1 import CountdownAnswerEnv
from common.envs.versions.countdown_v1 import CountdownEnv, build_panels
from common.evaluate.rollouts import evaluate, records, summarise
from common.rng import derive
from common.types import Observation, Step, Task, Trajectory, Turn

TASKS = [Task(name, "countdown-v1", "test", {"numbers": [7, 8, 24], "target": 24}) for name in ("a", "b", "c", "d")]


class Scripted:
    """Plays ``scripts`` in the order of the tasks; keeps the keys it was given."""

    def __init__(self, scripts: list[list[str]]) -> None:
        self.scripts, self.keys, self.at = scripts, [], 0

    def propose(self, prompts, keys, n):
        running = [i for i, script in enumerate(self.scripts) if self.at < len(script)]
        assert len(running) == len(prompts) and n == 1
        self.keys.append(keys)
        answers = [[Turn(self.scripts[i][self.at], -0.5 * (i + 1), 4)] for i in running]
        self.at += 1
        return answers


SCRIPTS = [["8 - 7", "24 * 1"], ["8 - 7", "24 + 1"], ["what"] * 6, ["what", "8 - 7", "24 / 1"]]


def test_metrics_by_hand():
    metrics, episodes = evaluate(CountdownEnv(), TASKS, Scripted(SCRIPTS), seed=3)
    assert [e.task_id for e in episodes] == ["a", "b", "c", "d"]
    assert [e.reward for e in episodes] == [1.0, 0.0, 0.0, 1.0]
    assert [e.success for e in episodes] == [True, False, False, True]
    assert metrics == {"success": 0.5, "score": 0.5, "length": (2 + 2 + 6 + 3) / 4, "truncated": 0.25}
    assert [e.n_tokens for e in episodes] == [8, 8, 24, 12]


def test_partial_rewards_count_in_the_score_and_not_in_success():
    def ending(reward: float) -> Trajectory:
        step = Step(({"role": "user", "content": "p"},), Turn("x", 0.0, 1), Observation("", reward, terminated=True))
        return Trajectory("t", (step,))

    assert summarise([ending(r) for r in (1.0, 0.75, 0.25, 0.999)]) == {
        "success": 0.25, "score": pytest.approx(2.999 / 4), "length": 1.0, "truncated": 0.0}  # fmt: skip


def test_a_task_s_key_follows_seed_and_id_alone():
    first, other, reordered = Scripted(SCRIPTS), Scripted(SCRIPTS), Scripted(SCRIPTS[::-1])
    evaluate(CountdownEnv(), TASKS, first, seed=3)
    evaluate(CountdownEnv(), TASKS, other, seed=4)
    evaluate(CountdownEnv(), TASKS[::-1], reordered, seed=3)
    assert first.keys[0] == [derive(derive(3, "evaluate", t.id), "step", 0) for t in TASKS]
    assert reordered.keys[0] == first.keys[0][::-1] and not set(first.keys[0]) & set(other.keys[0])
    assert len({key for keys in first.keys for key in keys}) == sum(map(len, first.keys))


class Agent:
    """The environment's own oracle or lazy agent as a policy; it reads the state from the prompt."""

    def __init__(self, env, which: str) -> None:
        self.env, self.which = env, which

    def propose(self, prompts, keys, n):
        answers = []
        for prompt in prompts:
            text = prompt[0]["content"].removeprefix("numbers ").removesuffix(" expression")
            numbers, target = text.split(" target ")
            self.env.reset(Task("x", "x", "x", {"numbers": list(map(int, numbers.split())), "target": int(target)}))
            answers.append([Turn(getattr(self.env, self.which)(), 0.0, 1)])
        return answers


@pytest.mark.parametrize("form", [CountdownEnv, CountdownAnswerEnv], ids=["steps", "answer"])
def test_oracle_and_lazy_reach_their_known_scores(form):
    tasks = build_panels(0)["test"]
    lazy = sum(sum(task.data["numbers"]) == task.data["target"] for task in tasks) / len(tasks)
    assert evaluate(form(), tasks, Agent(form(), "oracle"), seed=0)[0]["success"] == 1.0
    assert evaluate(form(), tasks, Agent(form(), "lazy"), seed=0)[0]["success"] == pytest.approx(lazy)


def test_records_are_one_json_row_a_step():
    _, episodes = evaluate(CountdownEnv(), TASKS, Scripted(SCRIPTS), seed=3)
    rows = records(episodes)
    assert json.loads(json.dumps(rows)) == rows and len(rows) == 13
    assert rows[1] == {"task": "a", "step": 1, "prompt": "numbers 24 1 target 24", "action": "24 * 1", "logprob": -0.5,
                       "reward": 1.0, "done": True}  # fmt: skip
    assert [row["done"] for row in rows if row["task"] == "c"] == [False] * 5 + [True]
