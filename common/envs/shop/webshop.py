"""The real small WebShop split in the same engine, as ``webshop-1k``.

Files, in one folder (argument, or the environment variable WEBSHOP_DATA): ``products_1000.jsonl.xz``, one
product a line, and ``items_ins_v2_1000.json``, instructions and attributes by product. They are
WebShop's own (MIT; the product text was collected from a shop) and never part of this project.

Departures from the released engine, beside those of ``scoring.py``: price limits derive from the goal
id (the engine draws them before any seed is set); a product with a price range costs its middle; nouns
come from ``nouns.py``; there are no review and attribute pages; white space in option values is
collapsed; long titles and pages are shortened in the prompt to TITLE_WORDS and PAGE_WORDS words.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import random
import re
from itertools import product as combinations
from pathlib import Path
from typing import Any

from common.envs.shop.engine import ShopEnv
from common.envs.shop.nouns import title_nouns
from common.envs.shop.products import NO_LIMIT, Product, listed_queries, price_limit
from common.rng import generator
from common.types import Task

ENV_ID = "webshop-1k"
PRODUCTS_FILE, ITEMS_FILE = "products_1000.jsonl.xz", "items_ins_v2_1000.json"
OFFICIAL_SHUFFLE_SEED, OFFICIAL_TEST = 233, 500
VALIDATION, TRAIN = 100, 1000
HELD_OUT_RATE = 0.2
"""Share of the products with goals that the product-disjoint split holds out."""
TITLE_WORDS, PAGE_WORDS = 12, 60

_TYPE = re.compile(r"^find me (?P<before>.*?)(?: (?:with|for) (?P<after>.*))?$")


def data_folder(folder: str | Path | None = None) -> Path:
    """The folder of the files: the argument, else WEBSHOP_DATA; FileNotFoundError when neither is given."""
    folder = folder or os.environ.get("WEBSHOP_DATA")
    if not folder:
        raise FileNotFoundError(f"{ENV_ID} needs its files; set WEBSHOP_DATA to the folder that holds {PRODUCTS_FILE}")
    return Path(folder)


def _missing(path: Path) -> str:
    return f"{ENV_ID}: {path} is missing; put the file there or point WEBSHOP_DATA elsewhere"


def _parse(path: Path) -> Any:
    """JSON of one file, or a list of JSON lines of an .xz file, with one-sentence errors."""
    if not path.is_file():
        raise FileNotFoundError(_missing(path))
    try:
        if path.suffix == ".xz":
            with lzma.open(path, "rt", encoding="utf-8-sig") as lines:
                return [json.loads(line) for line in lines if line.strip()]
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise ValueError(f"{ENV_ID}: {path} is corrupt ({error}); fetch the file again") from error


def _product(row: dict[str, Any], attributes: list[str]) -> Product:
    low, high = min(row["pricing"]), max(row["pricing"])
    options = {
        " ".join(name.lower().split()): tuple(" ".join(value.lower().split()) for value in values)
        for name, values in row["options"].items()
    }
    features = tuple(text.strip() for text in row["BulletPoints"])
    listed = ", and ".join(f"{name}: {', '.join(values)}" for name, values in options.items())
    return Product(
        id=row["asin"].lower(),
        title=" ".join(row["name"].split()),
        category=tuple(part.strip() for part in row["product_category"].split("›")),
        query=row["query"],
        price=round((low + high) / 2, 2),
        attributes=tuple(attributes),
        options=tuple(options.items()),
        nouns=title_nouns(row["name"]),
        # Title, description, first feature and options: the fields of the released engine's index.
        indexed=" ".join([row["name"], row["full_description"], *features[:1], listed]),
        features=features,
        description=row["full_description"],
    )


def _wording(text: str, attributes: list[str]) -> str:
    """The type words of an instruction, found in its text alone: what is left of "find me <attributes>
    <type> with <attributes> for <attribute>" once the attributes are gone."""
    match = _TYPE.match(" ".join(text.lower().split()))
    rest = match["before"] if match else text.lower()
    for attribute in sorted(attributes, key=len, reverse=True):
        rest = re.sub(rf"(?<!\w){re.escape(attribute.lower())}(?:,|(?= ))", " ", rest)
    return " ".join(rest.replace(",", " ").split()) or text


