"""A judge that reads shop pages, real or imagined, as a player would: is it done, on track, or wrong?

WebEvolver (arXiv 2504.21024) lets a language model score simulated trajectories with 0, 0.5 or 1. This one reads text
only and knows nothing of the environment's scoring. Like a language model it knows the language: that a pram is a
stroller. Everything else that a goal names and a page does not is held against the page.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.envs.shop.engine import INVALID
from common.envs.shop.lexicon import DEPARTMENTS
from common.envs.shop.products import BUY
from common.envs.shop.reading import goal_of, outcome, page_of
from common.search.experience import OVER
from common.search.lookahead import Seen

BUYING = f"click[{BUY}]"
DONE, ON_TRACK, WRONG = 1.0, 0.5, 0.0
TYPES = {kind.synonym: kind.title for aisles in DEPARTMENTS.values() for aisle in aisles for kind in aisle.kinds}
"""What some goals call a type, and what titles call it."""


def plain(goal: str) -> str:
    """``goal`` with its product's type in the word that titles use."""
    ends = [at for mark in (" with ", ", and price lower than ") if (at := goal.find(mark)) >= 0]
    what, rest = goal[: min(ends, default=len(goal))], goal[min(ends, default=len(goal)) :]
    for synonym, title in TYPES.items():
        if f" {what}".endswith(f" {synonym}"):
            return what.removesuffix(synonym) + title + rest
    return goal


def meaning(prompt: str, page: str) -> str:
    """What ``page`` means for the goal of ``prompt``, in the words of :func:`~common.envs.shop.reading.outcome`, or
    ``broken`` for a product's page that no shop shows, as an imagined one may be."""
    lines = page.split("\n")
    product = lines[-1].startswith("buy now") and lines[0] != INVALID
    if product and not all(": " in line for line in lines[1:-1]):
        return "broken"
    return outcome(plain(goal_of(prompt)), page)


def standing(before: str, action: str, text: str) -> float:
    """What ``text``, the answer to ``action`` in the prompt ``before``, means for the prompt's goal.

    1: bought, from a page that fits the goal. 0.5: a list of products, or a product that fits or lacks nothing but
    a choice to be made. 0: everything else, such as a product that lacks something or is too dear, the search page
    again, an empty list, an invalid action, a page that broke off, any other purchase or end.
    """
    if text == OVER:
        return DONE if action == BUYING and meaning(before, page_of(before)) == "fits" else WRONG
    found = meaning(before, text)
    if found == "list":
        return ON_TRACK if text.startswith("page ") else WRONG
    return ON_TRACK if found == "fits" or found.startswith("choose ") else WRONG


def judge(path: Sequence[Seen]) -> float:
    """:func:`standing` of the last state of a path, 0 where the path broke off before it was answered."""
    before, last = path[-2:]
    broken = last.over and last.text != OVER
    return WRONG if broken else standing(before.prompt[-1]["content"], last.action, last.text)
