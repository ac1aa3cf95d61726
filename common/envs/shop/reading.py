"""What the text of a shop page says about a goal: which of its words, options and price limit the page fails."""

from __future__ import annotations

import re

from common.envs.shop.engine import INVALID
from common.envs.shop.products import words

_GOAL = re.compile(r"^(?P<what>.*?)(?: with (?P<options>.*?))?(?:, and price lower than (?P<limit>\d+) dollars)?$")
_PRICE = re.compile(r"\$(\d+(?:\.\d+)?)")


def wanted(goal: str) -> tuple[list[str], list[str], float]:
    """(words of attributes and type, option values, price limit or infinity) of a goal sentence."""
    match = _GOAL.match(goal)
    options = [part.split(": ", 1)[1] for part in (match["options"] or "").split(", and ") if ": " in part]
    return words(match["what"]), options, float(match["limit"] or "inf")


def goal_of(prompt: str) -> str:
    """The goal sentence of a prompt: its first line without ``goal:``."""
    return prompt.split("\n", 1)[0].removeprefix("goal: ")


def page_of(prompt: str) -> str:
    """The page of a prompt, without the goal and what was done last."""
    lines = prompt.split("\n")[1:]
    return "\n".join(lines[1:] if lines[0].startswith("did: ") else lines)


def outcome(goal: str, page: str) -> str:
    """What ``page`` means for ``goal``, in a few words: ``invalid``, ``over``, ``search``, ``list``, or of a product
    ``lacks <the first thing that it lacks>``, ``dear`` (above the limit), ``choose <the next option value>``, ``fits``.

    A synonym that the goal uses for the product's type counts as lacking: a reader of the page cannot know.
    """
    if page.startswith(INVALID):
        return "invalid"
    lines = page.split("\n")
    if not lines[-1].startswith("buy now"):
        return {"search page": "search", "over": "over"}.get(page, "list")
    attributes, options, limit = wanted(goal)
    have = set(words(lines[0])) | {w for line in lines[1:] if line.startswith("about: ") for w in words(line)}
    offered = [line.split(": ", 1)[1].split() for line in lines[1:-1] if not line.startswith(("about: ", "chosen: "))]
    chosen = next((line.removeprefix("chosen: ").split(", ") for line in lines if line.startswith("chosen: ")), [])
    missing = [word for word in attributes if word not in have]
    missing += [value for value in options if not any(value in values for values in offered)]
    price = _PRICE.search(lines[0])
    if missing:
        return f"lacks {missing[0]}"
    if price and float(price[1]) > limit:
        return "dear"
    left = [value for value in options if value not in chosen]
    return f"choose {left[0]}" if left else "fits"


def follow(prompt: str, action: str, page: str) -> str:
    """The prompt of a numbered shop after ``action``, from the one before and the page the action led to.

    Reads text only, so ``page`` may be imagined. With the page of the real shop it is the real next prompt.
    """
    goal = prompt.split("\n", 1)[0]
    if page.startswith(INVALID):
        return f"{goal}\ndid: {page}"
    done = action.strip().lower()
    target = done[6:-1].strip() if done.startswith("click[") else "search"
    return f"{goal}\ndid: {target}\n{page}"
