"""WebEvolver by hand: training rows, dreams (imagined rollouts), the judge of pages and what its verdicts are worth in the shop."""

from __future__ import annotations

import pytest

from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.shop.engine import ShopEnv
from common.evaluate.foresight import Forecast
from common.envs.shop.shorthand import untouched
from common.search.reader import ShopReader
from common.search.transitions import OVER, Tried
from common.types import Observation, Step, Trajectory, Turn
from papers.webevolver.judges import TYPES, CountdownJudge, ShopJudge, plain
from papers.webevolver.lookahead import Seen
from papers.webevolver.maths import accepted_rows, dreamt_rows, meanings, transitions, unsolved, world_rows

READER, judge = ShopReader(), ShopJudge()

GOAL = "goal: soft lamp with color: red, and price lower than 50 dollars\n"
READY = "a soft lamp $20\nabout: soft\ncolor: red blue\nchosen: red\nbuy now, < prev, back to search"
OPEN = READY.replace("chosen: red", "chosen: none")
POOR = READY.replace("soft", "hard")
LIST = "page 1\n1 a soft lamp $20\nback to search"


# -- rows of training and dreams ---------------------------------------------------------------------------------------


def message(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


def step_of(
    page: str, action: str, then: str, reward: float = 0.0, *, over: bool = False, finished: bool = True
) -> Step:
    answer = Observation(then, reward, terminated=over)
    return Step(message(GOAL + page), Turn(action, -1.0, 3, finished), answer)


def episode(task: str, reward: float) -> Trajectory:
    return Trajectory(task, (step_of("search page", "search[soft lamp]", LIST), step_of(LIST, "click[1]", OPEN),
                             step_of(READY, "click[buy", READY, finished=False),
                             step_of(READY, "click[buy now]", "bought a", reward, over=True)))  # fmt: skip


def test_policies_learn_accepted_episodes_and_world_models_all_of_them():
    episodes = [episode("a", 0.5), episode("b", 1.0), episode("c", 0.0), episode("a", 1.0)]
    rows = accepted_rows(episodes[:3])
    assert [row.completion for row in rows] == ["search[soft lamp]", "click[1]", "click[buy now]"]
    world = world_rows(episodes, READER)
    assert [row.completion for row in world] == [LIST, "about: soft\ncolor: red blue", OVER]  # equal transitions once
    assert [m["content"] for m in world[1].prompt] == [f"{GOAL}a soft lamp $20\nclick[1]"]
    blind = world_rows(episodes, ShopReader(untouched))
    assert [m["content"] for m in blind[1].prompt] == [f"{GOAL}click[1]"]
    assert [row.completion for row in blind] == [row.completion for row in world]
    assert [seen.prompt[0]["content"] for seen in unsolved(episodes)] == [GOAL + "search page"]  # of task c


def path(*states: tuple[str, str, str]) -> list[Seen]:
    return [Seen(message(GOAL + page), action, text, over=text == OVER) for page, action, text in states]


def test_dreams_are_learned_from_where_the_judge_accepts_their_end():
    bought = path(("search page", "", ""), (LIST, "search[soft lamp]", LIST), (READY, "click[1]", READY),
                  (READY, "click[buy now]", OVER))  # fmt: skip
    unfinished, poor = bought[:3], path((READY.replace("soft", "hard"), "", ""), (READY, "click[buy now]", OVER))
    assert [judge(one) for one in (bought, unfinished, poor)] == [1.0, 0.5, 0.0]
    rows = dreamt_rows([bought, unfinished, poor], judge)
    assert [(row.prompt[0]["content"], row.completion) for row in rows] == [
        (GOAL + "search page", "search[soft lamp]"), (GOAL + LIST, "click[1]"), (GOAL + READY, "click[buy now]")
    ]  # fmt: skip


def test_transitions_leave_out_an_end_by_the_step_limit():
    *before, last = episode("a", 1.0).steps
    cut = Step(last.prompt, last.turn, Observation("a page", truncated=True))
    found = transitions(Trajectory("a", (*before, cut)), READER)
    assert [one.taken for one in found] == [Tried(s.turn.text, s.observation.text) for s in before]
    assert transitions(episode("a", 1.0), READER)[-1].taken == Tried("click[buy now]", OVER)


# -- the judge ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "action", "text", "score"),
    [
        (READY, "click[buy now]", OVER, 1.0),
        (OPEN, "click[buy now]", OVER, 0.0),
        (POOR, "click[buy now]", OVER, 0.0),
        (LIST, "click[buy now]", OVER, 0.0),
        (READY, "click[red]", OVER, 0.0),  # the last step was spent on something else
        (LIST, "click[1]", OPEN, 0.5),
        (OPEN, "click[red]", READY, 0.5),
        ("search page", "search[soft lamp]", LIST, 0.5),
        (LIST, "click[1]", POOR, 0.0),
        (LIST, "click[1]", READY.replace("$20", "$60"), 0.0),
        (LIST, "click[back to search]", "search page", 0.0),
        (LIST, "click[7]", "invalid action\n" + LIST, 0.0),
        ("search page", "search[xyz]", "no results\n[back to search]", 0.0),
        (OPEN, "click[red]", "", 0.0),
        (OPEN, "click[red]", READY.replace("color: red blue", "color"), 0.0),  # no shop shows this
        (OPEN, "click[red]", "buy now", 0.0),
    ],
)
def test_verdicts_by_hand(page, action, text, score):
    before = f"{GOAL}did: search\n{page}" if page != "search page" else GOAL + page
    assert judge.standing(before, action, text) == score
    start = Seen(({"role": "user", "content": before},))
    assert judge([start, Seen(start.prompt, action, text, over=text == OVER)]) == score


