"""Products and goals as immutable values, shared by the generated and the real catalogue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from common.types import Task

NO_LIMIT = 1_000_000.0
"""Price limit of a goal without one (WebShop stores the same number)."""

NEXT, PREV, BACK, BUY = "next >", "< prev", "back to search", "buy now"
DETAILS = ("features", "description")
"""The buttons' texts, as click targets."""

_WORD = re.compile(r"[a-z0-9]+")


def words(text: str) -> list[str]:
    """Lower-case alphanumeric runs of ``text``: the unit of search and of title matching."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Product:
    """One item of a shop.

    ``category`` is the path from the root, ``query`` the seed query it was collected under, ``nouns`` the
    nouns of its title (lower case), ``indexed`` the text that search sees, ``options`` pairs of a group
    name and its values. ``features`` and ``description`` are empty in the generated catalogue.
    """

    id: str
    title: str
    category: tuple[str, ...]
    query: str
    price: float
    attributes: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]
    nouns: frozenset[str]
    indexed: str
    features: tuple[str, ...] = ()
    description: str = ""

    @staticmethod
    def from_json(row: dict[str, Any]) -> Product:
        """The product of one catalogue row; raises ValueError when a field is missing."""
        try:
            return Product(
                id=row["id"],
                title=row["title"],
                category=tuple(row["category"]),
                query=row["query"],
                price=float(row["price"]),
                attributes=tuple(row["attributes"]),
                options=tuple((name, tuple(values)) for name, values in row["options"].items()),
                nouns=frozenset(row["nouns"]),
                indexed=row["indexed"],
                features=tuple(row.get("features", ())),
                description=row.get("description", ""),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"catalogue row {str(row)[:80]} lacks or mistypes {error}; rebuild the catalogue"
            ) from error

    def choices(self) -> dict[str, tuple[int, int]]:
        """Click target → (group, value index), in page order. A text that two groups share belongs to
        the first one, and a text that is also a button's to the button."""
        choices: dict[str, tuple[int, int]] = {}
        for group, (_, values) in enumerate(self.options):
            for value, text in enumerate(values):
                if text not in (NEXT, PREV, BACK, BUY, *DETAILS):
                    choices.setdefault(text.lower().strip(), (group, value))
        return choices


@dataclass(frozen=True)
class Goal:
    """What the shopper is asked to buy: the immutable, hashable form of a task's ``data``."""

    id: str
    instruction: str
    product: str
    wordings: tuple[str, ...]
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    price_limit: float
    queries: tuple[str, ...]

    def __hash__(self) -> int:
        return hash(self.id)

    @staticmethod
    def from_task(task: Task) -> Goal:
        """The goal of a task; raises ValueError naming what the task lacks."""
        data = task.data
        try:
            return Goal(
                id=task.id,
                instruction=data["instruction"],
                product=data["product"],
                wordings=tuple(data["wordings"]),
                attributes=tuple(data["attributes"]),
                options=tuple(data["options"].items()),
                price_limit=float(data["price_limit"]),
                queries=tuple(data["queries"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"task {task.id} lacks or mistypes {error}; rebuild the panel it comes from") from error


def listed_queries(goal_text: str, wordings: list[str], attributes: list[str], values: list[str]) -> list[str]:
    """At most eight queries a shopper would form from a goal, without repeats, the full text first.

    Then, for each wording of the product type (the goal's own first, then its synonym): type with
    all attributes, type with attributes and option values, type alone; last the goal's wording with
    each attribute alone, as far as room is left.
    """
    queries = [goal_text]
    for wording in wordings:
        queries += [
            " ".join([*attributes, wording]),
            " ".join([*attributes, *values, wording]),
            wording,
        ]
    queries += [f"{attribute} {wordings[0]}" for attribute in attributes]
    cleaned = (" ".join(query.replace("[", " ").replace("]", " ").lower().split()) for query in queries)
    return list(dict.fromkeys(query for query in cleaned if query))[:8]


def price_limit(price: float, first: float, second: float) -> float:
    """WebShop's limit: the larger of two distinct draws from the next four ladder prices above ``price``.

    The ladder is 10, 20, …, 990 dollars. ``first`` and ``second`` are uniforms in [0, 1) that pick
    the two draws, so the caller derives them from the goal id (the released engine draws before
    any seed is set, so its limits differ from process to process). NO_LIMIT when fewer than two
    ladder prices remain.
    """
    above = [step for step in (10.0 * k for k in range(1, 100)) if step > price][:4]
    if len(above) < 2:
        return NO_LIMIT
    one = above.pop(int(first * len(above)))
    return max(one, above[int(second * len(above))])
