"""Looking ahead, by hand: worlds, paths, votes, and which action is taken."""

from __future__ import annotations

import pytest

from common.search.transitions import OVER
from common.types import Cost, Observation, Task, Turn
from papers.webevolver.lookahead import (
    Alone, Exact, Imagined, LookAhead, Metered, Real, Seen, Simulation, Votes, act, distinct, first_best, foresee,
    voted,
)


def turn(text: str, finished: bool = True, n_tokens: int = 2) -> Turn:
    return Turn(text, -1.0, n_tokens, finished)


def state(text: str, hidden: object = None) -> Seen:
    return Seen(({"role": "user", "content": text},), hidden=hidden)


class Line:
    """Walk a line of whole numbers with "+" and "-" from 0 in at most 4 steps; standing on 2 ends it with reward 1."""

    id, max_steps = "line", 4

    def __init__(self) -> None:
        self.at, self.steps, self.asked = 0, 0, 0

    def reset(self, task, seed=0):
        self.at, self.steps = 0, 0
        return Observation("0")

    def step(self, action):
        self.asked += 1
        self.at, self.steps = self.at + {"+": 1, "-": -1}[action], self.steps + 1
        won = self.at == 2
        return Observation(str(self.at), float(won), terminated=won, truncated=not won and self.steps == 4)

    def prompt(self):
        return ({"role": "user", "content": f"at {self.at}"},)

    def snapshot(self):
        return (self.at, self.steps)

    def restore(self, snapshot):
        self.at, self.steps = snapshot


class Says:
    """Answers with the texts it is given, in turn, whatever it is asked."""

    def __init__(self, *texts: str, finished: bool = True) -> None:
        self.texts, self.finished, self.calls = texts, finished, []

    def propose(self, prompts, keys, n):
        self.calls.append((prompts, keys, n))
        return [[turn(self.texts[i % len(self.texts)], self.finished) for i in range(n)] for _ in prompts]


def number(path) -> float:
    """A judge that reads the last state: the number it shows."""
    last = path[-1]
    return 9.0 if last.text == OVER else float(last.text)


def test_first_distinct_votes_and_ties():
    turns = [turn("a"), turn("b"), turn("a"), turn("cut", False), turn("c")]
    assert [t.text for t in distinct(turns, 2)] == ["a", "b"]
    assert [t.text for t in distinct(turns, 5)] == ["a", "b", "c"]
    assert [t.text for t in distinct([turn("x", False), turn("y", False)], 3)] == ["x"]
    assert voted(turns).text == "a" and voted([turn("b"), turn("a"), turn("a"), turn("b")]).text == "b"
    assert voted([turn("x", False), turn("x", False), turn("a")]).text == "a"
    assert first_best([0.5, 1.0, 1.0]) == 1 and first_best([0.0, 0.0]) == 0


def test_real_and_imagined_worlds_say_what_follows():
    env = Line()
    env.reset(None)
    real = Real(env)
    one, two = real.then([state("at 0", (0, 0)), state("at 1", (1, 1))], ["-", "+"], [0, 0])
    assert (one.text, one.over, one.hidden, one.prompt[0]["content"]) == ("-1", False, (-1, 1), "at -1")
    assert (two.text, two.over, two.action) == (OVER, True, "+") and real.env_steps == env.asked == 2

    model = Says("5")
    world = Imagined(model, follow=lambda prompt, action, page: f"{prompt} {action} {page}")
    [three] = world.then([state("at 0")], ["+"], [7])
    assert (three.prompt[0]["content"], three.text, three.over, three.hidden) == ("at 0 + 5", "5", False, None)
    [[prompt]], keys, n = model.calls[0][0:1], model.calls[0][1], model.calls[0][2]
    assert [m["content"] for m in prompt] == ["at 0", "+", "then?"] and (keys, n) == ([7], 1)
    assert Imagined(Says(OVER), follow=None).then([state("s")], ["+"], [0])[0].over
    cut = Imagined(Says("5", finished=False), follow=None).then([state("s")], ["+"], [0])[0]
    assert cut.over and cut.text == "5"


def test_paths_go_as_deep_as_asked_and_end_where_it_is_over():
    env = Line()
    env.reset(None)
    start = state("at 0", (0, 0))
    up, down = foresee(Real(env), Says("+"), [start, start], ["+", "-"], [0, 0], depth=2)
    assert [s.text for s in up] == ["", "1", OVER] and [s.text for s in down] == ["", "-1", "0"]
    assert [s.action for s in down] == ["", "-", "+"]
    assert [len(p) for p in foresee(Real(env), Says("+"), [state("at 1", (1, 0))], ["+"], [0], depth=5)] == [2]
    [cut] = foresee(Real(env), Says("+", finished=False), [start], ["+"], [0], depth=3)
    assert [s.text for s in cut] == ["", "1", ""] and cut[-1].over


