"""The generated shop: products, goals and panels, all a function of one seed.

Follows WebShop's goal grammar ("find me <attributes> <type> with <option>: <value>, and …, and price
lower than P dollars"), one goal per product and option combination, of which at most
``GOALS_PER_PRODUCT`` are kept. Departures from WebShop: the texts are made up, goals name the type
by a synonym that titles never use with probability ``SYNONYM_RATE``, search sees titles only (both
make search as hard as on the real shop), and price limits are derived from the goal id.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as combinations
from typing import Any

import numpy as np

from common.envs.shop.lexicon import DEPARTMENT_ATTRIBUTES, DEPARTMENTS, GROUPS, SHARED_ATTRIBUTES, Aisle, Kind
from common.envs.shop.products import NO_LIMIT, listed_queries, price_limit
from common.rng import generator
from common.types import Task

ENV_ID = "shop-v1"
N_PRODUCTS = 1200
GOALS_PER_PRODUCT = 2
HELD_OUT_PRODUCTS = 120
"""Products whose goals are kept for ``test_products`` and appear in no other panel."""
PANEL_SIZES = {"validation": 100, "test": 300, "train": 500}
"""Goals per panel split by goal; the rest of those goals is ``demos``, for the base model's warm start."""

TITLE_RATE = 0.4
"""Chance that an attribute is named in the title (kept between two and four per title)."""
SYNONYM_RATE = 0.25
ATTRIBUTES_PER_PRODUCT = (4, 6)
GROUP_RATE = 0.75
"""Chance that a product carries an option group of its type."""

Row = dict[str, Any]


def _kinds(departments: Sequence[str] = tuple(DEPARTMENTS)) -> list[tuple[str, Aisle, Kind]]:
    return [(department, aisle, kind) for department in departments for aisle in DEPARTMENTS[department] for kind in aisle.kinds]


def _ids(seed: int, count: int) -> list[str]:
    """Distinct letter-digit-letter ids in random order, so that an id says nothing of its product."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    order = generator("shop ids", seed).permutation(26 * 10 * 26)[:count]
    return [f"{letters[n // 260]}{n // 26 % 10}{letters[n % 26]}" for n in order.tolist()]


def _pick(rng: np.random.Generator, pool: tuple[str, ...], count: int) -> list[str]:
    return [pool[k] for k in rng.permutation(len(pool))[:count].tolist()]


def _product(seed: int, index: int, id_: str, kinds: list[tuple[str, Aisle, Kind]]) -> Row:
    department, aisle, kind = kinds[index % len(kinds)]
    shared = _pick(generator("shop kind", seed, kind.title), SHARED_ATTRIBUTES, 6)
    base_price = generator("shop price level", seed, kind.title).uniform(12, 60)
    rng = generator("shop product", seed, index)
    low, high = ATTRIBUTES_PER_PRODUCT
    pool = (*DEPARTMENT_ATTRIBUTES[department], *shared)
    attributes = _pick(rng, pool, int(rng.integers(low, high + 1)))
    named = int(np.clip(rng.binomial(len(attributes), TITLE_RATE), 2, 4))
    brand = aisle.brands[int(rng.integers(len(aisle.brands)))]
    options = {}
    for name in kind.groups:
        if rng.random() < GROUP_RATE:
            chosen = set(_pick(rng, GROUPS[name], int(rng.integers(2, 5))))
            options[name] = [value for value in GROUPS[name] if value in chosen]
    price = int(np.clip(round(base_price * np.exp(0.4 * rng.standard_normal())), 4, 95))
    title = " ".join([brand, *attributes[:named], kind.title])
    return {
        "id": id_,
        "title": title,
        "indexed": title,
        "category": [department, aisle.name, kind.title],
        "query": kind.title,
        "price": price,
        # Shuffled, so that the place in the list does not tell which ones the title names.
        "attributes": [attributes[k] for k in rng.permutation(len(attributes)).tolist()],
        "options": options,
        "nouns": [brand, *kind.title.split()],
    }


def build_catalogue(
    seed: int = 0, n_products: int = N_PRODUCTS, departments: Sequence[str] = tuple(DEPARTMENTS)
) -> list[Row]:
    """The generated shop as JSON-able rows (fields of ``products.Product``), the types of ``departments`` in turn.

    Raises:
        ValueError: a department that the lexicon lacks, or none.
    """
    unknown = [name for name in departments if name not in DEPARTMENTS]
    if unknown or not departments:
        raise ValueError(f"departments: {unknown or 'an empty list'} must name departments of the lexicon; take some of "
                         f"{', '.join(DEPARTMENTS)}")  # fmt: skip
    kinds, ids = _kinds(departments), _ids(seed, n_products)
    return [_product(seed, index, ids[index], kinds) for index in range(n_products)]


def instruction(attributes: list[str], wording: str, options: dict[str, str], limit: float) -> str:
    """WebShop's goal sentence for the generated shop."""
    text = " ".join([*attributes, wording])
    if options:
        text += " with " + ", and ".join(f"{name}: {value}" for name, value in options.items())
    return text if limit >= NO_LIMIT else f"{text}, and price lower than {limit:.0f} dollars"


