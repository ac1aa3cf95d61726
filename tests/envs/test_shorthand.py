"""Pages in few words: by hand, and that nothing is lost on any transition of a shop."""

from __future__ import annotations

import pytest

from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.shop.engine import ShopEnv
from common.envs.shop.reading import follow, page_of
from common.envs.shop.shorthand import short, spelled_out, touched, untouched
from common.rng import generator
from common.search.reader import Foreseer, ShopReader
from common.search.transitions import OVER, asked, shown
from common.types import Turn

GOAL = "goal: soft lamp with color: red, and price lower than 50 dollars"
LIST = "page 1\n1 a soft lamp $20\n2 b hard lamp $30 seen\nnext >, back to search"
ITEM = "b hard lamp $30\nabout: hard new\ncolor: red blue\nchosen: none\nbuy now, < prev, back to search"


@pytest.mark.parametrize(
    ("page", "action", "after", "line", "text"),
    [
        (LIST, "click[2]", ITEM, "b hard lamp $30", "about: hard new\ncolor: red blue"),
        (LIST, "click[2]", ITEM.replace("color: red blue\nchosen: none\n", ""), "b hard lamp $30", "about: hard new"),
        (LIST, "click[7]", f"invalid action\n{LIST}", "page 1\nnext >, back to search", "invalid"),
        (LIST, "click[next >]", LIST.replace("1", "2"), "page 1\nnext >, back to search", LIST.replace("1", "2")),
        (ITEM, "click[red]", ITEM.replace("none", "red"), ITEM.rsplit("\n", 1)[0], "chosen: red"),
        (ITEM, "click[buy now]", OVER, ITEM.rsplit("\n", 1)[0], OVER),
        (ITEM, "click[back to search]", "search page", ITEM.rsplit("\n", 1)[0], "search page"),
        ("search page", "search[lamp]", LIST, "search page", LIST),
    ],
)
def test_what_is_shown_and_written(page, action, after, line, text):
    prompt = f"{GOAL}\n{page}" if page == "search page" else f"{GOAL}\ndid: x\n{page}"
    assert touched(prompt, action) == f"{GOAL}\n{line}\n{action}"
    assert untouched(prompt, action) == f"{GOAL}\n{action}"
    assert short(page, action, after) == text and spelled_out(page, action, text) == after


def test_nonsense_is_left_as_it_is():
    for page in (LIST, ITEM, "search page"):
        for text in ("", "lamp", "chosen: red\nlamp", "page 3", OVER):
            assert spelled_out(page, "click[7]", text) == text


def test_nothing_is_lost_on_the_way_of_a_wandering_player():
    """Actions drawn at random, admissible or not; the next prompt is right as well."""
    catalogue = build_catalogue(0, 120)
    shop = ShopEnv(catalogue, page_size=5, numbered=True)
    kinds, rng = set(), generator("wander")
    for task in build_panels(catalogue)["train"][:20]:
        seen = shop.reset(task)
        while not seen.done:
            prompt, options = shop.prompt()[0]["content"], [*shop.actions(), "click[9]", "click[red]", "hello"]
            action = options[int(rng.integers(len(options)))]
            seen = shop.step(action)
            page, after = page_of(prompt), shown(seen)
            text = short(page, action, after)
            assert spelled_out(page, action, text) == after
            assert len(text) <= len(after)
            kinds.add(text.split("\n")[0].split(" ")[0])
            if not seen.done:
                assert follow(prompt, action, spelled_out(page, action, text)) == shop.prompt()[0]["content"]
    assert {"about:", "chosen:", "invalid", "page", "search", OVER} <= kinds


def test_a_model_in_shorthand_is_asked_and_answers_like_any_other():
    class Says:
        def propose(self, prompts, keys, n):
            self.asked = prompts
            return [[Turn("chosen: red", -1.0, 3, True)] * n for _ in prompts]

    model = Says()
    prompt = ({"role": "user", "content": f"{GOAL}\ndid: 2\n{ITEM}"},)
    [[turn]] = Foreseer(model, ShopReader()).propose([asked(prompt, "click[red]")], [0], 1)
    assert turn.text == ITEM.replace("none", "red") and turn.n_tokens == 3
    assert [m["content"] for m in model.asked[0]] == [touched(prompt[0]["content"], "click[red]")]
