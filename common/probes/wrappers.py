"""Probe of environment wrappers: an instruction before a shop's prompts, pages read and shortened, solutions line by
line."""

from __future__ import annotations

from common.envs.answers import AnswerEnv
from common.envs.shop.engine import ShopEnv
from common.envs.shop.instruction import FORESEE, instructed
from common.envs.shop.products import words
from common.envs.shop.reading import follow, goal_of, outcome, page_of
from common.envs.shop.shorthand import question, short, spelled_out, touched, untouched
from common.envs.steps import StepsEnv, announces_number
from common.envs.versions.countdown_v1 import CountdownEnv
from common.envs.word_problems import WordProblemEnv
from common.rng import generator
from common.search.reader import Foreseer, ShopReader, reader_of
from common.search.transitions import asked
from common.types import Message, Task, Turn

LINES = ("4 * 6 = 24", "", "a\nb", "x" * 201, "so the answer is 15", "#### 1,234", "she has 15")


def _product(i: int) -> dict[str, object]:
    colour, kind = ("red", "blue", "green")[i % 3], ("scarf", "lamp", "table")[i // 3 % 3]
    return {"id": f"P{i:02d}", "title": f"brand{i} warm {colour} {kind}", "category": ["home", kind], "query": kind, "price": 9.0 + 3 * i,
            "attributes": ["warm", colour], "options": {"color": ["red", "white"], "size": ["small", "large"]} if i % 2 else {},
            "nouns": [kind], "indexed": f"brand{i} warm {colour} {kind} {colour}"}  # fmt: skip


GOALS = (("warm red scarf with color: red, and price lower than 30 dollars", "P03", "scarf", ["warm", "red"], {"color": "red"}, 30.0),
         ("warm blue lamp", "P04", "lamp", ["warm", "blue"], {}, 1_000_000.0),
         ("warm scarf with color: white, and size: large, and price lower than 10 dollars", "P01", "scarf", ["warm"],
          {"color": "white", "size": "large"}, 10.0))  # fmt: skip
TASKS = [
    Task(f"shop/{product}", "shop-v1", "test",
         {"instruction": text, "product": product, "wordings": [kind], "attributes": attributes, "options": options, "price_limit": limit,
          "queries": [text.split(" with ")[0], kind]})
    for text, product, kind, attributes, options, limit in GOALS
]  # fmt: skip


class _Echo:
    """A world model in shorthand that always writes the same."""

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        return [[Turn(("chosen: red", "invalid", "about: warm\ncolor: red")[key % 3], -1.0, 3)] * n for key in keys]

    def critique(self, prompts: list, actions: list[list[str]]) -> list[list[float]]:
        return [[0.5] * len(row) for row in actions]


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    return _pages() | _steps() | _readers()


def _pages() -> dict[str, float | str]:
    """Every page of a few episodes, read and shortened, beside what the next one really is."""
    env = instructed(ShopEnv([_product(i) for i in range(12)], page_size=5, numbered=True))
    world, lines, right = Foreseer(_Echo(), ShopReader()), [], []
    for task in TASKS:
        rng, seen = generator("probe", task.id), env.reset(task)
        while not seen.done:
            prompt, state = env.prompt()[-1]["content"], env.snapshot()
            goal, page = goal_of(prompt), page_of(prompt)
            for action in dict.fromkeys((*env.actions()[:3], "click[red]", "nonsense", env.expert(rng)[1])):
                after = env.step(action)
                shortened = short(page, action, after.text)
                right.append(spelled_out(page, action, shortened) == after.text)
                lines.append(repr((action, outcome(goal, after.text), shortened, touched(prompt, action), untouched(prompt, action),
                                   follow(prompt, action, after.text), question(prompt, action, untouched), after.reward)))  # fmt: skip
                env.restore(state)
            lines.append(repr(world.propose([asked(env.prompt(), "click[1]")] * 2, [len(lines), len(lines) + 1], 2)))
            lines.append(repr([f"{env.q(state, action):.9g}" for action in env.actions()]))
            seen = env.step(env.expert(rng)[1])
        lines.append(outcome(goal, "over"))
    return {"pages": "\n".join(lines), "pages.exact": sum(right) / len(right), "instruction": repr(env.prompt()[:-1]) + FORESEE,
            "words": repr(words("A Warm, red scarf 2.0"))}  # fmt: skip


def _readers() -> dict[str, float | str]:
    """What readers of both worlds make of a few prompts and pages, shown and hidden from the world model."""
    countdown, shop = CountdownEnv(), ShopEnv([_product(i) for i in range(12)], page_size=5, numbered=True)
    countdown.reset(Task("t", "countdown-v1", "test", {"numbers": [3, 14, 5], "target": 16}))
    shop.reset(TASKS[0])
    lines = []
    for env, actions in ((countdown, ("nonsense", "14 + 5", "19 - 3")), (shop, ("nonsense", shop.actions()[0], "click[1]"))):
        for action in actions:
            prompt = env.prompt()[-1]["content"]
            seen = env.step(action)
            for reader in (reader_of(env), reader_of(env, hidden=True)):
                page = reader.shown(seen)
                written = reader.written(prompt, action, page)
                lines.append(repr((reader.invalid, reader.state(prompt), page, written, reader.question(prompt, action), reader.kind(prompt),
                                   reader.page(prompt, action, written), reader.follow(prompt, action, page), reader.outcome(prompt, page))))
    return {"readers": "\n".join(lines)}


def _steps() -> dict[str, float | str]:
    """Solutions line by line, of lines that are refused, that go on and that declare an answer."""
    whole: AnswerEnv = WordProblemEnv(id="sums")
    env = StepsEnv(whole, id="sums-steps", examples=lambda task: [("1 + 1?", ("1 + 1 = 2", "#### 2"))], declares=announces_number, max_steps=6)
    lines = []
    for answer in ("15", "1234", "1/2"):
        task = Task(f"sums/{answer}", "sums-steps", "test", {"question": "How many?", "answer": answer})
        lines.append(repr((env.reset(task), env.prompt())))
        state = env.snapshot()
        for line in (*LINES, env.oracle(), env.lazy()):
            lines.append(repr((line, env.q(state, line), env.step(line), env.prompt(), env.actions(), env.value(env.snapshot()))))
            env.restore(state)
        seen = env.step(LINES[0])
        while not seen.done:
            seen = env.step("and so on")
        lines.append(repr((seen, env.snapshot())))
    return {"steps": "\n".join(lines), "announced": repr([announces_number(line) for line in LINES])}
