"""Whether the Hugging Face hub answers at all: its libraries try for half a minute before they say that it does not."""

from __future__ import annotations

import os
import socket
import sys
import threading
from urllib.parse import urlsplit
from urllib.request import getproxies

HUB = "https://huggingface.co"
PATIENCE = 4.0
"""Seconds for the name and the connection together."""


def hub_answers() -> bool:
    """True when the hub may be asked: it takes connections, or a proxy stands before it, whose business that is.

    Else its libraries are put into their offline mode for the rest of this process, so that they look into their caches and
    say at once what is not there. An environment that asks for that mode itself is left as it is.
    """
    if os.environ.get("HF_HUB_OFFLINE") or getproxies():
        return True
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or HUB)
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((hub.hostname, hub.port or (80 if hub.scheme == "http" else 443)), timeout=PATIENCE).close()
            answered.set()
        except OSError:
            pass

    asking = threading.Thread(target=connect, daemon=True)  # looking up a name knows no limit of its own
    asking.start()
    asking.join(PATIENCE)
    if not answered.is_set():
        os.environ["HF_HUB_OFFLINE"] = "1"
        for name in ("huggingface_hub.constants", "datasets.config"):  # they read the variable when they are imported
            if name in sys.modules:
                sys.modules[name].HF_HUB_OFFLINE = True
    return answered.is_set()
