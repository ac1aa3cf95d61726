"""Option values, attributes and prices of a shop that other engines were reported to confuse. A line a case."""

from __future__ import annotations

import pytest

from common.envs.shop.engine import ShopEnv
from common.envs.shop.scoring import PurchaseScorer, option_matches
from common.envs.shop.webshop import _wording
from common.types import Task
from tests.envs.test_shop import DATA, TINY

HELD_OUT = "held-out check"
WEBSHOP = "princeton-nlp/WebShop#8"

SAME = [
    ("tan", "tan", HELD_OUT),
    ("X-Large", "x-large", HELD_OUT),
    ("6  pack", "6 pack", HELD_OUT),
    ("tan leather", "tan", WEBSHOP),
    ("navy-blue", "blue", WEBSHOP),
]
OTHER = [
    ("standard", "tan", HELD_OUT),
    ("titanium", "tan", HELD_OUT),
    ("colored", "red", HELD_OUT),
    ("shredded", "red", HELD_OUT),
    ("peppermint", "mint", HELD_OUT),
    ("golden hour", "gold", HELD_OUT),
    ("steal", "teal", HELD_OUT),
    ("x-large", "large", WEBSHOP),
    ("large tall", "large", WEBSHOP),
    ("size 10", "size 11", WEBSHOP),
    ("6 pack", "16 pack", WEBSHOP),
    ("10.5 wide", "10 5 wide", WEBSHOP),
    ("", "tan", HELD_OUT),
]


@pytest.mark.parametrize(("chosen", "wanted", "source"), SAME)
def test_the_wanted_value_counts(chosen, wanted, source):
    """The right option counts as wrong because it is written otherwise: each case names the report."""
    assert option_matches(chosen, wanted) and option_matches(wanted, chosen)


@pytest.mark.parametrize(("chosen", "wanted", "source"), OTHER)
def test_another_value_does_not_count(chosen, wanted, source):
    """A wrong option counts because the wanted one is a part of it, or nearly so: each case names the report."""
    assert not option_matches(chosen, wanted) and not option_matches(wanted, chosen)


@pytest.mark.parametrize(
    ("attribute", "title", "has"),
    [
        ("men", "shoes for women", False),
        ("men", "shoes for men", True),
        ("tan", "standard lamp", False),
        ("easy care", "Easy Care, soft", True),
        ("c++", "a book on c++", True),
        ("wash", "washable rug", False),
    ],
)
def test_an_attribute_counts_where_its_words_stand_in_the_text(attribute, title, has):
    """An attribute is found inside another word. source: princeton-nlp/WebShop#8"""
    product = ShopEnv([{**TINY[0], "title": title, "attributes": []}]).products
    assert PurchaseScorer(product)._products_with(attribute) == bytes([has])


def test_the_type_of_a_product_keeps_its_letters():
    """Taking the attribute "men" out of "women" leaves a type that nobody sells. source: held-out check."""
    assert _wording("Find me men women shoes for men", ["men"]) == "women shoes"
    assert _wording("Find me solid wood, red bored tables", ["solid wood", "red"]) == "bored tables"


@pytest.mark.parametrize(
    ("price", "shown"),
    [
        (12.0, "$12"),
        (9.5, "$9.5"),
        (0.99, "$0.99"),
        (100.0, "$100"),
        (12345.67, "$12345.67"),
        (100000.0, "$100000"),
        (100000.5, "$100000.5"),
        (1234567.0, "$1234567"),
        (99999999.99, "$99999999.99"),
    ],
)
def test_a_price_keeps_its_digits(price, shown):
    """Large prices are rounded to six digits, or shown with an exponent. source: held-out check."""
    env = ShopEnv([{**TINY[0], "price": price}])
    env.reset(Task("tiny/0", "shop-v1", "test", DATA))
    assert env.step("search[quiet round mug]").text.split("\n")[1].endswith(f" {shown}")
    assert env.step("click[a1a]").text.split("\n")[0].endswith(f" {shown}")
