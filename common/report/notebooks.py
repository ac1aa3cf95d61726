"""Executed notebooks as pages: texts, code, tables, figures and formulas in one file that loads nothing."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from common.config import ConfigError
from common.report import maths
from common.report.webcheck import foreign
from common.rows import MetricRow
from common.sweep.unit import BASE_PROFILES
from common.track.store import finished_rows, read_unit

WITHOUT_CODE = ("90_report",)
"""Notebooks whose readers want what they show, not how."""

STYLE = """:root{color-scheme:light dark}:root:has(#light:checked){color-scheme:light}
:root:has(#dark:checked){color-scheme:dark}
body{font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;margin:0;
color:light-dark(#222,#ddd);background:light-dark(#fff,#1c1e26)}
main{max-width:1060px;margin:0 auto;padding:1rem 1.2rem 5rem;overflow-wrap:break-word}
nav{display:flex;flex-wrap:wrap;gap:.4rem 1.5rem;justify-content:space-between;
border-bottom:1px solid light-dark(#ddd,#444);padding:.6rem 1.2rem}
nav fieldset{border:0;margin:0;padding:0;display:flex;gap:.8rem}nav legend{float:left;padding-right:.8rem}
h1{font-size:1.9rem;line-height:1.2}
h2{margin-top:2.6rem;border-bottom:1px solid light-dark(#ddd,#444);padding-bottom:.2rem}
a{color:light-dark(#0057a0,#7cb7f5)}code,pre{font:0.88em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
code{background:light-dark(#f3f3f3,#2b2e3a);padding:.1em .25em;border-radius:3px}
pre{background:light-dark(#f6f6f6,#262833);padding:.8em;overflow-x:auto}pre code{padding:0;background:none}
.highlight .k,.highlight .kn,.highlight .kc,.highlight .ow,.highlight .nn+.k{color:light-dark(#0057a0,#7cb7f5)}
.highlight .s1,.highlight .s2,.highlight .sa,.highlight .sd,.highlight .si{color:light-dark(#8a4b00,#f0b070)}
.highlight .c1{color:light-dark(#5a6470,#9aa4b2);font-style:italic}
.highlight .mi,.highlight .mf{color:light-dark(#00694e,#5fcfae)}
table{border-collapse:collapse;font-size:.85rem;display:block;overflow-x:auto;margin:1rem 0}
th,td{border-bottom:1px solid light-dark(#e2e2e2,#3a3d4a);padding:.32rem .6rem;text-align:left;vertical-align:top}
th{border-bottom:2px solid #999}tr:hover td{background:light-dark(#f7fafc,#262833)}
img{max-width:100%;height:auto;border-radius:4px}
.formula{overflow-x:auto;margin:1rem 0;text-align:center}.anchor-link{display:none}"""

SCHEMES = ('<label><input type="radio" name="scheme" id="system" checked> system</label>'
           '<label><input type="radio" name="scheme" id="light"> light</label>'
           '<label><input type="radio" name="scheme" id="dark"> dark</label>')


@dataclass(frozen=True)
class Executed:
    """An executed notebook in the run store: ``name`` of its page, the unit's paper, environment, seed and profile ("" and -1
    for a notebook that is no unit)."""

    name: str
    path: Path
    paper: str = ""
    env: str = ""
    seed: int = -1
    profile: str = ""


def executed(root: Path, rows: Sequence[MetricRow]) -> list[Executed]:
    """The executed notebooks that are here: those of the tour and the report, and those of the units behind ``rows``.

    A unit stands behind rows when all its published values are its own, whatever code made it; so sweeps are left out.
    """
    published: dict[tuple[str, str, int, str], dict[tuple[str, str, str], float]] = {}
    for row in rows:
        mine = published.setdefault((row.paper, row.env, row.seed, row.profile), {})
        mine[row.variant, row.panel, row.metric] = row.value
    found = {path.stem: Executed(path.stem, path) for path in sorted((root / "runs/notebooks").glob("*.ipynb"))}
    for paper in sorted({row.paper for row in rows}):
        for done in sorted((root / "runs" / paper).glob("*/DONE")):
            unit, path = read_unit(done.parent), done.parent / "notebook.ipynb"
            expected = published.get((unit.paper, unit.env, unit.seed, unit.profile))
            if expected and path.exists():
                own = {(row.variant, row.panel, row.metric): row.value for row in finished_rows(done.parent)}
                name = f"{paper}-{unit.env}-seed{unit.seed}" + (f"-{unit.profile}" if unit.profile not in BASE_PROFILES else "")
                if name not in found and expected.items() <= own.items():
                    found[name] = Executed(name, path, unit.paper, unit.env, unit.seed, unit.profile)
    return sorted(found.values(), key=lambda one: (one.paper, one.profile, one.env, one.seed, one.name))


def page(path: Path, home: str = "") -> str:
    """An executed notebook as a self-contained page. ``home``: address of a page to go back to.

    Built on nbconvert's ``basic`` template, which has neither scripts nor styles of its own; the same notebook gives
    the same bytes. Raises ConfigError when the result would fetch, embed or run anything all the same.
    """
    from nbconvert import HTMLExporter

    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell{number}"  # of its own accord nbformat draws another one each time
        if cell.cell_type == "markdown":
            cell.source = maths.drawn(cell.source)
    exporter = HTMLExporter(template_name="basic", exclude_input=path.stem in WITHOUT_CODE, exclude_input_prompt=True,
                            exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(notebook)
    if home:  # whose list says which of the project's notebooks were executed; here they lie under other names, if at all
        body = re.sub(r'href="[\w-]+\.ipynb"', f'href="{html.escape(home)}"', body)
    title = re.search(r"<h1[^>]*>(.*?)<", body)
    back = f'<a href="{html.escape(home)}">← All notebooks</a>' if home else ""
    text = (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title[1].strip() if title else path.stem}</title>\n<style>\n{STYLE}\n</style></head>\n"
            f"<body><nav>{back}<fieldset><legend>Colours</legend>{SCHEMES}</fieldset></nav>\n"
            f"<main>\n{body}\n</main></body></html>\n")
    outside = foreign(text)
    if outside:
        raise ConfigError(f"{path.name}: the page would load or run something ({outside[0][:100]!r}) but must stand "
                          "alone; remove that output from the notebook")
    return text
