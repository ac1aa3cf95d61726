"""The report notebook as one HTML file: no script, no font and no picture from anywhere else."""

from __future__ import annotations

import re
from pathlib import Path

from common.config import ConfigError
from common.track.files import write_atomic

NOTEBOOK = "notebooks/90_report.py"
FOREIGN = re.compile(r"<script|<link|<iframe|@import|(?:src|poster)=[\"'](?!data:)|url\([\"']?(?!#|data:)", re.I)
"""What would make a browser fetch or run something; links that a reader may follow are none of it."""

STYLE = """:root{color-scheme:light}
body{font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:#222;background:#fff;margin:0}
main{max-width:1060px;margin:0 auto;padding:2rem 1.2rem 5rem}
h1{font-size:1.9rem;line-height:1.2}h2{margin-top:2.6rem;border-bottom:1px solid #ddd;padding-bottom:.2rem}
a{color:#0057a0}code,pre{font:0.88em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
code{background:#f3f3f3;padding:.1em .25em;border-radius:3px}pre{background:#f6f6f6;padding:.8em;overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;display:block;overflow-x:auto;margin:1rem 0}
th,td{border-bottom:1px solid #e2e2e2;padding:.32rem .6rem;text-align:left;vertical-align:top}
th{border-bottom:2px solid #999}tr:hover td{background:#f7fafc}
img,svg{max-width:100%;height:auto}.anchor-link{display:none}"""


def build_site(root: Path, out: Path, *, profile: str) -> Path:
    """Execute the report notebook at ``profile`` (in a process of its own, by papermill) and write ``out``.

    Returns ``out``. Raises NotebookFailed (a ConfigError) when a cell fails: ``out`` then stays as it was.
    """
    from common.sweep.documents import render

    executed = render(root, root / NOTEBOOK, None, {"profile": profile})
    write_atomic(out, page(executed))
    return out


def page(executed: Path) -> str:
    """An executed notebook as a self-contained page: texts, tables and figures without the code cells.

    Built on nbconvert's ``basic`` template, which has neither scripts nor styles of its own. Raises ConfigError
    when the result would fetch or run anything all the same.
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    body, _ = exporter.from_filename(str(executed))
    title = re.search(r"<h1[^>]*>(.*?)<", body)
    text = (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title[1].strip() if title else executed.stem}</title>\n<style>\n{STYLE}\n</style></head>\n"
            f"<body><main>\n{body}\n</main></body></html>\n")
    foreign = FOREIGN.search(text)
    if foreign:
        around = text[max(0, foreign.start() - 40) : foreign.end() + 60]
        raise ConfigError(f"{executed.name}: the page would load something from outside ({around!r}) but a report must "
                          "stand alone; remove that output from the notebook")
    return text
