"""Notebooks that train nothing (tour, report, a family's with published results): executed once, shown as a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import ConfigError
from common.files import storage
from common.sweep.notebook import check_notebook, code_cells, declared_parameters, parameters_cell
from common.sweep.workers import Job, run_alone


class NotebookFailed(ConfigError):
    """A notebook failed in a cell; the message has the cell, the kept file and the last lines."""


def render(
    root: Path, source: Path, target: Path | None, parameters: Mapping[str, Any] | None = None, *, name: str = ""
) -> Path:
    """Execute ``source`` and write it as HTML to ``target`` (None: do not). Returns the executed notebook, which is kept
    as ``name`` (the source's own by default).

    ``parameters`` are passed only as far as the notebook declares them: a tour may have no ``profile``, or
    no parameters cell at all. Raises ConfigError when the file is absent, NotebookFailed when a cell fails.
    """
    where = source.relative_to(root).as_posix()
    if not source.exists():
        raise ConfigError(f"{where} does not exist; restore it from git")
    tagged = any("parameters" in cell.tags for cell in code_cells(source.read_text(encoding="utf-8"), where))
    names = declared_parameters(parameters_cell(source, where), where) if tagged else {}
    chosen = {name: value for name, value in (parameters or {}).items() if name in names}
    if chosen:
        check_notebook(source, chosen, where)
    folder, name = root / "runs" / "notebooks", name or source.stem
    job = Job(root=str(root), notebook=str(source), parameters=chosen, executed=str(folder / f"{name}.ipynb"),
              outcome=str(folder / f"{name}.json"), failed=str(root / "runs" / "failed" / f"{name}.ipynb"))
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        Path(job.outcome).unlink(missing_ok=True)
    outcome = run_alone(root, job, folder / f"{name}.log")
    if not outcome.ok:
        raise NotebookFailed(f"{where} failed in cell {outcome.cell}: {outcome.error}; the executed notebook is "
                             f"{outcome.notebook}\n{outcome.tail}")
    if target is not None:
        from nbconvert import HTMLExporter

        page, _ = HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True).from_filename(job.executed)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page, encoding="utf-8")
    return Path(job.executed)