def test_the_backup_of_look_ahead_by_hand():
    """At 0, "-" is sampled first. One step ahead "+" shows 1 and "-" shows −1; two steps ahead, going on with "+", "+"
    ends in 2 (judged 9) and "-" is back at 0."""
    for depth, scores in ((1, [-1.0, 1.0]), (2, [0.0, 9.0])):
        env = Line()
        env.reset(None)
        look = LookAhead(Says("-", "+"), Simulation(Real(env), Says("+"), number, depth), k=2, draws=4)
        [taken] = look([state("at 0", (0, 0))], [0], 0)
        assert taken.text == "+" and look.decisions[0]["scores"] == scores and look.decisions[0]["chosen"] == 1
        assert env.asked == 2 * depth
    first = LookAhead(Says("-", "+"), Simulation(Real(env), Says("+"), lambda path: 0.5, 1), k=2, draws=4)
    assert first([state("at 0", (0, 0))], [0], 0)[0].text == "-"  # a judge that cannot tell leaves it to the policy


def test_nothing_is_looked_at_where_the_samples_agree():
    env = Line()
    env.reset(None)
    look = LookAhead(Says("-"), Simulation(Real(env), Says("+"), number, 2), k=3, draws=4)
    assert look([state("at 0", (0, 0))], [0], 0)[0].text == "-" and env.asked == 0 and not look.decisions


class Spending:
    """An engine that has sampled ten tokens more each time it is looked at."""

    def __init__(self) -> None:
        self.tokens = 0

    @property
    def cost(self) -> Cost:
        self.tokens += 10
        return Cost(sampled_tokens=self.tokens)


def test_acting_alone_is_metered_step_by_step_and_exact_values_decide_alike():
    meter = Metered(Alone(Says("+")), [Spending(), Spending()])
    for step in (0, 1):
        assert [t.text for t in meter([state("s")] * 3, [0, 0, 0], step)] == ["+"] * 3
    assert meter.tokens == [20, 20]

    class Valued:
        def q(self, hidden, action):
            return {"-": 0.1, "+": 0.7}[action] + hidden

    assert Exact(Valued())([state("s", 0), state("s", 1)], ["-", "+"], [0, 0]) == [(0.1, []), (1.7, [])]
    look = LookAhead(Says("-", "+"), Exact(Valued()), k=2, draws=2)
    assert look([state("s", 0)], [0], 0)[0].text == "+"


def test_votes_spend_what_they_are_given():
    """Turns of 2 tokens in 3 states. 60 tokens pay 10 samples each; 0 more leave 1 each, which overdraws by 6; then 36
    of which 30 are left pay 5."""
    policy = Says("a", "b", "a")
    votes = Votes(policy, [60, 0, 36], turn_tokens=2.0)
    states = [state("s")] * 3
    for step, n in enumerate((10, 1, 5)):
        votes(states, [0, 0, 0], step)
        assert policy.calls[-1][2] == n
    assert votes.spent == 2 * 3 * 16 and votes.samples == 48
    votes(states, [0, 0, 0], 9)  # beyond the allowance
    assert policy.calls[-1][2] == 1


def test_episodes_are_played_in_the_environment_whatever_was_tried_there():
    env, tasks = Line(), [Task("a", "line", "x", {}), Task("b", "line", "x", {})]
    look = LookAhead(Says("-", "+"), Simulation(Real(env), Says("+"), number, 1), k=2, draws=2)
    episodes = act(env, tasks, look, keys=[1, 2])
    assert [[s.turn.text for s in e.steps] for e in episodes] == [["+", "+"]] * 2 and all(e.success for e in episodes)
    assert [s.prompt[0]["content"] for s in episodes[0].steps] == ["at 0", "at 1"]
    never = act(env, tasks[:1], lambda states, keys, step: [turn("-") for _ in states], keys=[1])
    assert len(never[0].steps) == 4 and never[0].steps[-1].observation.truncated


def test_an_unknown_action_of_the_toy_is_no_silent_step():
    with pytest.raises(KeyError):
        Real(Line()).then([state("at 0", (0, 0))], ["?"], [0])
