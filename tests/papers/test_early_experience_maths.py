"""Early experience by hand: other actions at an expert's states, rows of training, acting by the last line, credit."""

from __future__ import annotations

import pytest

from common.envs.versions.countdown_v1 import CountdownEnv
from common.search.reader import CountdownReader, ShopReader
from common.search.transitions import OVER, Transition, Tried
from common.types import Observation, Step, Task, Trajectory, Turn
from papers.early_experience.maths import (
    LastLine, demonstrate, episode_dialogues, experience_cost, imitation_rows, reflection_rows,
    try_others, within_budget, world_rows,
)

NUMBERS, SHOP = CountdownReader(), ShopReader()
TASK = Task("countdown-v1/toy/0", "countdown-v1", "toy", {"numbers": [2, 3, 4], "target": 14})


class Says:
    """Answers every prompt with the same turns."""

    def __init__(self, *texts: str, cut: tuple[str, ...] = ()) -> None:
        self.turns = [Turn(text, -1.0, 3, finished=text not in cut) for text in texts]

    def propose(self, prompts, keys, n):
        self.keys = keys
        return [self.turns[:n] for _ in prompts]


@pytest.fixture
def played():
    env = CountdownEnv()
    return env, demonstrate(env, NUMBERS, TASK, env.oracle)


def test_a_demonstration_is_the_expert_s_episode_with_its_states(played):
    env, found = played
    assert env.reset(TASK) and [one.task_id for one, _ in found] == [TASK.id] * len(found)
    for i, (one, state) in enumerate(found):
        env.restore(state)
        assert env.prompt() == one.prompt
        seen = env.step(one.taken.action)
        assert one.taken.after == NUMBERS.shown(seen)
        assert seen.done == (i + 1 == len(found))
    assert seen.reward == 1.0 and found[-1][0].taken.after == "over 14"


def test_others_are_distinct_finished_executed_and_never_the_expert_s(played):
    env, found = played
    expert = found[0][0].taken.action
    policy = Says(expert, "nonsense", "cut off", "nonsense", "9 + 9", "late", cut=("cut off",))
    states = try_others(env, NUMBERS, found, policy, k=2, draws=5, seed=3)
    assert len(set(policy.keys)) == len(found)
    assert [tried.action for tried in states[0].others] == ["nonsense", "9 + 9"]
    env.restore(found[0][1])
    assert states[0].others[0].after == NUMBERS.shown(env.step("nonsense")) == "invalid step"
    assert states[0].sampled_tokens == 15 and states[0].taken == found[0][0].taken
    fewer = try_others(env, NUMBERS, found, policy, k=1, draws=5, seed=3)
    assert [m.others for m in fewer] == [m.others[:1] for m in states]


def test_no_alternative_is_an_empty_tuple(played):
    env, found = played
    only = [(Transition(m.task_id, m.prompt, m.taken), s) for m, s in found[:1]]
    assert try_others(env, NUMBERS, only, Says(found[0][0].taken.action), k=4, draws=1, seed=0)[0].others == ()


class Counting:
    """Every prompt has ten tokens."""

    def prompt_ids(self, prompt):
        return range(10)


def test_alternatives_cost_their_samples_and_their_execution(played):
    env, found = played
    states = try_others(env, NUMBERS, found, Says("nonsense", "9 + 9"), k=2, draws=2, seed=3)
    n = len(states)
    cost = experience_cost(states, 1, Counting(), draws=2)
    assert (cost.env_steps, cost.lm_calls, cost.samples) == (n, n, 2 * n)
    assert (cost.prompt_tokens, cost.sampled_tokens) == (10 * n, 6 * n)
    assert experience_cost(states, 2, Counting(), draws=2).env_steps == 2 * n
    assert experience_cost(states, 2, Counting(), draws=2, executed=False).env_steps == 0
    assert not any(vars(experience_cost(states, 0, Counting(), draws=2)).values())


# -- rows of training --------------------------------------------------------------------------------------------------

GOAL = "goal: soft lamp with color: red, and price lower than 50 dollars\n"
FITS = "a soft lamp $20\nabout: soft\ncolor: red\nchosen: none\nbuy now, < prev, back to search"
POOR = "a hard lamp $20\nabout: hard\ncolor: red\nchosen: none\nbuy now, < prev, back to search"


def state(page: str, taken: Tried, *others: Tried) -> Transition:
    return Transition("t", ({"role": "user", "content": GOAL + page},), taken, others)


