"""How the text of a world is read by those who foresee it: what a prompt says, and what a world model is shown and writes.

A prompt tells a goal and a page, the state as text. A world model is asked for the page that follows an action. It writes in
shorthand what cannot be taken over from the page before, which :meth:`Reader.page` restores. Readers read text only, so that pages
may be imagined; none reads a reward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from common.envs.contract import Env
from common.envs.shop import reading, shorthand
from common.envs.shop.engine import INVALID
from common.envs.versions.countdown_v1 import CountdownEnv
from common.policy import Policy, propose
from common.search.transitions import OVER, asked
from common.types import Message, Observation, Turn


class Reader(Protocol):
    invalid: str
    """How the answer to an inadmissible action begins."""

    def state(self, prompt: str) -> str:
        """The page that ``prompt`` shows."""

    def shown(self, observation: Observation) -> str:
        """The next page; one that ends the episode begins with ``over``. The reward is no part of it."""

    def question(self, prompt: str, action: str) -> tuple[Message, ...]:
        """The chat that asks a world model what follows ``action``."""

    def written(self, prompt: str, action: str, page: str) -> str:
        """What it should write: the page ``page`` in shorthand."""

    def page(self, prompt: str, action: str, text: str) -> str:
        """The page that ``text`` stands for, as :meth:`written` has it; ``text`` itself where it is no shorthand."""

    def follow(self, prompt: str, action: str, page: str) -> str:
        """The prompt after ``action``."""

    def outcome(self, prompt: str, page: str) -> str:
        """What ``page`` means for the goal of ``prompt``, in a few words."""

    def kind(self, prompt: str) -> str:
        """The kind of page that is shown: outcomes of one kind can stand for each other."""


@dataclass(frozen=True)
class ShopReader:
    """Of a numbered shop, in the shorthand of :mod:`common.envs.shop.shorthand`."""

    view: shorthand.View = shorthand.touched
    """What a world model is shown."""
    invalid: str = INVALID

    def state(self, prompt: str) -> str:
        return reading.page_of(prompt)

    def shown(self, observation: Observation) -> str:
        return OVER if observation.done else observation.text

    def question(self, prompt: str, action: str) -> tuple[Message, ...]:
        return shorthand.question(prompt, action, self.view)

    def written(self, prompt: str, action: str, page: str) -> str:
        return shorthand.short(self.state(prompt), action, page)

    def page(self, prompt: str, action: str, text: str) -> str:
        return shorthand.spelled_out(self.state(prompt), action, text)

    def follow(self, prompt: str, action: str, page: str) -> str:
        return reading.follow(prompt, action, page)

    def outcome(self, prompt: str, page: str) -> str:
        return reading.outcome(reading.goal_of(prompt), page)

    def kind(self, prompt: str) -> str:
        last = prompt.rsplit("\n", 1)[-1]
        return "item" if last.startswith("buy now") else "search" if last == "search page" else "results"


@dataclass(frozen=True)
class CountdownReader:
    """Of step-wise Countdown: ``numbers 14 5 3 target 16``. A page is the numbers left, ``19 3`` in shorthand; at the end, ``over 16``,
    the one number that is left. Whether it is the target is for the reader to see."""

    hidden: bool = False
    """The world model is shown the target alone, and not the numbers."""
    invalid: str = "invalid step"

    def state(self, prompt: str) -> str:
        return prompt[: prompt.index(" target")]

    def shown(self, observation: Observation) -> str:
        if observation.done:
            return OVER + observation.text.removeprefix("result") if observation.terminated else OVER
        return self.invalid if observation.text.startswith(self.invalid) else self.state(observation.text)

    def question(self, prompt: str, action: str) -> tuple[Message, ...]:
        shown = prompt[prompt.index("target") :] if self.hidden else prompt
        return asked(({"role": "user", "content": shown},), action)

    def written(self, prompt: str, action: str, page: str) -> str:
        return page.removeprefix("numbers ")

    def page(self, prompt: str, action: str, text: str) -> str:
        return text if text.startswith((OVER, "invalid")) else f"numbers {text}"

    def follow(self, prompt: str, action: str, page: str) -> str:
        return prompt if page.startswith("invalid") else f"{page} {prompt[prompt.index('target') :]}"

    def outcome(self, prompt: str, page: str) -> str:
        return page.removeprefix("numbers ").removeprefix(f"{OVER} ")

    def kind(self, prompt: str) -> str:
        return f"{len(self.state(prompt).split()) - 1} numbers"


def reader_of(env: Env, *, hidden: bool = False) -> Reader:
    """The reader of ``env``'s prompts. ``hidden``: world models are not shown the page."""
    if isinstance(env, CountdownEnv):
        return CountdownReader(hidden)
    return ShopReader(shorthand.untouched if hidden else shorthand.touched)


@dataclass(frozen=True)
class Foreseer:
    """A world model of pages in shorthand behind the interface of one of whole pages (:func:`common.search.transitions.asked`)."""

    model: Policy
    reader: Reader

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        contexts = [(prompt[-3]["content"], prompt[-2]["content"]) for prompt in prompts]
        answers = propose(self.model, [self.reader.question(*context) for context in contexts], keys, n)
        return [[replace(turn, text=self.reader.page(text, action, turn.text)) for turn in turns]
                for (text, action), turns in zip(contexts, answers, strict=True)]  # fmt: skip
