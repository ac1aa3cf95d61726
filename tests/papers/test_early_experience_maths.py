"""Other actions at an expert's states: what is tried, what is kept, and that the demonstration stays untouched."""

from __future__ import annotations

import pytest

from common.envs.versions.countdown_v1 import CountdownEnv
from common.search.experience import OVER, QUESTION, Moment, asked, demonstrate, shown, try_others
from common.types import Observation, Task, Turn

TASK = Task("countdown-v1/toy/0", "countdown-v1", "toy", {"numbers": [2, 3, 4], "target": 14})


class Said:
    """Answers every prompt with the same turns."""

    def __init__(self, *texts: str, cut: tuple[str, ...] = ()) -> None:
        self.turns = [Turn(text, -1.0, 3, finished=text not in cut) for text in texts]

    def propose(self, prompts, keys, n):
        self.keys = keys
        return [self.turns[:n] for _ in prompts]


@pytest.fixture
def played():
    env = CountdownEnv()
    return env, demonstrate(env, TASK, env.oracle)


def test_a_demonstration_is_the_expert_s_episode_with_its_states(played):
    env, found = played
    assert env.reset(TASK) and [moment.task_id for moment, _ in found] == [TASK.id] * len(found)
    for i, (moment, state) in enumerate(found):
        env.restore(state)
        assert env.prompt() == moment.prompt
        seen = env.step(moment.expert.action)
        assert moment.expert.after == shown(seen)
        assert seen.done == (i + 1 == len(found))
    assert seen.reward == 1.0 and found[-1][0].expert.after == OVER


def test_others_are_distinct_finished_executed_and_never_the_expert_s(played):
    env, found = played
    expert = found[0][0].expert.action
    policy = Said(expert, "nonsense", "cut off", "nonsense", "9 + 9", "late", cut=("cut off",))
    moments = try_others(env, found, policy, k=2, draws=5, seed=3)
    assert len(set(policy.keys)) == len(found)
    assert [tried.action for tried in moments[0].others] == ["nonsense", "9 + 9"]
    env.restore(found[0][1])
    assert moments[0].others[0].after == shown(env.step("nonsense"))
    assert moments[0].sampled_tokens == 15 and moments[0].expert == found[0][0].expert
    fewer = try_others(env, found, policy, k=1, draws=5, seed=3)
    assert [m.others for m in fewer] == [m.others[:1] for m in moments]


def test_no_alternative_is_an_empty_tuple(played):
    env, found = played
    only = [(Moment(m.task_id, m.prompt, m.expert), s) for m, s in found[:1]]
    assert try_others(env, only, Said(found[0][0].expert.action), k=4, draws=1, seed=0)[0].others == ()


def test_reward_is_no_part_of_what_is_kept():
    assert shown(Observation("bought r9h", 1.0, terminated=True)) == shown(Observation("x", truncated=True)) == OVER
    assert shown(Observation("a page")) == "a page"


def test_the_question_about_the_next_state():
    prompt = ({"role": "user", "content": "page"},)
    assert asked(prompt, "go") == (
        *prompt, {"role": "assistant", "content": "go"}, {"role": "user", "content": QUESTION}
    )