def _goals(product: Product, item: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(task id, data) for every combination of the product's options."""
    attributes = item["instruction_attributes"]
    wording = _wording(item["instruction"], attributes)
    groups = sorted(product.options)
    goals = []
    for n, combo in enumerate(combinations(*(values for _, values in groups))):
        task_id = f"{ENV_ID}/{product.id}-{n}"
        options = dict(zip((name for name, _ in groups), combo, strict=True))
        first, second = generator("webshop price limit", task_id).random(2)
        limit = price_limit(product.price, first, second)
        text = item["instruction"]
        if options:
            text += " with " + ", and ".join(f"{name}: {value}" for name, value in options.items())
        if limit < NO_LIMIT:
            text += f", and price lower than {limit:.2f} dollars"
        data = {
            "instruction": text,
            "product": product.id,
            "wordings": [wording],
            "attributes": attributes,
            "options": options,
            "price_limit": limit,
            "queries": listed_queries(text, [wording], attributes, list(options.values())),
        }
        goals.append((task_id, data))
    return goals


def load_split(folder: str | Path | None = None) -> tuple[list[Product], dict[str, list[Task]]]:
    """Products and panels of the real split.

    ``test`` is the official test split: the first 500 goals after the published shuffle; it shares products
    with training. ``test_products`` holds all goals of a fifth of the products that have goals, drawn by
    seed; those goals are in no training panel (some are in ``test``). The official training goals that
    remain are ``validation``, ``train`` and ``demos``, so one model can be judged on both splits.
    Raises FileNotFoundError or ValueError, each one sentence, when a file is missing or corrupt.
    """
    root = data_folder(folder)
    rows, items = _parse(root / PRODUCTS_FILE), _parse(root / ITEMS_FILE)
    try:
        products = [_product(row, items.get(row["asin"], {}).get("attributes", [])) for row in rows]
        goals = [
            goal
            for row, product in zip(rows, products, strict=True)
            if items.get(row["asin"], {}).get("instruction")
            for goal in _goals(product, items[row["asin"]])
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{ENV_ID}: {root} holds a row without a usable field ({error!r}); fetch {PRODUCTS_FILE} and "
            f"{ITEMS_FILE} again"
        ) from error
    if not goals:
        raise ValueError(f"{ENV_ID}: {root / ITEMS_FILE} holds no goal for any product; fetch the file again")
    random.Random(OFFICIAL_SHUFFLE_SEED).shuffle(goals)
    with_goals = sorted({data["product"] for _, data in goals})
    order = generator("webshop product split").permutation(len(with_goals)).tolist()
    held_out = {with_goals[k] for k in order[: round(HELD_OUT_RATE * len(with_goals))]}
    known = [goal for goal in goals[OFFICIAL_TEST:] if goal[1]["product"] not in held_out]
    split = {
        "test": goals[:OFFICIAL_TEST],
        "test_products": [goal for goal in goals if goal[1]["product"] in held_out],
        "validation": known[:VALIDATION],
        "train": known[VALIDATION : VALIDATION + TRAIN],
        "demos": known[VALIDATION + TRAIN :],
    }
    panels = {name: [Task(id_, ENV_ID, name, data) for id_, data in part] for name, part in split.items()}
    return products, panels


def make_env(products: list[Product], *, gamma: float = 0.95, max_steps: int = 15) -> ShopEnv:
    """The engine over the real products, with WebShop's features and description pages.

    Five numbered products a page and short titles, as in ``shop-v1``: a nano policy cannot copy ids.
    """
    return ShopEnv(
        products,
        ENV_ID,
        gamma=gamma,
        max_steps=max_steps,
        detail_pages=True,
        title_words=TITLE_WORDS,
        page_words=PAGE_WORDS,
        page_size=5,
        numbered=True,
    )


def make_webshop(folder: str | Path | None = None) -> ShopEnv:
    """``webshop-1k`` straight from its files (see ``load`` for the errors)."""
    return make_env(load_split(folder)[0])


def webshop_panels(folder: str | Path | None = None) -> dict[str, list[Task]]:
    """The panels of ``load``."""
    return load_split(folder)[1]


def files_hash(folder: str | Path | None = None) -> str:
    """One SHA-256 over the bytes of both files, in fixed order; FileNotFoundError when one is missing."""
    root, digest = data_folder(folder), hashlib.sha256()
    for name in (PRODUCTS_FILE, ITEMS_FILE):
        if not (root / name).is_file():
            raise FileNotFoundError(_missing(root / name))
        digest.update(hashlib.sha256((root / name).read_bytes()).digest())
    return digest.hexdigest()
