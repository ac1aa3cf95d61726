"""The canonical notebook source (``py:percent``) and the strict check of its parameters cell.

Papermill only warns about an unknown parameter or a missing parameters cell and then runs with the
defaults (nteract/papermill#667, #701); here both stop before anything starts. The check reads the source
by itself, because importing jupytext takes longer than the second in which a typo must be reported.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config.strict import ConfigError, hint

_MARKER = re.compile(r"#\s*%%(?!%)(?P<header>.*)")
_TAGS = re.compile(r"tags=(\[[^\]]*\])")
_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict, "list": list}


@dataclass(frozen=True)
class Cell:
    """One code cell: ``number`` counts all cells of the notebook from 1, ``line`` its first source line."""

    number: int
    line: int
    tags: tuple[str, ...]
    source: str


def code_cells(text: str, where: str) -> list[Cell]:
    """The code cells of a percent script. ConfigError when a tag list is not valid JSON."""
    cells: list[Cell] = []
    number, current = 0, None
    for line_number, line in enumerate(text.splitlines(), start=1):
        found = _MARKER.match(line)
        if found:
            number += 1
            header = found["header"]
            tags = _TAGS.search(header)
            try:
                names = tuple(json.loads(tags[1])) if tags else ()
            except ValueError:
                raise ConfigError(f'{where} line {line_number}: the tags {tags[1]} are not a JSON list; write '
                                  'tags=["parameters"]') from None
            current = None if "[markdown]" in header or "[raw]" in header else []
            if current is not None:
                cells.append((number, line_number + 1, names, current))
        elif current is not None:
            current.append(line)
    return [Cell(number, line, tags, "\n".join(body)) for number, line, tags, body in cells]


def parameters_cell(path: Path, where: str) -> Cell:
    """The one cell tagged ``parameters``. ConfigError when there is none, more than one, or no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{where} cannot be read ({error.strerror}); create it or correct notebook in the paper's "
                          "params.yaml") from None
    tagged = [cell for cell in code_cells(text, where) if "parameters" in cell.tags]
    if len(tagged) != 1:
        raise ConfigError(f'{where} has {len(tagged)} cells tagged "parameters" but must have exactly one; begin that '
                          'cell with: # %% tags=["parameters"]')
    return tagged[0]


def declared(cell: Cell, where: str) -> dict[str, type]:
    """Names assigned in the parameters cell and their types (annotation, else type of the literal default)."""
    try:
        body = ast.parse(cell.source).body
    except SyntaxError as error:
        raise ConfigError(f"{where} cell {cell.number}: not valid Python ({error.msg}, line "
                          f"{cell.line - 1 + (error.lineno or 1)}); correct it") from None
    found: dict[str, type] = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            name, written = node.target.id, ast.unparse(node.annotation).split("[")[0]
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name, written = node.targets[0].id, ""
        else:
            raise ConfigError(f"{where} cell {cell.number} line {cell.line - 1 + node.lineno}: the parameters cell "
                              "must hold only plain assignments such as seed: int = 0; move the rest to another cell")
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ConfigError(f"{where} cell {cell.number}: the default of {name} is {ast.unparse(node.value)} but "
                              "must be a literal; write the value itself") from None
        found[name] = _TYPES.get(written, type(default))
    return found


def check_notebook(path: Path, parameters: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError unless the notebook declares every name of ``parameters`` with the type of its value.

    ``where`` names the notebook in the error. An int is accepted for a float.
    """
    types = declared(parameters_cell(path, where), where)
    for name, value in parameters.items():
        if name not in types:
            raise ConfigError(f'{where}: unknown parameter "{name}", not assigned in the parameters cell; '
                              f"{hint(name, types)}")
        expected = types[name]
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise ConfigError(f"{where}: the parameter {name} is {value!r} ({type(value).__name__}) but the parameters "
                              f"cell declares {expected.__name__}; pass that type")


def write_ipynb(source: Path, target: Path) -> None:
    """Write the source as a notebook file for the ``python3`` kernel, without outputs."""
    import jupytext
    import nbformat

    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python"}
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
