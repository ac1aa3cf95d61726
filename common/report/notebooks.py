"""Executed notebooks: those in the run store, and each as one HTML file that loads nothing."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from common.config import ConfigError
from common.report.selfcontained import draw_formulas, foreign
from common.rows import MetricRow
from common.sweep.unit import BASE_PROFILES
from common.track.store import finished_rows, read_unit

THEME = Path(__file__).with_name("theme")
WITHOUT_CODE = ("90_report",)
"""Notebooks whose pages show outputs only."""
STYLE = (THEME / "notebook.css").read_text(encoding="utf-8").strip()
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
    notebooks = {path.stem: Executed(path.stem, path) for path in sorted((root / "runs/notebooks").glob("*.ipynb"))}
    for paper in sorted({row.paper for row in rows}):
        for done in sorted((root / "runs" / paper).glob("*/DONE")):
            unit, path = read_unit(done.parent), done.parent / "notebook.ipynb"
            expected = published.get((unit.paper, unit.env, unit.seed, unit.profile))
            if expected and path.exists():
                own = {(row.variant, row.panel, row.metric): row.value for row in finished_rows(done.parent)}
                name = f"{paper}-{unit.env}-seed{unit.seed}" + (f"-{unit.profile}" if unit.profile not in BASE_PROFILES else "")
                if name not in notebooks and expected.items() <= own.items():
                    notebooks[name] = Executed(name, path, unit.paper, unit.env, unit.seed, unit.profile)
    return sorted(notebooks.values(), key=lambda one: (one.paper, one.profile, one.env, one.seed, one.name))


def page(path: Path, home: str = "") -> str:
    """An executed notebook as a self-contained HTML page. ``home``: address of a page to go back to.

    Built on nbconvert's ``basic`` template, which has neither scripts nor styles of its own; the same notebook gives
    the same bytes. Raises ConfigError when the result would fetch, embed or run anything all the same.
    """
    from nbconvert import HTMLExporter

    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell{number}"  # of its own accord nbformat draws another one each time
        if cell.cell_type == "markdown":
            cell.source = draw_formulas(cell.source)
        for data in (output.data for output in cell.get("outputs", []) if "text/markdown" in output.get("data", {})):
            data["text/markdown"] = draw_formulas(data["text/markdown"])
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
