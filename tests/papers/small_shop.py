"""A small world for shop-v1: sixty sofas and wardrobes, and a policy half-taught to act there, with or without the instruction
for chat models. It earns some reward in half of its episodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.contract import Env
from common.envs.shop.engine import ShopEnv
from common.envs.shop.instruction import Instructed
from common.learn.batches import SFTExample
from common.base import demonstrations
from tests.papers.units import teach, write_panels

ENV = "shop-v1"
KINDS = ("sofa", "wardrobe")


def build(root: Path) -> Path:
    """The world in ``root``."""
    examples = demonstrated(root, lambda shop: shop, repeats=8)
    teach(root, examples, vocab=700, context=256, updates=150, width=48, heads=2, batch=32)
    return root


def build_instructed(root: Path) -> Path:
    """The same world, in which the policy was shown the shop behind the instruction of chat models."""
    examples = demonstrated(root, Instructed, repeats=2)
    teach(root, examples, vocab=700, context=640, updates=150, width=48, heads=2, batch=16)
    return root


def demonstrated(root: Path, wrap: Callable[[ShopEnv], Env], *, repeats: int) -> list[SFTExample]:
    """Write the panels; what is demonstrated on them."""
    catalogue = [product for product in build_catalogue(0, 1200) if product["query"] in KINDS][:60]
    panels = build_panels(catalogue)
    write_panels(root, ENV, panels | {"catalogue": catalogue})
    shop = wrap(ShopEnv(catalogue, page_size=5, numbered=True))
    return demonstrations(shop, panels["demos"], seed=0, repeats=repeats)