def test_a_path_is_judged_by_its_end_from_the_page_before_it():
    def seen(page: str, action: str, text: str, over: bool = False) -> Seen:
        return Seen(({"role": "user", "content": f"{GOAL}did: x\n{page}"},), action, text, over)

    path = [seen(LIST, "", ""), seen(OPEN, "click[1]", OPEN), seen(READY, "click[red]", READY)]
    assert judge(path) == 0.5
    assert judge([*path, seen(READY, "click[buy now]", OVER, True)]) == 1.0
    assert judge([*path, seen(READY, "click[buy now]", "a soft lam", True)]) == 0.0  # a page that was cut


def test_goals_are_read_in_the_words_of_titles():
    rest = " with color: red, and price lower than 50 dollars"
    assert plain(f"soft frying pan{rest}") == f"soft skillet{rest}" and plain(f"soft lamp{rest}") == f"soft lamp{rest}"
    assert plain("pram") == "stroller" and plain("soft pram, and price lower than 9 dollars")[:14] == "soft stroller,"
    assert judge.meaning("goal: hard pram\nsearch page", "a hard stroller $9\nabout: hard\nbuy now, < prev") == "fits"
    assert judge.meaning(f"{GOAL}did: x\n{OPEN}", f"invalid action\n{OPEN}") == "invalid"
    assert judge.meaning(f"{GOAL}did: x\n{OPEN}", OPEN.replace(": ", " ")) == "broken"
    assert not set(TYPES) & set(TYPES.values())
    assert not any(f" {one}".endswith(f" {other}") for one in TYPES for other in TYPES if one != other)


def test_what_the_judge_accepts_is_what_succeeds_in_the_shop():
    """Purchases of the oracle and of a player who buys the first product: all that succeed are accepted, and hardly any
    other (the shop also forgives likenesses of words that a reader does not)."""
    catalogue = build_catalogue(0, 120)
    shop = ShopEnv(catalogue, page_size=5, numbered=True)
    found = []
    for task in build_panels(catalogue)["train"]:
        for play in (shop.oracle, shop.lazy):
            seen = shop.reset(task)
            while not seen.done:
                before, action = shop.prompt(), play()
                seen = shop.step(action)
            found.append((judge.standing(before[0]["content"], action, READER.shown(seen)) == 1.0, seen.reward >= 1.0))
    accepted, wins = (sum(one[i] for one in found) for i in (0, 1))
    both = sum(a and b for a, b in found)
    print(len(found), accepted, wins, both)
    assert wins < 0.8 * len(found) and both > 0.97 * wins and both > 0.97 * accepted


# -- a measure ---------------------------------------------------------------------------------------------------------


def forecast(real: list[str], imagined: list[str]) -> Forecast:
    prompt = ({"role": "user", "content": "even or odd"},)
    return Forecast("t", prompt, tuple(Tried("x", text) for text in real), imagined)


def test_meanings_are_compared_depth_by_depth():
    def parity(prompt: str, state: str) -> str:
        assert prompt == "even or odd"
        return ("even", "odd")[int(state) % 2]

    found = [forecast(["1", "2", "3"], ["5", "3"]), forecast(["1"], ["2"])]
    assert meanings(found, parity) == {"meaning@1": 0.5, "meaning@2": 0.0, "meaning@3": 0.0}
    assert meanings([forecast(["1", "2"], ["3", "4"])], parity) == {"meaning@1": 1.0, "meaning@2": 1.0}
    assert meanings([], parity) == {}


# -- Countdown ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, score",
    [("over 16", 1.0), ("over 1", 0.0), ("over 160", 0.0), ("over", 0.0), ("numbers 19 3", 0.5), ("invalid step", 0.0), ("19", 0.0)],
)
def test_countdown_is_judged_by_the_number_that_is_left(text, score):
    before, left = "numbers 19 3 target 16", CountdownJudge()
    assert left.standing(before, "19 - 3", text) == score
    assert left([Seen(message(before)), Seen(message(before), "19 - 3", text, over=text.startswith("over"))]) == score
    assert left([Seen(message(before)), Seen(message(before), "19 -", "nothing yet", over=True)]) == 0.0  # broke off
    assert (left.meaning(before, "over 16"), left.meaning(before, "numbers 19 3")) == ("16", "19 3")
