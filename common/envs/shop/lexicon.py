"""The words of the generated shop. Small on purpose: a nano language model has to learn them all.

Attributes are adjectives throughout, so that the nouns of a title are its brand and its type words
and the type factor of the reward needs no tagger here.
"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A product type: the words titles use, the words some instructions use instead, its option groups."""

    title: str
    synonym: str
    groups: tuple[str, ...]


class Aisle(NamedTuple):
    """Second level of the category path: two types that share brands."""

    name: str
    brands: tuple[str, ...]
    kinds: tuple[Kind, ...]


GROUPS: dict[str, tuple[str, ...]] = {
    "color": ("red", "blue", "green", "black", "white", "gray", "pink", "brown"),
    "size": ("mini", "small", "medium", "large", "giant"),
    "pack": ("single", "double", "triple", "family"),
    "scent": ("lemon", "vanilla", "mint", "pine", "coconut"),
    "flavor": ("cherry", "honey", "cocoa", "ginger", "peanut"),
    "finish": ("matte", "glossy", "satin", "rustic"),
    "power": ("manual", "battery", "solar", "mains"),
}

SHARED_ATTRIBUTES = (
    "lightweight", "durable", "compact", "premium", "classic", "modern",
    "handmade", "recycled", "portable", "affordable", "natural", "stylish",
)  # fmt: skip

DEPARTMENT_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "home": ("padded", "wooden", "velvety", "rounded", "stackable", "washable"),
    "kitchen": ("nonstick", "ceramic", "insulated", "heatproof", "airtight", "polished"),
    "garden": ("rustproof", "foldable", "sturdy", "sharp", "bright", "woven"),
    "fashion": ("breathable", "stretchy", "waterproof", "quilted", "slim", "thermal"),
    "beauty": ("organic", "vegan", "fragrant", "gentle", "hydrating", "soothing"),
    "electronics": ("wireless", "rechargeable", "quiet", "backlit", "ergonomic", "loud"),
    "sports": ("nonslip", "adjustable", "rugged", "inflatable", "reflective", "flexible"),
    "kids": ("educational", "plush", "musical", "colorful", "safe", "magnetic"),
    "office": ("lined", "refillable", "swivel", "dimmable", "slender", "erasable"),
    "grocery": ("sweet", "salted", "roasted", "sugarless", "crunchy", "fresh"),
}

DEPARTMENTS: dict[str, tuple[Aisle, ...]] = {
    "home": (
        Aisle("furniture", ("arvo", "nordal", "tekka"),
              (Kind("sofa", "couch", ("color", "size")), Kind("wardrobe", "closet", ("color", "finish")))),
        Aisle("bedding", ("dormi", "lullo", "sovna"),
              (Kind("pillow", "cushion", ("color", "size")), Kind("blanket", "throw", ("color", "size")))),
    ),
    "kitchen": (
        Aisle("cookware", ("fornax", "brasko", "chefor"),
              (Kind("skillet", "frying pan", ("size", "finish")), Kind("kettle", "water boiler", ("color", "power")))),
        Aisle("tableware", ("potta", "glazo", "dinora"),
              (Kind("mug", "cup", ("color", "pack")), Kind("bowl", "dish", ("finish", "pack")))),
    ),
    "garden": (
        Aisle("tools", ("hagen", "rooto", "digmar"),
              (Kind("shovel", "spade", ("color", "size")), Kind("trimmer", "hedge cutter", ("power", "size")))),
        Aisle("outdoor", ("solvi", "patavi", "verdan"),
              (Kind("lantern", "garden light", ("power", "color")), Kind("hammock", "hanging bed", ("color", "size")))),
    ),
    "fashion": (
        Aisle("shoes", ("strido", "pedra", "walko"),
              (Kind("sneakers", "trainers", ("color", "size")), Kind("slippers", "house shoes", ("color", "size")))),
        Aisle("clothing", ("modelo", "threda", "urbix"),
              (Kind("hoodie", "sweatshirt", ("color", "size")), Kind("trousers", "pants", ("color", "size")))),
    ),
    "beauty": (
        Aisle("skin care", ("dermea", "pura", "belisa"),
              (Kind("lotion", "skin cream", ("scent", "size")), Kind("cleanser", "face wash", ("scent", "pack")))),
        Aisle("hair care", ("capela", "lokka", "sheeno"),
              (Kind("shampoo", "hair wash", ("scent", "size")), Kind("comb", "hair brush", ("color", "pack")))),
    ),
    "electronics": (
        Aisle("audio", ("sonaro", "bassik", "audix"),
              (Kind("headphones", "headset", ("color", "power")), Kind("speaker", "sound box", ("color", "size")))),
        Aisle("computers", ("keytro", "pixon", "datum"),
              (Kind("keyboard", "keypad", ("color", "finish")), Kind("monitor", "screen", ("size", "finish")))),
    ),
    "sports": (
        Aisle("fitness", ("gymra", "flexo", "titano"),
              (Kind("dumbbell", "hand weight", ("color", "pack")), Kind("yoga mat", "gym pad", ("color", "size")))),
        Aisle("camping", ("campa", "trekko", "alpino"),
              (Kind("tent", "camp shelter", ("color", "size")), Kind("backpack", "rucksack", ("color", "size")))),
    ),
    "kids": (
        Aisle("toys", ("playmo", "joyko", "bimbo"),
              (Kind("puzzle", "jigsaw", ("size", "pack")), Kind("doll", "toy figure", ("color", "size")))),
        Aisle("nursery", ("nidoo", "babelo", "cribba"),
              (Kind("stroller", "pram", ("color", "finish")), Kind("crib", "cot", ("color", "finish")))),
    ),
    "office": (
        Aisle("paper", ("folia", "scribo", "papira"),
              (Kind("notebook", "journal", ("color", "pack")), Kind("folder", "binder", ("color", "pack")))),
        Aisle("desk", ("lumora", "sedia", "offix"),
              (Kind("desk lamp", "table light", ("color", "power")), Kind("chair", "seat", ("color", "finish")))),
    ),
    "grocery": (
        Aisle("drinks", ("fresca", "tealo", "brewka"),
              (Kind("tea", "herbal drink", ("flavor", "pack")), Kind("juice", "soft drink", ("flavor", "size")))),
        Aisle("snacks", ("crispo", "nutri", "munchy"),
              (Kind("cookies", "biscuits", ("flavor", "pack")), Kind("trail mix", "nut mix", ("flavor", "size")))),
    ),
}  # fmt: skip
