"""A headless Chromium driven through its DevTools protocol, for tests; as a program it takes the pictures of ``docs/images`` that show pages.

    python -m tests.report.browser                                        # the site, after make report
    python -m tests.report.browser ADDRESS TEXT docs/images/NAME.png      # a page of MLflow, once TEXT is in it: addresses are printed by make mlflow
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 30.0
BUSY = 300.0
"""So long a page may be too busy to answer: MLflow's charts are, for over half a minute, where other work has the processor."""


def program() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One tab. ``events`` keeps what the tab reported: requests, console messages, errors."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.sent, self.events = socket, 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.sent:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, page: Path, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Show a file and wait until it is complete."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 500)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + PATIENCE
        while self.value("document.readyState") != "complete" or not self.value("location.href").startswith("file:"):
            assert time.monotonic() < end, f"{page} does not load"
            time.sleep(0.05)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, or what its promise comes to."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                         awaitPromise=True)["result"].get("value")

    def picture(self, target: Path) -> None:
        target.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def requested(self) -> list[str]:
        return [event["params"]["request"]["url"] for event in self.events
                if event["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Exceptions, and errors and warnings of the console."""
        found = []
        for event in self.events:
            method, params = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(str(params["args"]))
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
        return found


@contextmanager
def browser(path: str) -> Iterator[Browser]:
    """Start the program at ``path`` with a profile of its own, and end it."""
    import websocket

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
                   "--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen([path, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            params, end = Path(profile, "DevToolsActivePort"), time.monotonic() + PATIENCE
            while not (params.exists() and "\n" in params.read_text()):
                assert process.poll() is None and time.monotonic() < end, "the browser does not start"
                time.sleep(0.05)
            with urllib.request.urlopen(f"http://127.0.0.1:{params.read_text().split()[0]}/json") as answer:
                tab = next(one for one in json.load(answer) if one["type"] == "page")
            socket = websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=BUSY, suppress_origin=True)
            try:
                yield Browser(socket)
            finally:
                socket.close()
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


def take_pictures(root: Path) -> None:
    """``docs/images/site_front.png`` (wide, light) and ``site_phone.png`` (a paper, narrow, dark) of the site."""
    with browser(program()) as tab:
        tab.open(root / "site/index.html", width=1280, height=1240)
        tab.picture(root / "docs/images/site_front.png")
        tab.open(root / "site/papers/confidence_critique.html", width=390, height=844, scheme="dark")
        tab.picture(root / "docs/images/site_phone.png")
    shrink(*(root / "docs/images").glob("site_*.png"))


NO_ASSISTANT = "try { localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] = 'true' } catch (error) {}"
"""MLflow opens a panel beside its pages on a browser's first visit, unless this stands there."""


def take_picture(address: str, text: str, target: Path, *, patience: float = 300) -> None:
    """The page at ``address`` once ``text`` is in it."""
    with browser(program()) as tab:
        tab.call("Emulation.setDeviceMetricsOverride", width=1280, height=780, deviceScaleFactor=1, mobile=False)
        tab.call("Page.addScriptToEvaluateOnNewDocument", source=NO_ASSISTANT)
        tab.call("Page.navigate", url=address)
        end = time.monotonic() + patience
        while not tab.value(f"document.body.innerText.includes({json.dumps(text)})"):
            assert time.monotonic() < end, f"{text!r} does not appear on {address}"
            time.sleep(1)
        time.sleep(3)  # what is drawn last
        tab.picture(target)
    shrink(target)


def shrink(*pictures: Path) -> None:
    """Keep few colours, which makes the files small."""
    from PIL import Image

    for path in pictures:
        Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    root = Path(__file__).resolve().parents[2]
    take_picture(sys.argv[1], sys.argv[2], root / sys.argv[3]) if sys.argv[1:] else take_pictures(root)
