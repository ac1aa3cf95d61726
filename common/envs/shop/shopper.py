"""A shopper who reads the page and nothing else, and who is careless: the demonstrator of ``shop-v2``.

He knows the language of the shop (that a couch is a sofa), not its catalogue: every decision is a function of the prompt's
text and of chance. What a list hides, such as attributes that a title does not name and the options that are offered, he
can learn by opening the product alone.

    search page    the goal's own words for attributes and type; when he comes back, other words for the same
    list           opens the product of the right type, within the price limit and not yet seen whose title names most of the
                   goal's attributes; where there is none he turns the page, and after :data:`PAGES` pages searches anew
    product        leaves it when type, price, an attribute or an offered option is wrong; else chooses the values one by one
                   and buys. Once he has begun to choose he trusts the product

Each check may be forgotten. So a product that does not fit is bought now and then, which a shopper who learns from his own
purchases can notice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.envs.shop.lexicon import DEPARTMENTS
from common.envs.shop.products import BACK, BUY, NEXT, PREV, words
from common.envs.shop.reading import goal_of, page_of, wanted

FORGETS_ON_LIST = 0.15
"""Chance that one check of a list (type, price) is not made at a step. Source: ours, from a pilot; what each rate costs stands
in docs/lab-log.md."""
FORGETS_ON_PRODUCT = 0.15
"""Chance that one check of a product's page (type, price, attributes, options offered, values chosen) is not made. Source as above."""
SLIPS = 0.1
"""Chance that another button than the intended one is pressed, which is not shown as an example. Source as above."""
PAGES = 3
"""Result pages that he reads for one query."""

_LINE = re.compile(r"^(?P<label>\d+) (?P<title>.*) \$(?P<price>\d+(?:\.\d+)?)(?P<seen> seen)?$")
_HEADING = re.compile(r"^(?P<title>.*) \$(?P<price>\d+(?:\.\d+)?)$")
_OWN_WORD = {word: kind.title for aisles in DEPARTMENTS.values() for aisle in aisles for kind in aisle.kinds
             for word in (kind.title, kind.synonym)}  # fmt: skip
"""Word of a goal for a type → the word that titles use."""


class Wish(NamedTuple):
    """A goal as its sentence tells it; ``limit`` in dollars, infinite without one."""

    attributes: tuple[str, ...]
    wording: str
    options: tuple[str, ...]
    limit: float

    @property
    def type(self) -> str:
        """The word for the wanted type that titles use."""
        return _OWN_WORD.get(self.wording, self.wording)


def wish_of(goal: str) -> Wish:
    """What the goal sentence ``goal`` asks for; an unknown type is taken to be its last word."""
    what, options, limit = wanted(goal)
    cut = next((i for i in range(len(what)) if " ".join(what[i:]) in _OWN_WORD), max(len(what) - 1, 0))
    return Wish(tuple(what[:cut]), " ".join(what[cut:]), tuple(options), limit)


def decide(prompt: str, rng: np.random.Generator) -> str:
    """The action that the shopper intends at ``prompt``, the text of a prompt of a numbered shop."""
    wish, page, done = wish_of(goal_of(prompt)), page_of(prompt).split("\n"), _done(prompt)
    if page[0] == "search page":
        return f"search[{_other_words(wish, rng) if done else ' '.join([*wish.attributes, wish.wording])}]"
    if page[-1].startswith(BUY):
        return f"click[{_at_product(wish, done, page, rng)}]"
    return f"click[{_at_list(wish, page, rng)}]"


def slipped(intended: str, listed: Sequence[str], rng: np.random.Generator) -> str:
    """``intended``, or at rate :data:`SLIPS` another listed click but the purchase."""
    others = [action for action in listed if action.startswith("click[") and action not in (intended, f"click[{BUY}]")]
    return others[int(rng.integers(len(others)))] if others and rng.random() < SLIPS else intended


def _done(prompt: str) -> str:
    """The last action as the prompt repeats it; empty at the beginning."""
    line = prompt.split("\n", 2)[1]
    return line.removeprefix("did: ") if line.startswith("did: ") else ""


def _other_words(wish: Wish, rng: np.random.Generator) -> str:
    """A query for ``wish`` in the shop's own word for the type, and not the one that he began with."""
    first = " ".join([*wish.attributes, wish.wording])
    queries = [" ".join([*some, wish.type]) for some in (wish.attributes, *((one,) for one in wish.attributes), ())]
    queries = [query for query in dict.fromkeys(queries) if query != first] or [first]
    return queries[int(rng.integers(len(queries)))]


def _is_of_type(title: str, wish: Wish) -> bool:
    return f" {title}".endswith(f" {wish.type}")


def _at_list(wish: Wish, page: list[str], rng: np.random.Generator) -> str:
    any_type, any_price = (rng.random(2) < FORGETS_ON_LIST).tolist()
    lines = [match for match in map(_LINE.match, page[1:-1]) if match and not match["seen"]]
    lines = [line for line in lines if (any_type or _is_of_type(line["title"], wish))
             and (any_price or float(line["price"]) <= wish.limit)]  # fmt: skip
    if lines:
        return max(lines, key=lambda line: len(set(words(line["title"])) & set(wish.attributes)))["label"]
    number = int(page[0].removeprefix("page ")) if page[0].startswith("page ") else PAGES
    return NEXT if number < PAGES and NEXT in page[-1] else BACK


def _at_product(wish: Wish, done: str, page: list[str], rng: np.random.Generator) -> str:
    heading = _HEADING.match(page[0])
    shown = dict(line.split(": ", 1) for line in page[1:-1])
    about, chosen = shown.pop("about", "").split(), shown.pop("chosen", "none").split(", ")
    offered = {value for values in shown.values() for value in values.split()}
    checks = (_is_of_type(heading["title"], wish), float(heading["price"]) <= wish.limit,
              set(wish.attributes) <= {*about, *words(heading["title"])}, offered.issuperset(wish.options))  # fmt: skip
    forgotten = (rng.random(len(checks)) < FORGETS_ON_PRODUCT).tolist()
    if done not in wish.options and not all(right or missed for right, missed in zip(checks, forgotten, strict=True)):
        return PREV
    left = [value for value in wish.options if value in offered and value not in chosen]
    return left[0] if left and rng.random() >= FORGETS_ON_PRODUCT else BUY