LIST = state("did: search\npage 1\n1 a soft lamp $20\n2 a hard lamp $20\nback to search", Tried("click[1]", FITS),
              Tried("click[2]", POOR), Tried("click[9]", "invalid action\npage 1"))  # fmt: skip
ITEM = state("did: 1\n" + FITS, Tried("click[red]", FITS.replace("none", "red")), Tried("click[buy now]", OVER))
ALONE = state("search page", Tried("search[soft lamp]", "page 1\n1 a soft lamp $20\nback to search"))


def completions(rows) -> list[str]:
    return [row.completion for row in rows]


def test_the_rows_of_each_way_of_learning():
    states = [ALONE, LIST, ITEM]
    assert completions(imitation_rows(states)) == ["search[soft lamp]", "click[1]", "click[red]"]
    world = world_rows(states, 2, SHOP)
    # in shorthand. Asked: the goal, what the action touches on its page, the action; written: what is new
    assert completions(world) == ["about: hard\ncolor: red", "invalid action\npage 1", OVER]
    assert [[message["content"] for message in row.prompt] for row in world] == [
        [GOAL + "a hard lamp $20\nclick[2]"], [GOAL + "page 1\nback to search\nclick[9]"],
        ["\n".join([GOAL.strip(), *FITS.split("\n")[:-1], "click[buy now]"])],
    ]  # fmt: skip
    assert completions(world_rows(states, 1, SHOP)) == ["about: hard\ncolor: red", OVER]
    assert completions(reflection_rows(states, 2, SHOP)) == [
        "not lacks soft but choose red\nclick[1]",
        "not invalid but choose red\nclick[1]",
        "not over but fits\nclick[red]",
    ]


def test_invented_outcomes_are_those_of_others_at_the_same_kind_of_page():
    given = []

    def invent(real: list[str]) -> list[str]:
        given.append(real)
        return real[::-1]

    found = completions(reflection_rows([LIST, ITEM], 2, SHOP, invent=invent))
    assert given == [["lacks soft", "invalid"], ["over"]]
    assert completions(reflection_rows([LIST], 1, SHOP, invent=lambda real: ["choose red"])) == []  # as good as the expert's
    assert found == ["not invalid but choose red\nclick[1]", "not lacks soft but choose red\nclick[1]",
                     "not over but fits\nclick[red]"]


# -- acting and reinforcement learning ---------------------------------------------------------------------------------


def test_the_last_line_acts():
    env = CountdownEnv()
    query = env.reset(TASK) and env.actions()[0]
    thinking = LastLine(env)
    assert thinking.reset(TASK) == env.reset(TASK) and thinking.max_steps == env.max_steps
    start = thinking.snapshot()
    plain = thinking.step(query)
    after, prompt = thinking.snapshot(), thinking.prompt()
    thinking.restore(start)
    assert thinking.step(f"not over but fits\n{query}\n") == plain
    assert (thinking.snapshot(), thinking.prompt()) == (after, prompt) == (env.snapshot(), env.prompt())


def episode(reward: float, *texts: str, cut: int | None = None) -> Trajectory:
    last = len(texts) - 1
    return Trajectory("t", tuple(
        Step(({"role": "user", "content": f"{text} {k}"},), Turn(text, -1.0, 1, finished=k != cut),
             Observation("", reward if k == last else 0.0, terminated=k == last))
        for k, text in enumerate(texts)
    ))  # fmt: skip


def test_every_finished_turn_has_its_episode_s_advantage():
    episodes = [episode(1.0, "a", "b"), episode(0.0, "c"), episode(0.5, "d", "e", cut=0), episode(0.5, "f")]
    found = episode_dialogues(episodes, group=2, beta=0.1)
    assert [[(turn.answer, turn.advantage, turn.beta) for turn in one] for one in found] == [
        [("a", 1.0, 0.1), ("b", 1.0, 0.1)], [("c", -1.0, 0.1)], [("e", 0.0, 0.1)], [("f", 0.0, 0.1)]
    ]
    with pytest.raises(ValueError, match="at least 2"):
        episode_dialogues(episodes, group=1, beta=0.1)


def test_a_budget_keeps_whole_groups_and_overshoots_by_less_than_one():
    episodes = [episode(0.0, *"abc") for _ in range(8)]
    assert [len(within_budget(episodes, group=2, env_steps=n)) for n in (1, 6, 7, 12, 24)] == [2, 2, 4, 4, 8]
