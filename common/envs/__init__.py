"""Environments by versioned id: their task panels and how to make one."""

from __future__ import annotations

from pathlib import Path

from common.envs.contract import Env, check_env
from common.envs.panels import PanelError, build_all, data_hash, load_catalogue, load_panel

__all__ = ["ENV_IDS", "Env", "PanelError", "build_all", "check_env", "data_hash", "load_panel", "make"]

ENV_IDS = ("shop-v1", "countdown-v1", "countdown-answer-v1", "arithmetic-v1", "webshop-1k")


def make(env_id: str, data_dir: Path | str) -> Env:
    """The environment ``env_id``; shop catalogues are read from ``data_dir`` (hash-checked).

    Raises:
        ValueError: unknown id, naming the valid ones.
        PanelError: missing or corrupt data.
    """
    if env_id == "countdown-v1":
        from common.envs.countdown import CountdownEnv

        return CountdownEnv()
    if env_id == "countdown-answer-v1":
        from common.envs.countdown import CountdownAnswerEnv

        return CountdownAnswerEnv()
    if env_id == "arithmetic-v1":
        from common.envs.arithmetic import ArithmeticEnv

        return ArithmeticEnv()
    if env_id == "shop-v1":
        from common.envs.shop.engine import ShopEnv

        # five numbered products a page, not WebShop's ten by id: a nano policy reads half as many tokens
        # for the same choice, and copying rare ids is not what is studied here
        return ShopEnv(load_catalogue(data_dir, env_id), page_size=5, numbered=True)
    if env_id == "webshop-1k":
        from common.envs.shop.webshop import make_webshop

        try:
            return make_webshop()
        except (FileNotFoundError, ValueError) as error:
            raise PanelError(str(error)) from error
    raise ValueError(f"env: '{env_id}' is unknown; it must be one of {', '.join(ENV_IDS)}")
