"""webshop-1k: the same shop over the small WebShop split, whose files a user supplies (``WEBSHOP_DATA``)."""

from __future__ import annotations

from pathlib import Path

from common.envs.panels import PanelError
from common.envs.shop.engine import ShopEnv
from common.envs.shop.webshop import files_hash, make_webshop, webshop_panels

panels, data_hash = webshop_panels, files_hash


def make(data_dir: Path) -> ShopEnv:
    try:
        return make_webshop()
    except (FileNotFoundError, ValueError) as error:
        raise PanelError(str(error)) from error
