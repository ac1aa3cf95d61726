"""The shop for chat models: prompts begin with an instruction that explains the task and the format of actions.

In our own words. Actions are free text as before; one that the shop does not admit is an invalid action. A changed
instruction is a new ``VERSION``: a test holds the words to it.
"""

from __future__ import annotations

from typing import Any

from common.config import ConfigError
from common.envs.contract import Env
from common.envs.shop.engine import ShopEnv
from common.types import Message

VERSION = "shop-instruction-1"
INSTRUCTION = """\
You are shopping in a web shop. You are told a goal, what you did last and the page you are on. Answer with one action \
and nothing else: search[words] on the search page, or click[...] on anything that the page shows: the number of a \
product, an option of a product, or a button. Find a product that fits the goal, choose the options that the goal asks \
for, and click[buy now]."""

_GOAL = "goal: warm woolen scarf with color: red, and price lower than 20 dollars"
_LIST = "1 arlo warm woolen scarf $25\n2 brisa warm woolen scarf $14"
_ITEM = "brisa warm woolen scarf $14\nabout: warm woolen light\ncolor: red white"
_BUTTONS = "buy now, < prev, back to search"
EXAMPLE: tuple[tuple[str, str], ...] = (
    (f"{_GOAL}\nsearch page", "search[warm woolen scarf]"),
    (f"{_GOAL}\ndid: search\npage 1\n{_LIST}\nback to search", "click[2]"),
    (f"{_GOAL}\ndid: 2\n{_ITEM}\nchosen: none\n{_BUTTONS}", "click[red]"),
    (f"{_GOAL}\ndid: red\n{_ITEM}\nchosen: red\n{_BUTTONS}", "click[buy now]"),
)
"""An episode of a shop of two scarves, page and action by turns."""
FORESEE = "Here are a goal, a part of a page of a web shop, and an action. Write what is new on the page that follows."
"""Instruction of a chat model that acts as world model of the shop."""
BEFORE: tuple[Message, ...] = (
    {"role": "system", "content": INSTRUCTION},
    *({"role": role, "content": text} for turn in EXAMPLE for role, text in zip(("user", "assistant"), turn)),
)
"""What every prompt begins with: the instruction from the system, the example as a dialogue."""


class Instructed:
    """``env`` in which every prompt begins with :data:`BEFORE`; all else is ``env``'s own."""

    def __init__(self, env: ShopEnv) -> None:
        self.env = env

    def prompt(self) -> tuple[Message, ...]:
        return (*BEFORE, *self.env.prompt())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)


def instructed(env: Env) -> Instructed:
    """A shop for a chat model. ConfigError for other environments, whose actions nothing explains."""
    if not isinstance(env, ShopEnv):
        raise ConfigError(f"env: {env.id} has no instruction that tells a pretrained model what actions look like; "
                          "use shop-v1, or model: nano")  # fmt: skip
    return Instructed(env)
