"""Compressed shop pages for world models: the lines that an action is about, and what is new on the next page.

A world model that must write whole pages spends nearly all of its words on repeating them. Here it is shown the goal,
the lines that its action is about and the action, and writes what cannot be taken over from the page before:

    open a product      shown: its line of the list      written: its attributes and options
    choose an option    shown: the product's page        written: the new line of what is chosen
    anything else       shown: heading and buttons       written: the page; ``invalid`` alone; ``over`` alone

:func:`spelled_out` restores the page from the one before. Both read text only, so that pages may be imagined. For pages
of a numbered shop (``ShopEnv(numbered=True)``); spelling out what was shortened is exact there.
"""

from __future__ import annotations

from collections.abc import Callable

from common.envs.shop.engine import INVALID
from common.envs.shop.reading import page_of
from common.types import Message

BUTTONS = "buy now, < prev, back to search"
"""Last line of every product's page in a numbered shop."""
SEEN = " seen"
"""Behind the products of a list that were opened before."""

View = Callable[[str, str], str]
"""``view(prompt text, action)``: what a world model is shown."""


def is_item(page: str) -> bool:
    return page.endswith(BUTTONS)


def line_of(page: str, action: str) -> str | None:
    """The product line of a list that ``action`` clicks, without its number; None when there is none."""
    label = action.strip().lower().removeprefix("click[").removesuffix("]").strip()
    lines = [] if is_item(page) or not label.isdigit() else page.split("\n")
    clicked = next((line for line in lines if line.startswith(f"{label} ")), None)
    return clicked and clicked.removeprefix(f"{label} ").removesuffix(SEEN)


def touched(prompt: str, action: str) -> str:
    """The goal, what ``action`` is about on the page of ``prompt``, and the action, a line each."""
    goal, page = prompt.split("\n", 1)[0], page_of(prompt)
    lines, product = page.split("\n"), line_of(page, action)
    about = [product] if product else lines[:-1] if is_item(page) else dict.fromkeys((lines[0], lines[-1]))
    return "\n".join([goal, *about, action])


def untouched(prompt: str, action: str) -> str:
    """The goal and the action alone: the input of a world model that must not see the page."""
    return f"{prompt.split(chr(10), 1)[0]}\n{action}"


def short(page: str, action: str, after: str) -> str:
    """The page ``after``, to which ``action`` led from ``page``, cut to what is new; all of it where the two share nothing."""
    if after == f"{INVALID}\n{page}":
        return "invalid"
    if is_item(after):
        lines = after.split("\n")
        new = lines[1:-1]
        if is_item(page):
            new = [line for line in lines if line.startswith("chosen: ")]
        elif new[-1:] == ["chosen: none"]:
            new = new[:-1]
        text = "\n".join(new)
        if new and spelled_out(page, action, text) == after:
            return text
    return after


def spelled_out(page: str, action: str, text: str) -> str:
    """The page that ``text`` stands for, as :func:`short` writes it; ``text`` itself where it is no shorthand."""
    if text == "invalid":
        return f"{INVALID}\n{page}"
    if is_item(page) and text.startswith("chosen: ") and "\n" not in text:
        return "\n".join(text if line.startswith("chosen: ") else line for line in page.split("\n"))
    product = line_of(page, action)
    if product and text.startswith("about: "):
        options = ["chosen: none"] if "\n" in text else []
        return "\n".join([product, text, *options, BUTTONS])
    return text


def question(prompt: str, action: str, view: View) -> tuple[Message, ...]:
    """The chat prompt that asks a world model of compressed pages for what follows ``action``."""
    return ({"role": "user", "content": view(prompt, action)},)
