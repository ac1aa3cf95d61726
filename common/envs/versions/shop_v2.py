"""shop-v2: the shop of :mod:`common.envs.shop.engine` with three times the goals of shop-v1 and a demonstrator who reads pages.

Rules, pages and rewards are shop-v1's, and exact values are computed as there. Five departments instead of ten, so that a
model of half a million parameters sees each word often; up to eight goals a product instead of two; 25 steps instead of 15,
because a shopper who does not know the catalogue opens products that do not fit. Twice as many products of a type stand before
the right one, so that γ = .95 would make a wrong purchase, sooner, the best one of 5 goals in 100; with .98 the oracle
scores 1 wherever the listed queries lead to a right purchase in time.

Panels, each of whose goals has a sentence that no other goal has:

    test           400 goals. Episodes are long, so four of them stand for a task: 400 × 4, where a world of short episodes
                   has 500 tasks or more
    validation     300 goals, of products that no goal of ``test`` asks for
    test_products  300 goals of products that no other panel asks for
    train          1,500 goals
    demos          the rest, for the base model's warm start

No goal is in two panels. Products of ``test`` are disjoint from those of ``validation``, and products of ``test_products`` from
all others; ``train`` and ``demos`` share products with each other, with ``test`` and with ``validation``, as in WebShop's official
split. Goals of one product ask for the same attributes with other option values: the words of a first query were demonstrated
for 97 of 100 goals of ``test`` and for 12 of 100 of ``test_products``, so that the latter tell who copies and who remembers.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common.envs.panels import load_catalogue
from common.envs.shop.catalogue import Row, build_catalogue, goals_of
from common.envs.shop.engine import ShopEnv
from common.envs.shop.shopper import decide, slipped
from common.rng import generator
from common.types import Task

ENV_ID = "shop-v2"
N_PRODUCTS = 1200
DEPARTMENTS = ("home", "kitchen", "garden", "fashion", "beauty")
GOALS_PER_PRODUCT = 8
MAX_STEPS, GAMMA = 25, 0.98
SIZES = {"test": 400, "validation": 300, "test_products": 300, "train": 1500}
"""Goals a panel; the rest is ``demos``."""

Goals = list[tuple[str, dict[str, Any]]]
"""(task id, task data) of each."""


class ShopV2(ShopEnv):
    """The numbered shop with a demonstrator who reads pages."""

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(action to imitate, action taken) of the shopper of :mod:`common.envs.shop.shopper`, who sees what a player sees."""
        intended = decide(self.prompt()[0]["content"], rng)
        return intended, slipped(intended, self.actions(), rng)


def make(data_dir: Path) -> ShopV2:
    return shop(load_catalogue(data_dir, ENV_ID))


def shop(catalogue: list[Row]) -> ShopV2:
    """The environment over ``catalogue``; five numbered products a page, as in shop-v1."""
    return ShopV2(catalogue, ENV_ID, gamma=GAMMA, max_steps=MAX_STEPS, page_size=5, numbered=True)


def build(seed: int) -> dict[str, list[dict[str, Any]]]:
    catalogue = build_catalogue(seed, N_PRODUCTS, DEPARTMENTS)
    panels = split(catalogue, seed, SIZES)
    rows = {name: [asdict(Task(id_, ENV_ID, name, data)) for id_, data in goals] for name, goals in panels.items()}
    return rows | {"catalogue": catalogue}


def split(catalogue: list[Row], seed: int, sizes: dict[str, int]) -> dict[str, Goals]:
    """The panels as the module describes them; those of ``sizes`` and ``demos``. Deterministic in its arguments."""
    order = generator(ENV_ID, "split by product", seed).permutation(len(catalogue)).tolist()
    goals, held_out = _distinct([catalogue[index] for index in order], seed), sizes["test_products"]
    apart = {data["product"] for _, data in goals[:held_out]}
    common = [goal for goal in goals if goal[1]["product"] not in apart]
    common = [common[k] for k in generator(ENV_ID, "split by goal", seed).permutation(len(common)).tolist()]
    validation, rest = common[: sizes["validation"]], common[sizes["validation"] :]
    taken = {data["product"] for _, data in validation}
    test = [goal for goal in rest if goal[1]["product"] not in taken][: sizes["test"]]
    tested = {id_ for id_, _ in test}
    rest = [goal for goal in rest if goal[0] not in tested]
    return {"test": test, "validation": validation, "test_products": goals[:held_out], "train": rest[: sizes["train"]],
            "demos": rest[sizes["train"] :]}  # fmt: skip


def _distinct(rows: list[Row], seed: int) -> Goals:
    """The goals of ``rows``, product by product, without those whose sentence an earlier one has."""
    goals: dict[str, tuple[str, dict[str, Any]]] = {}
    for row in rows:
        for n, goal in enumerate(goals_of(row, seed, GOALS_PER_PRODUCT)):
            goals.setdefault(goal["instruction"], (f"{ENV_ID}/{row['id']}-{n}", goal))
    return list(goals.values())
