"""The judge of shop pages, by hand; and what its verdicts are worth in the real shop."""

from __future__ import annotations

import pytest

from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.shop.engine import ShopEnv
from common.envs.shop.judge import TYPES, judge, meaning, plain, standing
from common.search.transitions import OVER, shown
from common.search.lookahead import Seen

GOAL = "goal: soft lamp with color: red, and price lower than 50 dollars\n"
READY = "a soft lamp $20\nabout: soft\ncolor: red blue\nchosen: red\nbuy now, < prev, back to search"
OPEN = READY.replace("chosen: red", "chosen: none")
POOR = READY.replace("soft", "hard")
LIST = "page 1\n1 a soft lamp $20\nback to search"


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
    assert standing(before, action, text) == score
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
    assert meaning("goal: hard pram\nsearch page", "a hard stroller $9\nabout: hard\nbuy now, < prev") == "fits"
    assert meaning(f"{GOAL}did: x\n{OPEN}", f"invalid action\n{OPEN}") == "invalid"
    assert meaning(f"{GOAL}did: x\n{OPEN}", OPEN.replace(": ", " ")) == "broken"
    assert not set(TYPES) & set(TYPES.values())
    assert not any(f" {one}".endswith(f" {other}") for one in TYPES for other in TYPES if one != other)


def test_what_the_judge_accepts_is_what_succeeds_in_the_shop():
    """Purchases of the oracle and of a player who buys the first product: all that succeed are accepted, and hardly any
    other (the shop also forgives likenesses of words that a reader does not)."""
    catalogue = build_catalogue(0, 120)
    shop = ShopEnv(catalogue, page_size=5, numbered=True)
    told = []
    for task in build_panels(catalogue)["train"]:
        for play in (shop.oracle, shop.lazy):
            seen = shop.reset(task)
            while not seen.done:
                before, action = shop.prompt(), play()
                seen = shop.step(action)
            told.append((standing(before[0]["content"], action, shown(seen)) == 1.0, seen.reward >= 1.0))
    accepted, wins = (sum(one[i] for one in told) for i in (0, 1))
    both = sum(a and b for a, b in told)
    print(len(told), accepted, wins, both)
    assert wins < 0.8 * len(told) and both > 0.97 * wins and both > 0.97 * accepted
