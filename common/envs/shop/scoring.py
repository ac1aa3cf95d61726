"""WebShop's reward at purchase (Yao et al. 2022, section 3 and the released ``goal.py``).

r = r_type · (n_attr + n_opt + 1[price ≤ limit]) / (|goal attributes| + |goal options| + 1), in [0, 1].

Choices where the released engine leaves room:

* Goal options are compared value with value. A released environment hands over (name, value) pairs for
  synthetic goals: a pair escapes colour normalisation and is then matched as the text of the tuple. On the
  real options this changes 8.5 % of the (wanted, chosen) pairs of one group, and makes some goals lose
  their own gold value ("antique graywash" against "gray"). A later one compares values, but exactly for a
  group called "size", and counts a chosen value that merely occurs in the product's text. We follow the
  paper's formula.
* Shared nouns are counted as sets on both sides.
* The colour list is ours (plain English base colours); the first one, alphabetically, that is a word of
  an option value replaces the value on both sides. (The released engine also finds "tan" in "standard".)
* An attribute counts where it is like one of the product's own, or its words stand in the product's text.
  (The released engine also finds "men" in "women".)
* Fuzzy scores of attributes are rounded to integers before the comparison with 85, as the library of the
  released engine does.
* Nouns of titles come with the products (``Product.nouns``), so no tagger runs here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from rapidfuzz import fuzz, process, utils

from common.envs.shop.products import Goal, Product, words

MATCH = 85
"""Two attributes are alike when their fuzzy token-set ratio (0–100) is above this."""

COLORS = (
    "beige", "black", "blue", "bronze", "brown", "burgundy", "charcoal", "coral", "cream", "gold", "gray", "green",
    "grey", "ivory", "khaki", "lavender", "maroon", "mint", "mustard", "navy", "nude", "olive", "orange", "peach",
    "pink", "purple", "red", "rose", "silver", "tan", "teal", "turquoise", "violet", "white", "wine", "yellow",
)  # fmt: skip


@lru_cache(maxsize=65_536)
def normalise_color(value: str) -> str:
    """The base colour that is a word of ``value``, or ``value`` itself."""
    named = set(words(value))
    return next((color for color in COLORS if color in named), value)


@lru_cache(maxsize=262_144)
def option_matches(chosen: str, wanted: str) -> bool:
    """Whether a chosen option value is the goal's, or has the same base colour (symmetric)."""
    one, other = (" ".join(normalise_color(value.lower()).split()) for value in (chosen, wanted))
    return one == other


def type_factor(bought: Product, wanted: Product) -> float:
    """r_type: 1 for the right type, less for a product whose title shares few or no nouns with the goal's."""
    share = len(bought.nouns & wanted.nouns) / len(wanted.nouns) if wanted.nouns else 0.2
    if share == 0.0:
        return 0.0
    if share < 0.1:
        return 0.1
    same_query = bought.query == wanted.query
    same_category = len(set(bought.category) & set(wanted.category)) >= 2
    return 1.0 if same_query or same_category or share > 0.2 else 0.5


class ItemScore(NamedTuple):
    """What buying one product is worth for one goal, before options are known.

    Reward with option mask m (bit k set when goal option k is met): factor · (fixed + |m|) / total.
    ``masks[g][v]`` is the mask of value v of option group g (0 for a value that cannot be clicked).
    """

    factor: float
    fixed: int
    total: int
    masks: tuple[tuple[int, ...], ...]

    def reward(self, mask: int) -> float:
        return self.factor * (self.fixed + mask.bit_count()) / self.total


class PurchaseScorer:
    """Rewards over one catalogue; caches which products have an attribute (per attribute) and item
    scores (per goal and product)."""

    def __init__(self, products: tuple[Product, ...]) -> None:
        self._products = products
        self._by_id = {product.id: index for index, product in enumerate(products)}
        self._texts = [" ".join([p.title, *p.features, p.description]).lower() for p in products]
        self._attribute_names = sorted({attribute for product in products for attribute in product.attributes})
        self._has = lru_cache(maxsize=None)(self._products_with)
        self.item = lru_cache(maxsize=500_000)(self._item)

    def _products_with(self, attribute: str) -> bytes:
        """One byte per product: 1 when it has the attribute, by fuzzy match or as words of its text."""
        names, text = self._attribute_names, re.compile(rf"(?<!\w){re.escape(attribute.lower())}(?!\w)")
        similar: set[str] = set()
        if names:
            ratios = process.cdist([attribute], names, scorer=fuzz.token_set_ratio, processor=utils.default_process)[0]
            similar = {names[k] for k in np.flatnonzero(np.round(ratios) > MATCH)}
        return bytes(
            not similar.isdisjoint(product.attributes) or text.search(self._texts[index]) is not None
            for index, product in enumerate(self._products)
        )

    def target(self, goal: Goal) -> int:
        """Index of the goal's own product; raises ValueError when the catalogue lacks it."""
        try:
            return self._by_id[goal.product]
        except KeyError:
            raise ValueError(
                f"task {goal.id} asks for product {goal.product!r}, which the catalogue lacks; load the panel and the "
                "catalogue of the same version"
            ) from None

    def _item(self, goal: Goal, index: int) -> ItemScore:
        product = self._products[index]
        wanted = [value for _, value in goal.options]
        fixed = sum(self._has(attribute)[index] for attribute in goal.attributes) + (product.price <= goal.price_limit)
        masks = [[0] * len(values) for _, values in product.options]
        for group, value in product.choices().values():
            text = product.options[group][1][value]
            masks[group][value] = sum(option_matches(text, want) << bit for bit, want in enumerate(wanted))
        factor = type_factor(product, self._products[self.target(goal)])
        return ItemScore(factor, fixed, len(goal.attributes) + len(wanted) + 1, tuple(map(tuple, masks)))

    def reward(self, goal: Goal, index: int, chosen: tuple[int, ...]) -> float:
        """Reward in [0, 1] of buying product ``index``; ``chosen[g]`` is the value index of group g or −1."""
        item, mask = self.item(goal, index), 0
        for values, choice in zip(item.masks, chosen, strict=True):
            if choice >= 0:
                mask |= values[choice]
        return item.reward(mask)
