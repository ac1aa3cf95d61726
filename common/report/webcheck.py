"""What a page of the site would load, run and lead to: pages open from a disk and ask nothing of a network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"src", "srcset", "poster", "data", "xlink:href", "background", "action", "formaction"}
_ACTIVE = {"script", "iframe", "frame", "object", "embed", "base", "form"}
_IN_STYLE = re.compile(r"@import[^;]*|url\(\s*[\"']?([^\"')]*)", re.I)


class Page(HTMLParser):
    """One HTML text, read: ``loads`` (addresses a browser would fetch), ``links`` (those a reader may follow),
    ``ids`` (anchors), ``runs`` (what would execute or embed something)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.runs: list[str] = []
        self._style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._style = tag == "style"
        named = {name: value or "" for name, value in attributes}
        if tag in _ACTIVE:
            self.runs.append(f"<{tag}>")
        if tag == "meta" and named.get("http-equiv", "").lower() == "refresh":
            self.runs.append("<meta http-equiv=refresh>")
        for name, value in named.items():
            if name.startswith("on") or value.strip().lower().startswith("javascript:"):
                self.runs.append(f"{name}={value}")
            elif name in ("id", "name"):
                self.ids.add(value)
            elif name == "style":
                self._read_style(value)
            elif name in _LOADED or (name == "href" and tag != "a" and named.get("rel") not in ("next", "prev")):
                self.loads.append(value)
            elif name == "href":
                self.links.append(value)

    def handle_data(self, data: str) -> None:
        if self._style:
            self._read_style(data)

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def _read_style(self, text: str) -> None:
        self.loads += [found[1] if found[1] is not None else found[0] for found in _IN_STYLE.finditer(text)]


def foreign(text: str) -> list[str]:
    """What keeps an HTML text from standing alone: everything that runs or embeds, and every address it loads."""
    page = Page(text)
    return page.runs + [address for address in page.loads if not address.startswith(("data:", "#"))]


def broken(site: Path) -> list[str]:
    """Sentences on the pages below ``site``: an address loaded from outside, or a link to nothing inside.

    Links to other sites are not followed.
    """
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve()).as_posix()
        for address in page.loads:
            if urlsplit(address).scheme not in ("", "data") or address.startswith("//") or "@import" in address:
                found.append(f"{name} would load {address[:80]}")
        for address in (*page.loads, *page.links):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or address.startswith("#__"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{name} leads to {address}, which does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                found.append(f"{name} leads to {address}, which has no such heading")
    return found
