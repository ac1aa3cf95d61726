"""HTML that needs no network: formulas as SVG instead of MathJax, and a check of what a page loads, runs and links to."""

from __future__ import annotations

import html
import io
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup
from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image

_LOADED = {"src", "srcset", "poster", "data", "xlink:href", "background", "action", "formaction"}
_ACTIVE = {"script", "iframe", "frame", "object", "embed", "base", "form"}
_IN_STYLE = re.compile(r"@import[^;]*|url\(\s*[\"']?([^\"')]*)", re.I)


class Page:
    """One HTML text, read: ``loads`` (addresses a browser would fetch), ``links`` (those a reader may follow),
    ``ids`` (anchors), ``runs`` (what would execute or embed something)."""

    def __init__(self, text: str) -> None:
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.runs: list[str] = []
        for tag in BeautifulSoup(text, "html.parser", multi_valued_attributes=None).find_all(True):
            if tag.name in _ACTIVE:
                self.runs.append(f"<{tag.name}>")
            if tag.name == "meta" and tag.get("http-equiv", "").lower() == "refresh":
                self.runs.append("<meta http-equiv=refresh>")
            if tag.name == "style":
                self._read_style(tag.get_text())
            for name, value in tag.attrs.items():
                self._read_attribute(tag.name, name, value, rel=tag.get("rel"))

    def _read_attribute(self, tag: str, name: str, value: str, *, rel: str | None) -> None:
        if name.startswith("on") or value.strip().lower().startswith("javascript:"):
            self.runs.append(f"{name}={value}")
        elif name in ("id", "name"):
            self.ids.add(value)
        elif name == "style":
            self._read_style(value)
        elif name in _LOADED or (name == "href" and tag != "a" and rel not in ("next", "prev")):
            self.loads.append(value)
        elif name == "href":
            self.links.append(value)

    def _read_style(self, text: str) -> None:
        self.loads += [found[1] if found[1] is not None else found[0] for found in _IN_STYLE.finditer(text)]


def foreign(text: str) -> list[str]:
    """What keeps an HTML text from standing alone: everything that runs or embeds, and every address it loads."""
    page = Page(text)
    return page.runs + [address for address in page.loads if not address.startswith(("data:", "#"))]


def broken(site: Path) -> list[str]:
    """A sentence for each address that a page below ``site`` loads from outside, and for each link to a file or heading that
    does not exist; links to other sites are not followed."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    problems = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve()).as_posix()
        for address in page.loads:
            if urlsplit(address).scheme not in ("", "data") or address.startswith("//") or "@import" in address:
                problems.append(f"{name} would load {address[:80]}")
        for address in (*page.loads, *page.links):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or address.startswith("#__"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                problems.append(f"{name} leads to {address}, which does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                problems.append(f"{name} leads to {address}, which has no such heading")
    return problems


# -- formulas --------------------------------------------------------------------------------------------

POINTS = 12.0
_FORMULA = re.compile(r"(?P<code>```.*?```|`[^`\n]+`|^(?: {4}|\t)[^\n]*)|\$\$(?P<display>.+?)\$\$"
                      r"|(?<!\\)\$(?P<inline>[^$\n]+(?:\n[^$\n]+)?)\$", re.S | re.M)
_INK = "#010203"  # any colour that nothing else has, so that it can be replaced by that of the text
_SPELLINGS = ((r"\\[Bb]ig+", ""), (r"\\tfrac", r"\\frac"),
              (r"\\frac(\w)(\w)", r"\\frac{\1}{\2}"), (r"\\frac(\d)\{", r"\\frac{\1}{"), (r"\\mathbb (\w)", r"\\mathbb{\1}"),
              (r"\\underbrace\{([^{}]*)\}_\{\\text\{(\w+)\}\}", r"\\left[\1\\right]_{\\mathrm{\2}}"))
"""What TeX allows and mathtext does not, and the same in mathtext's spelling."""
_NOISE = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>|<!--.*?-->|<style[^>]*>.*?</style>"
                    r'|<g id="patch_1">.*?</g>|\n', re.S)  # fmt: skip
"""What is no glyph: the head, the date, and the white ground (``patch_1``)."""


def draw_formulas(markdown: str) -> str:
    """``markdown`` with every TeX formula outside of code, fenced, indented or in a line, as inline SVG, in the colour of the text around it.

    Matplotlib's mathtext knows most of TeX's mathematics; a formula that it does not know is shown as its source.
    """
    return _FORMULA.sub(_draw, markdown)


def _draw(found: re.Match[str]) -> str:
    if found["code"]:
        return found["code"]
    if found["display"]:
        return f'<div class="formula">{formula(found["display"])}</div>'
    return formula(found["inline"])


@lru_cache
def formula(tex: str) -> str:
    """One formula as an ``<svg>`` that stands on the line, its source as the label; or the source as ``<code>``."""
    tex = " ".join(tex.split())
    known = tex
    for pattern, spelling in _SPELLINGS:
        known = re.sub(pattern, spelling, known)
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "formula", "svg.fonttype": "path", "mathtext.fontset": "stix"}):
        try:
            depth = math_to_image(f"${known}$", buffer, FontProperties(size=POINTS), dpi=72, format="svg", color=_INK)
        except ValueError:
            return f"<code>{html.escape(tex)}</code>"
    text = _NOISE.sub(" ", buffer.getvalue().decode()).replace(_INK, "currentColor").strip()
    label = html.escape(tex, quote=True).replace("$", "").replace("|", "&#124;")  # a bar would end the cell of a table
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" style="vertical-align:{-depth:.2f}pt" ', 1)
