"""Notebooks that can be read without running anything: executed copies in ``docs/gallery/``, small enough for git, of the tour and each family."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import nbformat

from common.config import ConfigError, load_lab, load_spec
from common.files import write_atomic
from common.report.show import AS_PNG
from common.sweep.documents import render

FOLDER = "docs/gallery"
MOST_BYTES = 300_000
"""Of one notebook."""
TOUR = "00_tour"
ELSEWHERE = {"](90_report.ipynb)": "](../../notebooks/90_report.ipynb)"}
"""Links to a notebook that has no copy here."""


def shown(root: Path) -> dict[str, str]:
    """Name of a family's notebook → the paper it shows: the family's first in ``params.yaml``."""
    found: dict[str, str] = {}
    for paper in load_lab(root).papers:
        found.setdefault(Path(load_spec(root, paper).notebook).stem, paper)
    return found


def write_gallery(root: Path) -> list[Path]:
    """Execute the tour and each family's notebook on published results, and write their readable copies. ConfigError where one is too large."""
    written, before = [], os.environ.get(AS_PNG)
    os.environ[AS_PNG] = "1"
    try:
        for name, paper in ({TOUR: ""} | shown(root)).items():
            given = {"paper": paper, "train": False} if paper else {}
            done = render(root, root / f"notebooks/{name}.py", None, given, name=f"gallery-{name}")
            text = readable(done, {f"{root}/": ""} | ELSEWHERE)
            if len(text.encode()) > MOST_BYTES:
                raise ConfigError(f"{name}: the executed notebook has {len(text.encode()) // 1000} kB and may have {MOST_BYTES // 1000}; show fewer "
                                  f"examples or smaller figures in papers/{paper}/figures.py")  # fmt: skip
            target = root / FOLDER / f"{name}.ipynb"
            write_atomic(target, text)
            written.append(target)
    finally:
        os.environ.pop(AS_PNG) if before is None else os.environ.update({AS_PNG: before})
    return written


def readable(path: Path, replaced: Mapping[str, str]) -> str:
    """The executed notebook with its outputs and without what changes from run to run: times, counts, warnings. ``replaced``: old → new in its
    text, such as the machine's folders."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {key: value for key, value in notebook.metadata.items() if key in ("kernelspec", "language_info")}
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"], cell.metadata = f"cell{number}", {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.pop("execution_count", None)
                if set(data := output.get("data", {})) & {"image/png", "text/html", "text/markdown"}:
                    data.pop("text/plain", None)
    text = nbformat.writes(notebook) + "\n"
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text
