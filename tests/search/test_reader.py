"""What readers make of prompts and pages: round trips through shorthand in both worlds, and Countdown's pages by hand."""

from __future__ import annotations

import pytest

from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.shop.engine import ShopEnv
from common.envs.versions.countdown_v3 import CountdownV3
from common.rng import generator
from common.search.reader import CountdownReader, Foreseer, ShopReader, reader_of
from common.search.transitions import asked, is_over
from common.types import Task, Turn

TASK = Task("t", "countdown-v3", "t", {"numbers": [3, 14, 5], "target": 16})
PROMPT = "numbers 14 5 3 target 16"


def shop() -> tuple[ShopEnv, list[Task]]:
    catalogue = build_catalogue(0, 1200)[:60]
    return ShopEnv(catalogue, page_size=5, numbered=True), build_panels(catalogue)["demos"][:6]


@pytest.mark.parametrize("world", ["countdown", "shop"])
def test_shorthand_and_back_and_the_next_prompt(world):
    """Of every admissible action of a few episodes: the page is restored, and the next prompt is the environment's own."""
    env, tasks = shop() if world == "shop" else (CountdownV3(), [TASK])
    reader, met = reader_of(env), 0
    for task in tasks:
        rng, observation = generator("reader", task.id), env.reset(task)
        while not observation.done:
            prompt, state = env.prompt()[-1]["content"], env.snapshot()
            for action in (*env.actions()[:8], "nonsense"):
                env.restore(state)
                seen = env.step(action)
                page = reader.shown(seen)
                assert reader.page(prompt, action, reader.written(prompt, action, page)) == page
                assert is_over(page) == seen.done
                if not seen.done:
                    assert reader.follow(prompt, action, page) == env.prompt()[-1]["content"]
                    assert page.startswith(reader.invalid) == (action == "nonsense")
                met += 1
            env.restore(state)
            observation = env.step(env.expert(rng)[1])
    assert met >= 10


def test_pages_of_countdown_by_hand():
    env, reader = CountdownV3(), CountdownReader()
    env.reset(TASK)
    assert (reader.state(PROMPT), reader.kind(PROMPT)) == ("numbers 14 5 3", "3 numbers")
    assert reader.shown(env.step("5 - 14")) == "invalid step" == reader.outcome(PROMPT, "invalid step")
    assert reader.follow(PROMPT, "5 - 14", "invalid step") == PROMPT
    page = reader.shown(env.step("14 + 5"))
    assert (page, reader.written(PROMPT, "14 + 5", page), reader.outcome(PROMPT, page)) == ("numbers 19 3", "19 3", "19 3")
    last = reader.shown(env.step("19 + 3"))
    assert (last, reader.outcome("numbers 19 3 target 16", last)) == ("over 22", "22")  # what is left, not whether it was right
    env.reset(TASK)
    cut = [env.step("1 + 1") for _ in range(env.max_steps)][-1]
    assert cut.truncated and reader.shown(cut) == "over"


def test_a_world_model_of_countdown_sees_the_action_as_its_own():
    reader = CountdownReader()
    assert [message["content"] for message in reader.question(PROMPT, "14 + 5")] == [PROMPT, "14 + 5", "then?"]
    assert [message["role"] for message in reader.question(PROMPT, "14 + 5")] == ["user", "assistant", "user"]

    assert reader_of(CountdownV3(), hidden=True).question(PROMPT, "14 + 5")[0]["content"] == "target 16"
    assert reader_of(shop()[0], hidden=True).question("goal: soft lamp\npage 1\n1 a soft lamp $20\nback to search", "click[1]") == (
        {"role": "user", "content": "goal: soft lamp\nclick[1]"},)  # fmt: skip

    class Says:
        def propose(self, prompts, keys, n):
            self.prompts = prompts
            return [[Turn("19 3", -1.0, 2)] * n for _ in prompts]

    model = Says()
    [[turn]] = Foreseer(model, reader).propose([asked(({"role": "user", "content": PROMPT},), "14 + 5")], [0], 1)
    assert turn.text == "numbers 19 3" and model.prompts == [reader.question(PROMPT, "14 + 5")]


def test_the_shop_is_read_from_what_its_view_shows():
    prompt = "goal: soft lamp\npage 1\n1 a soft lamp $20\nback to search"
    assert ShopReader(lambda text, action: f"{action}?").question(prompt, "click[1]") == ({"role": "user", "content": "click[1]?"},)
    assert ShopReader().outcome(prompt, "over") == "over" and ShopReader().kind(prompt) == "results"
