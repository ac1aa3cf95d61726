"""A small world for shop-v1: sixty products and a half-taught policy."""

from __future__ import annotations

from pathlib import Path

from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.shop.engine import ShopEnv
from common.lm.base import demonstrations
from tests.papers.units import teach, write_panels

ENV = "shop-v1"


def build(root: Path) -> Path:
    """The world in ``root``."""
    catalogue = build_catalogue(0, 60)
    panels = build_panels(catalogue)
    write_panels(root, ENV, panels | {"catalogue": catalogue})
    examples = demonstrations(ShopEnv(catalogue, page_size=5, numbered=True), panels["demos"], seed=0, repeats=8)
    teach(root, examples, vocab=700, context=256, updates=150, width=48, heads=4, batch=32)
    return root