def goals_of(row: Row, seed: int, most: int = GOALS_PER_PRODUCT) -> list[dict[str, Any]]:
    """Task data of a product's goals: one choice of attributes and of the word for its type, and at most ``most`` of its
    option combinations."""
    rng = generator("shop goal", seed, row["id"])
    attributes = _pick(rng, tuple(row["attributes"]), int(rng.integers(1, 4)))
    kind = next(kind for _, _, kind in _kinds() if kind.title == row["query"])
    wordings = [kind.title, kind.synonym]
    if rng.random() < SYNONYM_RATE:
        wordings.reverse()
    names = sorted(row["options"])
    combos = list(combinations(*(row["options"][name] for name in names)))
    selected = sorted(rng.permutation(len(combos))[:most].tolist())
    goals = []
    for k in selected:
        options = dict(zip(names, combos[k], strict=True))
        first, second = generator("shop price limit", seed, row["id"], k).random(2)
        limit = price_limit(row["price"], first, second)
        text = instruction(attributes, wordings[0], options, limit)
        goals.append(
            {
                "instruction": text,
                "product": row["id"],
                "wordings": wordings,
                "attributes": attributes,
                "options": options,
                "price_limit": limit,
                "queries": listed_queries(text, wordings, attributes, list(options.values())),
            }
        )
    return goals


def build_panels(catalogue: list[Row], seed: int = 0) -> dict[str, list[Task]]:
    """Panels ``demos``, ``train``, ``validation``, ``test`` (disjoint goals, products shared, as WebShop's official
    split) and ``test_products`` (goals of products that no other panel asks for).

    Deterministic in (catalogue, seed). Task ids are ``<env>/<product id>-<n>``.
    """
    order = generator("shop split by product", seed).permutation(len(catalogue)).tolist()
    n_held_out = min(HELD_OUT_PRODUCTS, len(catalogue) // 10)

    def tasks(indices: list[int]) -> list[tuple[str, dict[str, Any]]]:
        rows = (catalogue[index] for index in sorted(indices))
        return [(f"{ENV_ID}/{row['id']}-{n}", goal) for row in rows for n, goal in enumerate(goals_of(row, seed))]

    held_out, common = tasks(order[:n_held_out]), tasks(order[n_held_out:])
    shuffled = [common[k] for k in generator("shop split by goal", seed).permutation(len(common)).tolist()]
    panels, start = {}, 0
    for name, size in PANEL_SIZES.items():
        size = min(size, len(shuffled) // 4)
        panels[name] = shuffled[start : start + size]
        start += size
    panels["demos"] = shuffled[start:]
    panels["test_products"] = held_out
    return {name: [Task(id_, ENV_ID, name, data) for id_, data in rows] for name, rows in panels.items()}
