"""A hub that does not answer is known at once, and its libraries then ask their caches alone."""

from __future__ import annotations

import os
import socket
import sys
import types

import pytest

from common.network import hub_answers


@pytest.fixture
def hub(monkeypatch):
    """A socket that listens where the hub is looked for, until it is closed; no proxy, and no word on offline mode."""
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    constants = types.SimpleNamespace(HF_HUB_OFFLINE=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    monkeypatch.delitem(sys.modules, "datasets.config", raising=False)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        yield listening, constants


def test_a_hub_that_takes_connections_is_asked(hub):
    listening, constants = hub
    assert hub_answers() and "HF_HUB_OFFLINE" not in os.environ and not constants.HF_HUB_OFFLINE


def test_one_that_does_not_is_not_asked_again_and_again(hub, monkeypatch):
    listening, constants = hub
    listening.close()
    monkeypatch.setenv("HF_HUB_OFFLINE", "")  # put back afterwards
    assert not hub_answers() and os.environ["HF_HUB_OFFLINE"] == "1" and constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(("name", "value"), [("HTTPS_PROXY", "http://proxy:3128"), ("HF_HUB_OFFLINE", "1")])
def test_a_proxy_or_the_user_s_own_offline_mode_is_left_to_the_libraries(hub, monkeypatch, name, value):
    listening, constants = hub
    listening.close()
    monkeypatch.setenv(name, value)
    assert hub_answers() and not constants.HF_HUB_OFFLINE
