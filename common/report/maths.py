"""TeX in a notebook's texts as SVG, because a page that loads nothing has no MathJax.

Matplotlib's mathtext knows most of TeX's mathematics; a formula that it does not know is shown as its source.
"""

from __future__ import annotations

import html
import io
import re
from functools import lru_cache

from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image

POINTS = 12.0
_FORMULA = re.compile(r"(?P<code>```.*?```|`[^`\n]+`)|\$\$(?P<display>.+?)\$\$"
                      r"|(?<!\\)\$(?P<inline>[^$\n]+(?:\n[^$\n]+)?)\$", re.S)
_INK = "#010203"  # any colour that nothing else has, so that it can be replaced by that of the text
_SPELLINGS = ((r"\\[Bb]ig+", ""), (r"\\tfrac", r"\\frac"),
              (r"\\frac(\w)(\w)", r"\\frac{\1}{\2}"), (r"\\mathbb (\w)", r"\\mathbb{\1}"),
              (r"\\underbrace\{([^{}]*)\}_\{\\text\{(\w+)\}\}", r"\\left[\1\\right]_{\\mathrm{\2}}"))
"""What TeX allows and mathtext does not, and the same in mathtext's spelling."""
_NOISE = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>|<!--.*?-->|<style[^>]*>.*?</style>"
                    r'|<g id="patch_1">.*?</g>|\n', re.S)  # fmt: skip
"""What is no glyph: the head, the date, and the white ground (``patch_1``)."""


def drawn(markdown: str) -> str:
    """``markdown`` with every formula outside of code as inline SVG, in the colour of the text around it."""
    return _FORMULA.sub(_replaced, markdown)


def _replaced(found: re.Match[str]) -> str:
    if found["code"]:
        return found["code"]
    if found["display"]:
        return f'<div class="formula">{svg(found["display"])}</div>'
    return svg(found["inline"])


@lru_cache
def svg(tex: str) -> str:
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
    label = html.escape(tex, quote=True).replace("$", "")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" style="vertical-align:{-depth:.2f}pt" ', 1)
